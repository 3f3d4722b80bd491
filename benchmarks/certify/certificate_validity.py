"""How often is a certificate false? Methods on hard tasks, whole calibrations of recordings.

    python benchmarks/certify/certificate_validity.py methods whole --out results/certify/validity.json

methods  every test, 2,000 repetitions of every task of simulate.py; copies of a question counted as
         rows stand beside as the contrast that fails
whole    `suffice calibrate` itself on 500 recordings of each population of
         tests/recipes/populations.py, the certified rule held against the population's truth

Rows that OUT holds already are kept, and a population goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from simulate import METHODS, simulate, tasks

from suffice.core.files import write_json
from suffice.evals.statistics.binomial import at_least_p_value, clopper_pearson
from suffice.policies import prompt_features
from suffice.recipes.calibrate import fit_predictor as fit

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.recipes.populations import (
    CONTRASTS,
    Counted,
    Population,
    Truth,
    false_certificates,
    populations,
)

Rows = list[dict[str, Any]]
# Fresh questions on which the truth is seen; the edge of a limit is blurred by its error.
FRESH = 20_000
AT_ONCE = 50  # repetitions between two writes
REMEMBERED = 30_000  # prompts whose words and form are worked out once
KEPT = {True: "keeps", False: "BREAKS"}


def methods(repetitions: int, known: Rows) -> Iterator[dict[str, Any]]:
    done = {(row["task"], row["method"]) for row in known if row["repetitions"] >= repetitions}
    print(f"{'task':34} {'method':28} violations  allowed   p      thresholds certified")
    for number, task in enumerate(tasks()):
        for method in METHODS:
            if (task.name, method) in done:
                continue
            found = simulate(task, method, repetitions=repetitions, seed=number)
            rate = found.violations / found.repetitions
            print(
                f"{task.name:34} {method:28} {rate:9.4f} {found.allowed:8.3f} "
                f"{found.p_value:8.2g}  {found.certified:.3f} {KEPT[found.keeps]}",
                flush=True,
            )
            yield {**asdict(found), "keeps": found.keeps, "n": task.n, "limit": task.limit,
                   "plays": task.plays}  # fmt: skip


def remember_prompts() -> None:
    """Every calibration's predictor is held against the same fresh questions."""
    prompt_features.hashed_counts = lru_cache(REMEMBERED)(prompt_features.hashed_counts)
    fit.hashed_counts = prompt_features.hashed_counts
    fit.form = lru_cache(REMEMBERED)(fit.form)


def whole(repetitions: int, known: Rows, names: list[str]) -> Iterator[dict[str, Any]]:
    remember_prompts()
    before = {row["population"]: row for row in known}
    for population in populations():
        if names and population.name not in names:
            continue
        for distinct in (False, True) if population.name in CONTRASTS else (False,):
            name = population.name + (", every copy a row" if distinct else "")
            yield from _calibrations(population, name, repetitions, before.get(name), distinct)


def _calibrations(
    population: Population, name: str, repetitions: int, row: dict[str, Any] | None, distinct: bool
) -> Iterator[dict[str, Any]]:
    begin = 0 if row is None else row["repetitions"]
    if begin >= repetitions:
        return
    began = time.process_time()
    truth = Truth(population, questions=FRESH)
    while begin < repetitions:
        end = min(begin + AT_ONCE, repetitions)
        found = false_certificates(population, truth, range(begin, end), distinct=distinct)
        row, begin = _joined(population, name, row, found), end
        yield row
    assert row is not None
    low, high = row["rate"]
    print(
        f"{name:52} certified {row['certified']:4} of {repetitions}, false {row['false']:4} "
        f"[{100 * low:.1f}, {100 * high:.1f}] % of {100 * row['allowed']:g}, p {row['p_value']:.2g}"
        f" {KEPT[row['keeps']]}, saves {100 * row['mean_saving']:.0f} %, "
        f"{time.process_time() - began:.0f} CPU s",
        flush=True,
    )


def _joined(
    population: Population, name: str, row: dict[str, Any] | None, found: Counted
) -> dict[str, Any]:
    before = {"repetitions": 0, "certified": 0, "false": 0, "mean_saving": 0.0} | (row or {})
    repetitions = before["repetitions"] + found.repetitions
    certified, false = before["certified"] + found.certified, before["false"] + found.false
    saved = before["certified"] * before["mean_saving"] + found.certified * found.mean_saving
    rate = clopper_pearson(false, repetitions, 0.95)
    p_value = at_least_p_value(false, repetitions, found.allowed)
    config = population.config
    return {
        "population": name, "questions": population.questions, "copies": population.copies,
        "samples": population.samples, "method": config.method, "loss": config.used_loss,
        "scope": config.scope, "test": found.test, "limit": config.max_drop,
        "repetitions": repetitions, "certified": certified, "false": false,
        "rate": [rate.low, rate.high], "allowed": found.allowed, "p_value": p_value,
        "keeps": p_value >= 0.01, "mean_saving": saved / max(1, certified),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="+", choices=("methods", "whole"))
    parser.add_argument("--repetitions", type=int, help="2,000 of methods, 500 of whole")
    parser.add_argument("--populations", nargs="*", default=[])
    parser.add_argument("--fresh", action="store_true", help="keep nothing of what OUT holds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    np.seterr(all="raise", under="ignore")
    held: dict[str, Any] = {"alpha": 0.05}
    if options.out is not None and options.out.exists() and not options.fresh:
        held = json.loads(options.out.read_text())
    of: dict[str, tuple[int, Callable[[int, Rows], Iterator[dict[str, Any]]], tuple[str, ...]]] = {
        "methods": (2000, methods, ("task", "method")),
        "whole": (500, lambda n, k: whole(n, k, options.populations), ("population",)),
    }
    for part in options.parts:
        usual, rows_of, key = of[part]
        count = options.repetitions or usual
        rows: Rows = held.get(part, {}).get("rows", [])
        for row in rows_of(count, list(rows)):
            same = [tuple(each[name] for name in key) == tuple(row[name] for name in key)
                    for each in rows]  # fmt: skip
            rows = [each for each, is_same in zip(rows, same, strict=True) if not is_same] + [row]
            command = f"benchmarks/certify/certificate_validity.py {part} --repetitions {count}"
            held[part] = {"command": command, "rows": rows}
            if options.out is not None:
                write_json(options.out, held)


if __name__ == "__main__":
    main()
