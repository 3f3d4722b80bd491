"""Has the traffic changed since? Two e-detectors over the shadowed requests.

Both are of the Shiryaev-Roberts kind, R_n = (R_{n-1} + 1) L_n, and the mean of several such (equal
parts). While there is no change, R_n - n is a martingale or falls in the mean, so that R reaches T
within m requests with probability at most m / T (Doob).

rise    the chance of a difference has risen from whatever it was. Under no change the differences
        are exchangeable, and their conformal p-values,

            difference   p = U (k + 1) / (n + 1)          of k differences in n requests before
            none         p = (k + U (n + 1 - k)) / (n + 1)

        with U uniform, are independent and uniform, whatever the rate. L = q/a below p = a, else
        (1 - q)/(1 - a), with q = a + s (1 - a), over a grid of a and s in units of the target:
        changes that stay far below the target raise no alarm.
level   the chance of a difference is above the target, though it came there slowly.
        L = 1 + s (x - target) / (1 - target): in the mean at most 1 while that chance is at most
        the target. Where labels say what is lost, x is that loss, once it is known: 0 for equal
        answers, else when the label comes. Differences that nobody labels are left out of it.

An alarm is raised when either reaches T = 4 `run_length`. By the above P(alarm within m) is at most
2 m / T, hence the mean number of shadowed requests to an alarm without a change is at least T / 4.
It is counted from the first request of the detector, which is the first of the evidence; what was
promoted meanwhile plays no part, as p-values do not depend on it.

References: 2203.03532 (e-detectors, definition 2.2 and theorem 2.4), 2102.10439 (conformal change
detection). Departs from both by the union of the two at 4 `run_length`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from suffice.core.serial import stored

# `rise`: edges a and steps s, in units of the target. `level`: steps s alike.
EDGES = (0.2, 0.5, 1.0)
STEPS = (1.0, 3.0)
LEVELS = (0.25, 0.6, 1.2)
UNION = 4.0


@lru_cache(maxsize=64)
def rise_bets(target: float) -> tuple[tuple[float, float, float], ...]:
    """(a, L below a, L above a) of every bet on a rise."""
    found = []
    for edge in EDGES:
        for step in STEPS:
            a, s = edge * target, min(0.9, step * target)
            found.append((a, (a + s * (1.0 - a)) / a, 1.0 - s))
    return tuple(found)


@lru_cache(maxsize=64)
def level_bets(target: float) -> tuple[tuple[float, float], ...]:
    """(L of a difference, L of none) of every bet on a level above the target."""
    steps = [min(level, 0.9 * (1.0 - target) / target) for level in LEVELS]
    return tuple((1.0 + s, 1.0 - s * target / (1.0 - target)) for s in steps)


@lru_cache(maxsize=256)
def level_factors(x: float, target: float) -> tuple[float, ...]:
    """L of a loss of `x` from -1 to 1, for every bet on a level; for 0 and 1 as `level_bets`."""
    steps = [min(level, 0.9 * (1.0 - target) / target) for level in LEVELS]
    return tuple(1.0 + s / (1.0 - target) * (x - target) for s in steps)


@lru_cache(maxsize=256)
def net_factors(x: float, target: float) -> tuple[float, ...]:
    """The same where losses below 0 occur at all: no bet may be ruined by one of -1."""
    most = 0.9 / (1.0 + target)
    return tuple(1.0 + min(s / (1.0 - target), most) * (x - target) for s in LEVELS)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDetector:
    """What both detectors have seen; the order of requests counts."""

    rise: tuple[float, ...] = (0.0,) * (len(EDGES) * len(STEPS))
    level: tuple[float, ...] = (0.0,) * len(LEVELS)
    n: int = 0
    differing: int = 0

    @property
    def value(self) -> float:
        """The larger of both; an alarm at 4 `run_length`."""
        return max(sum(self.rise) / len(self.rise), sum(self.level) / len(self.level))

    def after(self, differs: bool, u: float, target: float) -> ChangeDetector:
        """After one more shadowed request; `u` uniform in [0, 1) and known to nobody before."""
        return self.risen(differs, u, target).levelled(float(differs), target)

    def risen(self, differs: bool, u: float, target: float) -> ChangeDetector:
        """The same, the level left as it is: what was lost is not known yet."""
        k, n = self.differing, self.n
        p = u * (k + 1) / (n + 1) if differs else (k + u * (n + 1 - k)) / (n + 1)
        rise = tuple([
            (r + 1.0) * (below if p < a else above)
            for r, (a, below, above) in zip(self.rise, rise_bets(target), strict=True)
        ])  # fmt: skip
        return ChangeDetector(rise=rise, level=self.level, n=n + 1, differing=k + differs)

    def levelled(self, x: float, target: float, *, net: bool = False) -> ChangeDetector:
        """With one more loss that is known; `net`: losses of -1 occur."""
        factors = net_factors(x, target) if net else level_factors(x, target)
        level = tuple([(r + 1.0) * f for r, f in zip(self.level, factors, strict=True)])
        return ChangeDetector(rise=self.rise, level=level, n=self.n, differing=self.differing)
