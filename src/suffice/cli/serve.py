"""`suffice serve`: the gateway in front of one or several engines."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from suffice.cli.documented import Flag
from suffice.cli.embedded import embedded
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import BaselineOption, PriceOption, Scorer, prices_of
from suffice.core.errors import InputError, needs
from suffice.core.quantities import parse_share

if not HELP_ONLY:
    from suffice.backends.protocol import Backend
    from suffice.gateway.config_sections import NO_LEDGER, LiveConfig
    from suffice.ledger.api_keys import load_ring
    from suffice.ledger.database import shown
    from suffice.ledger.default_url import default_url, writable
    from suffice.ledger.store import Store
    from suffice.policies.live.labels import Loss
    from suffice.policies.live.state import LiveRule
    from suffice.policies.policy_table import is_policy_file, policy_table

    with needs("serve", "suffice serve"):
        from suffice.gateway.baselines import Baselines, baseline_in_words, price_notes
        from suffice.gateway.config import GatewayConfig, UpstreamConfig
        from suffice.gateway.config_check import checked_config
        from suffice.gateway.observe.serving_hooks import serving_hooks
        from suffice.gateway.policy_router import PolicyRouter
        from suffice.gateway.server import run
        from suffice.gateway.startup_check import check_served

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    upstream: list[str] | None = None,
    model_here: Annotated[str | None, typer.Option("--embedded")] = None,
    policy: str | None = None,
    model: str | None = None,
    answer_format: str | None = None,
    scorer: Scorer = None,
    config: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    ledger: str | None = None,
    price: PriceOption = None,
    baseline: BaselineOption = None,
    audit_share: str | None = None,
    cheap: list[str] | None = None,
    safe: str | None = None,
    target: str | None = None,
    share: str | None = None,
    shadow_only: Flag = False,
    judge: str | None = None,
    loss: str | None = None,
    quiet: Flag = False,
) -> None:
    """Serve OpenAI's API, spending just enough per request. Without an upstream it serves
    suffice-nano in this process, a model of a megabyte that solves small puzzles.

    Example: [bold]suffice serve --upstream http://localhost:8000/v1 --policy
    adaptive_consistency --answer-format number[/bold]

    Options:
        upstream: An OpenAI-compatible server; may be repeated.
        model_here: Model of this process in place of an upstream: nano (the default without one; it
            ships with suffice), a folder of suffice train, or smollm2 (extra embedded).
        policy: Policy for requests that name an upstream's model: a name with options, a TOML or
            JSON file, or bypass.
        model: Model behind suffice/<policy>; the first one by default.
        answer_format: How answers are compared if a request does not say: number, choice, boxed,
            math, json, tool, regex:…
        config: TOML file; command-line options override it.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        workers: Processes that share the port.
        ledger: Where requests are recorded, without their text: a file, postgresql://…, or none. By
            default SUFFICE_LEDGER, else a file of the user's own.
        audit_share: Share of the answers under a certificate that the baseline gives too, in the
            background and at your cost, so that the certificate is checked while it runs: 1%.
        cheap: What may take the place of --safe once traffic has shown that it answers the same: a
            policy with its model or effort; repeat from cautious to cheap.
        safe: What answers until then, and is compared with in the background.
        target: Share of requests that may be answered differently: 5%.
        share: Share of requests that both answer while nothing is certified: 25%.
        shadow_only: Compare and report; --safe answers everything, as today.
        judge: File of a judge of free text, which suffice live judge writes.
        loss: What --target bounds: differ (the default), or, by labels of /v1/feedback, harm (only
            the safe answer is right) or net (harm less gain).
        quiet: Only warnings and errors.
    """  # fmt: skip
    read = partial(
        settings_of, config, upstream=upstream, policy=policy, model=model,
        answer_format=answer_format, scorer=scorer, host=host, port=port, workers=workers,
        ledger=ledger, price=price, baseline=baseline,
        audit_share=None if audit_share is None else parse_share(audit_share, what="--audit-share"),
        cheap=tuple(cheap) if cheap else None, safe=safe,
        target=None if target is None else parse_share(target, what="--target"),
        share=None if share is None else parse_share(share, what="--share"),
        shadow_only=shadow_only or None, judge=judge, loss=loss,
    )  # fmt: skip
    settings = read()
    PolicyRouter(settings)  # what options got wrong is said before anything is opened
    Baselines(settings)
    if model_here is not None and settings.upstreams:
        raise InputError("--embedded takes the place of upstreams: give one or the other")
    # The workers of one gateway are counted together.
    os.environ.setdefault("SUFFICE_GROUP", secrets.token_hex(8))
    keyed = open_ledger(settings)
    backends = None if settings.upstreams else embedded(typer.echo, model_here)
    for note in check_served(settings, backends, always=True):
        typer.echo(f"warning: {note}", err=True)
    if not quiet:
        _greet(settings, backends, keyed=keyed)
    run(settings, backends=backends, hooks=serving_hooks, reload=read, quiet=quiet)


def settings_of(config: Path | None, **options: Any) -> GatewayConfig:
    """The file's settings, and options in place of its own; read again at SIGHUP."""
    return overridden(GatewayConfig() if config is None else checked_config(config), **options)


def overridden(settings: GatewayConfig, **options: Any) -> GatewayConfig:
    """Settings with every option that was given in place of the file's."""
    given = {name: value for name, value in options.items() if value is not None}
    url = given.pop("ledger", None) or settings.ledger.url or _usual_ledger()
    given["ledger"] = replace(settings.ledger, url=url)
    prices = prices_of(given.pop("price", None))
    given["prices"] = prices.over(settings.prices)
    live = {
        name: given.pop(name)
        for name in ("cheap", "safe", "target", "share", "shadow_only", "judge", "loss")
        if name in given
    }
    if live:
        given["live"] = checked_live(replace(settings.live, **live))
    urls = given.pop("upstream", None)
    if urls:
        given["upstreams"] = tuple(UpstreamConfig(url=url) for url in urls)
    chosen = given.get("policy")
    if chosen is not None and is_policy_file(chosen):
        name = Path(chosen).stem
        given["policy"] = name
        given["policies"] = {**settings.policies, name: policy_table(Path(chosen))}
    return replace(settings, **given)


def checked_live(live: LiveConfig) -> LiveConfig:
    """The settings; raises InputError on a target or a share that makes no sense."""
    if live.loss not in get_args(Loss):
        raise InputError(f"--loss: one of {', '.join(get_args(Loss))}, got {live.loss!r}")
    share_after = min(live.share, live.share_after)
    LiveRule(target=live.target, confidence=live.confidence, share=live.share,
             share_after=share_after)  # fmt: skip
    return live


def _usual_ledger() -> str:
    """The user's own ledger, or none where they have no place to write."""
    url = default_url()
    return url if writable(url) else "none"


def open_ledger(settings: GatewayConfig) -> bool:
    """Bring the ledger up to date before any process needs it; whether it holds keys."""
    if settings.ledger.url in (None, NO_LEDGER):
        return False
    with closing(Store(str(settings.ledger.url))) as store:
        return bool(load_ring(store))


def _greet(settings: GatewayConfig, backends: Sequence[Backend] | None, *, keyed: bool) -> None:
    names = [u.name or u.url for u in settings.upstreams] or [b.name for b in backends or ()]
    asked = keyed if settings.keys.required is None else settings.keys.required
    ledger = shown(settings.ledger.url or "none")
    texts = settings.ledger.texts
    what = "no prompts, no outputs" if texts == "none" else f"keeps {texts}, redacted"
    typer.echo(f"upstreams: {', '.join(names)}")
    live = "live" if settings.live.safe is not None else None
    policy = settings.policy or live or "none (passed through); suffice/<policy> as model"
    typer.echo(f"policy: {policy}")
    if settings.live.safe is not None:
        typer.echo(f"live: {_live_in_words(settings)}")
    typer.echo(f"saved is against: {baseline_in_words(settings)}")
    for note in price_notes(settings):
        typer.echo(note)
    if settings.port:  # else the log says which free one it is
        typer.echo(f"OpenAI base URL: http://{settings.host}:{settings.port}/v1")
        typer.echo(f"dashboard: http://{settings.host}:{settings.port}/")
    typer.echo(f"ledger: {ledger}" + ("" if ledger == "none" else f" ({what})"))
    typer.echo(f"keys: {'asked for' if asked else 'none asked for (suffice keys add NAME)'}")
    if settings.host not in LOOPBACK and not asked:
        typer.echo("warning: anyone who reaches this address can use it; it asks for no key")


def _live_in_words(settings: GatewayConfig) -> str:
    live = settings.live
    cheap = ", then ".join(live.cheap)
    what = (
        f"{live.safe} answers; {100 * live.share:g} % of requests are also answered by {cheap}, "
        "after the client has its answer"
    )
    if live.shadow_only:
        return f"{what}; nothing is switched on"
    compared = {
        "differ": "differ", "harm": "lose a right answer, by labels of /v1/feedback,",
        "net": "lose more right answers than they win, by labels of /v1/feedback,",
    }[live.loss]  # fmt: skip
    if live.judge is not None:
        compared = "differ, or are judged worse where free text"
    return (
        f"{what}; it takes over once at most {100 * live.target:g} % {compared}, at "
        f"{100 * live.confidence:g} % confidence"
    )
