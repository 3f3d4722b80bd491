"""Saved: one minus what an answer cost over what the baseline would have cost.

The baseline is what the operator runs today; docs/gateway.md says how it is chosen. Both costs are
in one unit. A negative number is said as what it is: an answer that cost 4.8 times as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

# What costs are counted in: money, or tokens weighted by their relative price.
CostUnit = Literal["usd", "tokens"]

# How the baseline's cost is known:
#   same       it would have made the very calls that were made
#   measured   its calls are among those that were made
#   recorded   from the policy file's calibration, or from audited requests
#   estimated  from other calls, as `Method` says
Basis = Literal["same", "measured", "recorded", "estimated"]
BASES: tuple[Basis, ...] = get_args(Basis)
#   calls        the baseline's own calls, which were made
#   calibration  tokens of the baseline over the policy's, on the certifying questions where the
#                baseline was not asked
#   audits       the same ratio, in audited requests
#   mean_sample  calls of the baseline that were not made are as long as the mean of those made
#   both_asked   the ratio in earlier requests that asked the baseline too
#   same_length  the baseline's answer is as long as the one given
#   turns        the same calls of tools in turns, by the formula of executors.turns_baseline
Method = Literal[
    "calls", "calibration", "audits", "mean_sample", "both_asked", "same_length", "turns"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What an answer cost beside what the baseline would have cost for the same request."""

    baseline: str  # as `--policy` takes it, with its model
    cost: float
    baseline_cost: float
    unit: CostUnit  # of both: USD, or tokens weighted by their relative price
    basis: Basis
    method: Method

    @property
    def saved(self) -> float | None:
        """Share of the baseline's cost that was saved; None where the two do the same."""
        return None if self.basis == "same" else share_saved(self.cost, self.baseline_cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the certifying questions of a policy file showed to be saved, against which baseline."""

    baseline: str  # as `--policy` takes it
    saved: float  # one minus the cost over the baseline's
    low: float
    high: float
    confidence: float  # of the interval from low to high
    unit: Literal["usd", "tokens", "samples"]

    def comparable(self, baseline: str | None) -> bool:
        """Whether what is seen against `baseline` can be held against it."""
        return baseline == self.baseline


def share_saved(cost: float, baseline_cost: float) -> float | None:
    """One minus the cost over the baseline's; None where the baseline costs nothing."""
    return 1.0 - cost / baseline_cost if baseline_cost > 0.0 else None


def saved_in_words(saved: float) -> str:
    """`22% saved`, or `costs 4.8x` where more was spent than the baseline would have."""
    if saved >= 0.0:
        return f"{saved:.0%} saved"
    times = 1.0 - saved
    return f"costs {times:.1f}x" if times >= 1.95 else f"costs {times:.2f}x"


def together(savings: Iterable[Saving | None]) -> Saving | None:
    """The choices of one request as one; None unless all are known and in one unit.

    The basis is that of the least certain choice.
    """
    found = list(savings)
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found) or len({each.unit for each in known}) > 1:
        return None
    if len(known) == 1:
        return known[0]
    weakest = max(known, key=lambda each: BASES.index(each.basis))
    return replace(
        weakest,
        cost=sum(each.cost for each in known),
        baseline_cost=sum(each.baseline_cost for each in known),
    )
