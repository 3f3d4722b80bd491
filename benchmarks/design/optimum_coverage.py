"""How often intervals of N*, D* and the loss at a compute optimum hold a planted truth.

    python benchmarks/design/optimum_coverage.py --out results/design/optimum-coverage.json

Runs of seven sizes at four budgets are made up from a Chinchilla law, with .3 % of noise a run, and
fitted anew each time; the optimum of a budget inside their range is asked for with 90 % intervals.
Resampled by run, and by size (seven clusters, of which the fit warns).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from suffice.architecture.fitting import fit
from suffice.architecture.laws import Provenance, build_law, load_family
from suffice.architecture.optimum import compute_optimum
from suffice.architecture.runs import RunsTable
from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson

TRUTH = (1.82, 482.0, 2085.4, 0.348, 0.366)
BUDGET, NOISE = 2e20, 0.003
QUANTITIES = ("N", "D", "loss", "exponent")


def runs(seed: int) -> RunsTable:
    """28 noisy runs."""
    rng = np.random.default_rng(seed)
    E, A, B, alpha, beta = TRUTH
    rows = []
    for n in np.geomspace(5e7, 3e9, 7):
        for ratio in (5, 15, 45, 135):
            loss = (E + A * n**-alpha + B * (n * ratio) ** -beta) * np.exp(NOISE * rng.normal())
            rows.append({"N": float(n), "D": float(n * ratio), "loss": float(loss)})
    return RunsTable.from_rows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--repetitions", type=int, default=60)
    parser.add_argument("--draws", type=int, default=120)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    law = build_law(load_family("chinchilla"), name="truth", coefficients=TRUTH,
                    provenance=Provenance(source="this file", fitted_on="nothing"))  # fmt: skip
    truth = compute_optimum(law, BUDGET)
    found = []
    for cluster in ("run", "shape"):
        held = dict.fromkeys(QUANTITIES, 0)
        for seed in range(options.repetitions):
            made = fit(runs(seed), "chinchilla", bootstrap_draws=options.draws, seed=seed,
                       cluster=cluster).law  # type: ignore[arg-type]  # fmt: skip
            best = compute_optimum(made, BUDGET)
            for name in QUANTITIES:
                mine, due = getattr(best, name), getattr(truth, name).value
                held[name] += mine.low <= due <= mine.high
        for name, count in held.items():
            rate = clopper_pearson(count, options.repetitions, 0.95)
            found.append({"cluster": cluster, "quantity": name, "held": count,
                          "of": options.repetitions, "interval": [rate.low, rate.high]})  # fmt: skip
            print(f"by {cluster}: {name} {count} of {options.repetitions} "
                  f"[{rate.low:.3f}, {rate.high:.3f}]", flush=True)  # fmt: skip
    if options.out:
        write_json(options.out, {"command": "benchmarks/design/optimum_coverage.py",
                                 "draws": options.draws, "nominal": 0.9, "rows": found})  # fmt: skip


if __name__ == "__main__":
    main()
