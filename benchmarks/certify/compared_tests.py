"""Tests that certificates are compared with in `simulate.py`; the package uses none of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from suffice.core.errors import InputError


def hoeffding_bentkus_p_value(mean: float, n: int, limit: float) -> float:
    """The smaller of Hoeffding's (relative-entropy form) and Bentkus' bound.

    Formula: min(exp(-n KL(mean, limit)), e P(Bin(n, limit) <= ceil(n mean))).
    Reference: 2110.01052 (learn then test), proposition 2.
    """
    if mean >= limit:
        return 1.0
    entropy = 0.0
    if mean > 0.0:
        entropy += mean * math.log(mean / limit)
    entropy += (1.0 - mean) * math.log((1.0 - mean) / (1.0 - limit))
    bentkus = math.e * float(bdtr(math.ceil(n * mean - 1e-9), n, limit))
    return min(1.0, math.exp(-n * entropy), bentkus)


def betting_p_value(losses: ArrayLike, limit: float, alpha: float = 0.05) -> float:
    """1 / largest wealth of a bettor who bets that the mean lies below `limit`.

    Formula: wealth = Π (1 - ν_i (x_i - limit)), ν_i set from the losses before i, at most
    1 / (1 - limit), so that wealth is a non-negative supermartingale under the null. Depends on
    the order of the losses, which must not depend on their values.
    Reference: 2010.09686, the hedged bets of section 4.
    """
    x: NDArray[np.float64] = np.asarray(losses, dtype=np.float64)
    if x.size == 0 or x.min() < 0.0 or x.max() > 1.0:
        raise InputError("losses must lie between 0 and 1, and there must be some")
    i = np.arange(1, x.size + 1)
    means = (0.5 + np.cumsum(x)) / (i + 1)
    before = np.concatenate(([0.5], means[:-1]))
    spread = (0.25 + np.cumsum((x - means) ** 2)) / (i + 1)
    earlier = np.concatenate(([0.25], spread[:-1]))
    size = np.sqrt(2.0 * math.log(1.0 / alpha) / (x.size * earlier))
    # The bettor's best guess: growth is largest at (limit - mean) / variance.
    kelly = np.maximum(limit - before, 0.0) / (earlier + (limit - before) ** 2)
    bets = np.minimum(np.minimum(size, kelly), 0.75 / (1.0 - limit))
    wealth = np.exp(np.cumsum(np.log1p(-bets * (x - limit))))
    return float(min(1.0, 1.0 / wealth.max()))


def bonferroni(p_values: Sequence[float], alpha: float) -> tuple[bool, ...]:
    """Which settings are shown together, each tested at alpha / m: valid in any order."""
    return tuple(p_value <= alpha / len(p_values) for p_value in p_values)
