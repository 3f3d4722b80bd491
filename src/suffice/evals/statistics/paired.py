"""The drop in accuracy of one arm against another on the same questions, with exact bounds.

harmed  questions that the safe arm gets right and the other wrong; rate h
helped  questions that it gets wrong and the other right; rate g
drop    h - g: accuracy of the safe arm minus that of the other

`harm` is a plain binomial rate. The drop is not: g is a nuisance that the null leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrc, gammaln, xlog1py, xlogy

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import check_confidence, upper_bound

# Share of the error probability that pays for bounding the nuisance (Berger and Boos 1994).
NUISANCE_SHARE = 0.001
GRID = 49
TAIL_SD = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How two arms differ on `n` questions."""

    n: int
    harmed: int
    helped: int

    def __post_init__(self) -> None:
        if min(self.harmed, self.helped) < 0 or self.harmed + self.helped > self.n or self.n < 1:
            raise InputError(
                f"{self.harmed} harmed and {self.helped} helped of {self.n} questions is impossible"
            )

    @classmethod
    def of(cls, safe: ArrayLike, other: ArrayLike) -> Pairs:
        """Count the pairs of two 0/1 vectors over the same questions."""
        a, b = np.asarray(safe, dtype=bool), np.asarray(other, dtype=bool)
        if a.shape != b.shape or a.ndim != 1:
            raise InputError("paired outcomes must be two vectors over the same questions")
        return cls(n=a.size, harmed=int((a & ~b).sum()), helped=int((~a & b).sum()))

    @property
    def drop(self) -> float:
        """Observed drop in accuracy."""
        return (self.harmed - self.helped) / self.n


def drop_p_value(pairs: Pairs, limit: float, alpha: float = 0.05) -> float:
    """P-value of the null "the drop is `limit` or more", exact for any true rates.

    Formula: γ + sup { P(Z(a, b) <= z) : g <= U } over h = g + limit, with Z the score statistic
    (Tango 1998) of a harmed and b helped, z its observed value, U the upper (1 - γ)
    Clopper-Pearson bound of g, γ = `NUISANCE_SHARE` * alpha (Berger and Boos 1994). Z rises with a,
    so at fixed g the probability falls as h grows: the null's supremum lies on h - g = limit.
    Departs from Hsueh, Liu and Chen 2001 by the bound U; the supremum is searched on a grid that is
    refined twice around its largest value.
    """
    if not 0.0 < limit < 1.0:
        raise InputError(f"a drop to be shown must lie between 0 and 1, got {limit:g}")
    return _drop_p_value(pairs.n, pairs.harmed, pairs.helped, limit, alpha)


@lru_cache(maxsize=65536)
def _drop_p_value(n: int, harmed: int, helped: int, limit: float, alpha: float) -> float:
    spent = NUISANCE_SHARE * alpha
    z = float(_score(np.array([harmed]), np.array([helped]), n, limit)[0])
    if z >= 0.0:
        return 1.0
    most = min(upper_bound(helped, n, 1.0 - spent), (1.0 - limit) / 2.0)
    needed = _helps_needed(z, n, _most_likely(n, most + limit), limit)
    helps = most * np.linspace(0.0, 1.0, GRID) ** 2  # the sharpest peaks lie near 0
    sizes = _sizes(needed, n, helps, limit)
    for _ in range(2):
        peak = int(np.argmax(sizes))
        low, high = helps[max(0, peak - 1)], helps[min(len(helps) - 1, peak + 1)]
        helps = np.linspace(low, high, 9)
        sizes = np.append(_sizes(needed, n, helps, limit), sizes[peak])
        helps = np.append(helps, helps[-1])
    return min(1.0, spent + float(sizes.max()))


def _score(harmed: IntArray, helped: IntArray, n: int, limit: float) -> FloatArray:
    """(a - b - n limit) over its standard deviation with g at its likeliest on the null's edge."""
    a, b = harmed.astype(np.float64), helped.astype(np.float64)
    middle = a + b - (2.0 * n - a + b) * limit
    g = (middle + np.sqrt(middle**2 + 8.0 * n * b * limit * (1.0 - limit))) / (4.0 * n)
    variance = n * (2.0 * g + limit * (1.0 - limit))
    found: FloatArray = (a - b - n * limit) / np.sqrt(variance)
    return found


def _helps_needed(z: float, n: int, most: int, limit: float) -> IntArray:
    """For a = 0 … most harmed: least b helped with Z(a, b) <= z; n + 1 where none is."""
    a = np.arange(most + 1)
    low, high = np.zeros(most + 1, np.int64), n - a + 1
    while (low < high).any():
        middle = np.minimum((low + high) // 2, n - a)
        inside = _score(a, middle, n, limit) <= z + 1e-9
        high = np.where(inside, np.minimum(high, middle), high)
        low = np.where(inside, low, middle + 1)
    return np.where(low > n - a, n + 1, low)


def _most_likely(n: int, rate: float) -> int:
    """A count of harmed questions that is hardly ever exceeded."""
    return min(n, int(n * rate + TAIL_SD * (n * rate * (1.0 - rate)) ** 0.5) + 12)


def _sizes(needed: IntArray, n: int, helps: FloatArray, limit: float) -> FloatArray:
    """P(helped >= needed[harmed]) = Σ_a P(a) P(b >= needed[a] | a) at rates h = g + limit and g.

    For every g of `helps`; a runs over what hardly ever is passed at any of them.
    """
    harms = helps + limit
    reach = TAIL_SD * np.sqrt(n * harms * (1.0 - harms)) + 12.0
    first = max(0, int((n * harms - reach).min()))
    a = np.arange(first, min(len(needed) - 1, int((n * harms + reach).max())) + 1)
    least, left = needed[a], n - a
    h = harms[:, None]
    rate = np.minimum(1.0, helps[:, None] / np.maximum(1.0 - h, 1e-300))
    reached = np.broadcast_to(least <= 0, (len(helps), len(a))).astype(np.float64)
    possible = (least > 0) & (least <= left)
    reached[:, possible] = bdtrc(least[possible] - 1, left[possible], rate)
    chances = np.exp(_log_ways(a, n) + xlogy(a, h) + xlog1py(left, -h))
    found: FloatArray = (chances * reached).sum(axis=1)
    return found


def _log_ways(k: IntArray, n: int) -> FloatArray:
    """Logarithm of the number of ways to choose k of n."""
    found: FloatArray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def drop_upper_bound(pairs: Pairs, confidence: float) -> float:
    """Smallest drop that the pairs exclude at `confidence`: the test inverted, to 1e-6."""
    alpha = 1.0 - check_confidence(confidence)
    low, high = max(1e-9, pairs.drop), 1.0 - 1e-9
    if drop_p_value(pairs, high, alpha) > alpha:
        return 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        if drop_p_value(pairs, middle, alpha) <= alpha:
            high = middle
        else:
            low = middle
    return high


def rows_for_drop(limit: float, confidence: float, helped_rate: float = 0.0) -> int:
    """Least n at which a path's first step, the safe arm itself, can be shown (drop 0).

    With `helped_rate` = g the arms differ on a share g of the questions each way.
    """
    alpha = 1.0 - check_confidence(confidence)

    def enough(n: int) -> bool:
        odd = round(helped_rate * n)
        if 2 * odd > n:
            return False
        return drop_p_value(Pairs(n=n, harmed=odd, helped=odd), limit, alpha) <= alpha

    high = 1
    while not enough(high):
        high *= 2
        if high > 1 << 26:
            raise InputError(f"no number of rows below {high} shows a drop of at most {limit:g}")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
