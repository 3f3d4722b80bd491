"""Options that several verbs share: one definition each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from suffice.core.errors import InputError
from suffice.core.prices import Prices

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
TraceFiles = Annotated[
    list[Path], typer.Argument(help="Trace files (Parquet).", show_default=False)
]
Upstreams = Annotated[
    list[str], typer.Option("--upstream", help="An OpenAI-compatible server; may be repeated.")
]
Scorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="Verifier or reward function for best_of_n, as module:function.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed of orders and resampling.")]
PriceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        help="What a model's tokens cost: MODEL=PROMPT/COMPLETION\\[/CACHED] in USD per million; "
        "ratios do where costs are only compared. May be repeated; * is every other model.",
        show_default=False,
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="What you run today, e.g. single@MODEL: answers are compared with it. By default "
        "one call of the model that is asked for; of a policy file, its own.",
        show_default=False,
    ),
]


def _refuse_weight(given: list[str] | None) -> None:
    """What replaces `--weight`."""
    if given:
        model, _, number = given[0].rpartition("=")
        raise InputError(
            f"--weight {given[0]} is gone: write --price {model or 'MODEL'}={number}/{number}, "
            "prompt and completion tokens apart (MODEL=PROMPT/COMPLETION[/CACHED] in USD per "
            "million tokens; only the ratio between models matters)"
        )


WeightOption = Annotated[
    list[str] | None, typer.Option("--weight", hidden=True, callback=_refuse_weight)
]


def prices_of(texts: Sequence[str] | None) -> Prices:
    """The prices that `--price` gave."""
    return Prices.parse(texts or ())


LadderStore = Annotated[Path, typer.Option(help="JSONL that holds the runs.")]
