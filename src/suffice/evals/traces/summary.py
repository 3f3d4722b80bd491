"""What is in a trace set, by dataset and arm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from suffice.core.arrays import IntArray
from suffice.evals.statistics.bootstrap import clustered_mean, of_share
from suffice.evals.traces.trace_set import MISSING, TraceSet


class ArmSummary(NamedTuple):
    """One dataset under one arm; None where nothing is known."""

    dataset: str
    arm: str
    questions: int
    samples: int
    judged: int  # samples known to be right or wrong
    accuracy: float | None  # mean over questions of the share of right samples
    low: float | None  # 95 % interval over questions
    high: float | None
    answered: float  # share of samples with an answer
    tokens: float | None  # mean completion tokens
    with_confidence: float  # share of samples with token confidences


def summarise(traces: TraceSet, *, seed: int = 0) -> tuple[ArmSummary, ...]:
    """Summaries by dataset and arm, in the order of the set."""
    datasets = {name: number for number, name in enumerate(traces.datasets)}
    dataset = np.array([datasets[question.dataset] for question in traces.questions])
    found = []
    for name, number in datasets.items():
        for arm in range(len(traces.arms)):
            here = (dataset[traces.question] == number) & (traces.arm == arm)
            rows = np.flatnonzero(here).astype(np.int64)
            if rows.size:
                found.append(_summary(traces, rows, name, str(traces.arms[arm]), seed))
    return tuple(found)


def _summary(traces: TraceSet, rows: IntArray, dataset: str, arm: str, seed: int) -> ArmSummary:
    correct = traces.correct[rows]
    judged = ~np.isnan(correct)
    questions = np.unique(traces.question[rows], return_inverse=True)[1].reshape(-1)
    accuracy = low = high = None
    if judged.any():
        sums = np.bincount(questions[judged], correct[judged])
        counts = np.bincount(questions[judged], minlength=len(sums))
        shares = sums[counts > 0] / counts[counts > 0]
        found = clustered_mean(shares, range(len(shares)), seed=seed)
        interval = of_share(found, len(shares))
        accuracy, low, high = interval.estimate, interval.low, interval.high
    tokens = traces.completion_tokens[rows]
    return ArmSummary(
        dataset=dataset,
        arm=arm,
        questions=int(questions.max()) + 1,
        samples=len(rows),
        judged=int(judged.sum()),
        accuracy=accuracy,
        low=low,
        high=high,
        answered=float((traces.answer[rows] != MISSING).mean()),
        tokens=None if np.isnan(tokens).all() else float(np.nanmean(tokens)),
        with_confidence=float((traces.confidences.lengths[rows] > 0).mean()),
    )
