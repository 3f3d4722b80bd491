"""Votes on recorded answers: where they hurt, when they saturate, what agreement is worth.

    python benchmarks/evidence/votes.py --out votes.json      # half a minute

stepwise    SmolLM2-135M, 330 sums, stories and countings, 16 samples each
two-arms    a model of 104,688 weights on puzzles, 40 samples each
gsm, …      greedy answers of 40 public models a question, taken as samples of one (they scatter
            more than one model's)

`early` is Adaptive-Consistency at .95 against the full vote of 40, as published and with suffice's
default of giving up after 16 samples that all differ.

A vote of k is the mean over random orders of the recorded samples; the first of equals wins.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.files import write_json
from suffice.evals.traces.files import read_traces
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.sampling_state import SCATTER
from suffice.recipes.calibrate.stopping_times import count_votes

sys.path.insert(0, str(Path(__file__).parents[1]))
from certify.recorded import as_pool, zeroeval
from evidence.intervals import mean, of_columns, share

ORDERS, SEED = 30, 0
POOLS = ("gsm", "crux", "math-l5")


class Samples:
    """Answers (codes) and verdicts of k samples of each question, one row a question."""

    def __init__(self, traces: TraceSet, arm: int, samples: int, keep: str = "") -> None:
        chosen = [
            question
            for question in traces.complete_questions([arm], samples).tolist()
            if keep in (traces.questions[question].category or "") or not keep
        ]
        rows = [traces.rows(question, arm) for question in chosen]
        self.answers = np.stack([traces.answer[each][:samples] for each in rows])
        self.right = np.stack([traces.correct[each][:samples] == 1.0 for each in rows])

    def vote(self, k: int, seed: int = SEED) -> FloatArray:
        """Chance that a vote of k is right, one value a question."""
        n, most = self.answers.shape
        found = np.zeros(n)
        generator = np.random.default_rng(seed)
        for _ in range(ORDERS):
            order = generator.permutation(most)[:k]
            for question in range(n):
                found[question] += _winner_right(
                    self.answers[question][order], self.right[question][order]
                )
        return found / ORDERS

    @property
    def single(self) -> FloatArray:
        """Chance that one sample is right."""
        return self.right.mean(axis=1)


def _winner_right(answers: Any, right: Any) -> bool:
    (winner, _), *_ = Counter(answers.tolist()).most_common(1)  # the first of equals
    return bool(right[int(np.argmax(answers == winner))])


def curve(samples: Samples, sizes: tuple[int, ...]) -> dict[str, Any]:
    return {str(k): mean(samples.vote(k)) for k in sizes}


def of_small_model(samples: Samples) -> dict[str, Any]:
    """Where a vote of 15 of 16 lowers the chance of a right answer, and what agreement is worth."""
    single, vote = samples.single, samples.vote(15)
    top = np.array([Counter(row.tolist()).most_common(1)[0][1] for row in samples.answers])
    sure = top >= 12
    right = np.array(
        [_winner_right(a, r) for a, r in zip(samples.answers, samples.right, strict=True)]
    )
    solvable = single > 0
    return {
        "single": mean(single),
        "vote": mean(vote),
        "gain": mean(vote - single),
        "oracle_gain": mean(samples.right.any(axis=1) - single),
        "lowered": share(int((vote < single).sum()), len(vote)),
        "lowered_of_solvable": share(int((vote < single)[solvable].sum()), int(solvable.sum())),
        "right_where_12_of_16_agree": share(int(right[sure].sum()), int(sure.sum())),
        "right_elsewhere": share(int(right[~sure].sum()), int((~sure).sum())),
    }


def of_pool(samples: Samples, most: int) -> dict[str, Any]:
    """How a vote grows: with 42 % more samples, and from 24 on."""
    votes = {k: samples.vote(k) for k in (1, 7, 10, 24, most)}
    return {
        "vote": {str(k): mean(each) for k, each in votes.items()},
        "seven_to_ten": mean(votes[10] - votes[7]),
        "after_24": mean(votes[most] - votes[24]),
        "errors_left": of_columns(lambda m: (1 - m[1]) / (1 - m[0]), votes[7], votes[10]),
    }


def early(traces: TraceSet) -> dict[str, Any]:
    """What a vote saves that stops when its majority is stable with probability .95."""
    n, most = len(traces.questions), 40
    votes = count_votes(traces, "pool", range(n), most)
    full = votes.right[:, -1].astype(float)
    found = {}
    for name, scatter in (("published", None), ("giving up", SCATTER)):
        stop = votes.stop(0.95, None, most, scatter)
        found[name] = {
            "saved": mean(1.0 - stop / most),
            "lost": mean(full - votes.right_after(stop)),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=Path("data/traces"))
    parser.add_argument("--recorded", type=Path, default=Path("data/recorded/zeroeval_matrix"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    stepwise = read_traces(given.traces / "stepwise.parquet")
    found: dict[str, Any] = {"stepwise": of_small_model(Samples(stepwise, 0, 16))}
    arms = read_traces(given.traces / "two-arms.parquet")
    found["two-arms"] = of_pool(Samples(arms, arms.arm_index("small-think"), 40), 40)
    found["two-arms_large"] = mean(Samples(arms, arms.arm_index("large-think"), 2).single)
    for task in POOLS:
        pool = as_pool(*zeroeval(given.recorded, [task]), 40, SEED)
        found[task] = of_pool(Samples(pool, 0, 40), 40) | {"early": early(pool)}
    write_json(given.out, found)


if __name__ == "__main__":
    main()
