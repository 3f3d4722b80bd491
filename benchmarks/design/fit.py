"""How long a law fit with 1,000 bootstrap resamples takes, and how many shapes a law rates.

    python benchmarks/design/fit.py [--draws 1000] [--repeat 5]

Prints one JSON line per case: seconds (median, lowest, highest), the objective reached, and how
many resamples failed. The Chinchilla case is a synthetic table of 240 runs with the spread of the
replication's data (arXiv:2404.10102), whose own points may not be shipped.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from suffice.architecture.fitting import fit
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.runs import RunsTable, load_runs


def chinchilla_like(runs: int = 240, seed: int = 0) -> RunsTable:
    rng = np.random.default_rng(seed)
    n, ratio = np.exp(rng.uniform(np.log(6e7), np.log(1.6e10), runs)), rng.lognormal(3, 1, runs)
    loss = 1.817 + 482.0 * n**-0.3478 + 2085.0 * (n * ratio) ** -0.3659
    loss *= np.exp(0.005 * rng.laplace(size=runs))
    return RunsTable(numbers={"N": n, "D": n * ratio, "loss": loss})


def conditional_sweep(per_size: int = 40, seed: int = 0) -> RunsTable:
    law = load_law("bian2025-80m-297m")
    assert isinstance(law, ConditionalLaw)
    rng = np.random.default_rng(seed)
    size = np.repeat([8e7, 1.45e8, 2.97e8], per_size)
    x, r = rng.uniform(0.05, 0.1, size.size), np.exp(rng.uniform(-0.69, 1.6, size.size))
    level = np.repeat([3.4, 3.15, 2.9], per_size)
    loss = level * law.relative_loss(x, r) * np.exp(3e-4 * rng.standard_normal(size.size))
    return RunsTable(numbers={"N": size, "D": 100 * size, "x": x, "r": r, "loss": loss})


def timed(work: Callable[[], Any], repeat: int) -> tuple[Any, dict[str, float]]:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    spread = {
        "median_s": round(statistics.median(seconds), 4),
        "lowest_s": round(min(seconds), 4),
        "highest_s": round(max(seconds), 4),
    }
    return result, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    tables = {
        "chinchilla": chinchilla_like(),
        "morph": load_runs("morph"),
        "conditional-multiplicative": conditional_sweep(),
        "conditional-joint": conditional_sweep(),
    }
    machine = {"python": platform.python_version(), "numpy": np.__version__}
    for law, table in tables.items():
        for method in ("huber", "likelihood", "least_squares"):
            kind: Any = method
            found, spread = timed(
                lambda law=law, table=table, kind=kind: fit(
                    table, law, method=kind, bootstrap_draws=options.draws, optimal_loss="free"
                ),
                options.repeat,
            )
            record = {
                "case": f"{law} {method}",
                "runs": len(table),
                "draws": options.draws,
                **spread,
                "objective": found.objective,
                "failed": found.bootstrap_failed,
                **machine,
            }
            print(json.dumps(record), flush=True)
    law = load_law("bian2025-1b")
    assert isinstance(law, ConditionalLaw)
    rng = np.random.default_rng(0)
    x, r = rng.uniform(0.05, 0.1, 1_000_000), rng.uniform(0.5, 5.0, 1_000_000)
    _, spread = timed(lambda: law.relative_loss(x, r), options.repeat)
    print(json.dumps({"case": "relative_loss of 1,000,000 shapes", **spread, **machine}))


if __name__ == "__main__":
    main()
