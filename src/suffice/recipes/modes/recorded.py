"""When thinking pays for a served model: two arms of a recording, and rules that choose.

The server was asked by `suffice record` in each mode. A question's rights and tokens are means over
its samples in a mode; its first two short samples are the drafts; the first one's -log P is the
surprise, where log-probabilities were recorded. Every other arm (a thinking budget,
another model) is a row of the table as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, UnknownName
from suffice.evals.traces.trace_set import TraceSet
from suffice.recipes.modes.compare import Asked, Comparison, Drafts, compare


class RecordedComparison(NamedTuple):
    """`left_out` counts questions that lack a sample in some mode, or a verdict."""

    comparison: Comparison
    left_out: int


def compare_recorded(
    traces: TraceSet, *, short: str, think: str, token_price: float, seed: int = 0
) -> RecordedComparison:
    """The table of a recording whose arms `short` and `think` name: MODEL/MODE, or a mode alone."""
    low, high = _arm(traces, short), _arm(traces, think)
    if low == high:
        raise InputError(f"--short and --think both name {traces.arms[low]}: name two modes")
    more = [arm for arm in range(len(traces.arms)) if arm not in (low, high)]
    usable = [
        q for q in range(len(traces.questions)) if all(_known(traces, q, a) for a in (low, high))
    ]
    if not usable:
        raise InputError(
            f"no question has a judged sample both of {traces.arms[low]} and of "
            f"{traces.arms[high]}: record both on the same questions"
        )
    asked = [_asked(traces, q, low, high) for q in usable]
    others = {
        str(traces.arms[arm]): _means(traces, usable, arm)
        for arm in more
        if all(_known(traces, q, arm) for q in usable)
    }
    found = compare(asked, token_price=token_price, others=others, seed=seed)
    return RecordedComparison(found, len(traces.questions) - len(usable))


def _arm(traces: TraceSet, name: str) -> int:
    names = [str(arm) for arm in traces.arms]
    found = [n for n, arm in enumerate(traces.arms) if name in (str(arm), arm.mode)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownName.of("arm", name, names, f"(recorded: {', '.join(names)})")
    several = ", ".join(names[n] for n in found)
    raise InputError(f"several models were recorded in mode {name!r}: name one of {several}")


def _known(traces: TraceSet, question: int, arm: int) -> bool:
    rows = traces.rows(question, arm)
    judged, counted = traces.correct[rows], traces.completion_tokens[rows]
    return rows.stop > rows.start and not (np.isnan(judged).any() or np.isnan(counted).any())


def _means(traces: TraceSet, questions: Sequence[int], arm: int) -> tuple[FloatArray, FloatArray]:
    rows = [traces.rows(question, arm) for question in questions]
    return (
        np.array([traces.correct[row].mean() for row in rows]),
        np.array([traces.completion_tokens[row].mean() for row in rows]),
    )


def _asked(traces: TraceSet, question: int, low: int, high: int) -> Asked:
    rows, thought = traces.rows(question, low), traces.rows(question, high)
    about = traces.questions[question]
    return Asked(
        cell=(about.category or about.dataset, 1), prompt=about.prompt,
        short_right=float(traces.correct[rows].mean()),
        short_tokens=float(traces.completion_tokens[rows].mean()),
        think_right=float(traces.correct[thought].mean()),
        think_tokens=float(traces.completion_tokens[thought].mean()),
        short_surprise=_surprise(traces, rows), drafts=_drafts(traces, rows),
    )  # fmt: skip


def _surprise(traces: TraceSet, rows: slice) -> float | None:
    """-log P of the first short sample, which is what a server would see; None if not recorded."""
    told = np.asarray(traces.logprobs.row(rows.start), dtype=float)
    return None if not len(told) or np.isnan(told).any() else float(-told.sum())


def _drafts(traces: TraceSet, rows: slice) -> Drafts | None:
    if rows.stop - rows.start < 2:
        return None
    one, two = (traces.answer_of(row) for row in (rows.start, rows.start + 1))
    return Drafts(
        agree=one is not None and one == two, right=float(traces.correct[rows.start]),
        tokens=float(traces.completion_tokens[rows.start : rows.start + 2].sum()),
    )  # fmt: skip
