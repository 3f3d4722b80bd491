"""From the rows of trace files to one sorted, coded set; contradicting rows are errors.

Rows come in batches. What is kept of each is numbers: codes of its names, its counts and verdict;
every distinct text of a question or an answer is kept once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.evals.traces.columns import (
    FLOAT_COLUMNS,
    KEY_COLUMNS,
    QUESTION_COLUMNS,
    TraceInformation,
    arrow,
    content_digest,
)
from suffice.evals.traces.rows import Rows, TableRows
from suffice.evals.traces.trace_set import MISSING, Arm, Question, Ragged, TraceSet, question_of

LISTS = ("logprobs", "confidences")
# Columns that a set needs at once; the others are read when they are wanted.
NEEDED = (*KEY_COLUMNS, *QUESTION_COLUMNS, "answer", *FLOAT_COLUMNS, *LISTS)
_CODED = (*KEY_COLUMNS[:4], *QUESTION_COLUMNS, "answer")
_NEW = -2  # of a question whose columns were not seen yet


class _Coder:
    """The distinct texts of a column and their codes, in order of appearance."""

    def __init__(self) -> None:
        self.codes: dict[str | None, int] = {None: MISSING}
        self.names: list[str] = []

    def take(self, column: Any) -> IntArray:
        """Codes of a batch's column; MISSING where null."""
        coded = column.combine_chunks().dictionary_encode()
        own = np.array([self._code(name) for name in coded.dictionary.to_pylist()], dtype=np.int64)
        indices = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        found: IntArray = np.append(own, MISSING)[indices]
        return found

    def _code(self, name: str) -> int:
        found = self.codes.get(name)
        if found is None:
            found = self.codes[name] = len(self.names)
            self.names.append(name)
        return found


class _Batch(NamedTuple):
    question: IntArray
    arm: IntArray
    sample: IntArray
    answer: IntArray
    numbers: FloatArray  # by FLOAT_COLUMNS
    lengths: IntArray  # by LISTS


class SetBuilder:
    """Takes batches of rows in any order and makes a set of them; `shown` names their source."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._coders = {name: _Coder() for name in _CODED}
        self._questions: dict[tuple[int, int], int] = {}
        self._arms: dict[tuple[int, int], int] = {}
        self._asked = np.full((0, len(QUESTION_COLUMNS)), _NEW, dtype=np.int64)
        self._batches: list[_Batch] = []

    def add(self, table: Any) -> None:
        """Take in a batch; raises InputError if it says two things of one question."""
        if not len(table):
            return
        codes = {name: coder.take(table.column(name)) for name, coder in self._coders.items()}
        question = _paired(self._questions, codes["dataset"], codes["question"])
        self._check(question, np.stack([codes[name] for name in QUESTION_COLUMNS], axis=1))
        self._batches.append(
            _Batch(
                question=question,
                arm=_paired(self._arms, codes["model"], codes["mode"]),
                sample=table.column("sample").to_numpy().astype(np.int32),
                answer=codes["answer"].astype(np.int32),
                numbers=np.stack([_floats(table.column(name)) for name in FLOAT_COLUMNS]),
                lengths=np.stack([_lengths(table.column(name)) for name in LISTS]),
            )
        )

    def build(
        self,
        rows: Callable[[IntArray], Rows],
        information: TraceInformation,
        digest: Callable[[], str],
    ) -> TraceSet:
        """The set; `rows` gives the rows themselves in an order."""
        if not self._batches:
            raise InputError(f"{self._shown}: there is not one trace in it")
        question = _joined([batch.question for batch in self._batches])
        arm = _joined([batch.arm for batch in self._batches])
        sample = _joined([batch.sample for batch in self._batches])
        order = np.lexsort((sample, arm, question)).astype(np.int64)
        question, arm, sample = question[order], arm[order], sample[order]
        self._check_unique(question, arm, sample)
        answer = _joined([batch.answer for batch in self._batches])[order]
        columns = {
            name: np.concatenate([batch.numbers[at] for batch in self._batches])[order]
            for at, name in enumerate(FLOAT_COLUMNS)
        }
        offsets = [
            np.concatenate(
                ([0], np.cumsum(np.concatenate([b.lengths[at] for b in self._batches])[order]))
            ).astype(np.int64)
            for at in range(len(LISTS))
        ]
        self._batches = []
        held = rows(order)
        logprobs, confidences = (
            Ragged(_loader(held, name), offsets[at]) for at, name in enumerate(LISTS)
        )
        return TraceSet(
            held,
            questions=self._named_questions(),
            arms=self._named_arms(),
            question=question,
            arm=arm,
            columns=columns,
            sample=sample,
            answers=self._coders["answer"].names,
            answer=answer,
            logprobs=logprobs,
            confidences=confidences,
            information=information,
            digest=digest(),
        )

    def _check(self, question: IntArray, codes: IntArray) -> None:
        """Rows of one question agree on every column that says what was asked."""
        lacking = len(self._questions) - len(self._asked)
        if lacking:
            more = np.full((lacking, codes.shape[1]), _NEW, dtype=np.int64)
            self._asked = np.concatenate((self._asked, more))
        fresh = self._asked[question, 0] == _NEW
        first, at = np.unique(question[fresh], return_index=True)
        self._asked[first] = codes[fresh][at]
        differs = codes != self._asked[question]
        if differs.any():
            row, column = (int(index[0]) for index in np.nonzero(differs))
            dataset, asks = self._name_of(int(question[row]))
            raise InputError(
                f"{self._shown}: question {asks!r} of dataset {dataset!r} has two different values "
                f"of {QUESTION_COLUMNS[column]}: sets that differ need different dataset or "
                "question names"
            )

    def _check_unique(self, question: IntArray, arm: IntArray, sample: IntArray) -> None:
        same = (np.diff(question) == 0) & (np.diff(arm) == 0) & (np.diff(sample) == 0)
        if same.any():
            row = int(np.flatnonzero(same)[0])
            dataset, asks = self._name_of(int(question[row]))
            named = self._named_arms()[int(arm[row])]
            raise InputError(
                f"{self._shown}: dataset {dataset!r}, question {asks!r}, model {named.model!r}, "
                f"mode {named.mode!r} has sample {int(sample[row])} twice"
            )

    def _name_of(self, question: int) -> tuple[str, str]:
        dataset, asks = list(self._questions)[question]
        return self._coders["dataset"].names[dataset], self._coders["question"].names[asks]

    def _named_questions(self) -> list[Question]:
        coders = [self._coders[name].names for name in QUESTION_COLUMNS]
        found = []
        for (dataset, asks), codes in zip(self._questions, self._asked.tolist(), strict=True):
            told = [
                None if code == MISSING else names[code]
                for names, code in zip(coders, codes, strict=True)
            ]
            names = self._coders["dataset"].names[dataset], self._coders["question"].names[asks]
            found.append(question_of(*names, *told))
        return found

    def _named_arms(self) -> list[Arm]:
        models, modes = self._coders["model"].names, self._coders["mode"].names
        return [Arm(models[model], modes[mode]) for model, mode in self._arms]


def build_set(table: Any, information: TraceInformation, shown: str) -> TraceSet:
    """A set of a table in memory, its rows in any order; `shown` names their source in errors."""
    builder = SetBuilder(shown)
    builder.add(table)
    return builder.build(
        lambda order: TableRows(table.take(arrow().array(order)).combine_chunks()),
        information,
        lambda: content_digest(table),
    )


def _paired(known: dict[tuple[int, int], int], first: IntArray, second: IntArray) -> IntArray:
    """Codes of pairs, by first appearance."""
    width = int(second.max()) + 1
    cells, at, codes = np.unique(first * width + second, return_index=True, return_inverse=True)
    own = np.empty(len(cells), dtype=np.int64)
    for cell in np.argsort(at, kind="stable").tolist():
        pair = (int(cells[cell]) // width, int(cells[cell]) % width)
        own[cell] = known.setdefault(pair, len(known))
    found: IntArray = own[codes.reshape(-1)]
    return found


def _joined(pieces: list[IntArray]) -> IntArray:
    return np.concatenate(pieces).astype(np.int64)


def _floats(column: Any) -> FloatArray:
    values = column.cast("float64").fill_null(float("nan"))
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _lengths(column: Any) -> IntArray:
    array = column.combine_chunks()
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, dtype=np.int32)


def _loader(rows: Rows, name: str) -> Callable[[], Any]:
    def load() -> Any:
        column = rows.column(name)
        array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        if hasattr(array, "chunk"):
            array = array.chunk(0)
        return array.flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)

    return load
