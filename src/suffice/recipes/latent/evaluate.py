"""Accuracy, any@K and coverage@K for every width and depth, beside what they cost.

A width w uses the first w · ⌊K / w⌋ of the K trajectories in groups of w; a puzzle's figure is the
mean over its groups, and intervals resample puzzles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import Interval, upper_bound
from suffice.evals.statistics.bootstrap import of_share, ratio_interval
from suffice.recipes.latent.explore import Explored, Values, covered, voted

DRAWS = 2000
CONFIDENCE = 0.95
# How one of several answers is chosen. "verifier" needs to be told right from wrong by the rules.
SELECTIONS = ("first", "vote", "halting", "value", "verifier")
MANY_SOLUTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthDepthPoint:
    """One (width, depth). `flops` per puzzle, `serial_steps`: steps that cannot run in parallel.

    `accuracy` by selection; "verifier" is any@K. `coverage_many` is over puzzles with three
    solutions or more, None where there are none.
    """

    width: int
    depth: int
    flops: float
    serial_steps: int
    accuracy: Mapping[str, Interval]
    coverage: Interval
    coverage_many: Interval | None


def point(explored: Explored, *, width: int, depth: int, flops_of_step: float) -> WidthDepthPoint:
    """The figures of one width and depth."""
    right = selected(explored, width=width, depth=depth)
    groups = _groups(explored, width)
    share = np.mean([covered(explored, depth - 1, columns) for columns in groups], axis=0)
    many = explored.puzzles.counts >= MANY_SOLUTIONS
    return WidthDepthPoint(
        width=width,
        depth=depth,
        flops=flops_of_step * width * depth,
        serial_steps=depth,
        accuracy={name: mean_interval(values) for name, values in right.items()},
        coverage=mean_interval(share),
        coverage_many=mean_interval(share[many]) if many.any() else None,
    )


def selected(explored: Explored, *, width: int, depth: int) -> dict[str, Values]:
    """Share of groups whose chosen answer is right, by selection and puzzle, (P,) each."""
    if not 1 <= depth <= explored.steps:
        raise InputError(f"depth must be 1 to {explored.steps}, got {depth}")
    step = depth - 1
    sums = {name: np.zeros(len(explored.puzzles)) for name in SELECTIONS}
    groups = _groups(explored, width)
    for columns in groups:
        right = explored.right[step][:, columns]
        chosen = {
            "first": np.zeros(len(right), dtype=np.int64),
            "vote": voted(explored.code[step][:, columns]),
            "halting": explored.halting[step][:, columns].argmax(axis=1),
            "value": explored.value[step][:, columns].argmax(axis=1),
            "verifier": right.argmax(axis=1),
        }
        for name, column in chosen.items():
            sums[name] += right[np.arange(len(right)), column]
    return {name: total / len(groups) for name, total in sums.items()}


def mean_interval(values: Values) -> Interval:
    """Mean over puzzles with a bootstrap interval over them."""
    found = ratio_interval(values, np.ones(len(values)), confidence=CONFIDENCE, draws=DRAWS)
    return of_share(found, len(values))


def difference_interval(values: Values) -> Interval:
    """The same of paired differences; where no puzzle differs, as far as their number can tell."""
    found = ratio_interval(values, np.ones(len(values)), confidence=CONFIDENCE, draws=DRAWS)
    if values.any():
        return found
    unseen = upper_bound(0, len(values), (1 + CONFIDENCE) / 2)
    return Interval(estimate=0.0, low=-unseen, high=unseen, confidence=CONFIDENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Width against depth on the same puzzles at one budget: `gain` is wide minus deep, paired.

    "equal FLOPs": one trajectory goes on for as long as all the wide ones together. "at most the
    FLOPs": it stops at the best depth within that, which is picked on these very puzzles, in favour
    of depth. "equal serial steps": it goes as deep as each of the wide ones.
    """

    budget: str
    selection: str
    wide: tuple[int, int]  # width, depth
    deep: tuple[int, int]
    flops_ratio: float  # wide over deep
    wide_accuracy: float
    deep_accuracy: float
    gain: Interval


def contest(
    wide: Explored,
    deep: Explored,
    *,
    width: int,
    depth: int,
    against: int,
    selection: str,
    budget: str,
) -> Contest:
    """(width, depth) of `wide` against one trajectory of `deep` at depth `against`."""
    ours = selected(wide, width=width, depth=depth)[selection]
    other = selected(deep, width=1, depth=against)["first"]
    return Contest(
        budget=budget,
        selection=selection,
        wide=(width, depth),
        deep=(1, against),
        flops_ratio=width * depth / against,
        wide_accuracy=float(ours.mean()),
        deep_accuracy=float(other.mean()),
        gain=difference_interval(ours - other),
    )


def _groups(explored: Explored, width: int) -> list[Sequence[int]]:
    if not 1 <= width <= explored.width:
        raise InputError(f"width must be 1 to {explored.width}, got {width}")
    count = explored.width // width
    return [range(g * width, (g + 1) * width) for g in range(count)]
