"""`suffice tradeoff`: FLOPs for training or for inference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, Seed, TraceFiles
from suffice.core.errors import InputError
from suffice.core.quantities import parse_count

if not HELP_ONLY:
    from suffice.evals.traces.files import read_traces
    from suffice.recipes.tradeoff.output import HEADER, notes_of, rows_of, write_tradeoff
    from suffice.recipes.tradeoff.run import TrainedModel
    from suffice.recipes.tradeoff.run import tradeoff as run


# Columns of the two halves that a narrow terminal shows one below the other.
VOTE, VERIFIER = (0, 1, 2, 3, 4, 5, 6), (0, 1, 7, 8, 9)


def tradeoff(
    traces: TraceFiles,
    small: Annotated[str, typer.Option()],
    large: Annotated[str, typer.Option()],
    ratio: str = "0.1,1,10",
    bins: int = 5,
    seed: Seed = 0,
    out: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Where a small model with more samples beats a large one at equal total FLOPs, by difficulty.

    Example: [bold]suffice tradeoff traces.parquet --small small=1.2B/9T --large large=8B/15T
    --ratio 0.1,1,10[/bold]

    Options:
        small: MODEL=PARAMETERS/TRAINING_TOKENS.
        large: MODEL=PARAMETERS/TRAINING_TOKENS.
        ratio: Inference over training tokens, e.g. 0.1,1,10.
        bins: How many bins of difficulty.
        out: Folder for page and picture.
    """
    try:
        ratios = [float(part) for part in ratio.split(",")]
    except ValueError:
        raise InputError(f"--ratio {ratio!r}: write numbers, e.g. 0.1,1,10") from None
    models = []
    for option, text in (("--small", small), ("--large", large)):
        parts = _trained(option, text)
        models.append(TrainedModel(model=parts[0], parameters=parts[1], training_tokens=parts[2]))
    found = run(read_traces(traces), models[0], models[1], ratios, bins=bins, seed=seed)
    written = [] if out is None else write_tradeoff(found, out)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    console = Console()
    whole, *halves = (
        _table(HEADER, rows_of(found), columns) for columns in (range(len(HEADER)), VOTE, VERIFIER)
    )
    # Where it is too narrow the verifier's columns come below: no interval is broken in two.
    unbounded = console.options.update(width=1000)
    narrow = console.measure(whole, options=unbounded).maximum > console.width
    for table in halves if narrow else [whole]:
        console.print(table)
        console.print()
    for note in notes_of(found):
        console.print(f"[dim]{note}[/dim]")
    if written:
        typer.echo(f"wrote {', '.join(map(str, written))}")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], columns: Iterable[int]) -> Table:
    chosen = list(columns)
    table = Table(*(header[i] for i in chosen), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(row[i] for i in chosen))
    return table


def _trained(option: str, text: str) -> tuple[str, float, float]:
    """MODEL=PARAMETERS/TOKENS, both as 1.2B or 15T."""
    model, _, numbers = text.rpartition("=")
    parameters, slash, tokens = numbers.partition("/")
    if not model or not slash:
        raise InputError(f"{option} {text!r}: write MODEL=PARAMETERS/TRAINING_TOKENS, 8B/15T")
    return model, parse_count(parameters), parse_count(tokens)


@wraps(tradeoff)
def exchange(**given: Any) -> None:
    """What `suffice tradeoff` was called."""
    typer.echo("suffice exchange is called suffice tradeoff now", err=True)
    tradeoff(**given)
