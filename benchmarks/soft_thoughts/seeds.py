"""Soft thoughts over seeds: each arm's share right, and the learned arm paired with the others.

    $ python benchmarks/soft_thoughts/seeds.py results/soft-thoughts/seed*/soft-thoughts.json

Differences are paired by problem, with a 95 % interval over problems and one over seeds (Student's
t). What a run says of frozen weights is checked here too: a backbone that moved is an error.
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
        return f"{mean:+.3f} (one seed)"
    reach = float(
        stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    )
    return f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    runs: list[dict[str, Any]] = [
        json.loads(path.read_text()) for path in parser.parse_args().results
    ]
    arms = [arm["arm"] for arm in runs[0]["arms"]]

    def of(run: dict[str, Any], arm: str) -> dict[str, Any]:
        found: dict[str, Any] = next(a for a in run["arms"] if a["arm"] == arm)
        return found

    if any(run["backbone_moved"] for run in runs):
        raise SystemExit("a backbone that should be frozen has moved")
    print(f"{len(runs)} seeds, backbone of {runs[0]['parameters']:,} weights")
    print("| in the slots | learned weights | 2 steps | 3 | 4 | 3 and 4, by seed | other task |")
    for arm in arms:
        rows = [of(run, arm) for run in runs]
        by_steps = [
            f"{np.mean([row['by_steps'][n]['mean'] for row in rows]):.3f}" for n in ("2", "3", "4")
        ]
        seeds = " ".join(f"{row['target']['mean']:.3f}" for row in rows)
        kept = np.mean([row["held_out_task"]["mean"] for row in rows])
        print(
            f"| {arm} | {rows[0]['parameters']:,} | " + " | ".join(by_steps)
            + f" | {seeds} | {kept:.3f} |"
        )  # fmt: skip
    for name in ("hinted", "assistant_right"):
        print(f"{name}: " + " ".join(f"{run[name]['mean']:.3f}" for run in runs))
    if runs[0]["lora_moved"] is not None:
        print("LoRA moved a logit by up to "
              + " ".join(f"{run['lora_moved']:.3g}" for run in runs))  # fmt: skip
    for field, what in (("right", "3 and 4 steps"), ("held_out_right", "other task")):
        for other in arms:
            if "learned" not in arms or other == "learned":
                continue
            gaps = [
                np.array(of(run, "learned")[field], float) - np.array(of(run, other)[field], float)
                for run in runs
            ]
            every = np.concatenate(gaps)
            error = 1.96 * float(every.std(ddof=1) / np.sqrt(len(every)))
            mean = float(every.mean())
            print(
                f"{what}: learned - {other} {mean:+.3f} [{mean - error:+.3f}, {mean + error:+.3f}] "
                f"over {len(every)} problems, {over_seeds([float(g.mean()) for g in gaps])} over "
                "seeds"
            )


if __name__ == "__main__":
    main()
