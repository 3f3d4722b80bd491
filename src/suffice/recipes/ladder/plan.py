"""Which rungs to train, what they cost, and the plan file that says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from suffice.architecture.ladder_design import (
    Design,
    DesignPoint,
    DesignSpace,
    Standardisation,
    allotment,
    candidates,
    choose,
    coordinates,
    repeats,
)
from suffice.core.errors import ConfigError, InputError
from suffice.core.files import read_json, write_json
from suffice.training.pretrain.flops import training_flops
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import DIMENSIONS, LadderRung, Recipe, ladder_shape

FORMAT = 1
HELD_OUT = "held-out"
TUNING_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
CHECK_FACTORS = (0.5, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanConfig:
    """What to plan. `runs` counts designed rungs; repeats and learning-rate checks come on top.

    `counts` gives them by designed size instead of leaving the division to the costs.

    With `tune`, four extreme shapes of the smallest size run at five learning rates first and set
    the rate for all. With `check`, the narrowest and the widest shape of the next size run at half
    and twice that rate (of the smallest size, without tuning).
    `held_out_runs` runs of the largest size are drawn at random over its lattice instead of being
    designed, all at the fewest tokens per parameter: a fair test of a law fitted below it.
    `seeds_each` trains every designed run with so many seeds; `repeated_shapes` come on top.
    Records at `learning_rate_factor` times their recipe's rate count as measured, no others.
    `flops_per_s` is the speed of training on the machine at hand; `budget_s` limits the total.
    """

    space: DesignSpace
    recipe: Recipe
    vocab_size: int
    runs: int = 40
    counts: tuple[int, ...] | None = None
    held_out_runs: int = 0
    repeated_shapes: int = 3
    seeds: int = 3
    seeds_each: int = 1
    learning_rate_factor: float = 1.0
    tune: bool = True
    check: bool = True
    flops_per_s: float = 2e10
    budget_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 2 * len(self.space.sizes):
            raise ConfigError(
                f"{self.runs} runs are too few for {len(self.space.sizes)} sizes: at least two each"
            )
        if min(self.seeds, self.seeds_each) < 1 or self.repeated_shapes < 0:
            raise ConfigError("seeds must be at least 1 and repeated shapes at least 0")
        if self.learning_rate_factor <= 0:
            raise ConfigError(
                f"the learning-rate factor must be positive, got {self.learning_rate_factor:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Rungs in the order they should run, under one recipe."""

    recipe: Recipe
    rungs: tuple[LadderRung, ...]
    flops_per_s: float
    efficiency: float | None = None

    def cost_s(self, rung: LadderRung) -> float:
        """Seconds that `rung` is expected to take."""
        return rung_flops(rung, self.recipe) / self.flops_per_s

    @property
    def total_s(self) -> float:
        """Seconds for all rungs, one after another."""
        return sum(self.cost_s(rung) for rung in self.rungs)

    def save(self, path: Path) -> None:
        """Write the plan file."""
        write_json(path, {
            "format": FORMAT,
            "recipe": asdict(self.recipe),
            "flops_per_s": self.flops_per_s,
            "efficiency": self.efficiency,
            "rungs": [rung.to_json() for rung in self.rungs],
        })  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan file; unknown keys are errors."""
        raw = read_json(path, what="ladder plan")
        try:
            if raw["format"] != FORMAT or set(raw) != {
                "format", "recipe", "flops_per_s", "efficiency", "rungs",
            }:  # fmt: skip
                raise KeyError("format")
            unknown = set(raw["recipe"]) - {f.name for f in fields(Recipe)}
            if unknown:
                raise KeyError(f"recipe keys {', '.join(sorted(unknown))}")
            return cls(
                recipe=Recipe(**raw["recipe"]),
                rungs=tuple(LadderRung.from_json(row) for row in raw["rungs"]),
                flops_per_s=float(raw["flops_per_s"]),
                efficiency=raw["efficiency"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{str(path)!r} is not a ladder plan of format {FORMAT} ({error}): write one with "
                "`suffice ladder plan`"
            ) from None


def make_plan(config: PlanConfig, measured: Sequence[RunRecord] = ()) -> Plan:
    """A D-optimal plan, given what is `measured`; shrunk to the budget if there is one.

    Raises InputError if the budget holds fewer than two runs per size.
    """
    runs = config.runs
    while True:
        plan = _plan(replace(config, runs=runs), measured)
        if config.budget_s is None or config.counts or plan.total_s <= config.budget_s:
            return plan
        smaller = min(runs - 1, math.floor(runs * config.budget_s / plan.total_s))
        if smaller < 2 * len(config.space.sizes):
            raise InputError(
                f"a budget of {config.budget_s:,.0f} s is too small: the smallest plan needs "
                f"{plan.total_s:,.0f} s at {config.flops_per_s:.3g} FLOP/s; lower --sizes or "
                "--tokens-per-param, or raise --budget"
            )
        runs = smaller


def add_to_plan(
    plan: Plan, config: PlanConfig, measured: Sequence[RunRecord], more: int
) -> list[LadderRung]:
    """The next `more` rungs: those that tell most beyond what is planned or measured."""
    known = [_point(rung, config.space) for rung in plan.rungs] + _points(measured, config)
    pool = candidates(config.space, shape_maker(config))
    taken = {(p.shape, p.tokens) for p in known}
    pool = [p for p in pool if (p.shape, p.tokens) not in taken]
    cost = _cost(config)
    best: list[DesignPoint] = []
    for _ in range(more):
        # One at a time: each next run may fall on any size, wherever a second buys most.
        gains = [
            choose(config.space, pool, [int(s == size) for s in config.space.sizes],
                   measured=[*known, *best], cost=cost, seed=config.seed)
            for size in config.space.sizes
        ]  # fmt: skip
        chosen = max(gains, key=lambda d: (d.log_det - d.start_log_det) / cost(d.points[0]) ** 0.5)
        best.append(chosen.points[0])
        pool.remove(chosen.points[0])
    return [rung_at(p, config, n) for n in range(config.seeds_each) for p in best]


def rung_flops(rung: LadderRung, recipe: Recipe) -> float:
    """Training FLOPs of `rung`, held-out evaluations included (forward passes count a third)."""
    per_token = training_flops(rung, recipe) / recipe.trained_tokens(rung.tokens)
    evaluated = recipe.evaluation_sequences * recipe.sequence_length * 3
    return training_flops(rung, recipe) + per_token / 3 * evaluated


def _plan(config: PlanConfig, measured: Sequence[RunRecord]) -> Plan:
    cost = _cost(config)
    sizes = sorted(config.space.sizes)
    designed = sizes[:-1] if config.held_out_runs and len(sizes) > 1 else sizes
    space = replace(config.space, sizes=tuple(designed))
    pool = candidates(space, shape_maker(config))
    counts = list(config.counts or allotment(space, pool, config.runs, cost))
    if len(counts) != len(designed):
        raise ConfigError(
            f"{len(counts)} counts of runs for {len(designed)} designed sizes: give one each"
        )
    known = _points(measured, replace(config, space=space))
    design = choose(space, pool, counts, measured=known, cost=cost, seed=config.seed)
    return Plan(
        recipe=config.recipe,
        rungs=(*_rungs(design, config), *_held_out(config, sizes[-1])),
        flops_per_s=config.flops_per_s,
        efficiency=design.efficiency,
    )


def _rungs(design: Design, config: PlanConfig) -> list[LadderRung]:
    rungs = [rung_at(p, config, 0) for p in design.points]
    rungs += [rung_at(p, config, n) for n in range(1, config.seeds_each) for p in design.points]
    for point in repeats(design.points, config.repeated_shapes):
        rungs += [rung_at(point, config, n) for n in range(config.seeds_each, config.seeds)]
    sizes = sorted({p.size for p in design.points})
    if config.check:
        # Tuning covers the smallest size; the check then asks whether its rate carries over.
        size = sizes[1] if config.tune and len(sizes) > 1 else sizes[0]
        ends = _extremes(design.points, size, [(1.0, 0.0)])
        rungs += _at_factors(ends, _scaled(CHECK_FACTORS, config), "check", config.seed)
    tuning: list[LadderRung] = []
    if config.tune:
        corners = _extremes(design.points, sizes[0], [(1.0, 1.0), (1.0, -1.0)])
        tuning = _at_factors(corners, TUNING_FACTORS, "tune", config.seed)
    return tuning + rungs


def rung_at(point: DesignPoint, config: PlanConfig, extra: int) -> LadderRung:
    """`point` with the seed `extra` beyond the first, which makes it a repeat."""
    return LadderRung(
        shape=point.shape,
        tokens=point.tokens,
        seed=config.seed + extra,
        purpose="repeat" if extra else "design",
        learning_rate_factor=config.learning_rate_factor,
    )


def _held_out(config: PlanConfig, size: float) -> list[LadderRung]:
    if not config.held_out_runs:
        return []
    space = replace(config.space, sizes=(size,))
    pool = candidates(space, shape_maker(config))
    cheapest = min(p.tokens for p in pool)
    pool = [p for p in pool if p.tokens == cheapest]
    random = np.random.default_rng(config.seed)
    rows = random.choice(len(pool), size=min(config.held_out_runs, len(pool)), replace=False)
    return [replace(rung_at(pool[int(row)], config, 0), purpose=HELD_OUT) for row in rows]


def _scaled(factors: Sequence[float], config: PlanConfig) -> tuple[float, ...]:
    return tuple(factor * config.learning_rate_factor for factor in factors)


def _at_factors(
    points: Sequence[DesignPoint], factors: Sequence[float], purpose: str, seed: int
) -> list[LadderRung]:
    return [
        LadderRung(shape=p.shape, tokens=p.tokens, seed=seed, learning_rate_factor=factor,
             purpose=purpose)
        for p in points
        for factor in factors
    ]  # fmt: skip


def _extremes(
    points: Sequence[DesignPoint], size: float, directions: Sequence[tuple[float, float]]
) -> list[DesignPoint]:
    """Of the cheapest points of `size`, those at both ends of each direction in (ln x, ln r)."""
    own = [p for p in points if p.size == size]
    cheapest = min(p.tokens for p in own)
    own = [p for p in own if p.tokens == cheapest]
    raw = coordinates(own)
    plane = Standardisation.of(raw).apply(raw)[:, 2:4]
    rows: list[int] = []
    for direction in directions:
        order = [int(row) for row in np.argsort(plane @ np.asarray(direction))]
        for end in (order, order[::-1]):
            # The outermost point that no other end took.
            rows += [row for row in end if row not in rows][:1]
    return [own[row] for row in rows]


def shape_maker(config: PlanConfig) -> Callable[..., Any]:
    """Makes a shape from its dimensions, all but the vocabulary."""
    return partial(ladder_shape, vocab_size=config.vocab_size)


def _cost(config: PlanConfig) -> Callable[[DesignPoint], float]:
    def seconds(point: DesignPoint) -> float:
        rung = LadderRung(shape=point.shape, tokens=point.tokens)
        return rung_flops(rung, config.recipe) / config.flops_per_s

    return seconds


def _points(records: Sequence[RunRecord], config: PlanConfig) -> list[DesignPoint]:
    finished = [
        r
        for r in records
        if r.status == "finished" and r.learning_rate_factor == config.learning_rate_factor
    ]
    return [_point(rung_of(record), config.space) for record in finished]


def _point(rung: LadderRung, space: DesignSpace) -> DesignPoint:
    own = space.size_of(rung.shape)
    size = min(space.sizes, key=lambda s: abs(math.log(s / own)))
    return DesignPoint(shape=rung.shape, tokens=rung.tokens, size=size)


def rung_of(record: RunRecord) -> LadderRung:
    """The rung that `record` came from, with the tokens it was trained on."""
    return LadderRung(
        shape=ladder_shape(**{key: getattr(record, key) for key in DIMENSIONS}),
        tokens=record.tokens,
        seed=record.seed,
        learning_rate_factor=record.learning_rate_factor,
        purpose=record.purpose,
    )
