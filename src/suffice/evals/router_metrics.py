"""How good a router between a weak and a strong model is: PGR, APGR, CPT, AIQ, RouterArena's score.

A router gives every question a score; the questions with the largest scores go to the strong model.
c is the share of questions that do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError

# RouterArena's range of prices, USD per 1,000 queries, and the weight of accuracy against cost.
ARENA_DEAREST_USD, ARENA_CHEAPEST_USD, ARENA_BETA = 200.0, 0.0044, 0.1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RoutingCurve:
    """Accuracy of a router at every number of questions sent to the strong model."""

    accuracy: FloatArray  # at 0, 1, …, n questions
    weak: float
    strong: float

    @classmethod
    def of(cls, score: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> RoutingCurve:
        """The curve of a score; questions that tie are sent together, in proportion.

        Within a tie the accuracy rises on a straight line: its mean over all orders.
        """
        s = np.asarray(score, dtype=np.float64)
        w, v = np.asarray(weak, dtype=np.float64), np.asarray(strong, dtype=np.float64)
        if not s.shape == w.shape == v.shape or s.ndim != 1 or s.size == 0:
            raise InputError("a routing curve needs score, weak and strong of the same questions")
        if not np.isfinite(s).all():
            raise InputError("routing scores must be finite numbers")
        order = np.argsort(-s, kind="stable")
        gain = (v - w)[order]
        _, tie, counts = np.unique(-s[order], return_inverse=True, return_counts=True)
        gain = (np.bincount(tie, gain) / counts)[tie]
        accuracy = np.concatenate(([0.0], np.cumsum(gain))) / s.size + w.mean()
        return cls(accuracy=accuracy, weak=float(w.mean()), strong=float(v.mean()))

    @property
    def pgr(self) -> FloatArray:
        """Performance gap recovered: (accuracy - weak) / (strong - weak); 2406.18665."""
        if self.strong <= self.weak:
            raise InputError(
                f"the strong model ({self.strong:.3f}) must be better than the weak one "
                f"({self.weak:.3f}): there is no gap to recover"
            )
        found: FloatArray = (self.accuracy - self.weak) / (self.strong - self.weak)
        return found

    @property
    def apgr(self) -> float:
        """Mean PGR over c from 0 to 1 (trapezoids); 1/2 for a coin; 2406.18665."""
        pgr = self.pgr
        return float((pgr[:-1] + pgr[1:]).mean() / 2.0)

    def cpt(self, recovered: float) -> float:
        """Least share of strong calls that recovers a share of the gap; 2406.18665."""
        reached = np.nonzero(self.pgr >= recovered - 1e-12)[0]
        if not reached.size:
            raise InputError(f"this router never recovers {recovered:.0%} of the gap")
        return float(reached[0] / (len(self.accuracy) - 1))

    def at(self, share: float) -> float:
        """Accuracy with a share of strong calls, interpolated."""
        return float(np.interp(share * (len(self.accuracy) - 1), np.arange(len(self.accuracy)),
                               self.accuracy))  # fmt: skip


def non_decreasing_hull(cost: ArrayLike, quality: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Corner points of the upper convex hull of (cost, quality), quality never falling."""
    x, y = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise InputError("a hull needs as many costs as qualities, and at least one of each")
    corners: list[tuple[float, float]] = []
    for i in np.lexsort((-y, x)).tolist():
        point = (float(x[i]), float(y[i]))
        if corners and point[1] <= corners[-1][1]:
            continue  # dearer and no better
        while len(corners) > 1 and _below(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    xs, ys = zip(*corners, strict=True)
    return np.array(xs), np.array(ys)


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def aiq(cost: ArrayLike, quality: ArrayLike) -> float:
    """Area under the non-decreasing hull over the cost range, divided by that range.

    Beyond the hull's last corner its quality holds: no one need pay more for less.
    Reference: 2403.12031, section 3.
    """
    dearest = float(np.max(np.asarray(cost, dtype=np.float64)))
    x, y = non_decreasing_hull(cost, quality)
    if not dearest > x[0]:
        raise InputError("AIQ needs at least two different costs")
    x, y = np.append(x, dearest), np.append(y, y[-1])
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def router_arena_score(accuracy: float, usd_per_1000: float) -> float:
    """RouterArena's score of accuracy (0 to 1) and money per 1,000 queries: 1.1 A C / (.1 A + C).

    C = (log2 200 - log2 c) / (log2 200 - log2 .0044) is 1 for the cheapest, 0 for the dearest.
    Reference: 2510.00202.
    """
    if not 0.0 <= accuracy <= 1.0 or not usd_per_1000 > 0.0:
        raise InputError(
            f"accuracy must lie in [0, 1] and the cost be positive, got {accuracy} and "
            f"{usd_per_1000}"
        )
    span = math.log2(ARENA_DEAREST_USD) - math.log2(ARENA_CHEAPEST_USD)
    thrift = (math.log2(ARENA_DEAREST_USD) - math.log2(usd_per_1000)) / span
    below = ARENA_BETA * accuracy + thrift
    return (1.0 + ARENA_BETA) * accuracy * thrift / below if below > 0.0 else 0.0
