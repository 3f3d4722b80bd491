"""What a demonstration found, as its table, picture and page show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from suffice.evals.statistics.binomial import Interval, clopper_pearson
from suffice.policies.policy_file import PolicyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to answer the same questions, each asked once over HTTP."""

    name: str
    right: int
    questions: int
    cost: float  # what the engines counted, times the prices
    by_model: Mapping[str, int]  # whose answer was returned

    @property
    def accuracy(self) -> Interval:
        """Share right with its exact 95 % interval (Clopper and Pearson)."""
        return clopper_pearson(self.right, self.questions, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPart:
    """One set of questions: today's model alone, and what may stand in front of it.

    `policy` None: nothing was certified. `reported_saved` is what the gateway's own ledger says.
    The last of `others` went through the gateway; `only_…_right` compare it with the baseline.
    """

    title: str
    questions: int  # asked: others than calibrated, or all where nothing is certified
    calibrated_on: int
    baseline: Way
    others: tuple[Way, ...]
    policy: PolicyFile | None
    reported_saved: float | None = None
    only_baseline_right: int | None = None  # of the certified way, or of the plain one
    only_other_right: int | None = None

    def saved(self, way: Way) -> float:
        """One minus the cost over the baseline's, by the engines' own counts."""
        return 1.0 - way.cost / self.baseline.cost

    def lost_points(self, way: Way) -> float:
        """Points of accuracy below the baseline; negative: above it."""
        return 100.0 * (self.baseline.right - way.right) / self.questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Both parts."""

    trusted: DemoPart  # where a cheaper way is certified
    refused: DemoPart  # the same rule where it must not be trusted
    limit: float  # points
    confidence: float
    elapsed_s: float
