"""`suffice config`: check the gateway's file, begin one, show what it amounts to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

config = typer.Typer(name="config", help="The gateway's configuration file.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="TOML file of suffice serve --config.")]

TEMPLATE = """\
# suffice serve --config suffice.toml
# Every key is shown with its default, but for the upstream. Secrets come from the environment:
# a key here names the variable. `suffice config check` says what is wrong, with its line.

host = "127.0.0.1"            # other addresses: make keys first (suffice keys add)
port = 8080
# policy = "adaptive_consistency"   # answers requests for an upstream's own model; else they pass
# answer_format = "number"          # how answers are compared if a request does not say
# model = "…"                       # what suffice/<policy> runs on; the first upstream's first

[[upstream]]
url = "http://localhost:8000/v1"
# api_key_env = "UPSTREAM_API_KEY"
# usd_per_million_tokens = { prompt_usd = 0.5, completion_usd = 1.5 }

[budget]                      # bounds every request that a policy answers
samples = 64
# completion_tokens = 100000
# usd = 0.5

# [policies.careful]          # becomes the model suffice/careful
# policy = "adaptive_consistency"
# max_samples = 16

[ledger]
# url = "ledger.db"           # a file, postgresql://user@host/database, or "none"
# url_env = "LEDGER_URL"      # for a URL with a password
texts = "none"                # none, prompts, outputs, all
redact = []                   # email, phone, card, iban, key (always), or regular expressions
retention_days = 90
text_retention_days = 30
when_full = "serve"           # serve (count what is dropped) or refuse (503)

[keys]
# required = true             # else: as soon as one key was made

[auto]
# spend_target = 4.0          # mean samples' worth per request that `auto` keeps to

[log]
format = "text"               # text, json, none
level = "info"
requests = true               # a line per request, without its text

[traces]
# endpoint = "http://localhost:4318/v1/traces"
"""


@config.command("check")
def check(file: File) -> None:
    """Say every mistake in the file, with its line and what is allowed; exit code 2 if any.

    Of a certified policy it asks the upstreams whether they serve the models it is about.

    Example: [bold]suffice config check suffice.toml[/bold]
    """
    from suffice.gateway.config_problems import NotValid
    from suffice.gateway.served import check_served

    try:
        found = checked(file)
        notes = check_served(found)
    except NotValid as error:
        for problem in error.problems:
            typer.echo(problem.shown(error.source), err=True)
        raise typer.Exit(2) from None
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(f"{file}: {len(found.upstreams)} upstreams, no mistakes")


def checked(file: Path) -> Any:
    """The settings of `file`, and that its policies can be built."""
    from suffice.gateway.arms import Arms
    from suffice.gateway.config import load_config

    found = load_config(file)
    Arms(found)
    return found


@config.command("init")
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("suffice.toml"),
) -> None:
    """Write a file with every key and its default.

    Example: [bold]suffice config init[/bold]
    """
    from suffice.core.errors import InputError
    from suffice.core.files import write_text

    if file.exists():
        raise InputError(f"{str(file)!r} exists; give another name")
    write_text(file, TEMPLATE)
    typer.echo(f"wrote {file}; next: suffice config check {file}")


@config.command("show")
def show(file: File) -> None:
    """Print what the file amounts to, defaults included, as JSON; secrets are masked.

    Example: [bold]suffice config show suffice.toml[/bold]
    """
    from suffice.ledger.database import shown

    found = checked(file)
    settings = {name: _plain(getattr(found, name)) for name in found.__dataclass_fields__}
    for upstream in settings["upstreams"]:
        upstream["api_key"] = "set" if upstream["api_key"] else None
    if settings["ledger"]["url"]:
        settings["ledger"]["url"] = shown(settings["ledger"]["url"])
    typer.echo(json.dumps(settings, indent=2, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
