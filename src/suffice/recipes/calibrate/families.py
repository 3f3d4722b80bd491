"""Two families of policies with a path: a gate between a cheap and the safe arm, and a sampler.

gate     the cheap arm's verdict is judged; it stands at one of two exits or the safe arm answers
sampler  the safe arm is a vote over n samples; the same samples are drawn only until the vote is
         settled, or hopeless
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from suffice.policies.certified import Exits
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.certify import Step
from suffice.recipes.calibrate.path import (
    CLOSED,
    LEAST_IN_CLUSTER,
    PSEUDO_LOSS,
    Evidence,
    Options,
    effect,
    gate_options,
    lay,
)
from suffice.recipes.calibrate.tables import Strong, fit_table, stops_of
from suffice.recipes.calibrate.votes import Votes

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

Setting = tuple[Any, ...]  # by cluster

THRESHOLDS = (0.999, 0.995, 0.99, 0.98, 0.97, 0.95, 0.925, 0.9, 0.85, 0.8, 0.75)
HOPELESS = (None, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
PATIENCE = (4, 8, 16)
# Prices of a lost question at which tables are fitted, in costs of a whole vote.
PRICES = np.geomspace(100.0, 1.0, 22)
# A path ends at this multiple of the allowed loss on the fitting questions: beyond it, no test
# would be passed.
BEYOND = 2.0


class Part(Protocol):
    """One side of the split: fitting or certifying questions."""

    @property
    def cluster(self) -> IntArray:
        """Cluster per question."""
        ...

    def step(self, setting: Setting) -> Step:
        """What a setting, one entry per cluster, does to each question."""
        ...

    def options(self, mask: BoolArray, *, net: bool) -> Options:
        """Alternatives of one cluster, judged on the questions of `mask`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class GatePart:
    """Questions with the cheap arm's judged verdicts."""

    evidence: Evidence
    closed: ClassVar[Exits] = CLOSED

    @property
    def cluster(self) -> IntArray:
        """Cluster per question."""
        return self.evidence.cluster

    def step(self, setting: Setting) -> Step:
        """Thresholds applied to every question."""
        found = effect(setting, self.evidence)
        return Step(
            harmed=found.harmed,
            helped=found.helped,
            stopped=found.stopped,
            cost=found.cost,
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


@dataclass(frozen=True, slots=True, eq=False)
class SamplerPart:
    """Questions with every recorded vote."""

    votes: Votes
    clusters: IntArray
    safe_right: BoolArray
    safe_cost: FloatArray
    strong: Strong | None = None  # whom a table may hand unsettled votes to
    # The same questions with their samples in other orders, and how often a whole vote is right
    # over them: what tables are fitted on. Empty on the certifying side.
    orders: tuple[Votes, ...] = ()
    closed: ClassVar[None] = None

    @property
    def cluster(self) -> IntArray:
        """Cluster per question."""
        return self.clusters

    def step(self, setting: Setting) -> Step:
        """Votes ended by each cluster's rule; at the cap where it has none."""
        n = len(self.clusters)
        stop = np.full(n, self.votes.cap, dtype=np.int64)
        early, given = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        for number, choice in enumerate(setting):
            if choice is not None:
                inside = self.clusters == number
                ended = self._ended(choice)
                for whole, part in zip((stop, early, given), ended, strict=True):
                    whole[inside] = part[inside]
        return self._step(stop, early, given)

    def _ended(self, choice: Stopping | VoteTable) -> tuple[IntArray, BoolArray, BoolArray]:
        """(samples drawn, counts as an early answer, handed to the strong arm) of a rule."""
        if isinstance(choice, Stopping):
            stop = self.votes.stop(*choice)
            return stop, stop < self.votes.cap, np.zeros(len(stop), dtype=bool)
        stop, given = stops_of(choice, self.votes)
        return stop, stop < choice.max_samples if self.strong is None else ~given, given

    def _step(self, stop: IntArray, early: BoolArray, given: BoolArray) -> Step:
        found = self.votes.outcomes(stop)
        correct, cost = found.correct, found.cost
        if self.strong is not None:
            # A strong arm without an answer leaves the leader's standing, as a cascade does.
            handed = np.where(self.strong.answered, self.strong.right, correct & found.answered)
            correct = np.where(given, handed.astype(bool), correct)
            cost = cost + np.where(given, self.strong.cost, 0.0)
        return Step(
            harmed=self.safe_right & ~correct,
            helped=~self.safe_right & correct,
            stopped=early,
            cost=cost,
        )

    def options(self, mask: BoolArray, *, net: bool) -> Options:
        """Stopping rules."""
        choices: list[Stopping | VoteTable | None] = [None]
        losses, savings = [0.0], [0.0]
        safe = float(self.safe_cost[mask].sum())
        for threshold, hopeless, patience in product(THRESHOLDS, HOPELESS, PATIENCE):
            if hopeless is None and patience != PATIENCE[0]:
                continue
            if hopeless is not None and patience >= self.votes.cap:
                continue
            choices.append(Stopping(threshold, hopeless, patience))
        choices.extend(self._tables(mask))
        for choice in choices:
            if choice is None:
                continue
            step = self._step(*self._ended(choice)).within(mask)
            lost = step.harmed.sum() - (step.helped.sum() if net else 0)
            losses.append(PSEUDO_LOSS + float(lost))
            savings.append(safe - float(step.cost.sum()))
        return Options(tuple(choices), np.array(losses), np.array(savings))

    def _tables(self, mask: BoolArray) -> tuple[VoteTable, ...]:
        """Tables fitted on the questions of `mask`, from the safest price down."""
        if not self.orders:
            return ()
        inside = np.flatnonzero(mask)
        orders = tuple(votes.at(inside) for votes in self.orders)
        reference = np.mean([votes.right[:, -1] for votes in orders], axis=0)
        unit = float(self.safe_cost[inside].mean())
        strong = None if self.strong is None else self.strong.at(inside)
        found = (fit_table(orders, reference, unit * price, strong) for price in PRICES)
        return tuple(dict.fromkeys(found))


def lay_path(
    part: Part, safe_cost: FloatArray, clusters: int, *, net: bool, steps: int, limit: float
) -> tuple[Setting, ...]:
    """Settings of rising loss and saving on the fitting questions, one entry per cluster."""
    everyone = np.ones(len(part.cluster), dtype=bool)
    masks = [part.cluster == number for number in range(clusters)]
    by_cluster = [
        part.options(mask, net=net) if mask.sum() >= LEAST_IN_CLUSTER else None for mask in masks
    ]

    def judge(setting: Setting) -> tuple[float, float]:
        step = part.step(setting)
        lost = step.harmed.sum() - (step.helped.sum() if net else 0)
        return float(lost), float((safe_cost - step.cost).sum())

    most = BEYOND * limit * len(part.cluster)
    return lay(part.options(everyone, net=net), by_cluster, judge, steps, most)


def lay_cluster_paths(
    part: Part,
    safe_cost: FloatArray,
    clusters: int,
    closed: Any,
    *,
    net: bool,
    steps: int,
    limit: float,
) -> tuple[tuple[Setting, ...], ...]:
    """A path for every cluster alone: settings in which all the others are closed."""
    found: list[tuple[Setting, ...]] = []
    for number in range(clusters):
        mask = part.cluster == number
        if mask.sum() < LEAST_IN_CLUSTER:
            found.append(())
            continue
        options = part.options(mask, net=net)

        def judge(
            choice: Setting, number: int = number, mask: BoolArray = mask
        ) -> tuple[float, float]:
            step = part.step(only(choice[0], number, clusters, closed)).within(mask)
            lost = step.harmed.sum() - (step.helped.sum() if net else 0)
            return float(lost), float((safe_cost[mask] - step.cost).sum())

        path = lay(options, [options], judge, steps, BEYOND * limit * float(mask.sum()))
        found.append(tuple(only(choice[0], number, clusters, closed) for choice in path))
    return tuple(found)


def only(choice: Any, number: int, clusters: int, closed: Any) -> Setting:
    """The setting that opens one cluster alone."""
    return tuple(choice if each == number else closed for each in range(clusters))


def merged(settings: Sequence[Setting | None], closed: Any) -> Setting:
    """Each cluster's own choice put together; None stands for closed."""
    return tuple(
        closed if setting is None else setting[number] for number, setting in enumerate(settings)
    )
