"""The path of settings, from safest to cheapest, laid out on the fitting questions.

A setting is a pair of thresholds for every question group. For each price of a lost question every
group takes the pair with the best saving minus price times loss; falling prices give the path.
Because one path covers all groups together, one test per step suffices for the whole. No accuracy
limit enters: the same path is walked whatever is asked for, so that a looser limit never ends
earlier on it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.policies.certified import Exits

ACCEPT_LEVELS = 24
HOPELESS_LEVELS = 8
PRICES = 80  # of a lost question, at which a path has corners
# One lost question is put on every open exit's account: none was ever seen without its luck.
PSEUDO_LOSS = 1.0
CLOSED = Exits()
LEAST_IN_GROUP = 20  # fitting questions below which a group shares the pooled thresholds

Setting = tuple[Exits, ...]  # by group


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JudgedQuestions:
    """What a path is judged by: one row per question."""

    group: IntArray
    right: FloatArray  # predicted P(right) of the option's answer
    rescue: FloatArray  # predicted P(only the baseline is right)
    answered: BoolArray  # the option has an answer to stand by
    harmed: BoolArray  # the option's answer is wrong and the baseline's right
    helped: BoolArray
    # The baseline is right without an answer that can be compared, the option wrong with one: a
    # cascade leaves the option's answer standing, so this is lost even if the baseline is asked.
    unsaved: BoolArray
    differs: BoolArray  # the option's answer is not the baseline's
    option_cost: FloatArray
    baseline_cost: FloatArray

    def at(self, index: IntArray | BoolArray) -> JudgedQuestions:
        """The questions of `index`."""
        return JudgedQuestions(**{name: getattr(self, name)[index] for name in self.__slots__})

    @property
    def n(self) -> int:
        """Questions."""
        return len(self.group)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SettingEffect:
    """A setting's effect on questions."""

    stopped: BoolArray
    harmed: BoolArray
    helped: BoolArray
    differs: BoolArray
    closed: BoolArray  # the baseline is asked at once
    cost: FloatArray


def stops(exits: Exits, evidence: JudgedQuestions) -> BoolArray:
    """Which questions end at one of the exits, the same for every group."""
    found = np.zeros(evidence.n, dtype=bool)
    if exits.accept is not None:
        found |= evidence.right >= exits.accept
    if exits.hopeless is not None:
        found |= evidence.rescue <= exits.hopeless
    return found & evidence.answered


def effect(setting: Setting, evidence: JudgedQuestions) -> SettingEffect:
    """What a setting does to every question."""
    stopped = np.zeros(evidence.n, dtype=bool)
    closed = np.zeros(evidence.n, dtype=bool)
    for number, exits in enumerate(setting):
        inside = evidence.group == number
        if exits.closed:
            closed |= inside
        else:
            stopped |= inside & stops(exits, evidence)
    cost = np.where(closed, 0.0, evidence.option_cost) + np.where(
        stopped, 0.0, evidence.baseline_cost
    )
    return SettingEffect(
        stopped=stopped,
        harmed=(stopped & evidence.harmed) | (~closed & evidence.unsaved),
        helped=stopped & evidence.helped,
        differs=stopped & evidence.differs,
        closed=closed,
        cost=cost,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """Alternatives of one group with their loss and saving there; the safe one comes first."""

    choices: tuple[Hashable, ...]
    loss: FloatArray
    saving: FloatArray

    def best(self, price: float) -> Hashable:
        """The alternative with the best saving - price * loss; the earliest of equals."""
        return self.choices[int(np.argmax(self.saving - price * self.loss))]

    def between(self, first: Hashable, last: Hashable) -> tuple[Hashable, ...]:
        """Alternatives on the way: neither loss nor saving below `first` or above `last`."""
        a, b = self.choices.index(first), self.choices.index(last)
        order = np.lexsort((self.saving, self.loss))
        found, best = [], self.saving[a]
        for i in order.tolist():
            inside = self.loss[a] <= self.loss[i] <= self.loss[b]
            if inside and best < self.saving[i] <= self.saving[b]:
                found.append(self.choices[i])
                best = self.saving[i]
        return tuple(found)


def lay(
    pooled: Options,
    by_group: Sequence[Options | None],
    judge: Callable[[tuple[Any, ...]], tuple[float, float]],
    steps: int,
) -> tuple[tuple[Any, ...], ...]:
    """Settings of rising loss and saving; a group without options takes the pooled choice.

    Corners come from falling prices of a lost question; between corners one group moves at a time,
    in small steps. `judge` tells (loss, saving) of a setting on all fitting questions.
    """
    used = tuple(options or pooled for options in by_group)
    top = max(float(max(options.saving.max() for options in (pooled, *used))), 1e-9)
    # A lost question's price, from all that there is to save down to nearly nothing.
    prices = top * np.geomspace(1.0, 1e-4, PRICES)
    corners = [tuple(options.choices[0] for options in used)]
    corners += [tuple((options or pooled).best(price) for options in by_group) for price in prices]
    found: dict[tuple[Any, ...], tuple[float, float]] = {}
    for last, setting in pairwise(corners):
        for step in _walk(last, setting, used):
            if step not in found:
                loss, saved = judge(step)
                if saved > 0.0:
                    found[step] = loss, saved
    return thinned(_advancing(found), steps)


def _walk(
    first: tuple[Any, ...], last: tuple[Any, ...], used: Sequence[Options]
) -> list[tuple[Any, ...]]:
    """From one corner to the next, one group after the other, in small steps."""
    here, found = list(first), []
    for number, options in enumerate(used):
        if here[number] != last[number]:
            for choice in (*options.between(here[number], last[number]), last[number]):
                here[number] = choice
                found.append(tuple(here))
    return found


def _advancing(found: dict[tuple[Any, ...], tuple[float, float]]) -> list[tuple[Any, ...]]:
    """By rising loss, only those that save more than all before.

    What seems to win questions counts as losing none: such luck must not make a bold setting the
    first of the path. Of settings that lose the same, the smaller saving is the safer one.
    """
    ordered = sorted(found, key=lambda setting: (max(0.0, found[setting][0]), found[setting][1]))
    kept: list[tuple[Any, ...]] = []
    best = -np.inf
    for setting in ordered:
        if found[setting][1] > best:
            kept.append(setting)
            best = found[setting][1]
    return kept


def thinned(path: Sequence[tuple[Any, ...]], steps: int) -> tuple[tuple[Any, ...], ...]:
    """At most `steps` settings, the first and the last among them."""
    if len(path) <= steps:
        return tuple(path)
    index = np.unique(np.linspace(0, len(path) - 1, steps).round().astype(int))
    return tuple(path[i] for i in index)


def gate_options(evidence: JudgedQuestions, net: bool) -> Options:
    """Every pair of thresholds with its loss and saving; the closed one first."""
    exits, losses, savings = [CLOSED], [0.0], [0.0]
    accepts = _levels(evidence.right[evidence.answered], ACCEPT_LEVELS)
    hopeless = _levels(evidence.rescue[evidence.answered], HOPELESS_LEVELS)
    per_question = evidence.harmed.astype(float) - (evidence.helped if net else 0.0)
    for accept in (*accepts, None):
        for rescue in (None, *hopeless):
            pair = Exits(accept=accept, hopeless=rescue)
            if pair.closed:
                continue
            stopped = stops(pair, evidence)
            exits.append(pair)
            lost = per_question[stopped].sum() + evidence.unsaved[~stopped].sum()
            losses.append(PSEUDO_LOSS + float(lost))
            saved = evidence.baseline_cost[stopped].sum() - evidence.option_cost.sum()
            savings.append(float(saved))
    return Options(tuple(exits), np.array(losses), np.array(savings))


def _levels(values: FloatArray, count: int) -> list[float]:
    """Distinct quantiles, rounded as the policy file stores them, highest first."""
    if values.size == 0:
        return []
    quantiles = np.quantile(values, np.linspace(0.0, 1.0, count), method="inverted_cdf")
    return sorted({float(f"{value:.5g}") for value in quantiles}, reverse=True)
