"""Options played by the executor that also answers live, on recorded samples.

For policies that decide on whole samples: samples end in the order in which they were asked for,
and one that is cancelled costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.completions import SENTINEL_LOGPROB
from suffice.core.coverage import EARLY, Exit
from suffice.core.decisions import Actions, AnyPolicy, Evidence, SampleFinished, Trigger
from suffice.core.errors import InputError, NoAnswer
from suffice.core.requests import Request
from suffice.evals.traces.trace_set import MISSING, TraceSet
from suffice.executors.recorded_stream import Recorded as Sample
from suffice.executors.replay import play as run
from suffice.executors.running_sample import Launch
from suffice.policies.wrapper import Weighed, Wrapper
from suffice.recipes.calibrate.options import Played
from suffice.recipes.calibrate.plays import Plays
from suffice.recipes.calibrate.spending import Spent

Order = Callable[[str], Sequence[int]]  # model -> rows of its samples, in drawing order

# What answers are compared by where a recording has them extracted already.
RECORDED_FORMAT = "recorded"


class Recorded:
    """The samples of a trace set as evidence, drawn in recorded or shuffled order."""

    def __init__(self, traces: TraceSet, default_model: str | None = None) -> None:
        self.traces = traces
        self.default_model = default_model or traces.models[0]
        self._arms = {model: traces.arm_index(model) for model in traces.models}
        self._answers = (*traces.answers, None)  # code MISSING is -1: the last
        self._whole: dict[int, Sample] = {}
        self._has_logprobs = bool(traces.logprobs.lengths.any())

    def request(self, question: int) -> Request:
        """The question as a request; its answers are comparable where any were extracted."""
        asked = self.traces.questions[question]
        return Request(
            messages=asked.messages,
            model=self.default_model,
            answer_format=asked.answer_format or RECORDED_FORMAT,
        )

    def arm(self, model: str) -> int:
        """Code of the model's arm."""
        return self._arms[model]

    def rows(self, question: int, model: str) -> slice:
        """Rows of a model's samples; raises InputError for a model that was not recorded."""
        arm = self._arms.get(model)
        if arm is None:
            known = ", ".join(self._arms)
            raise InputError(f"model {model!r} is not in the traces; they hold {known}")
        return self.traces.rows(question, arm)

    def whole(self, row: int) -> Sample:
        """A recorded row as it ends: nobody looks into it before."""
        found = self._whole.get(row)
        if found is None:
            traces = self.traces
            tokens, prompt = traces.completion_tokens[row], traces.prompt_tokens[row]
            score = traces.score[row]
            found = self._whole[row] = Sample(
                text="",
                tokens=1,
                billed_tokens=0 if np.isnan(tokens) else int(tokens),
                prompt_tokens=0 if np.isnan(prompt) else int(prompt),
                logprobs=self._logprobs(row),
                answer=self._answers[traces.answer[row]],
                score=None if np.isnan(score) else float(score),
            )
        return found

    def _logprobs(self, row: int) -> FloatArray | None:
        """One token that carries the mean: all that policies of whole samples look at."""
        if not self._has_logprobs:
            return None
        values = np.asarray(self.traces.logprobs.row(row), dtype=np.float64)
        values = values[values > SENTINEL_LOGPROB]
        return np.array([values.mean()]) if values.size else None


class Deal:
    """Deals the samples of one question, each once; remembers which row each number got."""

    def __init__(self, recorded: Recorded, question: int, order: Order) -> None:
        self._recorded, self._question, self._order = recorded, question, order
        self._left: dict[str, deque[int]] = {}
        self.rows: dict[int, int] = {}

    def __call__(self, launch: Launch) -> Sample:
        """The next sample of the launch's model."""
        left = self._left.get(launch.draw.model)
        if left is None:
            left = self._left[launch.draw.model] = deque(self._order(launch.draw.model))
        if not left:
            name = self._recorded.traces.questions[self._question].name
            raise InputError(
                f"question {name!r} has {len(self.rows)} recorded samples that this option can "
                "draw, and it asks for more: lower its cap, or record more (it would do otherwise "
                "live)"
            )
        row = self.rows[launch.sample] = left.popleft()
        return self._recorded.whole(row)


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


def play_one(policy: AnyPolicy, recorded: Recorded, question: int, order: Order) -> One:
    """The policy on one question, its samples dealt in an order."""
    deal, seen = Deal(recorded, question, order), Ends(inner=Weighed(inner=policy))
    try:
        outcome = run(seen, recorded.request(question), deal).outcome
    except NoAnswer:  # what was drawn ended without anything to answer with
        row, sure, taken, gave_up = None, None, None, True
    else:
        row, sure, taken = deal.rows[outcome.sample], outcome.measure, outcome.exit
        gave_up = outcome.escalated
    return One(row, sure, taken, gave_up, tuple(deal.rows[number] for number in seen.ended))


def played_by_executor(policy: AnyPolicy, recorded: Recorded, plays: Plays) -> Played:
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
    return Played(
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
