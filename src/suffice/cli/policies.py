"""`suffice policies`: the strategies, their papers and options."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson

if not HELP_ONLY:
    from suffice.policies.registry import PolicyInfo, describe, describe_all


def policies(
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List the policies, or the options of one.

    Example: [bold]suffice policies adaptive_consistency[/bold], then
    [bold]suffice ask "…" --policy adaptive_consistency:threshold=.9,max_samples=16[/bold].
    A cascade is written [bold]adaptive_consistency:accept=.9@small > single@large[/bold].

    Options:
        name: Show the options of this policy only.
    """
    found: tuple[PolicyInfo, ...] = describe_all() if name is None else (describe(name),)
    if as_json:
        shown = [asdict(info) for info in found]
        typer.echo(json.dumps(shown if name is None else shown[0], indent=2, ensure_ascii=False))
        return
    console = Console()
    if name is None:
        table = Table("policy", "what it does", "paper", "needs", box=None, pad_edge=False)
        for info in found:
            table.add_row(info.name, info.summary, info.paper, ", ".join(info.needs))
        console.print(table)
        console.print("\nOptions of one: suffice policies NAME")
        return
    (info,) = found
    console.print(f"[bold]{info.name}[/bold]  {info.summary}  [dim]{info.paper}[/dim]")
    table = Table("option", "type", "default", "meaning", box=None, pad_edge=False)
    for option in info.options:
        table.add_row(option.name, option.type, option.default, option.doc)
    console.print(table)
