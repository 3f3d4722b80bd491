"""What does it cost to look at any moment? Live certificates against what no such test can beat.

    python benchmarks/certify/live_bounds.py --out results/live/bounds.json

For the rows of results/live/certificate.json (two small models agree, else the large one), exactly,
by dynamic programming over the counts of losses, in requests, as means over runs:

bound    no test that may be read at any moment, errs with probability δ at most and ends surely
         needs fewer in the mean: ln(1/δ) / K, with K the least Kullback-Leibler divergence from
         the true losses to losses of a mean at the target (Wald; data processing on "it certifies")
oracle   one bettor who knows the true rate
live     the five bettors of suffice.policies.live
fixed    an exact test of a number of rows that is fixed before: sum over n of the chance that n
         rows do not suffice (by the trapezoid rule). A test for any moment that certified as often
         by every n would need no more than this in the mean; where it is below the bound, there is
         none
offline  the same for `suffice calibrate`, which certifies on two thirds of its rows

Below: how many labels a certificate of harm takes, where a share of requests has one. `lost`: every
difference without a label counts as lost; only differences need labels. `left_out`: evidence is of
the labelled requests alone, which must be a random part.

Rows that OUT holds already are kept.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from suffice.core.files import write_json
from suffice.evals.statistics.paired import Pairs, drop_p_value
from suffice.policies.live.evidence import BETS, PARTS

DELTA = 0.05
LONGEST = 12_000
# Rows of a fixed test of the net loss are drawn: so often at each of so many numbers.
DRAWS, NUMBERS = 400, 22
LABELLED = (1.0, 0.5, 0.2)


def divergence(rates: tuple[float, float], target: float) -> tuple[float, float]:
    """(K in nats per request, the bet that grows by it): the most growth of any single bettor."""
    lost, won = rates

    def growth(bet: float) -> float:
        chances = ((lost, 1.0), (won, -1.0), (1.0 - lost - won, 0.0))
        return sum(p * math.log1p(bet * (target - x)) for p, x in chances if p)

    found = minimize_scalar(
        lambda bet: -growth(bet), bounds=(0.0, (1.0 - 1e-9) / (1.0 - target)), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    return growth(float(found.x)), float(found.x)


def mean_requests(
    rates: tuple[float, float], target: float, bets: Sequence[float], parts: Sequence[float]
) -> dict[str, float | None]:
    """Mean, median and 9 of 10 of the requests to a certificate, over all traffic of these rates.

    `bets` in units of 1 / (1 - target). What is not certified within LONGEST counts as that.
    """
    lost, won = rates
    seen = 4000 if won else LONGEST  # none of the nets needs as many
    size = [_most(lost * seen), _most(won * seen) if won else 1]
    chance = np.zeros(size)
    chance[0, 0] = 1.0
    grid = np.indices(size)
    bet = np.array(bets)[:, None, None] / (1.0 - target)
    none = np.log1p(bet * target)
    by_loss = np.log1p(bet * (target - 1.0)) - none
    by_gain = np.log1p(bet * (target + 1.0)) - none
    counts = np.log(np.array(parts))[:, None, None] + by_loss * grid[0] + by_gain * grid[1]
    ended, mean = 0.0, 0.0
    quantiles: list[float | None] = [None, None]
    for n in range(1, LONGEST + 1):
        moved = chance * (1.0 - lost - won)
        moved[1:] += chance[:-1] * lost
        moved[:, 1:] += chance[:, :-1] * won
        chance = moved
        logs = counts + n * none
        most = logs.max(axis=0)
        sure = most + np.log(np.exp(logs - most).sum(axis=0)) >= -math.log(DELTA)
        now = float(chance[sure].sum())
        chance[sure] = 0.0
        ended, mean = ended + now, mean + n * now
        for at, wanted in enumerate((0.5, 0.9)):
            if quantiles[at] is None and ended >= wanted:
                quantiles[at] = float(n)
        if ended > 1.0 - 1e-6:
            break
    return {"mean": mean + (1.0 - ended) * LONGEST, "median": quantiles[0], "p90": quantiles[1],
            "not_within": max(0.0, 1.0 - ended)}  # fmt: skip


def _most(count: float) -> int:
    """Losses that are looked at where `count` are expected: more of them never happen."""
    return int(count + 8.0 * math.sqrt(count) + 12)


def mean_fixed(
    rates: tuple[float, float], target: float, *, net: bool, half: int | None
) -> float | None:
    """Sum over n of the chance that an exact test of n rows does not certify.

    `half`: rows with which half of the runs certify; None: unknown, and so is the sum of a net.
    """
    if not net:
        numbers = np.unique(np.geomspace(10, LONGEST, 600).astype(int))
        power = [_power(rates[0], target, int(n)) for n in numbers]
    elif half is None:
        return None
    else:
        numbers = np.unique(np.geomspace(max(10, half // 4), 8 * half, NUMBERS).astype(int))
        power = [_power_net(rates, target, int(n)) for n in numbers]
    missed = 1.0 - np.maximum.accumulate(np.array(power))  # more rows never need to certify less
    return float(numbers[0] + np.trapezoid(missed, numbers))


def _power(rate: float, target: float, n: int) -> float:
    most = int(binom.ppf(DELTA, n, target))
    while most >= 0 and binom.cdf(most, n, target) > DELTA:
        most -= 1
    return float(binom.cdf(most, n, rate)) if most >= 0 else 0.0


def _power_net(rates: tuple[float, float], target: float, n: int) -> float:
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(n, [*rates, 1.0 - sum(rates)], size=DRAWS)
    kinds, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    certified = [
        drop_p_value(Pairs(n=n, harmed=int(lost), helped=int(won)), target) <= DELTA
        for lost, won in kinds
    ]
    return float((np.array(certified) * counts).sum() / DRAWS)


def row_of(given: dict[str, Any], harm: float) -> dict[str, Any]:
    """Every figure of one row of results/live/certificate.json; `harm`: its rate of harm."""
    net, target = given["loss"] == "drop", given["target"]
    rates = (harm, harm - given["mean"]) if net else (given["mean"], 0.0)
    nats, bet = divergence(rates, target)
    live = mean_requests(rates, target, BETS, PARTS)
    fixed = mean_fixed(rates, target, net=net, half=given["fixed_rows"]["median"])
    bound = -math.log(DELTA) / nats
    row = {
        "task": given["task"], "target": target, "loss": given["loss"], "rates": list(rates),
        "bound": bound, "oracle": mean_requests(rates, target, [bet * (1.0 - target)], [1.0]),
        "live": live, "live_over_bound": float(live["mean"] or 0.0) / bound,
        "fixed": fixed, "offline": None if fixed is None else 1.5 * fixed,
        "as_soon_as_offline_is_possible": None if fixed is None else 1.5 * fixed >= bound,
    }  # fmt: skip
    print(
        f"{row['task']:8} {100 * target:3.0f} % {row['loss']:6} bound {bound:6.0f}  oracle "
        f"{row['oracle']['mean']:6.0f}  live {live['mean']:6.0f} ({row['live_over_bound']:.2f} of "
        f"the bound)  fixed {fixed or 0:6.0f}  offline {1.5 * (fixed or 0):6.0f}", flush=True,
    )  # fmt: skip
    return row


def labels_of(task: str, target: float, differ: float, harm: float) -> list[dict[str, Any]]:
    """Medians of shadowed requests and labels to a certificate of harm, by labelled share."""
    found = []
    for unlabelled in ("lost", "left_out"):
        for labelled in LABELLED:
            rate = harm if unlabelled == "left_out" else harm + (1.0 - labelled) * (differ - harm)
            row: dict[str, Any] = {
                "task": task, "target": target, "unlabelled": unlabelled, "labelled": labelled,
                "rate": rate, "shadowed": None, "labels": None,
            }  # fmt: skip
            median = None
            if rate < target:
                median = mean_requests((rate, 0.0), target, BETS, PARTS)["median"]
            if median is not None and unlabelled == "lost":
                row |= {"shadowed": median, "labels": median * differ * labelled}
            elif median is not None:
                row |= {"shadowed": median / labelled, "labels": median}
            print(json.dumps(row), flush=True)
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=Path, default=Path("results/live/certificate.json"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.rows.read_text())["speed"]["rows"]
    rates = {(row["task"], row["target"], row["loss"]): row["mean"] for row in rows}
    held: dict[str, Any] = {"command": "benchmarks/certify/live_bounds.py", "delta": DELTA}
    held |= {"rows": [], "labels": []}
    if options.out is not None and options.out.exists():
        held |= json.loads(options.out.read_text())

    def keep(name: str, more: list[dict[str, Any]]) -> None:
        held[name] += more
        if options.out is not None:
            write_json(options.out, held)

    known = {(row["task"], row["target"]) for row in held["labels"]}
    for task, target in dict.fromkeys((row["task"], row["target"]) for row in rows):
        differ, harm = rates[task, target, "differ"], rates[task, target, "harm"]
        if harm < target and (task, target) not in known:
            keep("labels", labels_of(task, target, differ, harm))
    done = {(row["task"], row["target"], row["loss"]) for row in held["rows"]}
    for row in sorted(rows, key=lambda row: row["loss"] == "drop"):
        key = (row["task"], row["target"], row["loss"])
        if row["mean"] < row["target"] and key not in done:
            keep("rows", [row_of(row, rates[row["task"], row["target"], "harm"])])


if __name__ == "__main__":
    main()
