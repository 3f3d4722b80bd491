"""Two families of fitted rules with a path: a gate in front of the baseline, and a sampler.

gate     the option's answer is judged; it stands at one of two exits or the baseline answers
sampler  the baseline is a vote over n samples; the same samples are drawn only until the vote is
         settled, hopeless, or handed to a large model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.policies.certified import Exits
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.certify import RuleEffect
from suffice.recipes.calibrate.fit_vote_tables import Strong, fit_table, stops_of
from suffice.recipes.calibrate.spending import Spending, Tariff, added, where
from suffice.recipes.calibrate.stopping_times import Votes
from suffice.recipes.calibrate.threshold_path import (
    CLOSED,
    LEAST_IN_GROUP,
    PSEUDO_LOSS,
    JudgedQuestions,
    Options,
    effect,
    gate_options,
    lay,
)

Setting = tuple[Any, ...]  # by question group

# Thresholds of a vote's agreement, from the most cautious on: fixed before any recording was seen.
THRESHOLDS = (0.999, 0.995, 0.99, 0.98, 0.97, 0.95, 0.925, 0.9, 0.85, 0.8, 0.75)
HOPELESS = (None, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
PATIENCE = (4, 8, 16)
# Prices of a lost question at which tables are fitted, in costs of a whole vote.
PRICES = np.geomspace(100.0, 1.0, 22)


class SplitSide(Protocol):
    """One side of the split: fitting or certifying questions, each with one play or several."""

    @property
    def group(self) -> IntArray:
        """Group per row: questions by plays, flattened."""
        ...

    def step(self, setting: Setting) -> RuleEffect:
        """What a setting, one entry per group, does to each question."""
        ...

    def spending(self, setting: Setting) -> Spending:
        """What it takes."""
        ...

    def options(self, mask: BoolArray, *, net: bool) -> Options:
        """Alternatives of one group, judged on the rows of `mask`."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GatePart:
    """Questions with the option's judged answers."""

    evidence: JudgedQuestions
    shape: tuple[int, int]  # questions, plays
    baseline_right: BoolArray  # questions by plays
    option: Spending
    baseline: Spending
    closed: ClassVar[Exits] = CLOSED

    @property
    def group(self) -> IntArray:
        """Group per row."""
        return self.evidence.group

    def step(self, setting: Setting) -> RuleEffect:
        """Thresholds applied to every question."""
        found = effect(setting, self.evidence)
        return RuleEffect(
            harmed=found.harmed.reshape(self.shape),
            helped=found.helped.reshape(self.shape),
            differs=found.differs.reshape(self.shape),
            stopped=found.stopped.reshape(self.shape),
            baseline_right=self.baseline_right,
            cost=found.cost.reshape(self.shape),
            baseline_cost=self.evidence.baseline_cost.reshape(self.shape),
        )

    def spending(self, setting: Setting) -> Spending:
        """The option's wherever it is asked, the baseline's wherever that is."""
        found = effect(setting, self.evidence)
        return added(
            where(self.option, ~found.closed.reshape(self.shape)),
            where(self.baseline, ~found.stopped.reshape(self.shape)),
        )

    def options(self, mask: BoolArray, *, net: bool) -> Options:
        """Pairs of thresholds."""
        return gate_options(self.evidence.at(mask), net)


class Stopping(NamedTuple):
    """Options of `two_sided`; without `hopeless` it is `adaptive_consistency`."""

    threshold: float
    hopeless: float | None = None
    patience: int = 8

    def text(self, cap: int, model: str) -> str:
        """The policy as `--policy` takes it."""
        if self.hopeless is None:
            return f"adaptive_consistency:threshold={self.threshold:g},max_samples={cap}@{model}"
        return (
            f"two_sided:threshold={self.threshold:g},hopeless={self.hopeless:g},"
            f"patience={self.patience},max_samples={cap}@{model}"
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SamplerPart:
    """Questions with every recorded vote; rows are questions by plays, flattened."""

    model: str
    votes: Votes
    groups: IntArray
    shape: tuple[int, int]
    tariff: Tariff
    baseline_right: BoolArray
    baseline_cost: FloatArray
    large: Strong | None = None  # whom a table may hand unsettled votes to
    large_spending: Spending | None = None
    # The same questions with their samples in other orders, and how often a whole vote is right
    # over them: what tables are fitted on. Empty on the certifying side.
    orders: tuple[Votes, ...] = ()
    closed: ClassVar[None] = None

    @property
    def group(self) -> IntArray:
        """Group per row."""
        return self.groups

    def step(self, setting: Setting) -> RuleEffect:
        """Votes ended by each group's rule; at the cap where it has none."""
        return self._step(*self._stops(setting))

    def spending(self, setting: Setting) -> Spending:
        """The votes', and the large model's where they are handed to it."""
        stop, _, given = self._stops(setting)
        return self._spent(stop, given)

    def _stops(self, setting: Setting) -> tuple[IntArray, BoolArray, BoolArray]:
        n = len(self.groups)
        stop = np.full(n, self.votes.cap, dtype=np.int64)
        early, given = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        for number, choice in enumerate(setting):
            if choice is not None:
                inside = self.groups == number
                ended = self._ended(choice)
                for whole, part in zip((stop, early, given), ended, strict=True):
                    whole[inside] = part[inside]
        return stop, early, given

    def _ended(self, choice: Stopping | VoteTable) -> tuple[IntArray, BoolArray, BoolArray]:
        """(samples drawn, is not the whole vote's answer, handed to the large model) of a rule."""
        if isinstance(choice, Stopping):
            stop = self.votes.stop(*choice)
            return stop, stop < self.votes.cap, np.zeros(len(stop), dtype=bool)
        stop, given = stops_of(choice, self.votes)
        whole = self.large is None and choice.max_samples == self.votes.cap
        return stop, (stop < self.votes.cap) | (not whole), given

    def _spent(self, stop: IntArray, given: BoolArray) -> Spending:
        found: Spending = {self.model: self.votes.spent(stop, self.shape)}
        if self.large_spending is not None:
            found = added(found, where(self.large_spending, given.reshape(self.shape)))
        return found

    def _step(self, stop: IntArray, early: BoolArray, given: BoolArray) -> RuleEffect:
        correct, answer = self.votes.right_after(stop), self.votes.answer_after(stop)
        if self.large is not None:
            # A large model without an answer leaves the leader's standing, as a cascade does.
            answer = np.where(given & self.large.answered, self.large.answer, answer)
            leads = correct & self.votes.answered_after(stop)
            handed = np.where(self.large.answered, self.large.right, leads)
            correct = np.where(given, handed.astype(bool), correct)
        return RuleEffect(
            harmed=(self.baseline_right & ~correct).reshape(self.shape),
            helped=(~self.baseline_right & correct).reshape(self.shape),
            differs=(early & (answer != self.votes.answer[:, -1])).reshape(self.shape),
            stopped=early.reshape(self.shape),
            baseline_right=self.baseline_right.reshape(self.shape),
            cost=self.tariff.cost(self._spent(stop, given)),
            baseline_cost=self.baseline_cost.reshape(self.shape),
        )

    def options(self, mask: BoolArray, *, net: bool) -> Options:
        """Stopping rules."""
        choices: list[Stopping | VoteTable | None] = [None]
        losses, savings = [0.0], [0.0]
        whole = float(self.baseline_cost[mask].sum())
        for threshold, hopeless, patience in product(THRESHOLDS, HOPELESS, PATIENCE):
            if hopeless is None and patience != PATIENCE[0]:
                continue
            if hopeless is not None and patience >= self.votes.cap:
                continue
            choices.append(Stopping(threshold, hopeless, patience))
        choices.extend(self._tables(mask))
        inside = mask.reshape(self.shape)
        for choice in choices:
            if choice is None:
                continue
            step = self._step(*self._ended(choice))
            lost = step.harmed[inside].sum() - (step.helped[inside].sum() if net else 0)
            losses.append(PSEUDO_LOSS + float(lost))
            savings.append(whole - float(step.cost[inside].sum()))
        return Options(tuple(choices), np.array(losses), np.array(savings))

    def _tables(self, mask: BoolArray) -> tuple[VoteTable, ...]:
        """Tables fitted on the questions of `mask`, from the safest price down."""
        if not self.orders:
            return ()
        inside = np.flatnonzero(mask)
        orders = tuple(votes.at(inside) for votes in self.orders)
        reference = np.mean([votes.right[:, -1] for votes in orders], axis=0)
        unit = float(self.baseline_cost[inside].mean())
        costs = tuple(self._costs(votes) for votes in orders)
        large = None if self.large is None else self.large.at(inside)
        found = (fit_table(orders, costs, reference, unit * price, large) for price in PRICES)
        return tuple(dict.fromkeys(found))

    def _costs(self, votes: Votes) -> FloatArray:
        """Cost after each sample of each vote."""
        n = len(votes.lead)
        found = [
            self.tariff.cost({self.model: votes.spent(np.full(n, drawn), (n,))})
            for drawn in range(1, votes.cap + 1)
        ]
        return np.stack(found, axis=1)


def lay_path(
    part: SplitSide, baseline_cost: FloatArray, groups: int, *, net: bool, steps: int
) -> tuple[Setting, ...]:
    """Settings of rising loss and saving on the fitting questions, one entry per group."""
    everyone = np.ones(len(part.group), dtype=bool)
    masks = [part.group == number for number in range(groups)]
    by_group = [
        part.options(mask, net=net) if mask.sum() >= LEAST_IN_GROUP else None for mask in masks
    ]

    def judge(setting: Setting) -> tuple[float, float]:
        step = part.step(setting)
        lost = step.harmed.sum() - (step.helped.sum() if net else 0)
        return float(lost), float(baseline_cost.sum() - step.cost.sum())

    return lay(part.options(everyone, net=net), by_group, judge, steps)


def lay_group_paths(
    part: SplitSide, baseline_cost: FloatArray, groups: int, closed: Any, *, net: bool, steps: int
) -> tuple[tuple[Setting, ...], ...]:
    """A path for every group alone: settings in which all the others are closed."""
    found: list[tuple[Setting, ...]] = []
    for number in range(groups):
        mask = part.group == number
        if mask.sum() < LEAST_IN_GROUP:
            found.append(())
            continue
        options = part.options(mask, net=net)

        def judge(
            choice: Setting, number: int = number, mask: BoolArray = mask
        ) -> tuple[float, float]:
            step = part.step(only(choice[0], number, groups, closed)).within(mask)
            lost = step.harmed.sum() - (step.helped.sum() if net else 0)
            return float(lost), float(baseline_cost[mask].sum() - step.cost.sum())

        path = lay(options, [options], judge, steps)
        found.append(tuple(only(choice[0], number, groups, closed) for choice in path))
    return tuple(found)


def only(choice: Any, number: int, groups: int, closed: Any) -> Setting:
    """The setting that opens one group alone."""
    return tuple(choice if each == number else closed for each in range(groups))


def merged(settings: Sequence[Setting | None], closed: Any) -> Setting:
    """Each group's own choice put together; None stands for closed."""
    return tuple(
        closed if setting is None else setting[number] for number, setting in enumerate(settings)
    )
