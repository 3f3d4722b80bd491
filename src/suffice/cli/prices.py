"""`--price`, the same for every verb, and a plain word for who still writes `--weight`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suffice.core.prices import Prices

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
    from suffice.core.errors import InputError

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
    from suffice.core.prices import Prices

    return Prices.parse(texts or ())
