"""Regressions on a ladder's shape means: lowest points of its curves, and what goes together.

Both are ordinary least squares of ln loss with a free level per scale, so that their tests are
exact for normal noise; a law's own fit keeps signs and is robust, which gives better predictions
and worse tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import f as f_distribution

from suffice.architecture.fitting.problem import scales, shape_clusters
from suffice.architecture.fitting.turning_point import (
    CONSTANT,
    CURVED,
    Curves,
    TurningPoint,
    shape_averages,
    turning_points,
)
from suffice.architecture.laws import Family
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError

_SLOPED = ("kv_share",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """Whether the effect of one variable depends on another: an F test with one coefficient.

    `p` is of its own; with many pairs tested, one in twenty falls below .05 by chance.
    """

    first: str
    second: str
    f: float
    degrees_of_freedom: int
    p: float


def curves_of(runs: RunsTable, variables: tuple[str, ...]) -> Curves:
    """The shape means of `runs` with a curve in each of `variables` that has one and varies."""

    def varied(names: tuple[str, ...]) -> dict[str, FloatArray]:
        return {
            name: runs.column(name)
            for name in names
            if name in variables and np.ptp(np.log(runs.column(name))) > CONSTANT
        }

    return shape_averages(
        np.log(runs.column("loss")), scales(runs)[0], shape_clusters(runs),
        varied(CURVED), varied(_SLOPED),
    )  # fmt: skip


def lowest_points(
    runs: RunsTable, family: Family, *, confidence: float
) -> tuple[TurningPoint, ...]:
    """The lowest points of the curves that `family` has; none where the shapes are too few."""
    try:
        return turning_points(curves_of(runs, family.variables), confidence=confidence)
    except TableError:
        return ()


def interactions(runs: RunsTable, family: Family) -> tuple[Interaction, ...]:
    """Every pair of `family`'s variables, and each with ln N, added to its curves one at a time."""
    curves = curves_of(runs, family.variables)
    base = curves.matrix()
    logs = {name: np.log(v) for name, v in {**curves.curves, **curves.slopes}.items()}
    if runs.has("N"):
        logs["N"] = _level_means(curves, runs)
    freedom = len(base) - base.shape[1] - 1
    if freedom < 1:
        return ()
    left = _rest(base, curves.log_loss)
    found = []
    for first, second in combinations(logs, 2):
        column = (logs[first] - logs[first].mean()) * (logs[second] - logs[second].mean())
        extra = _rest(base, column)
        if float(extra @ extra) < 1e-9 * float(column @ column) + 1e-300:
            continue  # it lies in what is fitted already
        explained = float(extra @ left) ** 2 / float(extra @ extra)
        value = explained / ((float(left @ left) - explained) / freedom)
        found.append(
            Interaction(
                first=first, second=second, f=value, degrees_of_freedom=freedom,
                p=float(f_distribution.sf(value, 1, freedom)),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.p))


def _rest(matrix: FloatArray, target: FloatArray) -> FloatArray:
    """What of `target` the columns of `matrix` do not explain."""
    found = np.linalg.lstsq(matrix, target, rcond=None)[0]
    result: FloatArray = target - matrix @ found
    return result


def _level_means(curves: Curves, runs: RunsTable) -> FloatArray:
    """Mean ln N of each row's scale."""
    numbers = scales(runs)[0]
    means = np.bincount(numbers, np.log(runs.column("N"))) / np.bincount(numbers)
    result: FloatArray = means[curves.scale]
    return result
