"""What arms would have done on recorded samples: one row per question, policies driven directly.

For policies that decide on whole samples. A sample number that the recording does not have counts
as refused for the budget, as an executor would say it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.core.completions import SENTINEL_LOGPROB, Completion, TokenLogprob, Usage
from suffice.core.decisions import (
    Actions,
    Answer,
    AnyPolicy,
    Cancel,
    Escalate,
    Evidence,
    Sample,
    SampleFailed,
    SampleFinished,
)
from suffice.core.errors import InputError, PolicyMisbehaved
from suffice.core.requests import Request
from suffice.evals.traces import TraceSet

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

# What answers are compared by where a recording has them extracted already.
RECORDED_FORMAT = "recorded"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcomes:
    """One arm on every question, in columns."""

    correct: BoolArray
    answered: BoolArray  # whether there was a comparable answer
    confidence: FloatArray  # the policy's own; NaN where it gave none
    tokens: FloatArray  # completion tokens; NaN where the recording has none
    samples: FloatArray
    cost: FloatArray  # in the unit of `TokenWeights`
    why: tuple[str, ...] = ()

    def at(self, index: IntArray) -> Outcomes:
        """The questions of `index`."""
        return Outcomes(
            correct=self.correct[index],
            answered=self.answered[index],
            confidence=self.confidence[index],
            tokens=self.tokens[index],
            samples=self.samples[index],
            cost=self.cost[index],
        )


@dataclass(frozen=True, slots=True)
class TokenWeights:
    """What a completion token of each model costs, 1 where nothing is said."""

    weights: tuple[tuple[str, float], ...] = ()
    by_sample: bool = False  # the recording counts no tokens: every sample costs its weight

    def of(self, model: str) -> float:
        """Weight of a model's token."""
        return dict(self.weights).get(model, 1.0)

    @property
    def unit(self) -> str:
        """What costs are counted in."""
        kind = "samples" if self.by_sample else "completion tokens"
        return f"{kind}, weighted by model" if self.weights else kind


class Recorded:
    """The samples of a trace set as evidence, drawn in recorded or shuffled order."""

    def __init__(self, traces: TraceSet, default_model: str | None = None) -> None:
        self.traces = traces
        self.default_model = default_model or traces.models[0]
        self._arms = {model: traces.arm_index(model) for model in traces.models}
        self._answers = (*traces.answers, None)  # code MISSING is -1: the last
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

    def finished(self, sample: int, row: int, model: str) -> SampleFinished:
        """Evidence of a recorded row."""
        traces = self.traces
        tokens, prompt = traces.completion_tokens[row], traces.prompt_tokens[row]
        score = traces.score[row]
        return SampleFinished(
            sample=sample,
            completion=Completion(
                text="",
                finish_reason="stop",
                model=model,
                usage=Usage(
                    prompt_tokens=0 if np.isnan(prompt) else int(prompt),
                    completion_tokens=0 if np.isnan(tokens) else int(tokens),
                ),
                logprobs=self._logprobs(row),
            ),
            answer=self._answers[traces.answer[row]],
            score=None if np.isnan(score) else float(score),
        )

    def _logprobs(self, row: int) -> tuple[TokenLogprob, ...]:
        """One token that carries the mean: all that policies of whole samples look at."""
        if not self._has_logprobs:
            return ()
        values = np.asarray(self.traces.logprobs.row(row), dtype=np.float64)
        values = values[values > SENTINEL_LOGPROB]
        return (TokenLogprob(token="", logprob=float(values.mean())),) if values.size else ()


@dataclass(slots=True)
class Run:
    """One question being played."""

    recorded: Recorded
    question: int
    model: str
    generator: np.random.Generator | None
    queue: deque[int]
    model_of: dict[int, str]
    row_of: dict[int, int]
    orders: dict[str, deque[int]]
    ended: list[int]

    def take(self, actions: Actions) -> Answer | Escalate | None:
        """Carry actions out; the verdict, if there is one."""
        for action in actions:
            match action:
                case Sample():
                    for number in action.samples:
                        self.model_of[number] = action.model or self.model
                        self.queue.append(number)
                case Cancel():
                    if action.sample in self.queue:
                        self.queue.remove(action.sample)
                case Answer() | Escalate():
                    return action
        return None

    def next(self) -> Evidence:
        """The end of the sample that was asked for first."""
        number = self.queue.popleft()
        model = self.model_of[number]
        order = self.orders.get(model)
        if order is None:
            rows = self.recorded.rows(self.question, model)
            listed = np.arange(rows.start, rows.stop)
            if self.generator is not None:
                self.generator.shuffle(listed)
            order = self.orders[model] = deque(listed.tolist())
        if not order:
            return SampleFailed(sample=number, reason="budget")
        self.row_of[number] = order.popleft()
        self.ended.append(number)
        return self.recorded.finished(number, self.row_of[number], model)


def play(
    policy: AnyPolicy,
    recorded: Recorded,
    questions: Iterable[int],
    *,
    weights: TokenWeights | None = None,
    seed: int | None = None,
) -> Outcomes:
    """The policy on each question. With a `seed` samples come in an order of their own."""
    weights = weights or TokenWeights()
    chosen = [int(question) for question in questions]
    columns: dict[str, list[float]] = {
        name: [] for name in ("correct", "answered", "confidence", "tokens", "samples", "cost")
    }
    whys = []
    for question in chosen:
        run, verdict = play_one(policy, recorded, question, seed)
        traces = recorded.traces
        number = verdict.sample if isinstance(verdict, Answer) else verdict.best
        row = None if number is None else run.row_of[number]
        rows = [run.row_of[each] for each in run.ended]
        tokens = traces.completion_tokens[rows]
        price = np.array([weights.of(run.model_of[each]) for each in run.ended])
        units = np.ones(len(rows)) if weights.by_sample else tokens
        columns["correct"].append(float(row is not None and is_right(traces, row)))
        columns["answered"].append(float(row is not None and traces.answer[row] >= 0))
        sure = verdict.confidence
        columns["confidence"].append(float("nan") if sure is None else sure)
        columns["tokens"].append(float(tokens.sum()))
        columns["samples"].append(float(len(rows)))
        columns["cost"].append(float(units @ price))
        whys.append(verdict.why)
    return Outcomes(
        correct=np.array(columns["correct"], dtype=bool),
        answered=np.array(columns["answered"], dtype=bool),
        confidence=np.array(columns["confidence"]),
        tokens=np.array(columns["tokens"]),
        samples=np.array(columns["samples"]),
        cost=np.array(columns["cost"]),
        why=tuple(whys),
    )


def play_one(
    policy: AnyPolicy, recorded: Recorded, question: int, seed: int | None
) -> tuple[Run, Answer | Escalate]:
    """The policy on one question: what was drawn, and the verdict."""
    request = recorded.request(question)
    generator = None if seed is None else np.random.default_rng((seed, question))
    run = Run(recorded, question, request.model, generator, deque(), {}, {}, {}, [])
    state, actions = policy.start(request)
    verdict = run.take(actions)
    while verdict is None:
        if not run.queue:
            raise PolicyMisbehaved(f"policy {policy.name} neither draws a sample nor answers")
        state, actions = policy.step(state, run.next())
        verdict = run.take(actions)
    return run, verdict


def is_right(traces: TraceSet, row: int) -> bool:
    """Whether a sample is right; raises InputError if it was never judged."""
    value = traces.correct[row]
    if np.isnan(value):
        asked = traces.questions[traces.question[row]]
        raise InputError(
            f"the sample of question {asked.name!r} has no verdict (column correct): "
            "calibration needs every sample judged"
        )
    return bool(value)
