"""False certificates over 2,000 repetitions, for every method on every hard task.

python benchmarks/certificate_validity.py --out results/certify/validity.json
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from suffice.core.files import write_json
from suffice.recipes.calibrate.simulate import METHODS, simulate, tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("results/certify/validity.json"))
    options = parser.parse_args()
    began = time.perf_counter()
    rows = []
    print(f"{'task':28} {'method':28} violations  allowed   p      thresholds certified")
    for number, task in enumerate(tasks()):
        for method in METHODS:
            found = simulate(task, method, repetitions=options.repetitions, seed=number)
            rate = found.violations / found.repetitions
            word = "keeps" if found.keeps else "BREAKS"
            print(
                f"{task.name:28} {method:28} {rate:9.4f} {found.allowed:8.3f} "
                f"{found.p_value:8.2g}  {found.certified:.3f} {word}",
                flush=True,
            )
            rows.append({**asdict(found), "keeps": found.keeps, "n": task.n, "limit": task.limit})
    print(f"{time.perf_counter() - began:.0f} s")
    write_json(options.out, {"repetitions": options.repetitions, "alpha": 0.05, "rows": rows})


if __name__ == "__main__":
    main()
