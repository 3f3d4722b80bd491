"""How often 90 % intervals of fitted laws hold a planted truth, and what is seen where there is none.

    python benchmarks/design/law_coverage.py --out results/design/law-coverage.json

Cases: a Chinchilla law resampled by run and by size; conditional laws with a lowest point inside
the range, at a scatter of .2 % a run (30 shapes at 3 sizes) and of .54 % (43 runs as in
results/ladder, a bend of .55 %); and flat truths, 200 of them, where nothing may be located. The
lowest points are given by the test that fits report (`turning_point`) and, beside it, by the
percentiles of the positive bootstrap, cut at the range, which they replaced.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from suffice.architecture.fitting import Fit, fit
from suffice.architecture.runs import RunsTable
from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson

CHINCHILLA = {"E": 1.82, "A": 482.0, "B": 2085.4, "alpha": 0.348, "beta": 0.366}
X_RANGE, R_RANGE = (0.05, 0.25), (0.5, 5.0)


def absolute_runs(seed: int) -> RunsTable:
    """28 runs of seven sizes, .3 % of noise."""
    rng = np.random.default_rng(seed)
    E, A, B, alpha, beta = CHINCHILLA.values()
    rows = []
    for n in np.geomspace(5e7, 3e9, 7):
        for ratio in (5, 15, 45, 135):
            loss = (E + A * n**-alpha + B * (n * ratio) ** -beta) * np.exp(0.003 * rng.normal())
            rows.append({"N": float(n), "D": float(n * ratio), "loss": float(loss)})
    return RunsTable.from_rows(rows)


def bend(value: float, lowest: float, ends: tuple[float, float]) -> float:
    """A curve c1 ln v + c2 / v that is 0 at `lowest` and 1 at its worse end."""

    def raw(v: float) -> float:
        return float(np.log(v / lowest) + lowest / v - 1)

    return raw(value) / max(raw(end) for end in ends)


def conditional_runs(
    seed: int, *, shapes: int, sizes: int, noise: float, x_bend: float, r_bend: float
) -> RunsTable:
    """`shapes` at each of `sizes`; the worse end of x and r costs that share of the loss."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in range(sizes):
        for _ in range(shapes):
            x = float(np.exp(rng.uniform(*np.log(X_RANGE))))
            r = float(np.exp(rng.uniform(*np.log(R_RANGE))))
            ratio = 1 + x_bend * bend(x, 0.12, X_RANGE) + r_bend * bend(r, 1.5, R_RANGE)
            loss = (3.5 - 0.2 * size) * ratio * np.exp(noise * rng.normal())
            n = 1e8 * 3**size
            rows.append({"N": n, "D": 20 * n, "x": x, "r": r, "loss": float(loss)})
    return RunsTable.from_rows(rows)


def bootstrap_holds(made: Fit, name: str, truth: float) -> bool:
    """Whether percentiles of c2 / c1 over the draws, cut at the range, hold `truth`."""
    law = made.law
    assert law.draws is not None
    letter = {"x": "a", "r": "b"}[name]
    one, two = (law.draws[:, law.family.parameters.index(f"{letter}{i}")] for i in (1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where((one > 0) & (two > 0), two / one, np.where(two > 0, np.inf, 0.0))
    low, high = np.percentile(np.clip(found, *(X_RANGE if name == "x" else R_RANGE)), [5, 95])
    return bool(low <= truth <= high)


def absolute(cluster: str, repetitions: int) -> Counter[str]:
    """How many fits held each coefficient."""
    held: Counter[str] = Counter()
    for seed in range(repetitions):
        made = fit(absolute_runs(seed), "chinchilla", bootstrap_draws=120, seed=seed,
                   cluster=cluster)  # type: ignore[arg-type]  # fmt: skip
        for name, due in CHINCHILLA.items():
            interval = made.interval(name)
            held[name] += interval is not None and interval[0] <= due <= interval[1]
    return held


def conditional(repetitions: int, **about: float) -> Counter[str]:
    """How many fits held x* = .12 and r* = 1.5, and how many located one."""
    held: Counter[str] = Counter()
    for seed in range(repetitions):
        runs = conditional_runs(seed, **about)  # type: ignore[arg-type]
        made = fit(runs, "conditional-multiplicative", bootstrap_draws=60, optimal_loss="free",
                   seed=seed)  # fmt: skip
        for point in made.lowest:
            due = {"x": 0.12, "r": 1.5}[point.variable]
            held[f"{point.variable}*"] += point.holds(due)
            held[f"{point.variable}* located"] += point.located
            held[f"{point.variable}* by bootstrap"] += bootstrap_holds(made, point.variable, due)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--flat", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    many, flat = options.repetitions, options.flat
    sharp = {"shapes": 30, "sizes": 3, "noise": 0.002, "x_bend": 0.0055, "r_bend": 0.0055}
    noisy = {"shapes": 22, "sizes": 2, "noise": 0.0054, "x_bend": 0.0055, "r_bend": 0.0055}
    level = {"shapes": 22, "sizes": 2, "noise": 0.0054, "x_bend": 0.0, "r_bend": 0.0}
    rows = []
    for case, of, counts in (
        ("chinchilla by run", many, lambda: absolute("run", many)),
        ("chinchilla by size", many, lambda: absolute("shape", many)),
        ("conditional, .2 % of noise", many, lambda: conditional(many, **sharp)),
        ("conditional, .54 % of noise", many, lambda: conditional(many, **noisy)),
        ("flat truth, .54 % of noise", flat, lambda: conditional(flat, **level)),
    ):
        for what, count in sorted(counts().items()):
            if case.startswith("flat") and "located" not in what:
                continue
            rate = clopper_pearson(count, of, 0.95)
            rows.append({"case": case, "what": what, "count": count, "of": of,
                         "interval": [rate.low, rate.high]})  # fmt: skip
            print(f"{case}: {what} {count} of {of} [{rate.low:.3f}, {rate.high:.3f}]", flush=True)
    if options.out:
        write_json(options.out, {"command": "benchmarks/design/law_coverage.py", "nominal": 0.9,
                                 "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
