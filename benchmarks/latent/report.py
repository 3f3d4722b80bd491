"""Width against depth for every network of train_all.py, and whether the diagnoses predict it.

    python benchmarks/latent/report.py runs/latent --out results/latent

Each network is explored on its held-out puzzles at depth 4 with 20 trajectories: TRM networks with
Gaussian noise of several sizes (PTRM), GRAM networks by their prior. `summary.json` has a row for
each, with 95 % intervals over puzzles, and the rank correlations of the three diagnoses with what
width gained; NAME.json is the whole evaluation of one. A row that exists is not worked out again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from suffice.backends.latent.folder import read_record
from suffice.backends.latent.trajectories import Exploration
from suffice.core.files import write_bytes, write_json, write_text
from suffice.recipes.latent.evaluate import WidthDepthPoint
from suffice.recipes.latent.explore import Explored
from suffice.recipes.latent.plots import latent_figure
from suffice.recipes.latent.run import (
    LatentEvaluation,
    LatentResult,
    deterministic,
    evaluate_latent,
)
from suffice.report.style import to_png, to_svg

SIGMAS = (0.1, 0.2, 0.3, 0.4)
WIDTHS, DEPTHS, DEPTH, WIDTH = (1, 5, 20), (1, 2, 4), 4, 20
LEAST_ROWS = 5
WORKING = 0.1
DIAGNOSES = ("local_stability", "guide_alignment", "cloud_entropy")


@dataclass(frozen=True, slots=True)
class Row:
    """A network under one exploration."""

    name: str
    sigma: float | None

    @property
    def label(self) -> str:
        """As in the summary."""
        return self.name if self.sigma is None else f"{self.name} sigma {self.sigma:g}"


def _asked(exploration: Exploration | None) -> LatentEvaluation:
    return LatentEvaluation(
        widths=WIDTHS, depths=DEPTHS, depth=DEPTH, exploration=exploration, policies=False
    )


@lru_cache(maxsize=1)
def _deep(folder: Path) -> Explored:
    return deterministic(folder, _asked(None))


def evaluated(folder: Path, row: Row) -> LatentResult:
    exploration = None
    if row.sigma is not None:
        exploration = Exploration(source="gaussian", sigma=row.sigma)
    return evaluate_latent(folder / row.name, _asked(exploration), deep=_deep(folder / row.name))


def _interval(found: Any) -> list[float] | None:
    return None if found is None else [found.estimate, found.low, found.high]


def summary(row: Row, result: LatentResult) -> dict[str, Any]:
    """The figures of the page, one network."""
    at: dict[tuple[int, int], WidthDepthPoint] = {(p.width, p.depth): p for p in result.points}
    one, wide = at[1, DEPTH], at[WIDTH, DEPTH]
    deep = {p.depth: p for p in result.deep}
    plain = deep[DEPTH]
    gains = {
        f"{c.budget}, {c.selection}": _interval(c.gain)
        for c in result.contests
        if c.wide == (WIDTH, DEPTH)
    }
    against = {
        c.budget: c.deep[1] for c in result.contests if c.wide == (WIDTH, DEPTH)
    }  # the depth that width met
    return {
        "name": row.label, "task": result.task, "exploration": result.exploration,
        "parameters": result.parameters, "steps": result.steps_trained,
        "cpu_min": round(result.cpu_s_trained / 60, 2), "puzzles": result.puzzles,
        "many_solutions": result.many_solutions, "mflop_per_step": result.flops_per_step * 1e-6,
        "deterministic": _interval(plain.accuracy["first"]),
        "deterministic_coverage": _interval(plain.coverage),
        "deterministic_coverage_many": _interval(plain.coverage_many),
        "deterministic_by_depth": {d: p.accuracy["first"].estimate for d, p in deep.items()},
        "sampled": _interval(one.accuracy["first"]),
        **{f"{s}_20": _interval(wide.accuracy[s]) for s in ("vote", "halting", "value")},
        "any_20": _interval(wide.accuracy["verifier"]),
        "coverage_20": _interval(wide.coverage),
        "coverage_many_20": _interval(wide.coverage_many),
        "gain": gains, "met_depth": against, "diagnosis": asdict(result.diagnosis),
    }  # fmt: skip


def correlations(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Spearman's rank correlation of every diagnosis with every gain, over all rows."""
    gains = {
        "vote over one trajectory": [r["vote_20"][0] - r["sampled"][0] for r in rows],
        "vote over no noise": [r["vote_20"][0] - r["deterministic"][0] for r in rows],
        "any over no noise": [r["any_20"][0] - r["deterministic"][0] for r in rows],
        "halting over one trajectory": [r["halting_20"][0] - r["sampled"][0] for r in rows],
        "coverage over no noise": [
            r["coverage_20"][0] - r["deterministic_coverage"][0] for r in rows
        ],
    }
    found: dict[str, Any] = {"rows": len(rows)}
    if len(rows) < LEAST_ROWS:
        return found
    for diagnosis in DIAGNOSES:
        values = np.array([r["diagnosis"][diagnosis] for r in rows], dtype=float)
        known = np.isfinite(values)
        for name, gain in gains.items():
            test = stats.spearmanr(values[known], np.array(gain)[known])
            found[f"{diagnosis}, {name}"] = {
                "n": int(known.sum()), "rho": float(test.statistic), "p": float(test.pvalue)
            }  # fmt: skip
    return found


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary file. A network that is hardly ever right says nothing about width."""
    working = [r for r in rows if r["deterministic"][0] >= WORKING]
    return {
        "rows": rows,
        "rank_correlations": correlations(rows),
        "rank_correlations_of_working_networks": correlations(working),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/latent"))
    parser.add_argument("--whole", default="", help="networks whose whole result is kept, by comma")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = asked.out / "summary.json"
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {(r["name"], r["steps"]): r for r in earlier}
    rows = []
    for folder in sorted(p.parent for p in asked.folder.glob("*/latent.json")):
        record = read_record(folder)
        gaussian = record["shape"]["noise"] == "none"
        for sigma in SIGMAS if gaussian else (None,):
            row = Row(folder.name, sigma)
            if (row.label, record["steps"]) not in known:
                result = evaluated(asked.folder, row)
                known[row.label, record["steps"]] = summary(row, result)
                if folder.name in asked.whole.split(",") and sigma in (None, 0.2):
                    figure = latent_figure(result)
                    write_json(asked.out / f"{folder.name}.json", asdict(result))
                    write_text(asked.out / f"{folder.name}.svg", to_svg(figure))
                    write_bytes(asked.out / f"{folder.name}.png", to_png(figure))
            found = known[row.label, record["steps"]]
            rows.append(found)
            print(
                f"{found['name']}: no noise {found['deterministic'][0]:.3f}, one "
                f"{found['sampled'][0]:.3f}, vote {found['vote_20'][0]:.3f}, any "
                f"{found['any_20'][0]:.3f}, coverage {found['deterministic_coverage'][0]:.3f} to "
                f"{found['coverage_20'][0]:.3f}",
                flush=True,
            )
            write_json(path, summed(rows))


if __name__ == "__main__":
    main()
