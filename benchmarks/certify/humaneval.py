"""16,400 recorded HumanEval programs run against the tests; pass@k, and best-of-n that stops early.

    python benchmarks/certify/humaneval.py --out results/certify/humaneval.json

Programs: CodeGen-16B at temperature .8, 100 for each of 164 problems (microsoft/CodeT @ 35f54d60,
MIT; 2207.10397). They run in `suffice.tools.code_sandbox.Runner`, one after the other: limits, no
sandbox. Equal programs run once. `verdicts` holds 100 bits per problem as hexadecimal digits, the
first sample highest.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from recorded import needed

from suffice.core.files import write_json
from suffice.evals.importers import importer
from suffice.evals.statistics.ranking import mean_pass_at_k, pass_at_k
from suffice.evals.traces.files import trace_set
from suffice.policies.fixed import BestOfN
from suffice.recipes.replay.run import ReplayConfig, replay_traces
from suffice.tools.code_sandbox import Runner, humaneval_program

SET = "codet_humaneval_100samples"
SAMPLES = 100
BUDGETS = (1, 2, 4, 8, 16, 32, 64, 100)


def problems(folder: Path) -> dict[str, dict]:
    """Problems by task id."""
    lines = (folder / "HumanEval_for_code_generation.jsonl").read_text().splitlines()
    return {row["task_id"]: row for row in map(json.loads, lines)}


def judge(traces: list, tests: dict[str, dict], limit_s: float) -> list[bool]:
    """Whether each program passes its problem's tests; equal programs run once."""
    known: dict[str, bool] = {}
    verdicts = []
    with Runner(limit_s=limit_s) as runner:
        for number, trace in enumerate(traces):
            program = humaneval_program(tests[trace.question.name], trace.text)
            if program not in known:
                known[program] = runner.passes(program)
            verdicts.append(known[program])
            if number % 1000 == 999:
                print(f"{number + 1} programs, {len(known)} distinct", flush=True)
    return verdicts


def best_of_n(checked, right: np.ndarray, draws: int) -> list[dict]:
    """Best of n with the tests as verifier, stopped at the first success, against pass@n."""
    found = []
    for n in BUDGETS:
        played = replay_traces(
            checked, BestOfN(samples=n, wave=1, enough=1.0), ReplayConfig(draws=draws)
        )
        each = [pass_at_k(int(c), SAMPLES, n) for c in right]
        accuracy, samples = played.mean("correct"), played.mean("samples")
        found.append({
            "n": n, "pass_at_n": float(np.mean(each)),
            "accuracy": [accuracy.estimate, accuracy.low, accuracy.high],
            "samples": [samples.estimate, samples.low, samples.high],
        })  # fmt: skip
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/runtime"))
    parser.add_argument("--limit-s", type=float, default=1.0)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/certify/humaneval.json"))
    options = parser.parse_args()
    tests = problems(needed(options.data / SET))
    with Runner(limit_s=3.0) as runner:
        wrong = [
            name for name, row in tests.items()
            if not runner.passes(humaneval_program(row, row["canonical_solution"]))
        ]  # fmt: skip
    print(f"canonical solutions that fail here: {wrong or 'none'}", flush=True)
    began = time.monotonic()
    # In the file's order, which is that of a trace set read back.
    traces = list(trace_set(importer(SET).read(options.data / SET)))
    verdicts = judge(traces, tests, options.limit_s)
    spent_s = time.monotonic() - began
    checked = trace_set(
        replace(trace, correct=ok, score=float(ok))
        for trace, ok in zip(traces, verdicts, strict=True)
    )
    right = np.bincount(checked.question, checked.correct).astype(int)
    bits: dict[str, str] = {}
    for number, question in enumerate(checked.questions):
        rows = checked.rows(number, 0)
        flags = "".join("1" if value else "0" for value in checked.correct[rows])
        bits[question.name] = f"{int(flags, 2):025x}"
    write_json(options.out, {
        "command": "benchmarks/certify/humaneval.py", "source": "microsoft/CodeT @ 35f54d60 (2207.10397)",
        "limit_s": options.limit_s, "wall_s": round(spent_s, 1), "programs": len(traces),
        "canonical_failures": wrong,
        "pass_at_k": {str(k): mean_pass_at_k(right, np.full(len(right), SAMPLES), k)
                      for k in BUDGETS},
        "published": {"1": 0.297, "10": 0.503, "100": 0.737},
        "pass_at_10": mean_pass_at_k(right, np.full(len(right), SAMPLES), 10),
        "best_of_n": best_of_n(checked, right, options.draws),
        "verdicts": bits,
    })  # fmt: skip


if __name__ == "__main__":
    main()
