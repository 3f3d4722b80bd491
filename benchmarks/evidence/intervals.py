"""Intervals over questions for the tests of data/evidence, as the objects that claims read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.evals.statistics.binomial import Interval, clopper_pearson
from suffice.evals.statistics.bootstrap import percentile_interval, question_weights

DRAWS, SEED, CONFIDENCE = 2_000, 0, 0.95


def shown(interval: Interval, n: int) -> dict[str, Any]:
    """An interval and its n, rounded to six digits."""
    return {
        "estimate": round(interval.estimate, 6), "low": round(interval.low, 6),
        "high": round(interval.high, 6), "n": n,
    }  # fmt: skip


def share(count: int, n: int) -> dict[str, Any]:
    """A share of independent rows, exact."""
    return shown(clopper_pearson(count, n, CONFIDENCE), n)


def mean(values: FloatArray) -> dict[str, Any]:
    """A mean of one value a question, whole questions resampled."""
    return of_columns(lambda columns: columns[0], values)


def ratio(top: FloatArray, below: FloatArray) -> dict[str, Any]:
    """A ratio of two means over the same questions."""
    return of_columns(lambda columns: columns[0] / columns[1], top, below)


def of_columns(
    figure: Callable[[list[FloatArray]], FloatArray], *columns: FloatArray
) -> dict[str, Any]:
    """A figure of several means over the same questions, resampled together."""
    n = len(columns[0])
    weights = question_weights(n, DRAWS, SEED)
    here = figure([np.array([np.mean(each)]) for each in columns])
    resampled = figure([weights @ np.asarray(each, dtype=float) / n for each in columns])
    return shown(percentile_interval(float(here[0]), resampled, CONFIDENCE), n)
