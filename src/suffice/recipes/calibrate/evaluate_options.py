"""Options played by the executor that also answers live, on recorded samples.

For policies that decide on whole samples: samples end in the order in which they were asked for,
and one that is cancelled costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from suffice.core.coverage import EARLY, Exit
from suffice.core.decisions import Actions, AnyPolicy, Evidence, SampleFinished, Trigger
from suffice.core.errors import NoAnswer
from suffice.evals.traces.trace_set import MISSING
from suffice.executors.replay import play as run
from suffice.policies.wrapper import Weighed, Wrapper
from suffice.recipes.calibrate.options import PlayedOption
from suffice.recipes.calibrate.plays import Plays
from suffice.recipes.calibrate.spending import Spent
from suffice.recipes.recordings import WholeSource

Order = Callable[[str], Sequence[int]]  # model -> rows of its samples, in drawing order


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends(Wrapper):
    """A policy, and the samples whose end it has been told of. Recorded samples come whole."""

    ended: list[int] = field(default_factory=list)

    @property
    def waits_for_ends(self) -> bool:
        """Nobody looks into a recorded sample before its end."""
        return True

    def step(self, state: Any, evidence: Evidence) -> tuple[Any, Actions]:
        """The policy's."""
        if isinstance(evidence, SampleFinished):
            self.ended.append(evidence.sample)
        return self.inner.step(state, evidence)

    def acts_on(self, state: Any, sample: int) -> Trigger:
        """Nothing before the end."""
        del state, sample
        return "nothing"


class One(NamedTuple):
    """One question under one policy: the accepted row (None: nothing to answer with)."""

    row: int | None
    confidence: float | None
    exit: Exit | None
    gave_up: bool
    rows: tuple[int, ...]  # samples that ended


def play_one(policy: AnyPolicy, recorded: WholeSource, question: int, order: Order) -> One:
    """The policy on one question, its samples dealt in an order."""
    deal, seen = recorded.ordered(question, order), Ends(inner=Weighed(inner=policy))
    try:
        outcome = run(seen, recorded.request(question), deal).outcome
    except NoAnswer:  # what was drawn ended without anything to answer with
        row, sure, taken, gave_up = None, None, None, True
    else:
        row, sure, taken = deal.rows[outcome.sample], outcome.measure, outcome.exit
        gave_up = outcome.escalated
    return One(row, sure, taken, gave_up, tuple(deal.rows[number] for number in seen.ended))


def played_by_executor(policy: AnyPolicy, recorded: WholeSource, plays: Plays) -> PlayedOption:
    """Any policy on every question and play."""
    traces, (questions, count) = recorded.traces, plays.shape
    names = ("correct", "answered", "gives_up", "early")
    flags = {name: np.zeros((questions, count), dtype=bool) for name in names}
    sure = np.full((questions, count), np.nan)
    answers = np.full((questions, count), MISSING, dtype=np.int64)
    counts = {m: np.zeros((4, questions, count)) for m in traces.models}
    for i in range(questions):
        for k in range(count):

            def order(model: str, i: int = i, k: int = k) -> list[int]:
                recorded.arm(model)
                found: list[int] = plays.rows(model)[i, k].tolist()
                return found

            one = play_one(policy, recorded, int(plays.asked(k)[i]), order)
            answered = one.row is not None and bool(traces.answer[one.row] >= 0)
            flags["correct"][i, k] = one.row is not None and traces.correct[one.row] == 1.0
            flags["answered"][i, k], flags["gives_up"][i, k] = answered, one.gave_up
            answers[i, k] = MISSING if one.row is None else traces.answer[one.row]
            flags["early"][i, k] = one.exit in EARLY
            sure[i, k] = np.nan if one.confidence is None else one.confidence
            for row in one.rows:
                sums = counts[traces.arms[traces.arm[row]].model][:, i, k]
                prompt = np.nan_to_num(traces.prompt_tokens[row])
                cached = prompt if sums[0] else 0.0
                sums += (1.0, prompt, cached, np.nan_to_num(traces.completion_tokens[row]))
    return PlayedOption(
        **flags,
        answer=answers,
        confidence=sure,
        spending={
            model: Spent(
                samples=sums[0],
                prompt_tokens=sums[1],
                cached_tokens=sums[2],
                completion_tokens=sums[3],
            )
            for model, sums in counts.items()
            if sums[0].any()
        },
    )
