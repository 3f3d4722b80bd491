"""`suffice traces rejudge` and `from-ledger`: answers graded again, traffic as a recording."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.quantities import counted, parse_duration

if not HELP_ONLY:
    from suffice.evals.datasets import open_dataset
    from suffice.evals.traces.files import write_traces
    from suffice.ledger.default_url import default_url
    from suffice.ledger.export import records
    from suffice.ledger.store import open_existing
    from suffice.recipes.record.from_ledger import traces_of
    from suffice.recipes.record.rejudge import rejudge as judge_again


def rejudge(
    file: Annotated[Path, typer.Argument()],
    dataset: str | None = None,
    checker: str | None = None,
    out: Path | None = None,
) -> None:
    """Grade recorded samples again, by other answers or another checker, without asking again.

    Example: [bold]suffice traces rejudge traces.parquet --checker number[/bold]

    Options:
        file: A recording.
        dataset: Questions with the right answers.
        checker: number, choice, math, json, text …
        out: Recording to write; the same file without.
    """  # fmt: skip
    items = []
    if dataset is not None:
        found = open_dataset(dataset, checker=checker)
        for note in found.notes:
            typer.echo(note)
        items = list(found.items)
    came = judge_again(file, out or file, items=items, checker=checker)
    typer.echo(
        f"{came.samples} samples in {out or file}: {came.right} of {came.judged} judged are right; "
        f"{came.verdicts} verdicts and {came.answers} answers changed"
    )
    if came.left:
        samples = counted(came.left, "sample")
        typer.echo(f"left as they were: {samples} of which no text was recorded")
    if came.unknown:
        samples = counted(came.unknown, "sample")
        typer.echo(f"left as they were: {samples} of questions not in {dataset}")


def from_ledger(
    out: Annotated[Path, typer.Option()],
    ledger: str | None = None,
    since: str | None = None,
    answer_format: str | None = None,
    judged: Flag = False,
) -> None:
    """Turn traffic whose prompts and outputs were stored into traces, judged by feedback.

    Example: [bold]suffice traces from-ledger --since 7d --judged --out traffic.parquet[/bold]

    Options:
        out: Trace file to write.
        ledger: File or postgresql:// URL; the default ledger without.
        since: Only the last 90m, 24h, 7d …
        answer_format: Extracts answers where no policy did: number, choice, boxed …
        judged: Only questions of which every sample is judged.
    """
    began_s = 0.0 if since is None else time.time() - parse_duration(since, what="--since")
    with closing(open_existing(ledger or default_url())) as store:
        found = traces_of(
            records(store, since_s=began_s), answer_format=answer_format, judged=judged
        )
    write_traces(out, found.traces, found.information)
    questions = len({trace.question.name for trace in found.traces})
    typer.echo(
        f"{len(found.traces)} samples of {questions} questions in {out}, "
        f"{found.judged} of {found.used} requests judged"
    )
    for why, count in found.left_out.items():
        typer.echo(f"left out: {count} {why}")
