"""Adaptive width with a certificate: random halves of held-out puzzles, trajectories recorded once.

    python benchmarks/latent/adaptive_width.py runs/latent/queens-8-gram-0 --out results/latent

40 trajectories of every held-out puzzle are drawn; the baseline is the vote of 20. Each half
calibrates as `suffice calibrate` does, the other half and all puzzles say what was lost. The
violation rate counts calibrations whose rule loses more than the limit over all puzzles, which is
as near to the truth as this recording knows. FLOPs are steps; 1 - saving is the share of the fixed
width's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "certify"))
from halves import HalvesOf, Setup, _summary

from suffice.backends.latent.folder import load_latent, read_record
from suffice.backends.latent.trajectories import Exploration
from suffice.core.files import write_json
from suffice.recipes.latent.explore import explore
from suffice.recipes.latent.traces import traces_of

WIDTH, RECORDED = 20, 40
LIMITS = (0.02, 0.03, 0.05)


def halves(folder: Path, sigma: float | None, *, depth: int, count: int) -> list[dict[str, Any]]:
    """One row per limit."""
    network, task = load_latent(folder)
    learned = network.shape.noise != "none"
    exploration = (
        Exploration(source="prior")
        if learned and sigma is None
        else Exploration(source="gaussian", sigma=sigma or 0.3)
    )
    test = task.splits(read_record(folder)["config"]["split_seed"]).test
    explored = explore(
        network, task, test, width=RECORDED, steps=depth, exploration=exploration, seed=1000
    )
    traces = traces_of(explored, task, depth=depth)
    setup = Setup(
        name=f"{task.name}, {exploration.source}", read=lambda _: traces,
        baseline=f"self_consistency:samples={WIDTH}", limits=LIMITS,
    )  # fmt: skip
    bench = HalvesOf(setup, traces)
    runs: dict[float, list[dict[str, Any]]] = {limit: [] for limit in LIMITS}
    for seed in range(count):
        calibrated = bench.calibrated(seed)
        for limit in LIMITS:
            runs[limit].append(calibrated.at(limit))
    found = []
    for limit, each in runs.items():
        row = bench.facts() | _summary(setup, each, limit)
        savings = np.array([run["ours"]["saving"] for run in each])
        row["flops_share"] = {
            "mean": float(1 - savings.mean()), "worst": float(1 - savings.min()),
            "where_certified": float(1 - savings[savings > 0].mean()) if savings.any() else None,
        }  # fmt: skip
        found.append(row)
        print(
            f"{row['name']}, at most {limit:.0%}: certified in {row['certified']} of {count}, "
            f"over the limit in {row['ours']['over_on_all_questions']} (naive: "
            f"{row['naive']['over_on_all_questions']}), mean drop {row['ours']['mean_drop']:.4f}, "
            f"{row['flops_share']['mean']:.1%} of the FLOPs",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--sigma", type=float, help="explore with Gaussian noise (PTRM)")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--halves", type=int, default=200)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for folder in asked.networks:
        rows = halves(folder, asked.sigma, depth=asked.depth, count=asked.halves)
        if asked.out is not None:
            write_json(asked.out / f"adaptive-{folder.name}.json", rows)


if __name__ == "__main__":
    main()
