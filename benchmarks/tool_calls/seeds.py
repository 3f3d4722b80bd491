"""Tool calls over seeds: each arm's shares, and arms paired by question.

    $ python benchmarks/tool_calls/seeds.py results/tool-calls/seed*/tool-calls.json

Shares are over all questions of all seeds; differences are paired by question, with a 95 % interval
over questions and, as seeds are what varies, one over seeds (Student's t).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Run = dict[str, Any]
Measure = Callable[[Run, dict[str, Any]], "np.ndarray[Any, Any]"]


def measures() -> dict[str, Measure]:
    """0 or 1 for each question that a measure is about, nan for the others."""

    def among(flag: Any, hit: Any) -> Any:
        return np.where(np.array(flag), np.array(hit, dtype=float), np.nan)

    def of(kind: str) -> Measure:
        return lambda run, s: among(run["has_answer"], [f == kind for f in s["faults"]])

    return {
        "right": of("right"),
        "wrong arguments": of("wrong arguments"),
        "wrong function": lambda run, s: among(
            run["has_answer"], [f in ("wrong function", "not offered") for f in s["faults"]]
        ),
        "refused wrongly": of("refused wrongly"),
        "refuses rightly": lambda run, s: among(
            [not a for a in run["has_answer"]], [f == "right" for f in s["faults"]]
        ),
        "wrong where preference errs": lambda run, s: among(
            run["by_preference"], [f != "right" for f in s["faults"]]
        ),
    }


def over_seeds(values: list[float]) -> str:
    """Mean and 95 % interval over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.3f} (one seed)"
    reach = float(
        stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    )
    return f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"


def outcome(run: Run, arm: str, temperature: str) -> dict[str, Any]:
    """One arm's scores."""
    found: dict[str, Any] = next(o for o in (run["before"], *run["arms"]) if o["arm"] == arm)
    return dict(found[temperature])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    runs = [json.loads(path.read_text()) for path in parser.parse_args().results]
    arms = [o["arm"] for o in (runs[0]["before"], *runs[0]["arms"])]
    known = measures()
    print(f"{len(runs)} seeds, {runs[0]['parameters']:,} weights, pairs "
          + ", ".join(str(run["pairs"]) for run in runs))  # fmt: skip
    for temperature in ("greedy", "sampled"):
        print(f"\n| {temperature} | " + " | ".join(known) + " | tokens computed, million |")
        for arm in arms:
            row = []
            for measure in known.values():
                every = np.concatenate([
                    measure(run, outcome(run, arm, temperature)) for run in runs
                ])  # fmt: skip
                row.append(f"{np.nanmean(every):.3f}")
            spent = [o["computed_tokens"] for run in runs for o in (run["before"], *run["arms"])
                     if o["arm"] == arm]  # fmt: skip
            print(f"| {arm} | " + " | ".join(row) + f" | {np.mean(spent) / 1e6:.2f} |")
        print()
        for one, other in (
            ("dpo-sft", "more-sft"), ("dpo-sft", "more-data"), ("dpo-sft", "chosen-sft"),
            ("dpo", "chosen-sft"), ("dpo-sft", "sft"),
        ):  # fmt: skip
            if one not in arms or other not in arms:
                continue
            for name, measure in known.items():
                gaps = [
                    measure(run, outcome(run, one, temperature))
                    - measure(run, outcome(run, other, temperature))
                    for run in runs
                ]
                every = np.concatenate(gaps)
                every = every[~np.isnan(every)]
                error = 1.96 * float(every.std(ddof=1) / np.sqrt(len(every)))
                mean = float(every.mean())
                print(
                    f"{temperature}: {one} - {other}, {name}: {mean:+.3f} "
                    f"[{mean - error:+.3f}, {mean + error:+.3f}] over {len(every)} questions, "
                    f"{over_seeds([float(np.nanmean(g)) for g in gaps])} over seeds"
                )


if __name__ == "__main__":
    main()
