"""Votes over extracted answers, and how sure a count makes us.

v1, v2  votes of the most frequent answer and of the runner-up
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from math import lgamma

import numpy as np

from suffice.core.arrays import FloatArray


def tally(answers: Iterable[str | None]) -> tuple[tuple[str, int], ...]:
    """(answer, votes) pairs, most votes first, ties by first appearance; None casts no vote."""
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))


def weighted_tally(votes: Iterable[tuple[str | None, float]]) -> tuple[tuple[str, float], ...]:
    """(answer, summed weight) pairs, heaviest first, ties by first appearance."""
    sums: dict[str, float] = {}
    for answer, weight in votes:
        if answer is not None:
            sums[answer] = sums.get(answer, 0.0) + weight
    return tuple(sorted(sums.items(), key=lambda item: -item[1]))


def top_two(counts: tuple[tuple[str, int], ...]) -> tuple[int, int]:
    """(v1, v2) of a tally; 0 where there is none."""
    v1 = counts[0][1] if counts else 0
    v2 = counts[1][1] if len(counts) > 1 else 0
    return v1, v2


@lru_cache(maxsize=65536)
def beta_agreement(v1: int, v2: int) -> float:
    """P(θ > 1/2) for θ ~ Beta(v1 + 1, v2 + 1): the leader would win with endless samples.

    Formula: Σ_{j=0}^{v1} C(v1 + v2 + 1, j) / 2^(v1 + v2 + 1), in exact integers.
    Reference: 2305.11860 (Adaptive-Consistency), Beta criterion.
    """
    return next(_beta_agreements(v1, v2))


def _beta_agreements(v1: int, v2: int) -> Iterator[float]:
    """Beta agreement of (v1, v2), (v1 + 1, v2), …; each from the last in a few operations.

    The complement S(n, k) = Σ_{j=0}^{k} C(n, j), k = v2, has fewer terms, and
    S(n + 1, k) = 2 S(n, k) - C(n, k).
    """
    n = v1 + v2 + 1
    term = below = 1
    for j in range(1, v2 + 1):
        term = term * (n - j + 1) // j
        below += term
    while True:
        yield ((1 << n) - below) / (1 << n)
        below = 2 * below - term
        term = term * (n + 1) // (n + 1 - v2)
        n += 1


@lru_cache(maxsize=65536)
def dirichlet_agreement(votes: tuple[int, ...]) -> float:
    """P(p_1 > p_j for all j) for p ~ Dirichlet(votes + 1), `votes` in falling order.

    Formula: with independent g_j ~ Gamma(v_j + 1), P(g_1 > max g_j), one integral over g_1.
    One answer that nobody has given yet is always a rival, else a single vote would be certainty;
    with at most one rival this equals `beta_agreement`.
    Reference: 2305.11860, Dirichlet criterion (there by sampling).
    """
    if not votes:
        return 0.0
    lead, rivals = votes[0], votes[1:] or (0,)
    # The mass of Gamma(v + 1) outside mean ± 12 sd (and 40 on the right for small v) is < 1e-15.
    spread = 12.0 * (lead + 1.0) ** 0.5
    low, high = max(0.0, lead + 1.0 - spread), lead + 1.0 + spread + 30.0
    nodes, weights = _legendre()
    x = low + (high - low) * (nodes + 1.0) / 2.0
    density = np.exp(lead * np.log(x) - x - lgamma(lead + 1.0))
    for rival in rivals:
        density = density * _gamma_below(rival, x)
    return float(min(1.0, (high - low) / 2.0 * (weights @ density)))


@cache
def _legendre() -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    return nodes, weights


def _gamma_below(votes: int, x: FloatArray) -> FloatArray:
    """P(Gamma(votes + 1) < x) = 1 - e^-x Σ_{k <= votes} x^k / k!."""
    k = np.arange(votes + 1, dtype=np.float64)[:, None]
    log_factorial = np.cumsum(np.log(np.maximum(k, 1.0)), axis=0)
    # In logarithms: e^-x alone underflows from x = 745 on.
    below: FloatArray = 1.0 - np.exp(k * np.log(x) - x - log_factorial).sum(axis=0)
    return below


@lru_cache(maxsize=65536)
def votes_needed(v1: int, v2: int, threshold: float, limit: int) -> int:
    """Least further votes for the leader at which the Beta criterion reaches `threshold`.

    At most `limit`. No sequential rule can stop before that many more samples, so that many can be
    drawn at once without waste.
    """
    agreements = _beta_agreements(v1, v2)
    return next((n for n in range(limit) if next(agreements) >= threshold), limit)


def decided(counts: tuple[tuple[str, int], ...], remaining: int) -> bool:
    """Whether `remaining` further votes cannot change the winner, ties included."""
    v1, v2 = top_two(counts)
    return v1 - v2 > remaining
