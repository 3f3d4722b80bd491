"""Several seeds of suffice-nano side by side: each seed's figures, their mean and its interval.

    python benchmarks/modes/seeds.py results/modes/seed*/record.json

Intervals over seeds are Student's t at 95 % (two degrees of freedom for three seeds, so they are
wide, and may reach beyond 0 and 1, where they are cut). Problems are the same for all seeds at
equal difficulty only up to the seed of their draw.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from suffice.core.errors import InputError
from suffice.core.files import write_json

# Student's t at 95 %, two-sided, by degrees of freedom.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}


def over_seeds(values: list[float], *, most: float | None = 1.0) -> dict[str, Any]:
    """Mean, interval and the values themselves."""
    mean = statistics.fmean(values)
    reach = _T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    high = mean + reach if most is None else min(most, mean + reach)
    return {"mean": mean, "low": max(0.0, mean - reach), "high": high, "values": values}


def together(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The tables over seeds."""
    tables = [record["evaluation"] for record in records]
    cells, routers = {}, {}
    for rows in zip(*(t["cells"] for t in tables), strict=True):
        cells[f"{rows[0]['task']}/{rows[0]['difficulty']}"] = {
            "problems": [row["problems"] for row in rows],
            "short_right": over_seeds([row["short_accuracy"]["mean"] for row in rows]),
            "think_right": over_seeds([row["think_accuracy"]["mean"] for row in rows]),
            "p_think": over_seeds([row["p_think"] for row in rows]),
            "optimum_thinks": [row["optimum_thinks"] for row in rows],
        }
    for rows in zip(*(t["routers"] for t in tables), strict=True):
        routers[rows[0]["router"]] = {
            "accuracy": over_seeds([row["accuracy"]["mean"] for row in rows]),
            "tokens": over_seeds([row["tokens"]["mean"] for row in rows], most=None),
            "token_share": over_seeds([row["token_share"]["mean"] for row in rows]),
            "reward": [row["reward"]["mean"] for row in rows],
        }
    return {
        "seeds": [record["config"]["routing"]["seed"] for record in records],
        "weights_sha256": [record["weights_sha256"] for record in records],
        "seconds": [
            {k: record[k] for k in ("warm_up_s", "routing_s") if k in record} for record in records
        ],
        "cells": cells,
        "routers": routers,
        "saving_by_easy_share": {
            f"{rows[0][0]:g}": over_seeds([row[1] for row in rows])
            for rows in zip(*(t["saving_by_easy_share"] for t in tables), strict=False)
        },
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="JSON of all of it")
    asked = parser.parse_args()
    if not 2 <= len(asked.records) <= len(_T) + 1:
        raise InputError(f"give the records of 2 to {len(_T) + 1} seeds: one has no spread")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in asked.records]
    for path, record in zip(asked.records, records, strict=True):
        if "evaluation" not in record:
            raise InputError(f"{str(path)!r} has no evaluation: give the record of a finished run")
    found = together(records)
    if asked.out is not None:
        write_json(asked.out, found)

    def form(e: dict[str, Any], digits: int = 3) -> str:
        return f"{e['mean']:.{digits}f} [{e['low']:.{digits}f}, {e['high']:.{digits}f}]"

    print(f"seeds {found['seeds']}: mean [95 % over seeds]")
    print("| cell | short right | think right | p(think) | optimum |\n|---|--:|--:|--:|---|")
    for name, cell in found["cells"].items():
        best = "/".join("think" if t else "short" for t in dict.fromkeys(cell["optimum_thinks"]))
        print(
            f"| {name} | {form(cell['short_right'])} | {form(cell['think_right'])} | "
            f"{form(cell['p_think'])} | {best} |"
        )
    print("| router | accuracy | tokens | of always-think's |\n|---|--:|--:|--:|")
    for name, router in found["routers"].items():
        print(
            f"| {name} | {form(router['accuracy'])} | {form(router['tokens'], 2)} | "
            f"{form(router['token_share'])} |"
        )
    for share, saving in found["saving_by_easy_share"].items():
        print(f"easy share {share}: saves {form(saving)}")


if __name__ == "__main__":
    main()
