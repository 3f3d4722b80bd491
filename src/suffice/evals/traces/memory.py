"""A trace set straight from records, without Arrow: for what is drawn and used in one process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from suffice.core.arrays import IntArray
from suffice.core.errors import InputError
from suffice.evals.traces.columns import FLOAT_COLUMNS, TraceInformation
from suffice.evals.traces.trace_set import MISSING, Arm, Question, Ragged, Trace, TraceSet

T = TypeVar("T")
_TEXTS = ("text", "reasoning_text", "finish_reason", "tool_calls", "sampling", "tokens")


class _Cell:
    """A value that is read as a cell of an Arrow column is."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def as_py(self) -> Any:
        return self._value


class _Column:
    """A list with the methods by which a set reads its columns."""

    __slots__ = ("_values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __getitem__(self, row: int) -> _Cell:
        return _Cell(self._values[row])

    def to_pylist(self) -> list[Any]:
        return list(self._values)

    def take(self, rows: Sequence[int]) -> _Column:
        return _Column([self._values[row] for row in rows])


class _Columns:
    """The texts of records, by the names that a trace file gives them."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        renamed = {"tool_calls": "tool_calls_json", "sampling": "sampling_json"}
        self._columns = {
            name: _Column([getattr(trace, renamed.get(name, name)) for trace in traces])
            for name in _TEXTS
        }

    def column(self, name: str) -> _Column:
        return self._columns[name]

    def table(self, rows: IntArray | None = None) -> Any:
        raise InputError("a set of this process's records has no table: write it to a file first")


def set_of(traces: Iterable[Trace], information: TraceInformation | None = None) -> TraceSet:
    """The set of records in any order; raises InputError for none, or for one key twice.

    `table` and columns beyond texts need a file (suffice.evals.traces.files). The digest is of this
    process's records, not that of a file.
    """
    given = list(traces)
    if not given:
        raise InputError("there is not one trace to make a set of")
    questions = _codes(trace.question for trace in given)
    arms = _codes(Arm(trace.model, trace.mode) for trace in given)
    keyed = sorted(
        given, key=lambda t: (questions[t.question], arms[Arm(t.model, t.mode)], t.sample)
    )
    keys = [trace.key for trace in keyed]
    if len(set(keys)) < len(keys):
        raise InputError("two traces have the same question, model, mode and sample number")
    if len({question.key for question in questions}) < len(questions):
        raise InputError("two different questions have the same dataset and name")
    answers = _codes(trace.answer for trace in keyed if trace.answer is not None)
    return TraceSet(
        _Columns(keyed),
        questions=list(questions),
        arms=list(arms),
        question=_integers(questions[trace.question] for trace in keyed),
        arm=_integers(arms[Arm(trace.model, trace.mode)] for trace in keyed),
        columns={name: _floats(keyed, name) for name in FLOAT_COLUMNS},
        sample=_integers(trace.sample for trace in keyed),
        answers=list(answers),
        answer=_integers(
            MISSING if trace.answer is None else answers[trace.answer] for trace in keyed
        ),
        logprobs=_ragged([trace.logprobs for trace in keyed]),
        confidences=_ragged([trace.confidences for trace in keyed]),
        information=information or TraceInformation(),
        digest=_digest(keyed),
    )


def _codes(values: Iterable[T]) -> dict[T, int]:
    return {value: code for code, value in enumerate(dict.fromkeys(values))}


def _integers(values: Iterable[int]) -> IntArray:
    return np.array(list(values), dtype=np.int64)


def _floats(traces: Sequence[Trace], name: str) -> Any:
    values = [getattr(trace, name) for trace in traces]
    return np.array([np.nan if value is None else float(value) for value in values])


def _ragged(rows: Sequence[Any]) -> Ragged:
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    return Ragged(np.concatenate(rows).astype(np.float16), offsets)


def _digest(traces: Sequence[Trace]) -> str:
    whole = hashlib.sha256()
    for trace in traces:
        asked: Question = trace.question
        told = (*trace.key, asked.messages_json, trace.text, trace.reasoning_text, trace.answer)
        whole.update(repr((*told, trace.correct, trace.completion_tokens)).encode())
        whole.update(trace.logprobs.tobytes())
    return whole.hexdigest()
