"""`suffice evidence`: claims about efficient inference, tested again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY, HELP_OPTIONS
from suffice.cli.options import AsJson

if not HELP_ONLY:
    from suffice.core.errors import InputError
    from suffice.recipes.evidence.claim import TOPICS
    from suffice.recipes.evidence.freshness import read_record, write_record
    from suffice.recipes.evidence.history import adopted
    from suffice.recipes.evidence.html import html
    from suffice.recipes.evidence.registry import read_registry
    from suffice.recipes.evidence.report import (
        WORDS,
        Entry,
        claim_lines,
        counts,
        entries,
        headline_figure,
        headline_n,
        write_report,
    )
    from suffice.recipes.evidence.run import chosen
    from suffice.recipes.evidence.run import run as run_tests

evidence = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS, help="Claims about efficient inference, tested again.",
)  # fmt: skip
WIDEST = 400  # a row is one line, whatever the terminal
Root = Annotated[
    Path, typer.Option("--root", help="A clone of the project, which holds data/evidence.")
]
Names = Annotated[list[str] | None, typer.Argument(help="Claims by name.", show_default=False)]


@evidence.command("list")
def list_claims(
    topic: Annotated[
        str | None, typer.Option("--topic", help="Claims of one topic alone.", show_default=False)
    ] = None,
    root: Root = Path(),
    as_json: AsJson = False,
) -> None:
    """List claims with verdicts, and say which results are older than their code."""
    if topic is not None and topic not in TOPICS:
        raise InputError(f"--topic {topic!r}: known are {', '.join(TOPICS)}")
    found = [
        each for each in entries(read_registry(root)) if topic is None or each.claim.topic == topic
    ]
    if as_json:
        typer.echo(json.dumps([_facts(each) for each in found], indent=2, ensure_ascii=False))
        return
    table = Table("name", "verdict", "figure", "n", "result", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for each in found:
        age = each.freshness.word.partition(":")[0] if each.claim.test else "–"
        table.add_row(each.name, each.judged.word, headline_figure(each), headline_n(each), age)
    Console(width=WIDEST).print(table, soft_wrap=True)
    number = counts(found)
    typer.echo(", ".join(f"{number[word]} {word}" for word in WORDS))


@evidence.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A claim by name.")],
    root: Root = Path(),
    as_json: AsJson = False,
) -> None:
    """Show one claim: scale, verdict, figures, rule, source, later work, command."""
    registry = read_registry(root)
    registry.claim(name)
    entry = next(each for each in entries(registry) if each.name == name)
    if as_json:
        typer.echo(json.dumps(_facts(entry), indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join(claim_lines(registry, entry)))
    if entry.claim.test is not None:
        typer.echo(f"result: {entry.freshness.word}")


@evidence.command("run")
def run(
    names: Names = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Every claim whose test fits a CPU: 20 minutes at most.")
    ] = False,
    root: Root = Path(),
) -> None:
    """Test claims again: run their commands, replace their results, judge anew.

    Example: [bold]suffice evidence run --fast[/bold]
    """
    registry = read_registry(root)
    spent, changed = 0.0, 0
    for each in run_tests(registry, chosen(registry, names or [], fast=fast)):
        spent += each.seconds
        changed += each.before.word != each.after.word
        was = "" if each.before.word == each.after.word else f", was {each.before.word}"
        typer.echo(f"{each.seconds:6.1f} s  {each.name}: {each.after.word}{was}")
    typer.echo(f"{spent:.0f} s in all, {changed} verdicts changed")


@evidence.command("report")
def report(
    out: Annotated[Path, typer.Option("--out", help="Folder for evidence.md and evidence.html.")],
    root: Root = Path(),
) -> None:
    """Write the report: Markdown, and one HTML file that needs no network."""
    registry = read_registry(root)
    found = entries(registry)
    written = write_report(registry, found, out, html(registry, found))
    typer.echo(f"wrote {', '.join(map(str, written))}")


@evidence.command("adopt")
def adopt(names: Names = None, root: Root = Path()) -> None:
    """Note from git's history which code committed results were made by, where no record says.

    Without names: all claims that have a result and no record.
    """
    registry = read_registry(root)
    for name in names or registry.claims:
        claim = registry.claim(name)
        if claim.test is None or (not names and read_record(root, name) is not None):
            continue
        write_record(root, name, adopted(root, claim))
        typer.echo(f"noted {name}")


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.claim.title,
        "topic": entry.claim.topic,
        "verdict": str(entry.judged.verdict),
        "holds": entry.judged.holds,
        "result": entry.freshness.word if entry.claim.test else None,
        "figures": [
            {
                "name": each.measure.name, "says": each.measure.says, "unit": each.measure.unit,
                "estimate": each.estimate, "low": each.low, "high": each.high, "n": each.n,
            }
            for each in entry.judged.figures
        ],
    }  # fmt: skip
