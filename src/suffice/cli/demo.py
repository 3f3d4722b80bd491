"""`suffice demo`: quickstart's path on recorded answers of real models, in two minutes."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import needs

if not HELP_ONLY:
    from suffice.demo.page import COLUMNS, rows_of, sentences, summary, write_demo
    from suffice.demo.result import Demo, DemoPart

    with needs("serve", "suffice demo"):
        from suffice.demo.live import live_sentences, run_live_demo
        from suffice.demo.run import DemoConfig, run_demo


def demo(
    out: Path = Path("run"),
    calibrated: Annotated[int, typer.Option(min=100)] = 600,
    asked: Annotated[int | None, typer.Option(min=20)] = None,
    limit: float = 2.0,
    seed: int = 0,
    live: Flag = False,
    as_json: AsJson = False,
) -> None:
    """Two small models in front of a large one: where that is certified, and where it is refused.
    Recorded answers of real models, local engines, the real gateway; no GPU, no download.

    Example: [bold]suffice demo --out run/[/bold]

    Options:
        out: Folder for pages, pictures and figures.
        calibrated: Questions of each set that calibrate.
        asked: Others that are asked; all by default.
        limit: Points of accuracy that may be lost at most.
        seed: Which questions calibrate.
        live: The second half: the same answers as traffic, no labels.
        as_json: Print the figures as JSON.
    """  # fmt: skip
    if live:
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            typer.echo("GSM8K as live traffic: Llama-3.1-405B answers, two small models compared.")
            played = run_live_demo(out / "live", tell=typer.echo, asked=asked, seed=seed)
        if as_json:
            typer.echo(json.dumps(asdict(played) | {"saved": played.saved}, indent=2))
            return
        for text in live_sentences(played, 0.08):
            typer.echo(f"- {text}")
        return
    config = DemoConfig(calibrated=calibrated, asked=asked, limit=limit, seed=seed)
    with redirect_stdout(sys.stderr if as_json else sys.stdout):  # the steps' own words too
        found = run_demo(config, out, tell=typer.echo)
    paths = write_demo(found, out)
    if as_json:
        typer.echo(json.dumps(summary(found), indent=2))
        return
    typer.echo("")
    for part in (found.trusted, found.refused):
        _print(found, part)
    for text in sentences(found):
        typer.echo(f"- {text}")
    typer.echo(f"\npage    {paths['html']}\npicture {paths['png']}")


def _print(demo: Demo, part: DemoPart) -> None:
    console = Console()
    console = console if console.width >= 100 else Console(width=100)
    state = "certified" if part.policy is not None else "refused"
    table = Table(
        title=f"{part.title}: {state} at {demo.limit:g} points", box=box.SIMPLE_HEAD,
        pad_edge=False, title_justify="left",
    )  # fmt: skip
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for row in rows_of(part):
        table.add_row(*row)
    console.print(table)
