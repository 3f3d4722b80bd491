"""Which modality for which question: the optimum on recorded samples, and routers' regret.

    python benchmarks/evidence/modalities.py --out modalities.json

696 puzzles of three kinds and six lengths, one model of 102,720 weights in four modalities: an
answer at once, its own untrained choice, a thought, a vote of 8 thoughts. Modality k of question q
is worth v = p(right) - price * tokens; its optimum is argmax over k, which extends "think if
p_t (1 - g / 2) > p_s" from two modalities to any number.

The optimum of a question needs its chances, and samples give them with noise. So it is bracketed:
`chosen_on_half` takes the best modality by one half of the samples and is judged on the other (at
most the optimum in expectation, and worse than a fixed modality where noise decides);
`chosen_on_itself` is judged on the half that chose (at least the optimum). A router's regret lies
between its distances to the two.

fixed       the best single modality for all
prompt      the best modality of each kind and length, 5-fold: what the prompt's words could tell
gate        one short answer is drawn first; by its token probability, in ten bins, the best of the
            modalities for the rest, 5-fold; the short answer is paid for
agreement   a short answer and a thought; if they agree they stand, else a vote of 8
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.files import write_json
from suffice.evals.traces.files import read_traces
from suffice.evals.traces.trace_set import TraceSet

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean
from evidence.votes import Samples

PRICES = (0.0005, 0.002, 0.01)  # of a token, in right answers
VOTE, FOLDS, BINS, SEED = 8, 5, 10, 0
SHORT, CHOICE, THINK = "small-short", "small", "small-think"


class Half:
    """Chances and tokens of each modality on one half of every question's samples."""

    def __init__(self, traces: TraceSet, take: slice) -> None:
        self.samples = {
            name: Samples(traces, traces.arm_index(name), most)
            for name, most in ((SHORT, 24), (CHOICE, 8), (THINK, 24))
        }
        for each in self.samples.values():
            half = slice(take.start, None, 2)
            each.answers, each.right = each.answers[:, half], each.right[:, half]
        questions = range(len(traces.questions))
        tokens = {
            name: np.array([
                float(traces.completion_tokens[traces.rows(q, traces.arm_index(name))].mean())
                for q in questions
            ])
            for name in self.samples
        }  # fmt: skip
        chances = [self.samples[name].single for name in (SHORT, CHOICE, THINK)]
        self.chance = np.stack([*chances, self.samples[THINK].vote(VOTE)], axis=1)
        self.tokens = np.stack(
            [tokens[SHORT], tokens[CHOICE], tokens[THINK], VOTE * tokens[THINK]], axis=1
        )

    def value(self, price: float) -> FloatArray:
        """p - price * tokens, one row a question, one column a modality."""
        return self.chance - price * self.tokens


def by_group(groups: IntArray, known: FloatArray, folds: IntArray) -> IntArray:
    """The best modality of each question's group, learned on the other folds."""
    chosen = np.zeros(len(groups), dtype=np.int64)
    for fold in range(FOLDS):
        learn = folds != fold
        default = int(known[learn].mean(axis=0).argmax())
        for group in np.unique(groups):
            rows = learn & (groups == group)
            best = int(known[rows].mean(axis=0).argmax()) if rows.any() else default
            chosen[(folds == fold) & (groups == group)] = best
    return chosen


def first_short(traces: TraceSet) -> FloatArray:
    """Probability of the first short answer of each question."""
    arm = traces.arm_index(SHORT)
    return np.array([
        float(np.exp(np.sum(traces.logprobs.row(traces.rows(q, arm).start), dtype=float)))
        for q in range(len(traces.questions))
    ])  # fmt: skip


def agreement(judge: Half, price: float) -> FloatArray:
    """A short answer and a thought that agree stand, else a vote of 8, over all pairs of a half."""
    short, think = judge.samples[SHORT], judge.samples[THINK]
    same = short.answers[:, :, None] == think.answers[:, None, :]
    same &= short.answers[:, :, None] >= 0
    right = (same & think.right[:, None, :]).mean(axis=(1, 2))
    apart = 1.0 - same.mean(axis=(1, 2))
    tokens = judge.tokens[:, 0] + judge.tokens[:, 2] + apart * judge.tokens[:, 3]
    found: FloatArray = right + apart * judge.chance[:, 3] - price * tokens
    return found


def at_price(traces: TraceSet, price: float) -> dict[str, Any]:
    """Values and regrets of all routers at one price."""
    know, judge = Half(traces, slice(0, None)), Half(traces, slice(1, None))
    known, worth = know.value(price), judge.value(price)
    n = len(worth)
    every = np.arange(n)
    folds = np.random.default_rng(SEED).permutation(n) % FOLDS
    kinds = np.unique([each.category or "" for each in traces.questions], return_inverse=True)[1]
    bins = np.minimum((first_short(traces) * BINS).astype(int), BINS - 1)
    # Behind the gate a short answer is there already; every other modality is paid on top.
    paid = price * judge.tokens[:, [0]]
    gated = [each - paid * (np.arange(4) > 0) for each in (known, worth)]
    values = {
        "chosen_on_half": worth[every, known.argmax(axis=1)],
        "chosen_on_itself": worth.max(axis=1),
        "fixed": worth[:, int(known.mean(axis=0).argmax())],
        "prompt": worth[every, by_group(kinds, known, folds)],
        "gate": gated[1][every, by_group(bins, gated[0], folds)],
        "agreement": agreement(judge, price),
    }
    return {
        "price": price,
        "value": {name: mean(each) for name, each in values.items()},
        "regret_at_most": {
            name: mean(values["chosen_on_itself"] - values[name])
            for name in ("fixed", "prompt", "gate", "agreement")
        },
        "gate_over_prompt": mean(values["gate"] - values["prompt"]),
        "agreement_over_fixed": mean(values["agreement"] - values["fixed"]),
        "prompt_over_fixed": mean(values["prompt"] - values["fixed"]),
        "chosen_by_half": np.bincount(known.argmax(axis=1), minlength=4).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=Path("data/traces/efforts.parquet"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    traces = read_traces(given.traces)
    write_json(given.out, {"prices": [at_price(traces, price) for price in PRICES]})


if __name__ == "__main__":
    main()
