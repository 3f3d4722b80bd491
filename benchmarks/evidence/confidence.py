"""Does confidence by steps tell right samples from wrong ones better than its mean over a trace?

    python benchmarks/evidence/confidence.py --out confidence.json

AUC between right and wrong samples of the same question, mean over questions that have both, whole
questions resampled: global mean, lowest group of 8 tokens, last 8 tokens, and token count.
`early`: the lowest group among the first half of a trace, which a rule could act on while the rest
is not drawn yet. `4bit`: a threshold on a short answer's first token, fitted at full precision to
98 % right answers, applied to the same weights in four bits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from suffice.core.arrays import FloatArray
from suffice.core.files import write_json
from suffice.evals.traces.files import read_traces
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.confidence_signals import trace_signal

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns, ratio

GROUP = 8
DRAWN, WANTED = 8, 0.98  # short answers a question; share right that the threshold is fitted to
SIGNALS: dict[str, Callable[[FloatArray], float]] = {
    "mean": lambda c: trace_signal(c, "mean"),
    "lowest": lambda c: trace_signal(c, "lowest", GROUP),
    "tail": lambda c: trace_signal(c, "tail", GROUP),
    "early": lambda c: trace_signal(c[: max(1, len(c) // 2)], "lowest", GROUP),
    "short": lambda c: -float(len(c)),
}


def within_questions(traces: TraceSet, arm: int) -> dict[str, Any]:
    """AUC of each signal inside questions, and what each gains over the mean, paired."""
    names = list(SIGNALS)
    areas: list[list[float]] = []
    for question in range(len(traces.questions)):
        rows = traces.rows(question, arm)
        right = traces.correct[rows] == 1.0
        if right.all() or not right.any():
            continue
        confidences = [
            np.asarray(traces.confidences.row(row), dtype=np.float64)
            for row in range(rows.start, rows.stop)
        ]
        areas.append([_area(np.array([SIGNALS[n](c) for c in confidences]), right) for n in names])
    table = np.array(areas)
    found = {name: of_columns(lambda m: m[0], table[:, place]) for place, name in enumerate(names)}
    found |= {
        f"{name}_over_mean": of_columns(lambda m: m[0] - m[1], table[:, place], table[:, 0])
        for place, name in enumerate(names)
        if name != "mean"
    }
    return found


def _area(scores: FloatArray, right: Any) -> float:
    ranks, m = rankdata(scores), int(right.sum())
    return float((ranks[right].sum() - m * (m + 1) / 2) / (m * (len(right) - m)))


def threshold_transfer(traces: TraceSet) -> dict[str, Any]:
    """Precision of "sure enough" at full precision, and at four bits with the same threshold."""
    scores, right = {}, {}
    for name in ("small-short", "small-4bit-short"):
        arm = traces.arm_index(name)
        rows = [
            range(each.start, each.start + DRAWN)
            for each in (traces.rows(q, arm) for q in range(len(traces.questions)))
        ]
        scores[name] = np.array([
            [float(np.exp(np.sum(traces.logprobs.row(row), dtype=float))) for row in each]
            for each in rows
        ])  # fmt: skip
        right[name] = np.array([traces.correct[each] == 1.0 for each in map(list, rows)])
    flat = scores["small-short"].ravel()
    order = np.argsort(-flat)
    rates = np.cumsum(right["small-short"].ravel()[order]) / np.arange(1, len(order) + 1)
    limit = float(flat[order][np.flatnonzero(rates >= WANTED)[-1]])
    found: dict[str, Any] = {"limit": limit}
    for name, word in (("small-short", "full"), ("small-4bit-short", "four_bits")):
        sure = scores[name] >= limit
        found[word] = ratio((sure & right[name]).sum(axis=1), sure.sum(axis=1))
        found[f"{word}_answered"] = mean(sure.mean(axis=1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=Path("data/traces"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    stepwise = read_traces(given.traces / "stepwise.parquet")
    arms = read_traces(given.traces / "two-arms.parquet")
    efforts = read_traces(given.traces / "efforts.parquet")
    write_json(given.out, {
        "stepwise": within_questions(stepwise, 0),
        "two-arms": within_questions(arms, arms.arm_index("small-think")),
        "4bit": threshold_transfer(efforts),
    })  # fmt: skip


if __name__ == "__main__":
    main()
