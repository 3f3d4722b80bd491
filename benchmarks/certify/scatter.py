"""What giving up on scattered answers costs: adaptive_consistency with scatter=16 and without.

    python benchmarks/certify/scatter.py --data FOLDER --out results/certify/scatter.json

Answers of 40 models as samples of one (the public set that docs/data.md names), five shuffles of
each question, and 40 samples of our small puzzle model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recorded import as_pool, zeroeval

from suffice.core.files import write_json
from suffice.evals.traces.files import read_traces
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.registry import parse_policy
from suffice.recipes.replay.run import ReplayConfig, replay_traces

OWN = Path(__file__).resolve().parents[2] / "data" / "traces" / "two-arms.parquet"
SETS = {"gsm": "GSM8K", "crux": "CRUX", "math-l5": "MATH level 5"}


def row(name: str, traces: TraceSet, model: str, draws: int) -> dict[str, object]:
    """Accuracy in percent and samples a question, with `scatter=16` and without."""
    found: dict[str, object] = {"set": name, "questions": len(traces.questions), "draws": draws}
    for label, scatter in (("with", "16"), ("without", "none")):
        policy = parse_policy(f"adaptive_consistency:scatter={scatter}@{model}")
        played = replay_traces(traces, policy, ReplayConfig(draws=draws, model=model))
        found[f"right_{label}"] = round(100 * float(played.column("correct").mean()), 2)
        found[f"samples_{label}"] = round(float(played.column("samples").mean()), 2)
    print(found, flush=True)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/runtime"))
    parser.add_argument("--out", type=Path, default=Path("scatter.json"))
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    rows = [row("puzzles", read_traces(OWN), "small-think", 1)]
    for task, name in SETS.items():
        pool = as_pool(*zeroeval(options.data / "zeroeval_matrix", [task]), 40, 0)
        rows.append(row(name, pool, "pool", options.draws))
    write_json(options.out, {"command": "benchmarks/certify/scatter.py", "rows": rows})


if __name__ == "__main__":
    main()
