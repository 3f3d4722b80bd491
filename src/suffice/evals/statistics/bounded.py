"""P-values for the mean of bounded losses, by betting.

The null is "the mean is `limit` or more". Needed where a loss is not 0 or 1: a question's mean over
several samples, or a graded score. Values lie in [-1, 1].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import check_confidence

# Bets start from "the two answers hardly differ", which counts as much as four questions.
PRIOR_VARIANCE = 0.005
PRIOR_QUESTIONS = 4.0
# Share of the largest bet that no value can ruin: a single 1 leaves a tenth of the wealth.
BOLDEST = 0.9


def mean_p_value(
    values: ArrayLike, limit: float, alpha: float = 0.05, *, boldest: float = BOLDEST
) -> float:
    """1 / last wealth of a bettor who bets that the mean of values in [-1, 1] is below `limit`.

    Formula: wealth = Π (1 - λ_i (x_i - limit)), λ_i = sqrt(2 ln(1/α) / (n σ²_{i-1})) but at most
    boldest / (1 - limit), σ²_{i-1} the variance of the values before i, regularised by a prior.
    Under the null a non-negative supermartingale from 1, so that p <= α has probability at most α
    (Markov). Bets are tuned to the number of values, which must be fixed beforehand, as must their
    order. The last wealth, not the largest, though that would be valid too (Ville): all values
    count, whatever their order, and what has a mean over the limit here is not shown by a good
    beginning. Wealth never falls as `limit` grows (λ depends on it by its cap alone), so what is
    shown at one limit is shown at every larger one.
    `boldest` near 1 needs the fewest values where all are near 0, and is ruined by a single 1.
    Reference: 2010.09686, equations 15 and 24 with theorem 3; confseq's `betting_mart` with
    `lambda_predmix_eb(fixed_n=n)` on (x + 1) / 2, from which only the prior departs.
    """
    wealth = log_wealth(_bounded(values), limit, alpha, boldest)
    return min(1.0, math.exp(-float(wealth[-1])))


def mean_upper_bound(values: ArrayLike, confidence: float, *, boldest: float = BOLDEST) -> float:
    """Smallest mean in [-1, 1] that the values exclude at `confidence`, to 1e-6; 1 if none."""
    x, alpha = _bounded(values), 1.0 - check_confidence(confidence)

    def shown(limit: float) -> bool:
        return float(log_wealth(x, limit, alpha, boldest)[-1]) >= -math.log(alpha)

    low, high = -1.0, 1.0
    if not shown(1.0 - 1e-9):
        return 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def log_wealth(x: FloatArray, limit: float, alpha: float, boldest: float) -> FloatArray:
    """Log wealth after every value."""
    n, i = x.size, np.arange(1, x.size + 1)
    means = np.cumsum(x) / (i + PRIOR_QUESTIONS)
    spread = PRIOR_QUESTIONS * PRIOR_VARIANCE + np.cumsum((x - means) ** 2)
    before = np.append(PRIOR_VARIANCE, (spread / (i + PRIOR_QUESTIONS))[:-1])
    bets = np.minimum(np.sqrt(2.0 * math.log(1.0 / alpha) / (n * before)), boldest / (1.0 - limit))
    found: FloatArray = np.cumsum(np.log1p(-bets * (x - limit)))
    return found


def _bounded(values: ArrayLike) -> FloatArray:
    x: FloatArray = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not (np.abs(x) <= 1.0 + 1e-12).all():
        raise InputError("values must lie between -1 and 1, and there must be some")
    return np.clip(x, -1.0, 1.0)
