"""What arms would have done on recorded samples: one row per question, in columns.

They run through the executor that also answers live. For policies that decide on whole samples:
samples end in the order in which they were asked for, and one that is cancelled costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.completions import SENTINEL_LOGPROB
from suffice.core.coverage import Exit
from suffice.core.decisions import Actions, AnyPolicy, Evidence, SampleFinished, Trigger
from suffice.core.errors import InputError, NoAnswer
from suffice.core.requests import Request
from suffice.evals.traces import TraceSet
from suffice.executors.play import Recorded as Sample
from suffice.executors.play import play as run
from suffice.executors.running import Launch
from suffice.policies.wrapper import Wrapper

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
    exit: tuple[Exit | None, ...] = ()

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

    def __init__(self, recorded: Recorded, question: int, seed: int | None) -> None:
        self._recorded, self._question = recorded, question
        self._generator = None if seed is None else np.random.default_rng((seed, question))
        self._orders: dict[str, deque[int]] = {}
        self.rows: dict[int, int] = {}

    def __call__(self, launch: Launch) -> Sample:
        """The next sample of the launch's model."""
        model = launch.model
        order = self._orders.get(model)
        if order is None:
            rows = self._recorded.rows(self._question, model)
            listed = np.arange(rows.start, rows.stop)
            if self._generator is not None:
                self._generator.shuffle(listed)
            order = self._orders[model] = deque(listed.tolist())
        if not order:
            name = self._recorded.traces.questions[self._question].name
            raise InputError(
                f"question {name!r} has {len(self.rows)} recorded samples that this arm can draw, "
                "and it asks for more: lower its cap, or record more (it would do otherwise live)"
            )
        row = self.rows[launch.sample] = order.popleft()
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
    exits: list[Exit | None] = []
    traces = recorded.traces
    for question in chosen:
        deal, seen = Deal(recorded, question, seed), Ends(inner=policy)
        try:
            outcome = run(seen, recorded.request(question), deal).outcome
        except NoAnswer:  # what was drawn ended without anything to answer with
            row, sure, taken = None, None, None
        else:
            row, sure, taken = deal.rows[outcome.sample], outcome.confidence, outcome.exit
        rows = [deal.rows[number] for number in seen.ended]
        tokens = traces.completion_tokens[rows]
        price = np.array([weights.of(traces.arms[arm].model) for arm in traces.arm[rows].tolist()])
        units = np.ones(len(rows)) if weights.by_sample else tokens
        columns["correct"].append(float(row is not None and is_right(traces, row)))
        columns["answered"].append(float(row is not None and traces.answer[row] >= 0))
        columns["confidence"].append(float("nan") if sure is None else sure)
        columns["tokens"].append(float(tokens.sum()))
        columns["samples"].append(float(len(rows)))
        columns["cost"].append(float(units @ price))
        exits.append(taken)
    return Outcomes(
        correct=np.array(columns["correct"], dtype=bool),
        answered=np.array(columns["answered"], dtype=bool),
        confidence=np.array(columns["confidence"]),
        tokens=np.array(columns["tokens"]),
        samples=np.array(columns["samples"]),
        cost=np.array(columns["cost"]),
        exit=tuple(exits),
    )


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
