"""Monitors of certificates: false alarms over unchanged traffic, and how soon a loss is found.

    python benchmarks/certify/monitoring.py unchanged --out results/certify/monitoring-unchanged.json
    python benchmarks/certify/monitoring.py loss --out results/certify/monitoring-loss.json

unchanged  for every shape of baseline: calibrations of 800 questions that certify a drop of at most
           2 points, each followed by 2,000 unchanged requests, every answer that is not the
           baseline's audited and judged; alarms, with the exact bound of their rate
loss       answers audited and judged until a drop of 6 points is found where 1 is certified

Rows that OUT holds already are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson, upper_bound

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.gateway.monitor_runs import (
    LIMIT,
    QUESTIONS,
    REQUESTS,
    SHAPES,
    audited_until_alarm,
    population,
    runs,
    traces,
)

POPULATION = 3000  # recorded questions behind each shape
ALLOWED = 0.01
# Rates of harmed and helped among all covered answers, and the share that is not the baseline's.
LOSSES = (
    (0.06, 0.00, 1.0), (0.06, 0.00, 0.5), (0.06, 0.00, 0.2),
    (0.07, 0.01, 1.0), (0.07, 0.01, 0.5), (0.07, 0.01, 0.2),
    (0.08, 0.02, 1.0), (0.08, 0.02, 0.5), (0.08, 0.02, 0.2),
    (0.10, 0.04, 1.0), (0.10, 0.04, 0.5), (0.10, 0.04, 0.2),
)  # fmt: skip
AUDITED = 500


Rows = list[dict[str, Any]]


def unchanged(repetitions: int, known: Rows) -> Iterator[dict[str, Any]]:
    recording = traces(POPULATION)
    print(f"{'baseline':40} true drop  not its   runs  alarms   rate, 95 % upper bound")
    for number, (name, shape) in enumerate(SHAPES.items()):
        if any(row["baseline"] == name for row in known):
            continue
        began = time.process_time()
        found = population(shape, recording)
        alarms = list(runs(found, repetitions, seed=number))
        raised = [alarm for alarm in alarms if alarm is not None]
        bound = upper_bound(len(raised), len(alarms), 0.95)
        rate = clopper_pearson(len(raised), len(alarms), 0.95)
        print(
            f"{name:40} {found.drop:8.4f} {found.early.mean():9.2f} {len(alarms):6} "
            f"{len(raised):6}   {len(raised) / len(alarms):.4f}, {bound:.4f} "
            f"{'within' if bound <= ALLOWED else 'OVER'} {ALLOWED:.0%} "
            f"({time.process_time() - began:.0f} s)",
            flush=True,
        )
        yield {
            "baseline": name, "rule": shape.rule or f"gate on {shape.option}",
            "policy": shape.baseline, "true_drop": found.drop, "limit": LIMIT,
            "not_the_baselines": float(found.early.mean()),
            "differ": float(found.differs.mean()), "questions": QUESTIONS,
            "requests": REQUESTS, "runs": len(alarms), "alarms": len(raised),
            "by": sorted(alarm.quantity for alarm in raised),
            "rate": [rate.low, rate.high], "upper_bound_95": bound, "allowed": ALLOWED,
            "within": bound <= ALLOWED,
        }  # fmt: skip


def loss(repetitions: int, known: Rows) -> Iterator[dict[str, Any]]:
    print(f"harmed helped not the baseline's   found within {AUDITED}            median")
    for number, (harmed, helped, early) in enumerate(LOSSES):
        of = {"harmed": harmed, "helped": helped, "not_the_baselines": early}
        if any(of.items() <= row.items() for row in known):
            continue
        rng = np.random.default_rng(number)
        needed = [audited_until_alarm(harmed, helped, early, rng) for _ in range(repetitions)]
        times = [each for each in needed if each is not None]
        rate = clopper_pearson(len(times), repetitions, 0.95)
        median = float(np.median([each or np.inf for each in needed]))
        print(
            f"{harmed:6.2f} {helped:6.2f} {early:12.1f}   {rate.estimate:.3f} "
            f"[{rate.low:.3f}, {rate.high:.3f}]   {median:g}",
            flush=True,
        )
        yield of | {
            "certified": 0.01, "audited": AUDITED, "runs": repetitions, "found": len(times),
            "rate": [rate.estimate, rate.low, rate.high],
            "median": None if np.isinf(median) else median,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=("unchanged", "loss"))
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--fresh", action="store_true", help="keep nothing of what OUT holds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: Rows = []
    if options.out is not None and options.out.exists() and not options.fresh:
        rows = json.loads(options.out.read_text())["rows"]
    command = f"benchmarks/certify/monitoring.py {options.part} --repetitions {options.repetitions}"
    for row in (unchanged if options.part == "unchanged" else loss)(options.repetitions, rows[:]):
        rows.append(row)
        if options.out is not None:
            write_json(options.out, {"command": command, "rows": rows})


if __name__ == "__main__":
    main()
