"""`suffice traces show` and `join`: look into trace files, make one of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.quantities import counted

if not HELP_ONLY:
    from suffice.evals.traces.files import read_traces, write_traces
    from suffice.evals.traces.summary import summarise
    from suffice.evals.traces.trace_set import TraceSet


def show(
    files: Annotated[list[Path], typer.Argument()],
    as_json: AsJson = False,
) -> None:
    """Show what is in a trace file: counts, accuracy with intervals, tokens, by dataset and arm.

    Accuracy is the mean over questions of the share of right samples; its interval is a bootstrap
    over questions.

    Example: [bold]suffice traces show data/traces/stepwise.parquet[/bold]

    Options:
        files: Trace files, taken as one set.
    """
    found = read_traces(files)
    rows = summarise(found)
    if as_json:
        typer.echo(json.dumps({"digest": found.digest, "rows": [row._asdict() for row in rows]}))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(_heading(found), highlight=False)
    table = Table("dataset", "model", box=None)
    for name in (
        "questions",
        "samples",
        "judged",
        "accuracy %",
        "answer found %",
        "tokens",
        "with logprobs",
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
    samples, questions = counted(len(found), "sample"), counted(len(found.questions), "question")
    lines = [f"{samples} of {questions}, models and modes: {len(found.arms)}"]
    names = ("description", "source", "server", "licence", "token_counts", "created")
    lines += [f"{name.replace('_', ' ')}: {told[name]}" for name in names if told[name]]
    lines += [f"server of {model}: {server}" for model, server in told["servers"].items()]
    return "\n".join([*lines, f"digest: {found.digest}", ""])


def join(
    files: Annotated[list[Path], typer.Argument()],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Join trace files into one; samples that contradict each other are refused.

    Example: [bold]suffice traces join small.parquet large.parquet --out both.parquet[/bold]

    Options:
        files: Trace files.
        out: Trace file to write.
    """
    found = read_traces(files)
    write_traces(out, found)
    typer.echo(f"{len(found)} samples of {len(found.questions)} questions in {out}")
