"""Does traffic still look like the data behind a certificate? Tests that may be read at any time.

A monitor watches the mean of one quantity in [0, 1] against the range that the certificate's data
allow. Under "the mean lies in that range" its wealth is a non-negative supermartingale from 1, so
it ever reaches 1 / α with probability at most α (Ville), however often it is read. Reference:
2010.09686.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from suffice.core.errors import InputError
from suffice.core.serial import stored

# Fractions of the largest safe bet that are mixed: from slow drift to a sudden break.
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)

Quantity = Literal["stopped", "confidence", "harm"]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """The range in which the mean of a quantity lies if nothing has changed."""

    quantity: Quantity
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise InputError(
                f"monitor of {self.quantity}: a range within [0, 1] is needed, got "
                f"[{self.low:g}, {self.high:g}]"
            )


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One answered request; None where not known.

    stopped     whether the cheap arm's answer stood
    confidence  the cheap arm's calibrated P(right)
    harm        the answer was wrong and the safe arm's right: from feedback, or from a request that
                was answered by both arms on purpose
    """

    stopped: bool | None = None
    confidence: float | None = None
    harm: bool | None = None

    def value(self, quantity: Quantity) -> float | None:
        """The quantity as a number in [0, 1]."""
        found = {"stopped": self.stopped, "confidence": self.confidence, "harm": self.harm}
        value = found[quantity]
        return None if value is None else float(value)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Wealth:
    """Log wealth of a mixture of bettors on one side of one monitor, and what they have seen."""

    logs: tuple[float, ...] = (0.0,) * len(FRACTIONS)
    n: int = 0
    total: float = 0.0

    @property
    def log(self) -> float:
        """Log of the mean wealth."""
        return float(np.logaddexp.reduce(self.logs) - np.log(len(self.logs)))

    def after(self, x: float, limit: float) -> Wealth:
        """After one value, betting that the mean exceeds `limit`: wealth *= 1 + ν (x - limit)."""
        if limit <= 0.0:  # nothing above 0 was ever seen: a single case would ruin every bet
            limit = 1e-6
        if limit >= 1.0:
            return replace(self, n=self.n + 1, total=self.total + x)
        bets = np.array(FRACTIONS) / limit
        logs = np.array(self.logs) + np.log1p(bets * (x - limit))
        return Wealth(logs=tuple(logs.tolist()), n=self.n + 1, total=self.total + x)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Every monitor's wealth above and below its range; void once one is exhausted.

    `alpha` is shared equally by all sides: the chance that a certificate whose monitors' ranges are
    true is ever voided is at most alpha.
    """

    monitors: tuple[Monitor, ...]
    alpha: float = 0.005
    above: tuple[Wealth, ...] = ()
    below: tuple[Wealth, ...] = ()
    void: str | None = None  # why the certificate no longer holds; for good

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise InputError(f"the false-alarm rate must lie between 0 and 1, got {self.alpha}")
        if not self.above:
            fresh = tuple(Wealth() for _ in self.monitors)
            object.__setattr__(self, "above", fresh)
            object.__setattr__(self, "below", fresh)

    @property
    def status(self) -> str:
        """ "valid", or "void: …" with the reason."""
        return "valid" if self.void is None else f"void: {self.void}"

    @property
    def n(self) -> int:
        """Observations of the quantity seen most often."""
        return max((wealth.n for wealth in self.above), default=0)

    def after(self, observation: Observation) -> Watch:
        """The watch after one more request."""
        if self.void is not None:
            return self
        above, below = list(self.above), list(self.below)
        for i, monitor in enumerate(self.monitors):
            x = observation.value(monitor.quantity)
            if x is not None:
                above[i] = above[i].after(x, monitor.high)
                below[i] = below[i].after(1.0 - x, 1.0 - monitor.low)
        moved = replace(self, above=tuple(above), below=tuple(below))
        return replace(moved, void=moved._alarm())

    def _alarm(self) -> str | None:
        reach = float(np.log(2 * len(self.monitors) / self.alpha))
        for monitor, above, below in zip(self.monitors, self.above, self.below, strict=True):
            if max(above.log, below.log) >= reach:
                mean = above.total / above.n
                return (
                    f"{_SHOWN[monitor.quantity]} {mean:.3f} over {above.n} requests, certified for "
                    f"{monitor.low:.3f} to {monitor.high:.3f}"
                )
        return None


_SHOWN: dict[Quantity, str] = {
    "stopped": "share answered by the cheap arm",
    "confidence": "mean confidence",
    "harm": "share harmed",
}
