"""Do probabilities mean what they say: reliability, calibration error, Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import Interval, clopper_pearson


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Predictions that fall together: their mean, and how often they came true."""

    n: int
    predicted: float
    observed: Interval


def reliability(
    predicted: ArrayLike, correct: ArrayLike, *, bins: int = 10, confidence: float = 0.95
) -> tuple[Bin, ...]:
    """Bins of equal width over [0, 1], empty ones left out; p = 1 belongs to the last."""
    p, y = _pair(predicted, correct)
    index = np.minimum((p * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        inside = index == number
        n = int(inside.sum())
        if n:
            observed = clopper_pearson(int(y[inside].sum()), n, confidence)
            found.append(Bin(n=n, predicted=float(p[inside].mean()), observed=observed))
    return tuple(found)


def expected_calibration_error(
    predicted: ArrayLike, correct: ArrayLike, *, bins: int = 10
) -> float:
    """Mean |predicted - observed| over bins of equal width, weighted by rows.

    Biased upwards on few rows: even a perfect predictor has about sqrt(bins / n) of it.
    Reference: 1706.04599, equation 3.
    """
    found = reliability(predicted, correct, bins=bins)
    n = sum(each.n for each in found)
    return sum(each.n * abs(each.predicted - each.observed.estimate) for each in found) / n


def brier_score(predicted: ArrayLike, correct: ArrayLike) -> float:
    """Mean squared difference of probability and outcome."""
    p, y = _pair(predicted, correct)
    return float(((p - y) ** 2).mean())


def _pair(predicted: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(predicted, dtype=np.float64)
    y = np.asarray(correct, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or p.size == 0:
        raise InputError("predictions and outcomes must be two vectors of the same rows")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise InputError("predictions must be probabilities between 0 and 1")
    return p, y
