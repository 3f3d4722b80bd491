"""A law's pick against each of its references: what it gains in loss, and with which parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suffice.architecture.counts import non_embedding_parameters, parameter_counts
from suffice.architecture.shape import Shape
from suffice.recipes.ladder.criteria import ShapeRuns, runs_of, welch
from suffice.recipes.ladder.pick import EQUAL_REFERENCE, PICK, REFERENCE
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Mean loss of the pick less the reference's, nats, with a two-sided interval (Welch's t).

    `parameters_percent` and `total_percent` are by how much the reference is larger, in N and with
    both embeddings. `seeds` counts runs of the pick and of the reference.
    """

    pick: dict[str, int]
    reference: dict[str, int]
    parameters_percent: float
    total_percent: float
    pick_loss: float
    reference_loss: float
    difference: float
    low: float
    high: float
    confidence: float
    seeds: tuple[int, int]

    def sentence(self) -> str:
        """One line for the terminal."""
        told = "told apart" if self.low > 0 or self.high < 0 else "not told apart"
        return (
            f"pick {_text(self.pick)} against {_text(self.reference)} "
            f"(N {self.parameters_percent:+.1f} %, all parameters {self.total_percent:+.1f} %): "
            f"{self.difference:+.4f} nats [{self.low:+.4f}, {self.high:+.4f}] at "
            f"{self.confidence:.0%}, {self.pick_loss:.4f} against {self.reference_loss:.4f} over "
            f"{self.seeds[0]} and {self.seeds[1]} seeds: {told}"
        )


def compare_picks(records: Sequence[RunRecord], *, confidence: float = 0.9) -> tuple[Compared, ...]:
    """Each pick of `records` against each reference on as many tokens; two seeds each at least."""
    picks = runs_of(records, PICK, least=2)
    others = [
        *runs_of(records, REFERENCE, least=2), *runs_of(records, EQUAL_REFERENCE, least=2)
    ]  # fmt: skip
    return tuple(
        _compared(mine, theirs, confidence)
        for mine in picks
        for theirs in others
        if mine.tokens == theirs.tokens and mine.shape != theirs.shape
    )


def _compared(mine: ShapeRuns, theirs: ShapeRuns, confidence: float) -> Compared:
    difference = mine.mean - theirs.mean
    wide = welch(mine.losses, theirs.losses, confidence)
    sizes, totals = (
        np.array([float(count(shape)) for shape in (mine.shape, theirs.shape)])
        for count in (non_embedding_parameters, _total)
    )
    return Compared(
        pick=dimensions(mine.shape),
        reference=dimensions(theirs.shape),
        parameters_percent=100 * float(sizes[1] / sizes[0] - 1),
        total_percent=100 * float(totals[1] / totals[0] - 1),
        pick_loss=mine.mean,
        reference_loss=theirs.mean,
        difference=difference,
        low=difference - wide,
        high=difference + wide,
        confidence=confidence,
        seeds=(len(mine.losses), len(theirs.losses)),
    )


def _total(shape: Shape) -> float:
    return float(parameter_counts(shape).total)


def _text(shape: dict[str, int]) -> str:
    return (
        f"{shape['hidden_size']}/{shape['intermediate_size']}/{shape['num_hidden_layers']}/"
        f"{shape['num_attention_heads']}:{shape['num_key_value_heads']}"
    )
