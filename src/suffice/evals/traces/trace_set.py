"""Recorded samples in columns: what was asked, what came back, whether it was right.

A trace is one sample of one question by one *arm*: a model in a mode (answer, short, think, …).
`TraceSet` holds many in numpy columns, sorted by question, arm and sample number, so that the
samples of a question under an arm are one slice. Files: suffice.evals.traces.files, format:
docs/traces.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.completions import FinishReason, Usage
from suffice.core.errors import InputError, UnknownName
from suffice.core.requests import Message

if TYPE_CHECKING:
    from suffice.evals.traces.rows import Rows

HalfArray = NDArray[np.float16]

MISSING = -1  # code of an absent answer in `TraceSet.answer`
ANSWER_MODE = "answer"  # the mode of a model that is asked as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked; the same for every sample that was drawn of it.

    `name` is unique within its dataset. `messages_json` is an OpenAI message list; what a mode adds
    to it (a thinking switch, a suffix) is in the set's description of the mode.
    """

    dataset: str
    name: str
    messages_json: str
    reference: str | None = None  # the right answer, in the checker's spelling
    answer_format: str | None = None  # the extractor whose answers may be compared
    category: str | None = None  # subject, level: whatever the dataset groups by
    tools_json: str | None = None  # an OpenAI tool list

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it among all sets."""
        return self.dataset, self.name

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation that asks it."""
        return messages_from_json(self.messages_json)

    @property
    def prompt(self) -> str:
        """Text of the last user turn, of the whole conversation if there is none."""
        turns = self.messages
        users = [turn.text for turn in turns if turn.role == "user"]
        return users[-1] if users else "\n".join(turn.text for turn in turns)


def question_of(  # noqa: PLR0917 - the columns of a row
    dataset: str,
    name: str,
    messages: str | None,
    reference: str | None,
    answer_format: str | None,
    category: str | None,
    tools: str | None,
) -> Question:
    """A question from the cells of a trace file, in the order of its columns."""
    return Question(
        dataset=dataset,
        name=name,
        messages_json=messages or "",
        reference=reference,
        answer_format=answer_format,
        category=category,
        tools_json=tools,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One recorded sample. Per-token sequences are empty where the engine gave none.

    `confidences` are nats, minus the mean logprob of the top alternatives (2508.15260 eq. 2), NaN
    where a token had none; `logprobs` are those of the drawn tokens.
    """

    question: Question
    model: str
    mode: str = ANSWER_MODE
    sample: int
    text: str = ""
    reasoning_text: str | None = None
    tool_calls_json: str | None = None
    finish_reason: FinishReason = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    answer: str | None = None
    correct: bool | None = None
    score: float | None = None  # of a verifier or reward function
    tokens: tuple[str, ...] = ()
    logprobs: HalfArray = field(default_factory=lambda: np.zeros(0, np.float16))
    confidences: HalfArray = field(default_factory=lambda: np.zeros(0, np.float16))
    ttft_s: float | None = None
    e2e_s: float | None = None
    sampling_json: str | None = None

    @property
    def key(self) -> TraceKey:
        """What identifies it within a set."""
        return TraceKey(
            self.question.dataset, self.question.name, self.model, self.mode, self.sample
        )

    @property
    def usage(self) -> Usage:
        """Tokens consumed; 0 where the recording does not say."""
        return Usage(
            prompt_tokens=self.prompt_tokens or 0,
            completion_tokens=self.completion_tokens or 0,
            reasoning_tokens=self.reasoning_tokens,
        )


class TraceKey(NamedTuple):
    """Dataset, question, model, mode and sample number: at most one trace has them."""

    dataset: str
    question: str
    model: str
    mode: str
    sample: int


class Arm(NamedTuple):
    """A model in a mode."""

    model: str
    mode: str

    def __str__(self) -> str:
        return self.model if self.mode == ANSWER_MODE else f"{self.model}/{self.mode}"


class Ragged:
    """One sequence per row: row i is values[offsets[i]:offsets[i + 1]].

    Values may stay where they are until they are wanted: they are given as a function then.
    """

    __slots__ = ("_values", "offsets")

    def __init__(self, values: HalfArray | Callable[[], HalfArray], offsets: IntArray) -> None:
        self._values = values
        self.offsets = offsets

    @property
    def values(self) -> HalfArray:
        """All sequences, end to end."""
        if callable(self._values):
            self._values = self._values()
        return self._values

    def row(self, index: int) -> Any:
        """The sequence of row `index`."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> IntArray:
        """Entries per row."""
        return np.diff(self.offsets)


class TraceSet:
    """Recorded samples as columns, one row per sample, sorted by question, arm, sample number.

    Columns of length n: `question`, `arm` (codes into `questions` and `arms`), `sample`, `answer`
    (code into `answers`, MISSING without one), `correct`, `score`, `prompt_tokens`,
    `completion_tokens`, `reasoning_tokens`, `ttft_s`, `e2e_s` (float, NaN where unknown).
    `start[q, a]` and `count[q, a]` give the rows of question q under arm a.
    """

    __slots__ = (
        "_rows",
        "answer",
        "answers",
        "arm",
        "arms",
        "completion_tokens",
        "confidences",
        "correct",
        "count",
        "digest",
        "e2e_s",
        "information",
        "logprobs",
        "prompt_tokens",
        "question",
        "questions",
        "reasoning_tokens",
        "sample",
        "score",
        "start",
        "ttft_s",
    )

    def __init__(
        self,
        rows: Rows,
        *,
        questions: Sequence[Question],
        arms: Sequence[Arm],
        question: IntArray,
        arm: IntArray,
        columns: dict[str, FloatArray],
        sample: IntArray,
        answers: Sequence[str],
        answer: IntArray,
        logprobs: Ragged,
        confidences: Ragged,
        information: Any,
        digest: str,
    ) -> None:
        """Rows must already be in order; `suffice.evals.traces.files` makes sure of it."""
        self._rows = rows
        self.questions = tuple(questions)
        self.arms = tuple(arms)
        self.question, self.arm, self.sample = question, arm, sample
        self.answers, self.answer = tuple(answers), answer
        self.correct, self.score = columns["correct"], columns["score"]
        self.prompt_tokens = columns["prompt_tokens"]
        self.completion_tokens = columns["completion_tokens"]
        self.reasoning_tokens = columns["reasoning_tokens"]
        self.ttft_s, self.e2e_s = columns["ttft_s"], columns["e2e_s"]
        self.logprobs, self.confidences = logprobs, confidences
        self.information = information  # TraceInformation of the file, of the first among several
        self.digest = digest  # SHA-256 over the content, whatever the grouping into files
        shape = (len(self.questions), len(self.arms))
        cell = question * shape[1] + arm
        counts = np.bincount(cell, minlength=shape[0] * shape[1])
        self.count: IntArray = counts.reshape(shape).astype(np.int64)
        self.start: IntArray = (np.cumsum(counts) - counts).reshape(shape).astype(np.int64)

    def __len__(self) -> int:
        return len(self.question)

    def __iter__(self) -> Iterator[Trace]:
        return (self.trace(row) for row in range(len(self)))

    @property
    def models(self) -> tuple[str, ...]:
        """Models, by first appearance among the arms."""
        return tuple(dict.fromkeys(arm.model for arm in self.arms))

    @property
    def modes(self) -> tuple[str, ...]:
        """Modes, by first appearance among the arms."""
        return tuple(dict.fromkeys(arm.mode for arm in self.arms))

    @property
    def datasets(self) -> tuple[str, ...]:
        """Datasets, by first appearance among the questions."""
        return tuple(dict.fromkeys(question.dataset for question in self.questions))

    def arm_index(self, model: str, mode: str | None = None) -> int:
        """Code of an arm; the mode may be left out where the model has only one."""
        found = [
            index
            for index, arm in enumerate(self.arms)
            if arm.model == model and mode in (None, arm.mode)
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            known = [str(arm) for arm in self.arms]
            wanted = model if mode is None else f"{model}/{mode}"
            raise UnknownName.of("model", wanted, known, f"(recorded: {', '.join(known)})")
        modes = ", ".join(self.arms[index].mode for index in found)
        raise InputError(f"model {model!r} was recorded in several modes: name one of {modes}")

    def rows(self, question: int, arm: int) -> slice:
        """Rows of a question under an arm, by sample number; empty if nothing was recorded."""
        start = int(self.start[question, arm])
        return slice(start, start + int(self.count[question, arm]))

    def answer_of(self, row: int) -> str | None:
        """The extracted answer of a row."""
        code = int(self.answer[row])
        return None if code == MISSING else self.answers[code]

    def text_of(self, row: int) -> str:
        """The sample's text."""
        return str(self._rows.column("text")[row].as_py() or "")

    def column(self, name: str) -> Any:
        """A column as the file stores it (an Arrow array), in this set's row order."""
        return self._rows.column(name)

    def table(self, rows: IntArray | None = None) -> Any:
        """All rows, or some, as an Arrow table of the file's schema."""
        return self._rows.table(rows)

    def trace(self, row: int) -> Trace:
        """One row as a record."""
        raw = {
            name: self._rows.column(name)[row].as_py()
            for name in ("text", "reasoning_text", "tool_calls", "finish_reason", "sampling")
        }
        arm = self.arms[self.arm[row]]
        return Trace(
            question=self.questions[self.question[row]],
            model=arm.model,
            mode=arm.mode,
            sample=int(self.sample[row]),
            text=raw["text"] or "",
            reasoning_text=raw["reasoning_text"],
            tool_calls_json=raw["tool_calls"],
            finish_reason=raw["finish_reason"],
            prompt_tokens=_integer(self.prompt_tokens[row]),
            completion_tokens=_integer(self.completion_tokens[row]),
            reasoning_tokens=_integer(self.reasoning_tokens[row]),
            answer=self.answer_of(row),
            correct=None if np.isnan(self.correct[row]) else bool(self.correct[row]),
            score=_number(self.score[row]),
            tokens=tuple(self._rows.column("tokens")[row].as_py() or ()),
            logprobs=self.logprobs.row(row),
            confidences=self.confidences.row(row),
            ttft_s=_number(self.ttft_s[row]),
            e2e_s=_number(self.e2e_s[row]),
            sampling_json=raw["sampling"],
        )

    def complete_questions(self, arms: Iterable[int], least: int = 1) -> IntArray:
        """Questions with at least `least` samples under each of `arms`."""
        chosen = self.count[:, list(arms)] >= least
        return np.flatnonzero(chosen.all(axis=1)).astype(np.int64)


def messages_json(*texts: str, system: str | None = None) -> str:
    """JSON of a conversation of user turns after an optional system turn."""
    turns = [] if system is None else [{"role": "system", "content": system}]
    turns += [{"role": "user", "content": text} for text in texts]
    return json.dumps(turns, ensure_ascii=False)


def messages_from_json(text: str) -> tuple[Message, ...]:
    """The conversation behind a JSON list of OpenAI messages with textual content."""
    try:
        turns = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"messages are not JSON: {error.msg}") from None
    if not isinstance(turns, list) or not turns:
        raise InputError("messages must be a list of at least one turn")
    return tuple(_message(turn) for turn in turns)


def _message(turn: Any) -> Message:
    roles = ("system", "developer", "user", "assistant", "tool")
    if not isinstance(turn, dict) or turn.get("role") not in roles:
        raise InputError(f"a turn needs a role among {', '.join(roles)}, got {str(turn)[:80]!r}")
    content = turn.get("content")
    if content is not None and not isinstance(content, str):
        raise InputError("traces hold textual turns only: the content of a turn must be text")
    whole = None if turn.keys() <= {"role", "content"} else json.dumps(turn)
    return Message(role=turn["role"], content=content, json=whole)


def _integer(value: float) -> int | None:
    return None if np.isnan(value) else int(value)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
