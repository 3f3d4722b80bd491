"""Does a certificate still hold for the traffic? Tests that may be read after every answer.

A monitor holds the mean of one quantity against what the certificate allows: `drop` and `harm`
against the certified limit itself, the others against the range that the certifying questions left
open. While the mean is where it may be, the wealth of a bettor against it,

    W = Π (1 + ν (x_i - limit)),      0 <= ν < 1 / (limit - least x),

is a non-negative supermartingale from 1, and so is a weighted mean over several ν. It ever reaches
1 / α with probability at most α (Ville's inequality), however often it is read. Reference:
2010.09686 (Waudby-Smith and Ramdas), §4 and theorem 3; departs from it by fixed ν, so that the
wealth does not depend on the order of the answers and several processes can add up its logarithms.

No other statistic of harmed and helped does better than such a factor: whatever f with a mean of at
most 1 under every distribution on {-1, 0, 1} whose mean is at most the limit, some 1 + ν (x -
limit) is nowhere below it. (f need only be fair where two of the three values are taken, which are
the corners of those distributions.) What can be chosen is which ν, with which weights, and α.

Quantities of an answer that the certificate covers; against the baseline's answer to the question:

    drop        1 harmed (only the baseline is right), -1 helped (only the certified answer is),
                else 0
    harm        1 harmed, else 0
    differ      1 the two answers differ, else 0
    stopped     1 it was given without the baseline, else 0
    confidence  the calibrated P(right) of such an answer

An answer that the baseline itself gave loses nothing: it is a 0 in the first three without a second
run. Only the others are compared. An answer that is compared stands in the stream with the answers
of the baseline right before it (`zeros`): such a stretch is a piece of the stream of all covered
answers, ended by a rule that does not look at the loss, so that the mean is held against the limit
for all covered answers, however few of the others are compared.

Two answers that differ, and that nobody has judged, enter `drop` as -1 and `harm` as 0, the least
they can be, and are corrected when a judgement comes. The wealth is then never above that of one
who knows every verdict: judging some cases and not others cannot raise an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, assert_never

from suffice.core.errors import InputError
from suffice.core.serial import stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Bets:
    """Sizes of bets as fractions of the largest that cannot be ruined, and their weights."""

    fractions: tuple[float, ...]
    weights: tuple[float, ...]  # the wealth that each begins with; their sum is 1


# Of a share: from slow changes to a sudden break. The best fraction against a true share p is
# (p - limit) / (1 - limit).
SHARE_BETS = Bets(fractions=(0.02, 0.05, 0.12, 0.3, 0.6, 0.95), weights=(1 / 6,) * 6)
# Of harmed minus helped: most is put where a loss of some points more than the limit is found
# soonest, whether 1 or 10 points of answers were helped; little on slower changes and on breaks
# (benchmarks/monitoring.py exact: what each choice finds).
DROP_BETS = Bets(
    fractions=(0.03, 0.1, 0.2, 0.4, 0.6, 0.95), weights=(0.02, 0.04, 0.06, 0.8, 0.04, 0.04)
)
BETTORS = 6  # of each side of a monitor

# Chance of an alarm, ever, while what the monitor allows is true: for the loss that is certified,
# reached only where the true loss is exactly the limit; and for all sides of all the others
# together.
LOSS_ALPHA = 0.05
SHAPE_ALPHA = 0.0025

Quantity = Literal["drop", "harm", "differ", "stopped", "confidence"]
LOSSES: frozenset[Quantity] = frozenset({"drop", "harm"})


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """The range in which the mean of a quantity lies while the certificate holds."""

    quantity: Quantity
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.least <= self.low <= self.high <= 1.0:
            raise InputError(
                f"monitor of {self.quantity}: a range within [{self.least:g}, 1] is needed, got "
                f"[{self.low:g}, {self.high:g}]"
            )

    @property
    def least(self) -> float:
        """The least value of one answer."""
        return -1.0 if self.quantity == "drop" else 0.0

    @property
    def bets(self) -> Bets:
        """How its bettors bet, on both sides."""
        return DROP_BETS if self.quantity == "drop" else SHARE_BETS


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A covered request was answered; `confidence` where the answer came without the baseline."""

    early: bool
    confidence: float | None = None


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A covered answer that was not the baseline's was held against the baseline's.

    `zeros`: answers of the baseline itself right before it. `judged`: it entered as `Judged`
    before, so that only the difference is new.
    """

    differs: bool
    zeros: int = 0
    judged: bool = False


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """It is known which of the two answers is right.

    `compared`: the pair entered as `Compared` before, as one that differs.
    """

    harmed: bool
    helped: bool
    zeros: int = 0
    compared: bool = False

    def __post_init__(self) -> None:
        if self.harmed and self.helped:
            raise InputError("an answer cannot be both harmed and helped")


Observation = Answered | Compared | Judged


@dataclass(frozen=True, slots=True)
class _Move:
    """`count` answers of value `x`; with `instead` the one that entered so is taken back."""

    x: float
    count: int = 1
    instead: float | None = None


def _moves(quantity: Quantity, seen: Observation) -> Iterator[_Move]:
    """What an observation says of a quantity."""
    match seen:
        case Answered():
            if quantity == "stopped":
                yield _Move(float(seen.early))
            elif quantity == "confidence" and seen.confidence is not None:
                yield _Move(seen.confidence)
        case Compared():
            if quantity == "differ":
                yield _Move(0.0, seen.zeros)
                yield _Move(float(seen.differs))
            elif quantity in LOSSES and not seen.judged:
                yield _Move(0.0, seen.zeros)
                yield _Move(_unjudged(quantity) if seen.differs else 0.0)
        case Judged():
            if quantity in LOSSES:
                lost = float(seen.harmed) - float(seen.helped and quantity == "drop")
                if seen.compared:
                    yield _Move(lost, instead=_unjudged(quantity))
                else:
                    yield _Move(0.0, seen.zeros)
                    yield _Move(lost)
        case _:
            assert_never(seen)


def _unjudged(quantity: Quantity) -> float:
    """The least that a pair of different answers can come to."""
    return -1.0 if quantity == "drop" else 0.0


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Wealth:
    """Log wealth of the bettors on one side of a monitor; all fields are sums over answers."""

    logs: tuple[float, ...] = (0.0,) * BETTORS  # of each bettor, from 1, whatever its weight
    n: int = 0
    total: float = 0.0

    def log(self, bets: Bets) -> float:
        """Log of the bettors' mean wealth, by weight."""
        most = max(self.logs)
        pairs = zip(bets.weights, self.logs, strict=True)
        return most + math.log(sum(weight * math.exp(each - most) for weight, each in pairs))

    def after(
        self, x: float, limit: float, bets: Bets, *, least: float = 0.0, count: int = 1,
        instead: float | None = None,
    ) -> Wealth:  # fmt: skip
        """After `count` values of `x`, betting that the mean exceeds `limit`."""
        if not count:
            return self
        n = self.n if instead is not None else self.n + count
        total = self.total + (x * count if instead is None else x - instead)
        room = limit - least
        if room <= 0.0:  # nothing above it was ever seen: a single case would ruin every bet
            room = 1e-6
        if limit >= 1.0:
            return replace(self, n=n, total=total)
        gains = _gains(x, limit, room, bets.fractions)
        if instead is not None:
            back = _gains(instead, limit, room, bets.fractions)
            gains = tuple(gain - taken for gain, taken in zip(gains, back, strict=True))
        logs = tuple(log + count * gain for log, gain in zip(self.logs, gains, strict=True))
        return Wealth(logs=logs, n=n, total=total)


@lru_cache(maxsize=1024)
def _gains(x: float, limit: float, room: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """What one answer of value `x` adds to the log wealth of every bettor."""
    return tuple(math.log1p(fraction / room * (x - limit)) for fraction in fractions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Which monitor raised it, and what it had seen."""

    quantity: Quantity
    mean: float  # of `drop` a lower bound: pairs that nobody judged count as -1
    n: int  # covered answers
    low: float
    high: float

    def __str__(self) -> str:
        match self.quantity:
            case "drop":
                return (
                    f"at least {100 * self.mean:.1f} points of accuracy were lost over {self.n} "
                    f"answers, certified for at most {100 * self.high:g}"
                )
            case "harm":
                return (
                    f"at least {self.mean:.1%} of {self.n} answers were harmed, certified for at "
                    f"most {self.high:.1%}"
                )
            case "differ":
                return (
                    f"{self.mean:.1%} of {self.n} answers differ from the baseline's, at "
                    f"calibration at most {self.high:.1%} did"
                )
        what = {
            "stopped": "share answered without the baseline",
            "confidence": "mean confidence",
        }[self.quantity]
        return (
            f"{what} {self.mean:.3f} over {self.n} answers, certified for {self.low:.3f} to "
            f"{self.high:.3f}"
        )


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """Every monitor's wealth above and below its range."""

    monitors: tuple[Monitor, ...]
    above: tuple[Wealth, ...] = ()
    below: tuple[Wealth, ...] = ()

    def __post_init__(self) -> None:
        if not self.above:
            fresh = tuple(Wealth() for _ in self.monitors)
            object.__setattr__(self, "above", fresh)
            object.__setattr__(self, "below", fresh)

    def after(self, seen: Observation) -> Monitoring:
        """After one more observation."""
        above, below = list(self.above), list(self.below)
        for i, monitor in enumerate(self.monitors):
            bets = monitor.bets
            for move in _moves(monitor.quantity, seen):
                above[i] = above[i].after(
                    move.x, monitor.high, bets, least=monitor.least, count=move.count,
                    instead=move.instead,
                )  # fmt: skip
                if monitor.low > monitor.least:
                    below[i] = below[i].after(
                        1.0 - move.x, 1.0 - monitor.low, bets, count=move.count
                    )
        return Monitoring(monitors=self.monitors, above=tuple(above), below=tuple(below))

    @property
    def alarm(self) -> Alarm | None:
        """The alarm that what was seen so far raises, if any."""
        sides = sum(1 + (m.low > m.least) for m in self.monitors if m.quantity not in LOSSES)
        for monitor, above, below in zip(self.monitors, self.above, self.below, strict=True):
            loss = monitor.quantity in LOSSES
            reach = math.log(1.0 / LOSS_ALPHA if loss else sides / SHAPE_ALPHA)
            # The mean of wealths is at most the largest: cheap to see that it does not reach.
            if max(*above.logs, *below.logs) < reach:
                continue
            if max(above.log(monitor.bets), below.log(monitor.bets)) >= reach:
                return Alarm(
                    quantity=monitor.quantity, mean=above.total / above.n, n=above.n,
                    low=monitor.low, high=monitor.high,
                )  # fmt: skip
        return None
