"""One sample of every model at every effort or length that was recorded: the budget sweep.

What a fixed setting gives is the first thing that any policy has to beat (2606.19808: a longer
first answer does what selective verification does). Its points are always on the frontier.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.completions import CostModel, Usage
from suffice.core.errors import InputError
from suffice.evals.traces.trace_set import ANSWER_MODE, Arm, TraceSet
from suffice.recipes.frontier.measure import Measured


def name_of(arm: Arm) -> str:
    """How the table names one sample of an arm: as --policy takes it where there is no mode."""
    if arm.mode == ANSWER_MODE:
        return f"single@{arm.model}"
    return f"one sample, {arm.mode}@{arm.model}"


def sweep(
    traces: TraceSet, questions: Iterable[int], *, cost_model: CostModel
) -> tuple[Measured, ...]:
    """One sample of every arm on each question, in the mean over its recorded samples."""
    chosen = np.array([int(question) for question in questions], dtype=np.int64)
    return tuple(
        _one_sample(traces, arm, number, chosen, cost_model)
        for number, arm in enumerate(traces.arms)
        if (traces.count[chosen, number] > 0).all()
    )


def _one_sample(
    traces: TraceSet, arm: Arm, number: int, questions: IntArray, cost_model: CostModel
) -> Measured:
    rows = np.flatnonzero((traces.arm == number) & np.isin(traces.question, questions))
    counted = bool(np.isfinite(traces.completion_tokens[rows]).all())
    unjudged = rows[np.isnan(traces.correct[rows])]
    if unjudged.size:
        name = traces.questions[int(traces.question[unjudged[0]])].name
        raise InputError(f"a sample of question {name!r} has no verdict (column correct)")

    def mean(values: FloatArray) -> FloatArray:
        """Mean over the samples of each question."""
        start, count = traces.start[questions, number], traces.count[questions, number]
        sums = np.concatenate(([0.0], np.cumsum(values)))
        found: FloatArray = (sums[start + count] - sums[start]) / count
        return found

    costs = np.full((len(traces), 3), np.nan)
    prompt = np.nan_to_num(traces.prompt_tokens)
    if counted:
        for row in rows.tolist():
            usage = Usage(
                prompt_tokens=int(prompt[row]),
                completion_tokens=int(traces.completion_tokens[row]),
            )
            each = cost_model(arm.model, usage)
            costs[row] = [np.nan if v is None else v for v in (each.flops, each.gpu_s, each.usd)]
    tokens = traces.completion_tokens
    outside = np.ones(len(traces), dtype=bool)
    outside[rows] = False

    def of(values: FloatArray) -> FloatArray:
        # A sum runs over all rows: what is not asked for must not be unknown.
        return mean(np.where(outside, 0.0, values))

    return Measured(
        policy=name_of(arm),
        correct=of(traces.correct),
        samples=np.ones(len(questions)),
        tokens=of(tokens) if counted else np.full(len(questions), np.nan),
        flops=of(costs[:, 0]),
        gpu_s=of(costs[:, 1]),
        usd=of(costs[:, 2]),
        all_tokens=of(tokens + prompt) if counted else np.full(len(questions), np.nan),
        models=frozenset({arm.model}),
    )
