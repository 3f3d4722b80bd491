"""From the rows of trace files to one sorted, coded set; contradicting rows are errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from suffice.core.errors import InputError
from suffice.evals.trace_table import (
    FLOAT_COLUMNS,
    KEY_COLUMNS,
    QUESTION_COLUMNS,
    TraceInformation,
    arrow,
    content_digest,
)
from suffice.evals.traces import MISSING, Arm, FloatArray, IntArray, Question, Ragged, TraceSet


class Coded(NamedTuple):
    """A column as codes into its distinct values, in order of appearance; MISSING where null."""

    names: tuple[str, ...]
    codes: IntArray


def build_set(
    table: Any, information: TraceInformation, shown: str, digest: str | None = None
) -> TraceSet:
    """A set from rows in any order; `shown` names their source in errors."""
    pa = arrow()
    if not len(table):
        raise InputError(f"{shown}: there is not one trace in it")
    columns = {name: _coded(table.column(name)) for name in (*KEY_COLUMNS[:4], "answer")}
    question, asked = _pairs(columns["dataset"], columns["question"])
    arm, armed = _pairs(columns["model"], columns["mode"])
    _check_questions(table, question, asked, shown)
    sample = table.column("sample").to_numpy().astype(np.int64)
    order = np.lexsort((sample, arm, question))
    _check_unique(table, order, (question[order], arm[order], sample[order]), shown)
    digest = digest or content_digest(table)
    questions = _questions(table.take(pa.array(asked)))
    arms = [
        Arm(columns["model"].names[m], columns["mode"].names[n])
        for m, n in zip(columns["model"].codes[armed], columns["mode"].codes[armed], strict=True)
    ]
    table = table.take(pa.array(order)).combine_chunks()
    return TraceSet(
        table,
        questions=questions,
        arms=arms,
        question=question[order],
        arm=arm[order],
        columns={name: _floats(table.column(name)) for name in FLOAT_COLUMNS},
        sample=sample[order],
        answers=columns["answer"].names,
        answer=columns["answer"].codes[order],
        logprobs=_ragged(table.column("logprobs")),
        confidences=_ragged(table.column("confidences")),
        information=information,
        digest=digest,
    )


def _coded(column: Any) -> Coded:
    whole = arrow().chunked_array(column.chunks, column.type).combine_chunks()
    coded = whole.dictionary_encode()
    codes = coded.indices.fill_null(MISSING).to_numpy(zero_copy_only=False).astype(np.int64)
    return Coded(tuple(coded.dictionary.to_pylist()), codes)


def _pairs(first: Coded, second: Coded) -> tuple[IntArray, IntArray]:
    """Codes of the pairs, by first appearance, and the first row of each."""
    cell = first.codes * len(second.names) + second.codes
    _, rows, codes = np.unique(cell, return_index=True, return_inverse=True)
    by_appearance = np.argsort(rows, kind="stable")
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(rows))
    return rank[codes.reshape(-1)], rows[by_appearance]


def _check_questions(table: Any, question: IntArray, asked: IntArray, shown: str) -> None:
    for name in QUESTION_COLUMNS:
        codes = _coded(table.column(name)).codes
        differs = codes != codes[asked][question]
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            dataset, asks = (table.column(key)[row].as_py() for key in KEY_COLUMNS[:2])
            raise InputError(
                f"{shown}: question {asks!r} of dataset {dataset!r} has two different values of "
                f"{name}: sets that differ need different dataset or question names"
            )


def _check_unique(
    table: Any, order: IntArray, keys: tuple[IntArray, IntArray, IntArray], shown: str
) -> None:
    same = np.ones(len(order) - 1, dtype=np.bool_)
    for key in keys:
        same &= np.diff(key) == 0
    if same.any():
        row = int(order[int(np.flatnonzero(same)[0])])
        named = [table.column(name)[row].as_py() for name in KEY_COLUMNS]
        raise InputError(
            f"{shown}: dataset {named[0]!r}, question {named[1]!r}, model {named[2]!r}, mode "
            f"{named[3]!r} has sample {named[4]} twice"
        )


def _questions(rows: Any) -> list[Question]:
    names = ("dataset", "question", *QUESTION_COLUMNS)
    columns = [rows.column(name).to_pylist() for name in names]
    return [
        Question(
            dataset=dataset,
            name=name,
            messages_json=messages,
            reference=reference,
            answer_format=answer_format,
            category=category,
            tools_json=tools,
        )
        for dataset, name, messages, reference, answer_format, category, tools in zip(
            *columns, strict=True
        )
    ]


def _floats(column: Any) -> FloatArray:
    values = column.cast("float64").fill_null(float("nan"))
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _ragged(column: Any) -> Ragged:
    array = column.combine_chunks()
    if isinstance(array, arrow().ChunkedArray):
        array = array.chunk(0)
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths.astype(np.int64))))
    values = array.flatten().to_numpy(zero_copy_only=False)
    return Ragged(values.astype(np.float16), offsets)
