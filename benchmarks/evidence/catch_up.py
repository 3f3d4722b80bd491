"""Can short answers catch up with one thought? Votes and perfect verifiers, by recorded samples.

    python benchmarks/evidence/catch_up.py --out catch_up.json

efforts     one model of 102,720 weights that answers at once (24 samples) or thinks (24), on 696
            held-out puzzles; `hard` are those of three steps and more
humaneval   pass@k of 16,400 recorded programs of codegen-16B, from results/certify/humaneval.json:
            the tests are the perfect verifier

Plain sampling is a vote of 24; the verifier takes any right one of k; at equal tokens k short
answers have as many tokens as one thought.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.files import read_json, write_json
from suffice.evals.statistics.ranking import pass_at_k
from suffice.evals.traces.files import read_traces
from suffice.evals.traces.trace_set import TraceSet

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean
from evidence.votes import Samples

SHORT, THINK, DRAWN = "small-short", "small-think", 24


def of_questions(traces: TraceSet, chosen: np.ndarray) -> dict[str, Any]:
    """Sampling, verifier and thought on some questions, paired."""
    short, think = (Samples(traces, traces.arm_index(name), DRAWN) for name in (SHORT, THINK))
    vote = short.vote(DRAWN)
    tokens = {
        name: np.array([
            traces.completion_tokens[traces.rows(question, traces.arm_index(name))].mean()
            for question in range(len(traces.questions))
        ])
        for name in (SHORT, THINK)
    }  # fmt: skip
    equal = max(1, round(float(tokens[THINK][chosen].mean() / tokens[SHORT][chosen].mean())))
    right = short.right.sum(axis=1)
    verified = {
        str(k): np.array([pass_at_k(int(count), DRAWN, k) for count in right])
        for k in (1, 4, equal, DRAWN)
    }
    thought = think.single
    found = {"vote": vote, "thought": thought, "vote_minus_thought": vote - thought,
             "at_equal_tokens_minus_thought": verified[str(equal)] - thought,
             "verifier_24_minus_thought": verified[str(DRAWN)] - thought}  # fmt: skip
    return {
        "samples_at_equal_tokens": equal,
        "verifier": {k: mean(each[chosen]) for k, each in verified.items()},
        **{name: mean(each[chosen]) for name, each in found.items()},
    }


def steps_of(category: str | None) -> int:
    """4 of `chain, 4 steps`."""
    found = re.search(r"(\d+) step", category or "")
    assert found, category
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=Path("data/traces/efforts.parquet"))
    parser.add_argument("--programs", type=Path, default=Path("results/certify/humaneval.json"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    traces = read_traces(given.traces)
    steps = np.array([steps_of(question.category) for question in traces.questions])
    programs = read_json(given.programs, what="result")["pass_at_k"]
    write_json(given.out, {
        "all": of_questions(traces, np.arange(len(steps))),
        "hard": of_questions(traces, np.flatnonzero(steps >= 3)),
        "humaneval": {"pass_at_1": programs["1"], "pass_at_100": programs["100"],
                      "gain": programs["100"] - programs["1"], "questions": 164},
    })  # fmt: skip


if __name__ == "__main__":
    main()
