"""Levers together: does the product of single gains predict the whole, and what is left to 10x?

    python benchmarks/evidence/compose.py --out compose.json

Recorded samples of two small models of puzzles, replayed through the policies that run live. Every
lever replaces one thing of the baseline, a uniform vote of thoughts; `together` has all of them.
Cost is completion tokens of everything drawn; a ratio is the baseline's cost over the policy's, on
the same questions, whole questions resampled. `tuned` is the baseline that a budget sweep would
choose: the cheapest fixed setting within a point of the vote's accuracy.

A faster shape multiplies what is left, if both shapes answer alike, which nobody measured: the
ratio is that of Surefire-1B over LLaMA-3.2-1B, widths divided by 4, decode at batch 32 on a CPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.completions import count_tokens_only
from suffice.core.files import read_json, write_json
from suffice.evals.traces.files import read_traces
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.registry import parse_policy
from suffice.recipes.frontier.measure import Measured, measure
from suffice.recipes.recordings import Source

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.intervals import mean, of_columns

SHUFFLES, SEED = 3, 0
SETS: dict[str, dict[str, Any]] = {
    "efforts": {
        "baseline": "self_consistency:samples=24@small-think",
        "tuned": "single@small-think",
        "levers": {
            "stop early": "adaptive_consistency:max_samples=24,scatter=none@small-think",
            "effort": "single:accept=.95@small-short > self_consistency:samples=24@small-think",
        },
        "together": (
            "single:accept=.95@small-short > "
            "adaptive_consistency:max_samples=24,scatter=none@small-think"
        ),
        "with budget": "single:accept=.95@small-short > single@small-think",
    },
    "nano": {
        "baseline": "self_consistency:samples=4@suffice-nano-think",
        "tuned": "single@suffice-nano-think",
        "levers": {
            "stop early": "adaptive_consistency:max_samples=4,scatter=none@suffice-nano-think",
            "training": "self_consistency:samples=4@suffice-nano",
        },
        "together": "adaptive_consistency:max_samples=4,scatter=none@suffice-nano",
        "with budget": "single@suffice-nano",
    },
}


def played(traces: TraceSet, text: str, questions: np.ndarray) -> Measured:
    return measure(
        text, parse_policy(text), Source(traces), questions.tolist(),
        cost_model=count_tokens_only, shuffles=SHUFFLES, seed=SEED,
    )  # fmt: skip


def row(base: Measured, other: Measured) -> dict[str, Any]:
    """Accuracy, and gain and cost against a baseline on the same questions."""
    return {
        "policy": other.policy,
        "right": mean(other.correct),
        "tokens": mean(other.tokens),
        "gain": mean(other.correct - base.correct),
        "times_cheaper": of_columns(lambda m: m[0] / m[1], base.tokens, other.tokens),
    }


def composed(traces: TraceSet, plan: dict[str, Any]) -> dict[str, Any]:
    """Each lever, all of them, and what the product of the single ratios predicts."""
    questions = traces.complete_questions(range(len(traces.arms)))
    base = played(traces, plan["baseline"], questions)
    tuned = played(traces, plan["tuned"], questions)
    levers = {name: played(traces, text, questions) for name, text in plan["levers"].items()}
    whole = played(traces, plan["together"], questions)
    budget = played(traces, plan["with budget"], questions)
    costs = [base.tokens, whole.tokens, *(each.tokens for each in levers.values())]

    def product(means: list[Any]) -> Any:
        return np.prod([means[0] / each for each in means[2:]], axis=0)

    return {
        "baseline": row(base, base),
        "levers": {name: row(base, each) for name, each in levers.items()},
        "together": row(base, whole),
        "product": of_columns(product, *costs),
        "whole_over_product": of_columns(lambda m: m[0] / m[1] / product(m), *costs),
        "tuned": row(base, tuned),
        "with_budget": row(base, budget),
        "with_budget_over_tuned": row(tuned, budget),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=Path("data/traces"))
    parser.add_argument("--shapes", type=Path, default=Path("results/evidence/directions.json"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: dict[str, Any] = {
        name: composed(read_traces(given.traces / f"{name}.parquet"), plan)
        for name, plan in SETS.items()
    }
    shape = read_json(given.shapes, what="result")["published"]["surefire-1b"]["32"]
    found["shape_if_alike"] = {
        "ratio": shape,
        "with_budget_over_tuned": {
            name: round(shape * found[name]["with_budget_over_tuned"]["times_cheaper"]["high"], 4)
            for name in SETS
        },
    }
    write_json(given.out, found)


if __name__ == "__main__":
    main()
