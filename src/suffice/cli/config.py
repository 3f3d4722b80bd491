"""`suffice config`: check the gateway's file, begin one, show what it amounts to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.errors import InputError, needs
from suffice.core.files import write_text
from suffice.core.quantities import counted

if not HELP_ONLY:
    from suffice.gateway.config_errors import InvalidConfig
    from suffice.ledger.database import shown

    with needs("serve", "suffice config"):
        from suffice.gateway.config_check import checked_config
        from suffice.gateway.config_init import template
        from suffice.gateway.startup_check import check_served


config = typer.Typer(name="config", help="The gateway's configuration file.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="TOML file of suffice serve --config.")]


@config.command("check")
def check(file: File) -> None:
    """Say every mistake in the file, with its line and what is allowed; exit code 2 if any.

    Of a certified policy it asks the upstreams whether they serve the models it is about.

    Example: [bold]suffice config check suffice.toml[/bold]
    """
    try:
        found = checked_config(file)
        notes = check_served(found)
    except InvalidConfig as error:
        for problem in error.problems:
            typer.echo(problem.shown(error.source), err=True)
        raise typer.Exit(2) from None
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(f"{file}: {counted(len(found.upstreams), 'upstream')}, no mistakes")


@config.command("init")
def init(
    file: Annotated[Path, typer.Argument()] = Path("suffice.toml"),
) -> None:
    """Write a file with every key and its default.

    Example: [bold]suffice config init[/bold]

    Options:
        file: File to write.
    """
    if file.exists():
        raise InputError(f"{str(file)!r} exists; give another name")
    write_text(file, template())
    typer.echo(f"wrote {file}; next: suffice config check {file}")


@config.command("show")
def show(file: File) -> None:
    """Print what the file amounts to, defaults included, as JSON; secrets are masked.

    Example: [bold]suffice config show suffice.toml[/bold]
    """
    found = checked_config(file)
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
