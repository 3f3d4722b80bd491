"""Pruning over seeds: each method's P(answer) and each student, with intervals over seeds.

    python benchmarks/pruning/seeds.py results/pruning/seed0/pruning.json ...

Means over seeds with Student's t; students also paired by problem, with what the number of
problems and seeds could have shown (80 % power at 5 %).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


def over_seeds(values: list[float]) -> str:
    """Mean and 95 % interval over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f} (one seed)"
    reach = float(
        stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    )
    return f"{mean:.3f} [{mean - reach:.3f}, {mean + reach:.3f}]"


def paired(runs: list[dict[str, Any]], one: str, other: str) -> dict[str, str]:
    """Accuracy of one student minus another's, over all problems of all seeds."""
    differences, by_seed = [], []
    for run in runs:
        right = {s["arm"]: np.array(s["right"], dtype=float) for s in run["students"]}
        gap = right[one] - right[other]
        differences.append(gap)
        by_seed.append(float(gap.mean()))
    every = np.concatenate(differences)
    error = float(every.std(ddof=1) / np.sqrt(len(every)))
    mean = float(every.mean())
    return {
        "over problems": f"{mean:+.3f} [{mean - 1.96 * error:+.3f}, {mean + 1.96 * error:+.3f}]",
        "over seeds": over_seeds(by_seed),
        "by seed": ", ".join(f"{gap:+.3f}" for gap in by_seed),
        "detectable (80 % power, problems)": f"{2.8 * error:.3f}",
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    runs = [json.loads(path.read_text()) for path in parser.parse_args().results]
    shares = (1.0, 0.7, 0.5, 0.33, 0.2, 0.0)
    print(f"{len(runs)} seeds, {runs[0]['config']['judged']} traces each")
    print("| method | " + " | ".join(f"P(answer) at {share:g}" for share in shares) + " |")
    for curve in runs[0]["curves"]:
        name, row = curve["method"], []
        for share in shares:
            values = [
                {s: e["mean"] for s, e in c["p_answer"]}[share]
                for run in runs for c in run["curves"] if c["method"] == name
            ]  # fmt: skip
            row.append(over_seeds(values))
        print(f"| {name} | " + " | ".join(row) + " |")
    for key, title in (
        ("against_random_at_half", "P(answer) at half over random deletion"),
        ("symbolic_over_filler_at_half", "left at half, symbols minus words"),
    ):
        print(f"\n{title}")
        for name in runs[0][key]:
            print(f"| {name} | {over_seeds([run[key][name]['mean'] for run in runs])} |")
    kinds = [k for k in runs[0]["curves"][0]["kept_at_half"] if k not in ("symbolic", "words")]
    print("\nleft at half\n| method | " + " | ".join(kinds) + " |")
    for name in ("greedy-answer", "greedy-mean", "greedy-joint", "random"):
        found = [c for run in runs for c in run["curves"] if c["method"] == name]
        row = [f"{np.mean([c['kept_at_half'][k]['mean'] for c in found]):.2f}" for k in kinds]
        print(f"| {name} | " + " | ".join(row) + " |")
    surrogate = [run["surrogate_rank_correlation"]["mean"] for run in runs]
    print(f"\nsurrogate's rank correlation {over_seeds(surrogate)}")
    print("\n| student of | trace tokens | right | response tokens |")
    for n, student in enumerate(runs[0]["students"]):
        same = [run["students"][n] for run in runs]
        print(
            f"| {student['arm']} | {np.mean([s['tokens_learned_from'] for s in same]):.1f} | "
            f"{over_seeds([s['accuracy']['mean'] for s in same])} | "
            f"{np.mean([s['tokens'] for s in same]):.1f} |"
        )
    untaught = [run["untaught"]["accuracy"]["mean"] for run in runs]
    print(f"| (untaught) | | {over_seeds(untaught)} | |")
    arms = [student["arm"] for student in runs[0]["students"]]
    print()
    for one in ("greedy-answer", "greedy-mean"):
        for other in ("random", "uniform", "raw"):
            if one in arms and other in arms:
                print(f"{one} - {other}: {paired(runs, one, other)}")


if __name__ == "__main__":
    main()
