"""What a ladder of 43 shapes can tell: made-up losses on the shapes of results/ladder.

    python benchmarks/design/ladder_coverage.py --out results/design/ladder-coverage.json

The shapes, sizes and tokens of the 43 half-rate runs, with losses made up:

    bend        a lowest point x* = .12; the worse end of x costs .55 %; scatter of a run .54 or .1 %
    flat        shape does nothing; scatter .54 %
    our-ladder  shape does what that law says; scatter .54 %: what of its best shape's promise holds?

Counted are how often a lowest point is *located* and its 90 % interval holds the truth, by the test
that fits report and by the bootstrap cut at the range that it replaced; how often more than half of
the bootstrap fits have a lowest point inside the range ("most fits", the verdict of old); and, for the
best of all shapes at 1M by each refitted law, how often its bound holds the true ratio to a
LLaMA-like reference. `before` is what was counted with the first edition's code and verdicts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from suffice.architecture.catalog import load_shape
from suffice.architecture.fitting import Fit, fit
from suffice.architecture.fitting.problem import scales
from suffice.architecture.ladder_design import DesignSpace, candidates
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.predict import shape_variables
from suffice.architecture.runs import RunsTable
from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.recipes.ladder.table import law_records, runs_table
from suffice.training.rung import ladder_shape

FORM = "conditional-aspect"
LETTERS = {"x": "a", "r": "b", "width_per_layer": "h"}
X_RANGE = (0.071, 0.245)
NOISE = 0.0054
# Reference: of the shapes at 1M in the law's range, the one most like LLaMA-3.2-1B in x and r.
SPACE = DesignSpace(
    sizes=(1e6,), tokens_per_parameter=(1,), multiple=16, x=X_RANGE, r=(0.5, 4.5), layers=(2, 8),
    kv_shares=(1.0, 0.5, 0.25, 0.125),
)  # fmt: skip


def made_up(base: RunsTable, seed: int, noise: float, ratio: np.ndarray) -> RunsTable:
    """`base` with losses level x `ratio` x noise; a level per scale."""
    rng = np.random.default_rng(seed)
    loss = (4.2 - 0.1 * scales(base)[0]) * ratio * np.exp(noise * rng.normal(size=len(base)))
    return replace(base, numbers={**base.numbers, "loss": loss})


def bend(base: RunsTable, lowest: float, worst: float) -> np.ndarray:
    """1 at `lowest` of x, 1 + `worst` at the worse end of its range."""

    def raw(v: np.ndarray) -> np.ndarray:
        return np.log(v / lowest) + lowest / v - 1

    return 1 + worst * raw(base.column("x")) / raw(np.array(X_RANGE)).max()


def refit(runs: RunsTable, seed: int) -> Fit:
    """A fit as `suffice ladder fit` makes it."""
    return fit(runs, FORM, bootstrap_draws=60, optimal_loss="free", holdout=None, seed=seed)


def bootstrap_lowest(made: Fit, variable: str) -> tuple[np.ndarray, float]:
    """Lowest points of the draws, and the share of them inside the range."""
    law = made.law
    assert isinstance(law, ConditionalLaw) and law.draws is not None
    one, two = (
        law.draws[:, law.family.parameters.index(f"{LETTERS[variable]}{i}")] for i in (1, 2)
    )
    interval = law.domain.interval(variable)
    assert interval is not None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at = np.where((one > 0) & (two > 0), two / one, np.where(two > 0, np.inf, 0.0))
    inside = (at > interval.low) & (at < interval.high)
    return np.clip(at, interval.low, interval.high), float(inside.mean())


def bent(base: RunsTable, repetitions: int, noise: float) -> Counter[str]:
    """Located, and held, of a true x* = .12."""
    counts: Counter[str] = Counter()
    ratio = bend(base, 0.12, 0.0055)
    for seed in range(repetitions):
        made = refit(made_up(base, seed, noise, ratio), seed)
        (point,) = [p for p in made.lowest if p.variable == "x"]
        low, high = np.percentile(bootstrap_lowest(made, "x")[0], [5, 95])
        counts["x* located"] += point.located
        counts["x* held"] += point.holds(0.12)
        counts["x* held by the bootstrap"] += bool(low <= 0.12 <= high)
    return counts


def flat(base: RunsTable, repetitions: int) -> Counter[str]:
    """What is seen where there is nothing."""
    counts: Counter[str] = Counter()
    for seed in range(repetitions):
        made = refit(made_up(base, seed, NOISE, np.ones(len(base))), seed)
        for point in made.lowest:
            counts[f"{point.variable} located"] += point.located
            counts[f"{point.variable} inside in most bootstrap fits"] += (
                bootstrap_lowest(made, point.variable)[1] >= 0.5
            )
    return counts


def promise(base: RunsTable, repetitions: int) -> Counter[str]:
    """How often the bound of the best shape by a refit holds under `our-ladder`."""
    truth = load_law("our-ladder")
    assert isinstance(truth, ConditionalLaw)
    names = truth.family.variables
    ratio = np.asarray(truth.relative_loss(**{n: base.column(n) for n in names}))
    pool = [
        {n: shape_variables(p.shape)[n] for n in names}
        for p in candidates(SPACE, partial(ladder_shape, vocab_size=1024))
    ]
    grid = {n: np.array([each[n] for each in pool]) for n in names}
    ends = {n: (base.column(n).min(), base.column(n).max()) for n in names}
    kept = np.all([(low <= grid[n]) & (grid[n] <= high) for n, (low, high) in ends.items()], axis=0)
    grid = {n: values[kept] for n, values in grid.items()}
    like = shape_variables(load_shape("meta-llama/Llama-3.2-1B"))
    far = sum(np.log(grid[n] / like[n]) ** 2 for n in ("x", "r"))
    reference = {n: float(grid[n][int(np.argmin(far))]) for n in names}
    counts: Counter[str] = Counter()
    for seed in range(repetitions):
        law = refit(made_up(base, seed, NOISE, ratio), seed).law
        assert isinstance(law, ConditionalLaw)
        best = int(np.argmin(law.relative_loss(**grid)))
        pick = {n: float(grid[n][best]) for n in names}
        found = law.compare(**pick, versus=reference, confidence=0.9)
        due = float(np.squeeze(truth.relative_loss(**pick) / truth.relative_loss(**reference)))
        counts["bound of the pick held"] += bool(due <= float(np.squeeze(found.high)))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base = runs_table(
        law_records(Path("results/ladder/runs.jsonl"), learning_rate_factor=0.5), source="shapes"
    )
    many, few = options.repetitions, max(1, options.repetitions * 6 // 10)
    cases: tuple[tuple[str, int, Callable[[], Counter[str]], dict[str, str]], ...] = (
        ("bend, .54 % of noise", many, lambda: bent(base, many, NOISE),
         {"x* located": "12 %", "x* held by the bootstrap": "62 to 68 %"}),
        ("bend, .1 % of noise", few, lambda: bent(base, few, 0.001),
         {"x* located": "100 %", "x* held by the bootstrap": "96 %"}),
        ("flat", many, lambda: flat(base, many),
         {"x located": "0 of 24", "r located": "0 of 24", "width_per_layer located": "0 of 24",
          "x inside in most bootstrap fits": "21 %", "r inside in most bootstrap fits": "46 %",
          "width_per_layer inside in most bootstrap fits": "17 %"}),
        ("our-ladder", few, lambda: promise(base, few),
         {"bound of the pick held": "60 of 60"}),
    )  # fmt: skip
    rows = []
    for case, of, counted, before in cases:
        for what, count in sorted(counted().items()):
            rate = clopper_pearson(count, of, 0.95)
            rows.append({"case": case, "what": what, "count": count, "of": of,
                         "interval": [rate.low, rate.high], "before": before.get(what)})  # fmt: skip
            print(f"{case}: {what} {count} of {of} [{rate.low:.3f}, {rate.high:.3f}]"
                  f"{'' if what not in before else f', before {before[what]}'}", flush=True)  # fmt: skip
    if options.out:
        write_json(options.out, {"command": "benchmarks/design/ladder_coverage.py", "nominal": 0.9,
                                 "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
