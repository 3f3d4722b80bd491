"""How large a rate may be, given a count: exact bounds, p-values and the rows they need."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import bdtr, bdtrc, betaincinv

from suffice.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its lower and upper confidence bound."""

    estimate: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"


def clopper_pearson(count: int, n: int, confidence: float) -> Interval:
    """Two-sided exact interval of a rate after `count` of `n`.

    Reference: Clopper and Pearson 1934; each side leaves out (1 - confidence) / 2.
    """
    tail = (1.0 + check_confidence(confidence)) / 2.0
    return Interval(
        estimate=count / _rows(count, n),
        low=lower_bound(count, n, tail),
        high=upper_bound(count, n, tail),
        confidence=confidence,
    )


def upper_bound(count: int, n: int, confidence: float) -> float:
    """Largest rate that `count` of `n` does not exclude, one-sided (Clopper-Pearson)."""
    _rows(count, n)
    check_confidence(confidence)
    return 1.0 if count == n else float(betaincinv(count + 1, n - count, confidence))


def lower_bound(count: int, n: int, confidence: float) -> float:
    """Smallest rate that `count` of `n` does not exclude, one-sided (Clopper-Pearson)."""
    _rows(count, n)
    check_confidence(confidence)
    return 0.0 if count == 0 else float(betaincinv(count, n - count + 1, 1.0 - confidence))


def at_most_p_value(count: int, n: int, rate: float) -> float:
    """P-value of the null "the true rate is at least `rate`": P(Bin(n, rate) <= count)."""
    _rows(count, n)
    return float(bdtr(count, n, rate))


def at_least_p_value(count: int, n: int, rate: float) -> float:
    """P-value of the null "the true rate is at most `rate`": P(Bin(n, rate) >= count)."""
    _rows(count, n)
    return 1.0 if count == 0 else float(bdtrc(count - 1, n, rate))


def rows_needed(rate: float, confidence: float, count: int = 0) -> int:
    """Least n at which `count` events still show a rate of at most `rate`.

    With count = 0 it is ln(1 - confidence) / ln(1 - rate): below that no data can show it.
    """
    check_confidence(confidence)
    if not 0.0 < rate < 1.0:
        raise InputError(f"a rate to be shown must lie between 0 and 1, got {rate:g}")
    alpha = 1.0 - confidence
    low = max(count + 1, math.ceil(math.log(alpha) / math.log1p(-rate) - 1e-9))
    while bdtr(count, low, rate) > alpha:
        low += max(1, low // 1000)
    while low > count + 1 and bdtr(count, low - 1, rate) <= alpha:
        low -= 1
    return low


def check_confidence(confidence: float) -> float:
    """The confidence; raises InputError unless it lies strictly between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must lie between 0 and 1 (95% is 0.95), got {confidence:g}")
    return confidence


def _rows(count: int, n: int) -> int:
    if not 0 <= count <= n or n < 1:
        raise InputError(f"a count of {count} in {n} rows is impossible")
    return n
