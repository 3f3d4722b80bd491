"""Recorded samples as what a session draws, each at most once per request.

A replay shuffles them by seed and plays every token (`Source`). Where policies decide on whole
samples, they come as they ended and in an order that the caller gives (`WholeSource`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.completions import SENTINEL_LOGPROB
from suffice.core.errors import InputError, LacksCapability
from suffice.core.requests import Request, ToolCall
from suffice.evals.traces.trace_set import ANSWER_MODE, MISSING, HalfArray, TraceSet
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.running_sample import Launch

# Recorded answers are compared as they are, whatever extractor found them.
RECORDED_FORMAT = "recorded"


class Source:
    """The samples of a trace set, ready to be drawn."""

    def __init__(self, traces: TraceSet, *, model: str | None = None) -> None:
        """`model` is asked where a policy names none; the first recorded by default."""
        self.traces = traces
        self.model = model or traces.models[0]
        if self.model not in traces.models:
            raise InputError(
                f"model {self.model!r} was not recorded: choose {', '.join(traces.models)}"
            )
        self._recorded: dict[int, RecordedSample] = {}
        self._arms: dict[tuple[str, str | None], int] = {}
        self._requests: dict[int, Request] = {}

    def request(self, question: int) -> Request:
        """A recorded question as a request; answers are comparable if any was extracted."""
        found = self._requests.get(question)
        if found is None:
            asked = self.traces.questions[question]
            start = int(self.traces.start[question, 0])
            rows = slice(start, start + int(self.traces.count[question].sum()))
            # Whole texts are checked, and never voted on: as live, so in a replay.
            comparable = asked.answer_format != "text" and bool(
                (self.traces.answer[rows] != MISSING).any()
            )
            found = self._requests[question] = self._request(question, comparable=comparable)
        return found

    def _request(self, question: int, *, comparable: bool) -> Request:
        asked = self.traces.questions[question]
        return Request(
            messages=asked.messages,
            model=self.model,
            answer_format=(asked.answer_format or RECORDED_FORMAT) if comparable else None,
        )

    @cached_property
    def _texts(self) -> dict[str, list[Any]]:
        # One list per column: a cell at a time out of an Arrow table costs more than playing it.
        return {
            name: self.traces.column(name).to_pylist()
            for name in ("text", "reasoning_text", "finish_reason", "tool_calls")
        }

    @cached_property
    def _scores(self) -> list[float | None]:
        # A checked set is its own verifier, where no other score was recorded.
        scores = np.where(np.isnan(self.traces.score), self.traces.correct, self.traces.score)
        return [None if np.isnan(value) else value for value in scores.tolist()]

    def drawer(self, question: int, seed: tuple[int, ...]) -> Drawer:
        """The samples of one request, in the order of `seed`."""

        def order(arm: int) -> list[int]:
            rows = self.traces.rows(question, arm)
            generator = np.random.default_rng((*seed, question, arm))
            shuffled: IntArray = rows.start + generator.permutation(rows.stop - rows.start)
            listed: list[int] = shuffled.tolist()
            return listed[::-1]

        return Drawer(self, question, order)

    def arm_of(self, launch: Launch) -> int:
        """Code of the arm that a launch asks for: its model, in the mode of its thinking."""
        mode = _mode_of(launch)
        found = self._arms.get((launch.draw.model, mode))
        if found is None:
            names = [arm.mode for arm in self.traces.arms if arm.model == launch.draw.model]
            if mode is None and ANSWER_MODE in names:
                mode_found: str | None = ANSWER_MODE
            else:
                mode_found = mode
            found = self.traces.arm_index(launch.draw.model, mode_found)
            self._arms[launch.draw.model, mode] = found
        return found

    def recorded(self, row: int) -> RecordedSample:
        """A row as it plays."""
        found = self._recorded.get(row)
        if found is None:
            found = self._recorded[row] = self._read(row)
        return found

    def _read(self, row: int) -> RecordedSample:
        traces, texts = self.traces, self._texts
        tokens, prompt = float(traces.completion_tokens[row]), float(traces.prompt_tokens[row])
        calls = texts["tool_calls"][row]
        return RecordedSample(
            text=texts["text"][row] or "",
            tokens=1 if math.isnan(tokens) else int(tokens),
            finish_reason=texts["finish_reason"][row],
            reasoning_text=texts["reasoning_text"][row] or "",
            tool_calls=_calls(calls) if calls else (),
            prompt_tokens=0 if math.isnan(prompt) else int(prompt),
            confidences=_doubles(traces.confidences.row(row)),
            logprobs=_doubles(traces.logprobs.row(row)),
            answer=traces.answer_of(row),
            score=self._scores[row],
        )


class WholeSource(Source):
    """The same for policies that decide on whole samples: each comes as it ended."""

    def __init__(self, traces: TraceSet, *, model: str | None = None) -> None:
        super().__init__(traces, model=model)
        self._by_model = {name: traces.arm_index(name) for name in traces.models}
        self._answers = (*traces.answers, None)  # code MISSING is -1: the last
        self._has_logprobs = bool(traces.logprobs.lengths.any())

    def request(self, question: int) -> Request:
        """The question as a request, its answers comparable."""
        return self._request(question, comparable=True)

    def arm(self, model: str) -> int:
        """Code of the model's arm; raises InputError for a model that was not recorded."""
        found = self._by_model.get(model)
        if found is None:
            known = ", ".join(self._by_model)
            raise InputError(f"model {model!r} is not in the traces; they hold {known}")
        return found

    def arm_of(self, launch: Launch) -> int:
        """The arm of the launch's model."""
        return self.arm(launch.draw.model)

    def rows(self, question: int, model: str) -> slice:
        """Rows of a model's samples."""
        return self.traces.rows(question, self.arm(model))

    def ordered(self, question: int, order: Callable[[str], Sequence[int]]) -> Drawer:
        """The samples of one request, as `order` gives the rows of a model."""
        models = self.traces.arms
        return Drawer(self, question, lambda arm: list(order(models[arm].model)))

    def _read(self, row: int) -> RecordedSample:
        traces = self.traces
        tokens, prompt = traces.completion_tokens[row], traces.prompt_tokens[row]
        score = traces.score[row]
        return RecordedSample(
            text="",
            tokens=1,
            billed_tokens=0 if np.isnan(tokens) else int(tokens),
            prompt_tokens=0 if np.isnan(prompt) else int(prompt),
            logprobs=self._mean_logprob(row),
            answer=self._answers[traces.answer[row]],
            score=None if np.isnan(score) else float(score),
        )

    def _mean_logprob(self, row: int) -> FloatArray | None:
        """One token that carries the mean: all that policies of whole samples look at."""
        if not self._has_logprobs:
            return None
        values = np.asarray(self.traces.logprobs.row(row), dtype=np.float64)
        values = values[values > SENTINEL_LOGPROB]
        return np.array([values.mean()]) if values.size else None


class Drawer:
    """The recorded samples of one question, each drawn once; remembers which were."""

    def __init__(self, source: Source, question: int, order: Callable[[int], list[int]]) -> None:
        """`order` gives the rows of an arm, the first to be drawn first."""
        self._source, self._question, self._order = source, question, order
        self._left: dict[int, list[int]] = {}
        self.rows: dict[int, int] = {}  # the row behind each of the policy's sample numbers

    def __call__(self, launch: Launch) -> RecordedSample:
        """The next sample of the launch's arm."""
        asked = self._source.request(self._question).messages
        if launch.purpose == "answer" and launch.draw.request.messages != asked:
            raise LacksCapability(
                "this policy asks the question in other words than it was recorded in: name the "
                "recorded model that answers them (cot_pot:program_model=MODEL), or try it live"
            )
        if launch.shown or launch.purpose != "answer":
            raise LacksCapability(
                "this policy begins answers for the model or asks it again, which a recording "
                "of finished answers cannot play: replay policies that draw whole samples"
            )
        arm = self._source.arm_of(launch)
        left = self._left.get(arm)
        if left is None:
            left = self._left[arm] = self._order(arm)[::-1]
        if not left:
            traces = self._source.traces
            name, drawn = traces.arms[arm], len(self._order(arm))
            raise LacksCapability(
                f"question {traces.questions[self._question].name!r} has {drawn} recorded samples "
                f"of {name} to draw, and the policy draws more: lower its cap, or record more"
            )
        row = self.rows[launch.sample] = left.pop()
        return self._source.recorded(row)

    def counted(self) -> bool:
        """Whether the tokens of every sample that was drawn are known."""
        rows = list(self.rows.values())
        return not np.isnan(self._source.traces.completion_tokens[rows]).any()

    def dealt(self, arm: int) -> list[int]:
        """Rows of an arm in the order in which they are drawn."""
        return self._order(arm)


def _mode_of(launch: Launch) -> str | None:
    """The mode that a launch's think block asks for; None where it sets none."""
    if launch.draw.thinking is None:
        return None
    return "think" if launch.draw.thinking.enabled else "direct"


def _doubles(values: HalfArray) -> FloatArray | None:
    return values.astype(np.float64) if len(values) else None


def _calls(text: str) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(
            id=call.get("id") or "",
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
        )
        for call in json.loads(text)
    )
