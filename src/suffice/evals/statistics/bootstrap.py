"""Intervals by resampling whole questions: samples of one question are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import Interval, check_confidence, clopper_pearson

# Resamples of up to so many weights are kept: a table asks for the same ones for every line.
KEPT_WEIGHTS = 4_000_000


def question_weights(n: int, draws: int, seed: int) -> FloatArray:
    """How often each of `n` questions is in each of `draws` resamples, one row a resample.

    Not to be written to.
    """
    draw = _kept_weights if n * draws <= KEPT_WEIGHTS else _drawn_weights
    return draw(n, draws, seed)


def _drawn_weights(n: int, draws: int, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    found = generator.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(np.float64)
    found.flags.writeable = False
    return found


_kept_weights = lru_cache(maxsize=2)(_drawn_weights)


def by_question(values: ArrayLike, questions: Sequence[object]) -> tuple[FloatArray, FloatArray]:
    """(sums, counts) of the values of each question, in order of first appearance."""
    places: dict[object, int] = {}
    index = np.array([places.setdefault(question, len(places)) for question in questions])
    flat = np.asarray(values, dtype=np.float64)
    if flat.shape != index.shape:
        raise InputError("every value needs its question")
    return np.bincount(index, flat).astype(np.float64), np.bincount(index).astype(np.float64)


def clustered_mean(
    values: ArrayLike,
    questions: Sequence[object],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of all values with a percentile interval over resampled questions."""
    sums, counts = by_question(values, questions)
    return ratio_interval(sums, counts, confidence=confidence, draws=draws, seed=seed)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Σ numerators / Σ denominators, one pair a question, with a percentile interval."""
    check_confidence(confidence)
    top = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    weights = question_weights(top.size, draws, seed)
    return percentile_interval(
        float(top.sum() / below.sum()), (weights @ top) / (weights @ below), confidence
    )


def percentile_interval(estimate: float, resampled: ArrayLike, confidence: float) -> Interval:
    """The estimate with the percentiles of its resampled values."""
    tail = (1.0 - check_confidence(confidence)) / 2.0
    low, high = np.quantile(np.asarray(resampled, dtype=np.float64), [tail, 1.0 - tail])
    return Interval(estimate=estimate, low=float(low), high=float(high), confidence=confidence)


def of_share(found: Interval, n: int) -> Interval:
    """The interval of a share over `n` questions, exact where all of them are 0 or all are 1.

    There every resample is the same and the percentiles would claim certainty: 240 right of 240 is
    1 [.985, 1] by Clopper and Pearson.
    """
    if found.low == found.high and found.estimate in (0.0, 1.0):
        return clopper_pearson(round(found.estimate * n), n, found.confidence)
    return found
