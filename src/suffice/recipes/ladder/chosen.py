"""Rungs that a law chooses: held-out shapes far apart in its prediction, its pick, a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from suffice.architecture.counts import aspect, mlp_to_attention_ratio, query_width
from suffice.architecture.ladder_design import DesignPoint, candidates
from suffice.architecture.laws import ConditionalLaw, Law
from suffice.architecture.predict import shape_variables
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, NothingFeasible
from suffice.recipes.ladder.pick import EQUAL_REFERENCE, PICK, REFERENCE
from suffice.recipes.ladder.plan import HELD_OUT, Plan, PlanConfig, rung_at, shape_maker
from suffice.training.rung import LadderRung


def far_apart(
    plan: Plan, config: PlanConfig, law: Law, shapes: int
) -> list[LadderRung]:  # fmt: skip
    """`shapes` of the largest size, spread over what `law` predicts, each with `seeds_each` seeds.

    The best and the worst predicted shape and, between them, those nearest to equal steps of
    predicted loss: with shapes drawn at random, noise alone decides the order. Shapes outside the
    law's range, and those that the plan holds, are left out.

    Raises InputError if fewer than `shapes` are left, or the law is not conditional, and
    OutsideValidity if it does not hold the size.
    """
    if not isinstance(law, ConditionalLaw):
        raise InputError(f"law {law.name!r} is not conditional: it says nothing of shape alone")
    size = max(config.space.sizes)
    law.check(N=size)
    pool = candidates(replace(config.space, sizes=(size,)), shape_maker(config))
    taken = {rung.shape for rung in plan.rungs}
    cheapest = min(p.tokens for p in pool)
    pool = [p for p in pool if p.tokens == cheapest and p.shape not in taken and _covers(law, p)]
    if len(pool) < shapes or shapes < 2:
        raise InputError(
            f"{len(pool)} shapes of {size:,.0f} parameters lie inside the range of law "
            f"{law.name!r}, {shapes} were asked for: at least two, and no more than there are"
        )
    predicted = [float(np.squeeze(law.relative_loss(**_variables(law, p)))) for p in pool]
    chosen: list[int] = []
    for aim in np.linspace(min(predicted), max(predicted), shapes):
        left = [row for row in range(len(pool)) if row not in chosen]
        chosen.append(min(left, key=lambda row: (abs(predicted[row] - aim), row)))
    return [
        replace(rung_at(pool[row], config, seed), purpose=HELD_OUT)
        for seed in range(config.seeds_each)
        for row in chosen
    ]


def pick_and_reference(
    config: PlanConfig, law: Law, like: Shape
) -> list[LadderRung]:  # fmt: skip
    """The shape of the largest size with the lowest predicted loss, and the one most like `like`.

    Both lie inside the law's range and have equal size as the space counts it; "like" is the least
    sum of squared logarithms of x, r, KV share and attention width over hidden size. Each is
    trained with `seeds_each` seeds, in turn.

    Raises InputError where no shape lies inside the range, or one is both; OutsideValidity if the
    law does not hold the size.
    """
    if not isinstance(law, ConditionalLaw):
        raise InputError(f"law {law.name!r} is not conditional: it says nothing of shape alone")
    size = max(config.space.sizes)
    law.check(N=size)
    pool = candidates(replace(config.space, sizes=(size,)), shape_maker(config))
    cheapest = min(p.tokens for p in pool)
    pool = [p for p in pool if p.tokens == cheapest and _covers(law, p)]
    if not pool:
        raise InputError(
            f"no shape of {size:,.0f} parameters lies inside the range of law {law.name!r}"
        )
    best = min(pool, key=lambda p: float(np.squeeze(law.relative_loss(**_variables(law, p)))))
    near = min(pool, key=lambda p: _unlike(p.shape, like))
    if best.shape == near.shape:
        raise InputError(
            f"the best shape by law {law.name!r} is the one most like {like.name}: there is "
            "nothing to compare"
        )
    return [
        replace(rung_at(point, config, seed), purpose=purpose)
        for seed in range(config.seeds_each)
        for point, purpose in ((best, PICK), (near, REFERENCE))
    ]


def equal_references(
    config: PlanConfig, law: Law, like: Shape, planned: Sequence[LadderRung]
) -> list[LadderRung]:  # fmt: skip
    """Two more shapes like `like`: one of the pick's own N, one of its parameters in all.

    At equal N + V d neither is equal. Both within half a per cent of the pick in `planned`, on a
    lattice of half the step, inside the law's range, with the pick's tokens. Runs that `planned`
    holds are not made twice.

    Raises InputError where no shape comes so near.
    """
    if not isinstance(law, ConditionalLaw):
        raise InputError(f"law {law.name!r} is not conditional: it says nothing of shape alone")
    pick = next(rung for rung in planned if rung.purpose == PICK)
    taken = {(rung.shape, rung.tokens, rung.seed) for rung in planned}
    found = []
    for matrices, what in ((0, "N"), (2, "parameters in all")):
        space = replace(
            config.space, counted_vocab=matrices * config.vocab_size, size_tolerance=0.005,
            multiple=max(1, config.space.multiple // 2),
        )  # fmt: skip
        size = space.size_of(pick.shape)
        try:
            pool = candidates(replace(space, sizes=(float(size),)), shape_maker(config))
        except NothingFeasible:
            pool = []
        pool = [p for p in pool if _covers(law, p) and p.shape != pick.shape]
        if not pool:
            raise InputError(
                f"no other shape of {size:,} {what} lies inside the range of law {law.name!r}: "
                "a smaller --multiple may have one"
            )
        found.append(min(pool, key=lambda p: _unlike(p.shape, like)))
    rungs = [
        replace(rung_at(point, config, seed), tokens=pick.tokens, purpose=EQUAL_REFERENCE)
        for seed in range(config.seeds_each)
        for point in found
    ]
    return [rung for rung in rungs if (rung.shape, rung.tokens, rung.seed) not in taken]


def _unlike(shape: Shape, like: Shape) -> float:
    def ratios(of: Shape) -> tuple[float, ...]:
        return (
            float(aspect(of)),
            float(mlp_to_attention_ratio(of)),
            of.num_key_value_heads / of.num_attention_heads,
            float(query_width(of)) / of.hidden_size,
        )

    return sum(math.log(a / b) ** 2 for a, b in zip(ratios(shape), ratios(like), strict=True))


def _variables(law: ConditionalLaw, point: DesignPoint) -> dict[str, float]:
    values = shape_variables(point.shape)
    return {name: values[name] for name in law.family.variables}


def _covers(law: ConditionalLaw, point: DesignPoint) -> bool:
    for name, value in _variables(law, point).items():
        interval = law.domain.interval(name)
        if interval is not None and not interval.low <= value <= interval.high:
            return False
    return True
