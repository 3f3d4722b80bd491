"""Monitors of certificates: false alarms over unchanged traffic, and how soon a loss is found.

    python benchmarks/certify/monitoring.py unchanged --out results/certify/monitoring-unchanged.json
    python benchmarks/certify/monitoring.py limit --out results/certify/monitoring-limit.json
    python benchmarks/certify/monitoring.py loss --out results/certify/monitoring-loss.json
    python benchmarks/certify/monitoring.py watch --out results/certify/monitoring-watch.json

unchanged  for every shape of baseline: calibrations of 800 questions that certify a drop of at most
           2 points, each followed by 2,000 unchanged requests, every answer that is not the
           baseline's audited and judged; alarms, with the exact bound of their rate
limit      how often the monitor of the drop raises an alarm within 2,000 answers while the true
           drop is exactly the limit of 1 point, three quarters of it, half of it; computed exactly
loss       answers audited and judged until the monitor of the drop alone finds one of 6 points
           where 1 is certified; beside, computed exactly: the monitor, the best single bet, and the
           most that any test as seldom wrong could find
watch      the same with all monitors of a calibration that certified 1 point, by what the rule did
           before; which monitor raised the alarm

Rows that OUT holds already are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
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
    Rates,
    audited_until_alarm,
    changed_until_alarm,
    population,
    runs,
    traces,
)
from tests.policies.exact_monitor import alarm_rate, best_bet, one_look

from suffice.policies.monitor import LOSS_ALPHA

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
CERTIFIED = 0.01
# What the rule did while it was calibrated (harmed, helped), and does now: it harms more often, it
# helps no more, it differs far more often.
CHANGES = (
    ((0.00, 0.00), (0.06, 0.00)), ((0.01, 0.01), (0.07, 0.01)),
    ((0.02, 0.02), (0.08, 0.02)), ((0.04, 0.04), (0.10, 0.04)),
    ((0.01, 0.01), (0.08, 0.02)), ((0.01, 0.01), (0.10, 0.04)),
    ((0.06, 0.06), (0.06, 0.00)), ((0.07, 0.07), (0.07, 0.01)),
    ((0.08, 0.08), (0.08, 0.02)), ((0.10, 0.10), (0.10, 0.04)),
)  # fmt: skip
ANSWERS = 2000
HELPED = (0.0, 0.01, 0.02, 0.05, 0.10)

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


def limit(repetitions: int, known: Rows) -> Iterator[dict[str, Any]]:
    del repetitions
    print(f"true drop, of the limit: alarms within {ANSWERS} answers, by how many are helped")
    for share in (1.0, 0.75, 0.5, 0.0):
        if any(row["share_of_limit"] == share for row in known):
            continue
        rates = {
            helped: alarm_rate(helped + share * CERTIFIED, helped, ANSWERS, limit=CERTIFIED)
            for helped in HELPED
        }
        print(f"{share:5.2f}   " + "  ".join(f"{h:.0%}: {r:.4f}" for h, r in rates.items()))
        yield {
            "share_of_limit": share, "limit": CERTIFIED, "answers": ANSWERS, "alpha": LOSS_ALPHA,
            "alarms": {f"{helped:g}": rate for helped, rate in rates.items()},
        }  # fmt: skip


def loss(repetitions: int, known: Rows) -> Iterator[dict[str, Any]]:
    print(f"harmed helped not the baseline's   found within {AUDITED}            median")
    for number, (harmed, helped, early) in enumerate(LOSSES):
        of = {"harmed": harmed, "helped": helped, "not_the_baselines": early}
        if any(of.items() <= row.items() for row in known):
            continue
        rng = np.random.default_rng(number)
        needed = [audited_until_alarm(harmed, helped, early, rng) for _ in range(repetitions)]
        found = _found(of, [each is not None for each in needed], needed)
        if early == 1.0:
            exact = {"limit": CERTIFIED, "alpha": LOSS_ALPHA}
            found |= {
                "exact": alarm_rate(harmed, helped, AUDITED, **exact),
                "best_bet": best_bet(harmed, helped, AUDITED, **exact),
                "any_test": one_look(harmed, helped, AUDITED, **exact),
                "any_test_at_1": one_look(harmed, helped, AUDITED, limit=CERTIFIED, alpha=0.01),
            }
            print({k: round(found[k], 4) for k in ("exact", "best_bet", "any_test")})
        yield found


def _found(of: dict[str, Any], found: list[bool], needed: list[int | None]) -> dict[str, Any]:
    rate = clopper_pearson(sum(found), len(found), 0.95)
    median = float(np.median([each or np.inf for each in needed]))
    print(
        "  ".join(f"{value:4.2f}" for value in of.values() if isinstance(value, float))
        + f"   {rate.estimate:.3f} [{rate.low:.3f}, {rate.high:.3f}]   {median:g}",
        flush=True,
    )
    return of | {
        "certified": CERTIFIED, "audited": AUDITED, "runs": len(found), "found": sum(found),
        "rate": [rate.estimate, rate.low, rate.high],
        "median": None if np.isinf(median) else median,
    }  # fmt: skip


def watch(repetitions: int, known: Rows) -> Iterator[dict[str, Any]]:
    print(f"before, now, not the baseline's   found within {AUDITED}   median")
    for number, (was, now) in enumerate(CHANGES):
        for early in (1.0, 0.5):
            of = {
                "before_harmed": was[0], "before_helped": was[1], "harmed": now[0],
                "helped": now[1], "not_the_baselines": early,
            }  # fmt: skip
            if any(of.items() <= row.items() for row in known):
                continue
            rng = np.random.default_rng([number, int(10 * early)])
            before, after = (
                Rates(harmed=harmed, helped=helped, early=early) for harmed, helped in (was, now)
            )
            # As many questions as certify the limit about every other time, a loss of 0 being true.
            differ = max(0.02, before.differ)
            questions = round(1.645**2 * differ / CERTIFIED**2 / 100) * 100
            tried, runs_ = 0, []
            while len(runs_) < repetitions:
                tried += 1
                if (one := changed_until_alarm(before, after, questions, rng)) is not None:
                    runs_.append(one)
            raised = Counter(alarm.quantity for alarm, _ in runs_ if alarm is not None)
            needed = [count if alarm is not None else None for alarm, count in runs_]
            print(f"{questions} questions, {len(runs_) / tried:.2f} certified, by {dict(raised)}")
            yield _found(of, [each is not None for each in needed], needed) | {
                "questions": questions, "calibrations": tried, "by": dict(raised),
            }  # fmt: skip


PARTS = {"unchanged": unchanged, "limit": limit, "loss": loss, "watch": watch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--fresh", action="store_true", help="keep nothing of what OUT holds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: Rows = []
    if options.out is not None and options.out.exists() and not options.fresh:
        rows = json.loads(options.out.read_text())["rows"]
    command = f"benchmarks/certify/monitoring.py {options.part} --repetitions {options.repetitions}"
    for row in PARTS[options.part](options.repetitions, rows[:]):
        rows.append(row)
        if options.out is not None:
            write_json(options.out, {"command": command, "rows": rows})


if __name__ == "__main__":
    main()
