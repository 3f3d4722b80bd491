from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suffice.architecture import ladder_design
from suffice.architecture.ladder_design import (
    FEATURES,
    PRIOR_RUNS,
    DesignPoint,
    DesignSpace,
    Standardisation,
    candidates,
    choose,
    coordinates,
    features,
)
from suffice.core.errors import ConfigError, InputError, NothingFeasible
from suffice.recipes.ladder.plan import Plan, PlanConfig, add_to_plan, make_plan
from suffice.training.rung import Recipe, ladder_shape

SPACE = DesignSpace(
    sizes=(1e5, 2e5), tokens_per_parameter=(5, 10), head_dim=16, multiple=16, layers=(2, 6)
)
CONFIG = PlanConfig(space=SPACE, recipe=Recipe(), vocab_size=257, runs=16)
MAKE = partial(ladder_shape, vocab_size=257)


def _rounded_log_det(points: list[DesignPoint], everything: list[DesignPoint]) -> float:
    """The information of `points` by its definition: a sum of outer products, one at a time."""
    scale = Standardisation.of(coordinates(everything))
    information = PRIOR_RUNS * np.eye(len(FEATURES))
    for row in features(scale.apply(coordinates(points))):
        information += np.outer(row, row)
    return float(np.log(np.linalg.det(information)))


def test_candidates_keep_to_their_space() -> None:
    pool = candidates(SPACE, MAKE)
    rows = coordinates(pool)
    sizes = np.array([p.size for p in pool])
    assert np.all(np.abs(np.exp(rows[:, 0]) / sizes - 1) <= SPACE.size_tolerance)
    assert np.all((np.exp(rows[:, 2]) >= 0.05) & (np.exp(rows[:, 2]) <= 0.25))
    assert np.all((np.exp(rows[:, 3]) >= 0.4 - 1e-9) & (np.exp(rows[:, 3]) <= 6.0 + 1e-9))
    assert {p.shape.num_hidden_layers for p in pool} == {2, 3, 4, 5, 6}
    assert len({(p.shape, p.tokens) for p in pool}) == len(pool)


def test_the_design_is_as_good_as_it_says_and_better_than_chance() -> None:
    pool = candidates(SPACE, MAKE)
    design = choose(SPACE, pool, [8, 8], seed=3)
    assert len(set(design.points)) == 16
    assert [sum(p.size == s for p in design.points) for s in SPACE.sizes] == [8, 8]
    assert design.log_det == pytest.approx(_rounded_log_det(list(design.points), pool))
    assert design.efficiency > 1.3


def test_the_design_pays_for_no_term_that_no_form_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """With products with size and tokens in the design, its runs tell less of what is fitted."""
    pool = candidates(SPACE, MAKE)
    own = choose(SPACE, pool, [10, 6])
    plain = ladder_design.features

    def with_products(rows: np.ndarray) -> np.ndarray:
        n, t, u, v, k, w = rows.T
        return np.column_stack([plain(rows), n * u, n * v, n * w, t * u, t * v, v * k])

    monkeypatch.setattr(ladder_design, "features", with_products)
    wider = choose(SPACE, pool, [10, 6])
    told = [_rounded_log_det(list(design.points), pool) for design in (own, wider)]
    # By the determinant per coefficient.
    assert (told[0] - told[1]) / len(FEATURES) > 0.1


def test_no_single_exchange_improves_the_design() -> None:
    pool = [p for p in candidates(SPACE, MAKE) if p.tokens == 5e5 or p.size == 2e5][::3]
    design = choose(SPACE, pool, [6, 6])
    best = design.log_det
    for old in design.points[::4]:
        rest = [p for p in design.points if p is not old]
        for new in pool[::5]:
            if new.size == old.size and new not in design.points:
                assert _rounded_log_det([*rest, new], pool) <= best + 1e-6


def test_what_is_measured_is_not_asked_again() -> None:
    pool = candidates(SPACE, MAKE)
    first = choose(SPACE, pool, [8, 0])
    blind = choose(SPACE, pool, [0, 8])
    informed = choose(SPACE, pool, [0, 8], measured=first.points)
    joint = [
        _rounded_log_det([*first.points, *second.points], pool) for second in (informed, blind)
    ]
    assert joint[0] >= joint[1] - 1e-9


def test_a_plan_repeats_tunes_and_checks() -> None:
    plan = make_plan(CONFIG)
    purposes = [rung.purpose for rung in plan.rungs]
    # Four corners at five rates; three shapes with two more seeds; two widths at two rates.
    assert {p: purposes.count(p) for p in set(purposes)} == {
        "tune": 20, "design": 16, "repeat": 6, "check": 4,
    }  # fmt: skip
    repeats = [r for r in plan.rungs if r.purpose == "repeat"]
    designed = [r for r in plan.rungs if r.purpose == "design"]
    assert {r.seed for r in repeats} == {1, 2}
    assert all(any(d.shape == r.shape and d.tokens == r.tokens for d in designed) for r in repeats)
    widths = [r.shape.hidden_size for r in plan.rungs if r.purpose == "check"]
    assert max(widths) > 1.5 * min(widths)
    fingerprints = {rung.run_id(plan.recipe, "data") for rung in plan.rungs}
    # The tuning runs at factor 1 are designed shapes.
    assert len(fingerprints) == len(plan.rungs) - 4


def test_held_out_runs_are_of_the_largest_size_and_not_designed() -> None:
    plan = make_plan(replace(CONFIG, held_out_runs=5))
    held = [r for r in plan.rungs if r.purpose == "held-out"]
    assert len(held) == 5 and len({r.shape for r in held}) == 5
    assert min(r.parameters for r in held) > 1.5 * max(
        r.parameters for r in plan.rungs if r.purpose == "design"
    )


def test_a_budget_shrinks_the_plan_and_too_small_a_one_is_refused() -> None:
    config = replace(CONFIG, tune=False, check=False, repeated_shapes=0)
    whole = make_plan(config)
    half = make_plan(replace(config, budget_s=whole.total_s / 2))
    assert half.total_s <= whole.total_s / 2
    assert 4 <= len(half.rungs) < len(whole.rungs)
    with pytest.raises(InputError, match="budget of 1 s is too small"):
        make_plan(replace(config, budget_s=1.0))


def test_the_cost_is_flops_over_speed() -> None:
    plan = make_plan(replace(CONFIG, flops_per_s=1e12))
    slow = replace(plan, flops_per_s=5e11)
    assert slow.total_s == pytest.approx(2 * plan.total_s)


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = make_plan(CONFIG)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    "change", [{"format": 9}, {"rungs": None}, {"surprise": 1}, {"recipe": {"unknown": 1}}]
)
def test_a_malformed_plan_file(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "plan.json"
    make_plan(CONFIG).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="not a ladder plan of format 1"):
        Plan.load(path)


def test_the_next_runs_are_new_and_tell_more_than_others() -> None:
    config = replace(CONFIG, tune=False, check=False, repeated_shapes=0)
    plan = make_plan(config)
    new = add_to_plan(plan, config, [], 3)
    known = {(r.shape, r.tokens) for r in plan.rungs}
    assert len(new) == 3 and not {(r.shape, r.tokens) for r in new} & known
    assert len({(r.shape, r.tokens) for r in new}) == 3


def test_what_cannot_be_planned() -> None:
    with pytest.raises(NothingFeasible, match="lies on the lattice"):
        candidates(replace(SPACE, multiple=512), MAKE)
    with pytest.raises(ConfigError, match="too few"):
        replace(CONFIG, runs=3)
    with pytest.raises(ConfigError, match="one each"):
        make_plan(replace(CONFIG, counts=(4,)))
    assert math.isinf(SPACE.max_tokens)
