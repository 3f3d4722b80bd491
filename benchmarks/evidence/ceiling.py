"""How often all of 44 public models are wrong: the cap of every router and vote over them.

    python benchmarks/evidence/ceiling.py --out ceiling.json

Greedy answers of WildEval/ZeroEval: accuracy of any choice among them is at most 1 - beta, beta the
rate of questions that all get wrong (arXiv:2606.27288). Intervals of rates are exact.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1]))
from certify.recorded import zeroeval
from evidence.intervals import mean, share

TASKS = ("gsm", "math-l5", "crux")


def of_task(folder: Path, task: str) -> dict[str, Any]:
    _, rows = zeroeval(folder, [task])
    shared = set.intersection(*(set(found) for found in rows.values()))
    models = sorted(shared)
    right = np.array(
        [[found[each]["correct"] == "1" for each in models] for found in rows.values()]
    )
    beta = int((~right.any(axis=1)).sum())
    best = right[:, int(right.mean(axis=0).argmax())]
    pairs = np.corrcoef(right[:, right.mean(axis=0) < 1].T)
    independent = float(np.prod(1 - right.mean(axis=0)))
    return {
        "models": len(models),
        "beta": share(beta, len(right)),
        "best_model": mean(best.astype(float)),
        "most_gain": mean(right.any(axis=1) - best.astype(float)),
        "beta_if_independent": independent,
        "mean_correlation": float(pairs[np.triu_indices(len(pairs), 1)].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--recorded", type=Path, default=Path("data/recorded/zeroeval_matrix"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    write_json(given.out, {task: of_task(given.recorded, task) for task in TASKS})


if __name__ == "__main__":
    main()
