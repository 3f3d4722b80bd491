"""What an option would have done on recorded samples: arrays of questions by plays.

Single samples, votes, agreement and cascades of them are worked out in arrays; any other policy is
played by the executor that also answers live (play.py). Both give the same (a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.core.decisions import AnyPolicy
from suffice.evals.traces.trace_set import MISSING
from suffice.policies.agreement import AdaptiveConsistency, Agreement
from suffice.policies.cascade import Cascade
from suffice.policies.fixed import SelfConsistency, Single
from suffice.policies.thinking import Overrides
from suffice.policies.two_sided import TwoSided
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.fit_vote_tables import stops_of
from suffice.recipes.calibrate.plays import Plays
from suffice.recipes.calibrate.spending import Spending, Spent, added, where
from suffice.recipes.calibrate.stopping_times import Votes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlayedOption:
    """One option, in arrays of questions by plays."""

    correct: BoolArray
    answered: BoolArray  # there is an answer that can be compared
    answer: IntArray  # its code in the recording; MISSING where there is none
    gives_up: BoolArray  # it would hand the question to the next step of a cascade
    confidence: FloatArray  # the policy's own; NaN where it gives none
    early: BoolArray  # it ended before its last step, or before a vote's cap
    spending: Spending

    def at(self, index: IntArray) -> PlayedOption:
        """Some of the questions."""
        arrays = ("correct", "answered", "answer", "gives_up", "confidence", "early")
        return PlayedOption(
            **{name: getattr(self, name)[index] for name in arrays},
            spending={model: spent.at(index) for model, spent in self.spending.items()},
        )


class Unplayable(Exception):
    """The policy is none of those that are worked out in arrays."""


def played(policy: AnyPolicy, plays: Plays, default_model: str) -> PlayedOption:
    """The option on every question and play; raises Unplayable."""
    if isinstance(policy, Cascade):
        steps = [(played(each.policy, plays, default_model), each.accept) for each in policy.rungs]
        asked = [model for step, _ in steps for model in step.spending]
        if len(set(asked)) < len(asked):
            raise Unplayable  # a later step draws on where an earlier one stopped
        found = steps[-1][0]
        if len(steps) > 1:
            found = replace(found, early=np.zeros_like(found.early))  # the last leaves nothing out
        for step, accept in reversed(steps[:-1]):
            found = _then(step, accept, found)
        return found
    bare, model = policy, default_model
    if isinstance(policy, Overrides):
        if policy.thinking is not None:
            raise Unplayable
        bare, model = policy.inner, policy.model or default_model
    return _alone(bare, model, plays)


def _alone(policy: Any, model: str, plays: Plays) -> PlayedOption:
    match policy:
        case Single(effort=None, max_tokens=None):
            return _single(plays, model)
        case Agreement():
            return _agreement(plays, policy.models)
        case SelfConsistency(stop_when_decided=False):
            return _vote(plays, model, policy.samples, _cap)
        case TwoSided(criterion="beta", ahead=0, escalate_below=None):
            ends = (policy.threshold, policy.hopeless, policy.patience, policy.scatter)
            return _vote(plays, model, policy.max_samples, lambda votes: _settled(votes, *ends))
        case AdaptiveConsistency(criterion="beta", ahead=0, escalate_below=None):
            rule = (policy.threshold, None, 1, policy.scatter)
            return _vote(plays, model, policy.max_samples, lambda votes: _settled(votes, *rule))
        case VoteTable():
            return _vote(plays, model, policy.max_samples, lambda votes: _by_table(votes, policy))
    raise Unplayable


def _single(plays: Plays, model: str) -> PlayedOption:
    rows = plays.rows(model)[:, :, 0]
    return PlayedOption(
        correct=plays.traces.correct[rows] == 1.0,
        answered=plays.traces.answer[rows] >= 0,
        answer=plays.traces.answer[rows].astype(np.int64),
        gives_up=np.zeros(rows.shape, dtype=bool),
        confidence=plays.probability(rows),
        early=np.zeros(rows.shape, dtype=bool),
        spending={model: _samples(plays, rows)},
    )


def _samples(plays: Plays, rows: IntArray) -> Spent:
    """One sample each."""
    traces = plays.traces
    return Spent(
        samples=np.ones(rows.shape),
        prompt_tokens=np.nan_to_num(traces.prompt_tokens[rows]),
        cached_tokens=np.zeros(rows.shape),
        completion_tokens=np.nan_to_num(traces.completion_tokens[rows]),
    )


def _agreement(plays: Plays, models: tuple[str, ...]) -> PlayedOption:
    rows = [plays.rows(model)[:, :, 0] for model in models]
    codes = np.stack([plays.traces.answer[each] for each in rows])
    same = (codes == codes[0]) & (codes[0] >= 0)
    agreed = same.all(axis=0)
    # The first that differs ends it; until then all had given the first one's answer.
    alike = np.where(agreed, len(models), np.argmin(same, axis=0))
    spending: Spending = {}
    for model, each in zip(models, rows, strict=True):
        spending = added(spending, {model: _samples(plays, each)})
    return PlayedOption(
        correct=(plays.traces.correct[rows[0]] == 1.0) & (alike > 0),
        answered=alike > 0,
        answer=np.where(alike > 0, codes[0], MISSING).astype(np.int64),
        gives_up=~agreed,
        confidence=alike / len(models),
        early=np.zeros(agreed.shape, dtype=bool),
        spending=spending,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ended:
    """How votes ended: samples drawn, confidence, given up, and before the cap."""

    stop: IntArray
    confidence: FloatArray
    gives_up: BoolArray
    early: BoolArray


def _vote(plays: Plays, model: str, cap: int, end: Callable[[Votes], _Ended]) -> PlayedOption:
    votes, shape = plays.votes(model, cap), plays.shape
    ended = end(votes)
    answered = votes.answered_after(ended.stop)
    return PlayedOption(
        # A vote that is handed on without any answer leaves nothing behind.
        correct=(votes.right_after(ended.stop) & (answered | ~ended.gives_up)).reshape(shape),
        answered=answered.reshape(shape),
        answer=votes.answer_after(ended.stop).reshape(shape),
        gives_up=(ended.gives_up | ~answered).reshape(shape),
        confidence=ended.confidence.reshape(shape),
        early=ended.early.reshape(shape),
        spending={model: votes.spent(ended.stop, shape)},
    )


def _cap(votes: Votes) -> _Ended:
    n = len(votes.lead)
    stop = np.full(n, votes.cap, dtype=np.int64)
    # Ties and missing answers apart, `majority` reports the leader's share of all votes.
    share = votes.lead[:, -1] / np.maximum(1, votes.given)
    never = np.zeros(n, dtype=bool)
    return _Ended(stop, share, never, never)


def _settled(
    votes: Votes, threshold: float, hopeless: float | None, patience: int, scatter: int | None
) -> _Ended:
    stop = votes.stop(threshold, hopeless, patience, scatter)
    at = np.arange(len(stop)), stop - 1
    sure, lead = votes.agreement[at], votes.lead[at]
    gave_in = np.zeros(len(stop), dtype=bool)
    if hopeless is not None:
        gave_in |= (stop >= patience) & (lead <= hopeless * stop)
    if scatter is not None:
        gave_in |= (stop >= scatter) & (lead <= 1)
    sure = np.where(gave_in & (sure < threshold), lead / stop, sure)
    return _Ended(stop, sure, np.zeros(len(stop), dtype=bool), stop < votes.cap)


def _by_table(votes: Votes, table: VoteTable) -> _Ended:
    stop, given = stops_of(table, votes)
    share = votes.lead[np.arange(len(stop)), stop - 1] / stop
    return _Ended(stop, share, given, ~given & (stop < table.max_samples))


def _then(first: PlayedOption, accept: float | None, second: PlayedOption) -> PlayedOption:
    """A cascade of two: what the first does not settle goes to the second."""
    stands = first.answered & ~first.gives_up
    if accept is not None:
        stands &= first.confidence >= accept  # NaN is not
    # A last step that finds nothing to compare leaves the best earlier answer.
    kept = ~stands & first.answered & ~second.answered
    mine = stands | kept
    return PlayedOption(
        correct=np.where(mine, first.correct, second.correct),
        answered=first.answered | second.answered,
        answer=np.where(mine, first.answer, second.answer),
        gives_up=~stands & second.gives_up,
        confidence=np.where(stands, first.confidence, second.confidence),
        early=stands | (~stands & second.early),
        spending=added(first.spending, where(second.spending, ~stands)),
    )
