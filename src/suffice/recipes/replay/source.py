"""Recorded samples as what a session draws: shuffled by seed, each at most once per request."""

from __future__ import annotations

import json

import numpy as np

from suffice.core.errors import InputError, LacksCapability
from suffice.core.requests import Request, ToolCall
from suffice.evals.traces import ANSWER_MODE, IntArray, TraceSet
from suffice.executors.play import Recorded
from suffice.executors.running import Launch

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
        self._halves = {"confidences": traces.confidences, "logprobs": traces.logprobs}
        self._recorded: dict[int, Recorded] = {}
        self._arms: dict[tuple[str, str | None], int] = {}
        self._requests: dict[int, Request] = {}

    def request(self, question: int) -> Request:
        """A recorded question as a request; answers are comparable if any was extracted."""
        found = self._requests.get(question)
        if found is None:
            asked = self.traces.questions[question]
            rows = np.flatnonzero(self.traces.question == question)
            comparable = bool((self.traces.answer[rows] >= 0).any())
            found = Request(
                messages=asked.messages,
                model=self.model,
                answer_format=(asked.answer_format or RECORDED_FORMAT) if comparable else None,
            )
            self._requests[question] = found
        return found

    def drawer(self, question: int, seed: tuple[int, ...]) -> Drawer:
        """The samples of one request, in the order of `seed`."""
        return Drawer(self, question, seed)

    def arm_of(self, launch: Launch) -> int:
        """Code of the arm that a launch asks for: its model, in the mode of its thinking."""
        mode = _mode_of(launch)
        found = self._arms.get((launch.model, mode))
        if found is None:
            names = [arm.mode for arm in self.traces.arms if arm.model == launch.model]
            if mode is None and ANSWER_MODE in names:
                mode_found: str | None = ANSWER_MODE
            else:
                mode_found = mode
            found = self.traces.arm_index(launch.model, mode_found)
            self._arms[launch.model, mode] = found
        return found

    def recorded(self, row: int) -> Recorded:
        """A row as it plays."""
        found = self._recorded.get(row)
        if found is None:
            found = self._recorded[row] = self._read(row)
        return found

    def _read(self, row: int) -> Recorded:
        traces = self.traces
        tokens = traces.completion_tokens[row]
        prompt = traces.prompt_tokens[row]
        score, correct = traces.score[row], traces.correct[row]
        arrays = {
            name: ragged.row(row).astype(np.float64) if ragged.lengths[row] else None
            for name, ragged in self._halves.items()
        }
        calls = traces.column("tool_calls")[row].as_py()
        return Recorded(
            text=traces.text_of(row),
            tokens=1 if np.isnan(tokens) else int(tokens),
            finish_reason=traces.column("finish_reason")[row].as_py(),
            reasoning_text=traces.column("reasoning_text")[row].as_py() or "",
            tool_calls=_calls(calls) if calls else (),
            prompt_tokens=0 if np.isnan(prompt) else int(prompt),
            confidences=arrays["confidences"],
            logprobs=arrays["logprobs"],
            answer=traces.answer_of(row),
            # A checked set is its own verifier, where no other score was recorded.
            score=float(score) if not np.isnan(score) else _or_none(correct),
        )


class Drawer:
    """Deals the recorded samples of one question, each once; remembers which were dealt."""

    def __init__(self, source: Source, question: int, seed: tuple[int, ...]) -> None:
        self._source, self._question, self._seed = source, question, seed
        self._left: dict[int, list[int]] = {}
        self.rows: dict[int, int] = {}  # the row behind each of the policy's sample numbers

    def __call__(self, launch: Launch) -> Recorded:
        """The next sample of the launch's arm."""
        if launch.prefill or launch.purpose != "answer":
            raise LacksCapability(
                "this policy begins answers for the model or asks it again, which a recording "
                "of finished answers cannot play: replay policies that draw whole samples"
            )
        arm = self._source.arm_of(launch)
        left = self._left.get(arm)
        if left is None:
            left = self._left[arm] = self._order(arm)
        if not left:
            traces = self._source.traces
            name, count = traces.arms[arm], int(traces.count[self._question, arm])
            raise LacksCapability(
                f"question {traces.questions[self._question].name!r} has {count} recorded samples "
                f"of {name}, and the policy draws more: lower its cap or record more samples"
            )
        row = self.rows[launch.sample] = left.pop()
        return self._source.recorded(row)

    def _order(self, arm: int) -> list[int]:
        rows = self._source.traces.rows(self._question, arm)
        generator = np.random.default_rng((*self._seed, self._question, arm))
        order: IntArray = rows.start + generator.permutation(rows.stop - rows.start)
        return [int(row) for row in order]


def _mode_of(launch: Launch) -> str | None:
    """The mode that a launch's think block asks for; None where it sets none."""
    if launch.thinking is None:
        return None
    return "think" if launch.thinking.enabled else "direct"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _calls(text: str) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(
            id=call.get("id") or "",
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
        )
        for call in json.loads(text)
    )
