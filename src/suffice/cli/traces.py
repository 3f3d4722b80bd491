"""`suffice traces`: import published sample sets, look into trace files, join them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from suffice.evals.traces import TraceSet

traces = typer.Typer(
    help="Recorded samples: import published sets, show and join files.", no_args_is_help=True
)


@traces.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="The set, see suffice traces sets.")],
    path: Annotated[Path, typer.Argument(help="Its folder, as published.")],
    out: Annotated[Path, typer.Option("--out", help="Trace file to write.")],
) -> None:
    """Turn a published sample set into a trace file.

    Example: [bold]suffice traces import tot_game24 data/tot_game24 --out game24.parquet[/bold]
    """
    from suffice.core.errors import InputError
    from suffice.evals.importers import importer
    from suffice.evals.trace_files import read_traces, write_traces

    chosen = importer(name)
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist: give the folder of {name}")
    information = chosen.information.model_copy(update={"description": chosen.summary})
    try:
        write_traces(out, chosen.read(path), information)
    except KeyError as error:
        raise InputError(f"{str(path)!r} is not laid out as {name} is: it lacks {error}") from None
    found = read_traces(out)
    typer.echo(f"{len(found)} samples of {len(found.questions)} questions in {out}")


@traces.command()
def sets() -> None:
    """List the published sets that can be imported.

    Example: [bold]suffice traces sets[/bold]
    """
    from rich.console import Console
    from rich.table import Table

    from suffice.evals.importers import IMPORTERS

    table = Table("name", "samples", "source", "licence", box=None)
    for name, each in IMPORTERS.items():
        table.add_row(name, each.summary, each.information.source, each.information.licence)
    Console().print(table)


@traces.command()
def show(
    files: Annotated[list[Path], typer.Argument(help="Trace files, taken as one set.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is in a trace file: counts, accuracy with intervals, tokens, by dataset and arm.

    Accuracy is the mean over questions of the share of right samples; its interval is a bootstrap
    over questions.

    Example: [bold]suffice traces show data/traces/stepwise.parquet[/bold]
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from suffice.evals.trace_files import read_traces
    from suffice.evals.trace_summary import summarise

    found = read_traces(files)
    rows = summarise(found)
    if as_json:
        typer.echo(json.dumps({"digest": found.digest, "rows": [row._asdict() for row in rows]}))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(_heading(found), highlight=False)
    table = Table("dataset", "arm", box=None)
    for name in (
        "questions",
        "samples",
        "judged",
        "accuracy %",
        "answers %",
        "tokens",
        "confidence",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.dataset,
            row.arm,
            str(row.questions),
            str(row.samples),
            str(row.judged),
            "–" if row.accuracy is None else f"{row.accuracy:.1%} [{row.low:.1%}, {row.high:.1%}]"
            .replace("%", ""),
            f"{row.answered:.1%}".replace("%", ""),
            "–" if row.tokens is None else f"{row.tokens:.1f}",
            f"{row.with_confidence:.0%}",
        )  # fmt: skip
    console.print(table)


def _heading(found: TraceSet) -> str:
    told: dict[str, Any] = found.information.model_dump()
    lines = [f"{len(found)} samples of {len(found.questions)} questions, {len(found.arms)} arms"]
    names = ("description", "source", "server", "licence", "token_counts", "created")
    lines += [f"{name.replace('_', ' ')}: {told[name]}" for name in names if told[name]]
    return "\n".join([*lines, f"digest: {found.digest}", ""])


@traces.command()
def join(
    files: Annotated[list[Path], typer.Argument(help="Trace files.")],
    out: Annotated[Path, typer.Option("--out", help="Trace file to write.")],
) -> None:
    """Join trace files into one; samples that contradict each other are refused.

    Example: [bold]suffice traces join small.parquet large.parquet --out both.parquet[/bold]
    """
    from suffice.evals.trace_files import read_traces, write_traces

    found = read_traces(files)
    write_traces(out, found)
    typer.echo(f"{len(found)} samples of {len(found.questions)} questions in {out}")


@traces.command("from-ledger")
def from_ledger(
    out: Annotated[Path, typer.Option("--out", help="Trace file to write.")],
    ledger: Annotated[
        str | None,
        typer.Option("--ledger", help="File or postgresql:// URL; the default ledger without."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only the last 90m, 24h, 7d …", show_default=False),
    ] = None,
    answer_format: Annotated[
        str | None,
        typer.Option(
            "--answer-format",
            help="Extracts answers where no policy did: number, choice, boxed …",
            show_default=False,
        ),
    ] = None,
    judged: Annotated[
        bool, typer.Option("--judged", help="Only questions of which every sample is judged.")
    ] = False,
) -> None:
    """Turn traffic whose prompts and outputs were stored into traces, judged by feedback.

    Example: [bold]suffice traces from-ledger --since 7d --judged --out traffic.parquet[/bold]
    """
    import time

    from suffice.core.quantities import parse_duration
    from suffice.evals.trace_files import write_traces
    from suffice.ledger.export import records
    from suffice.ledger.place import default_url
    from suffice.ledger.store import open_existing
    from suffice.recipes.record.from_ledger import traces_of

    began_s = 0.0 if since is None else time.time() - parse_duration(since, what="--since")
    store = open_existing(ledger or default_url())
    try:
        found = traces_of(
            records(store, since_s=began_s), answer_format=answer_format, judged=judged
        )
    finally:
        store.close()
    write_traces(out, found.traces, found.information)
    questions = len({trace.question.name for trace in found.traces})
    typer.echo(
        f"{len(found.traces)} samples of {questions} questions in {out}, "
        f"{found.judged} of {found.used} requests judged"
    )
    for why, count in found.left_out.items():
        typer.echo(f"left out: {count} {why}")
