"""How often is a certificate false? Methods on hard tasks, whole calibrations of recordings.

    python benchmarks/certificate_validity.py methods --out results/certify/validity.json
    python benchmarks/certificate_validity.py whole --out results/certify/validity-whole.json

methods  every test, 2,000 repetitions of every task of simulate.py; copies of a question counted as
         rows stand beside as the contrast that fails
whole    `suffice calibrate` itself on 500 recordings of each population of
         tests/recipes/populations.py, the certified rule held against the population's truth
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.recipes.calibrate.simulate import METHODS, simulate, tasks

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.recipes.populations import Truth, false_certificates, populations

# Fresh questions on which the truth is seen; the edge of a limit is blurred by its error.
FRESH = 20_000


def methods(repetitions: int) -> list[dict]:
    rows = []
    print(f"{'task':34} {'method':28} violations  allowed   p      thresholds certified")
    for number, task in enumerate(tasks()):
        for method in METHODS:
            found = simulate(task, method, repetitions=repetitions, seed=number)
            rate = found.violations / found.repetitions
            word = "keeps" if found.keeps else "BREAKS"
            print(
                f"{task.name:34} {method:28} {rate:9.4f} {found.allowed:8.3f} "
                f"{found.p_value:8.2g}  {found.certified:.3f} {word}",
                flush=True,
            )
            rows.append({**asdict(found), "keeps": found.keeps, "n": task.n, "limit": task.limit,
                         "plays": task.plays})  # fmt: skip
    return rows


def whole(repetitions: int, names: list[str]) -> list[dict]:
    rows = []
    for population in populations():
        if names and population.name not in names:
            continue
        truth = Truth(population, questions=FRESH if population.samples == 1 else FRESH // 5)
        for distinct in (False, True) if population.copies > 1 else (False,):
            began = time.process_time()
            found = false_certificates(population, truth, repetitions, distinct=distinct)
            rate = clopper_pearson(found.false, found.repetitions, 0.95)
            row = {"limit": population.config.max_drop, "alpha": population.config.alpha}
            rows.append({**asdict(found), **row, "rate": [rate.low, rate.high]})
            print(
                f"{found.population:52} certified {found.certified:4} of {repetitions}, false "
                f"{found.false:4} [{100 * rate.low:.1f}, {100 * rate.high:.1f}] %, p "
                f"{found.p_value:.2g}, saves {100 * found.mean_saving:.0f} %, "
                f"{time.process_time() - began:.0f} CPU s",
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("methods", "whole"))
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--populations", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    np.seterr(all="raise", under="ignore")
    count = options.repetitions or (2000 if options.part == "methods" else 500)
    rows = methods(count) if options.part == "methods" else whole(count, options.populations)
    if options.out is not None:
        command = f"benchmarks/certificate_validity.py {options.part} --repetitions {count}"
        write_json(options.out, {"command": command, "alpha": 0.05, "rows": rows})


if __name__ == "__main__":
    main()
