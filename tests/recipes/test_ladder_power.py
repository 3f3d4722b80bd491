"""What a plan can show before it runs, shapes far apart, and a head that counts towards size."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import non_embedding_parameters
from suffice.architecture.ladder_design import DesignSpace, candidates
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import ConditionalLaw
from suffice.core.errors import ConfigError, InputError
from suffice.recipes.ladder.chosen import far_apart, pick_and_reference
from suffice.recipes.ladder.plan import PlanConfig, add_to_plan, make_plan, rung_of
from suffice.recipes.ladder.power import made_up_curve, plan_power
from suffice.recipes.ladder.surface import interactions
from suffice.recipes.ladder.table import runs_table, size_classes, size_exponent
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import LadderRung, Recipe, dimensions, ladder_shape, law_coordinates

VOCAB = 257
SPACE = DesignSpace(
    sizes=(5e4, 1e5), tokens_per_parameter=(10,), head_dim=16, multiple=8, layers=(2, 8),
    x=(0.065, 0.35), kv_shares=(1.0, 0.5, 0.25), attention_per_hidden=(0.5, 3.0),
    size_tolerance=0.02, counted_vocab=VOCAB,
)  # fmt: skip
CONFIG = PlanConfig(
    space=SPACE, recipe=Recipe(), vocab_size=VOCAB, runs=32, counts=(20, 12), seeds_each=2,
    repeated_shapes=0, tune=False, check=False,
)  # fmt: skip
MAKE = partial(ladder_shape, vocab_size=VOCAB)


def record(rung: LadderRung, loss: float, factor: float = 1.0) -> RunRecord:
    n = rung.parameters
    return RunRecord(
        run_id=f"{tuple(dimensions(rung.shape).values())} {rung.seed} {factor}", status="finished",
        purpose=rung.purpose, **dimensions(rung.shape), non_embedding_parameters=n,
        total_parameters=n + 2 * VOCAB * rung.shape.hidden_size, **law_coordinates(rung.shape),
        tokens=rung.tokens, steps=1, batch_tokens=1, epochs=0.1, seed=rung.seed,
        learning_rate_factor=factor, peak_learning_rate=4e-3, precision="fp32", recipe="r",
        data="d", loss=loss, loss_per_byte=loss, train_loss=loss,
    )  # fmt: skip


def test_with_the_head_counted_total_size_is_equal_and_n_is_not():
    pool = candidates(SPACE, MAKE)
    for size in SPACE.sizes:
        own = [p.shape for p in pool if p.size == size]
        totals = np.array([non_embedding_parameters(s) + VOCAB * s.hidden_size for s in own])
        alone = np.array([non_embedding_parameters(s) for s in own])
        assert np.abs(totals / size - 1).max() <= SPACE.size_tolerance
        assert alone.max() / alone.min() > 1.2
    with pytest.raises(ConfigError, match="counted_vocab"):
        replace(SPACE, counted_vocab=-1)


def test_power_rises_with_the_effect_and_flat_truths_are_not_located():
    plan = make_plan(CONFIG)
    assert [r.seed for r in plan.rungs].count(1) == 32
    small, large = (
        plan_power(plan, noise_percent=0.5, effect_percent=e, repetitions=60) for e in (0.3, 2.0)
    )
    for low, high in zip(small, large, strict=True):
        assert low.located <= 6 and high.located >= 50
        assert high.held >= 46
        assert low.falsely_located == high.falsely_located == 0
    assert "locate a lowest point at 0.147" in large[0].sentence()


def test_the_made_up_curve_costs_the_effect_at_both_ends():
    values = np.geomspace(0.05, 0.3, 50)
    middle, curve = made_up_curve(values, 1.5)
    assert curve[[0, -1]] == pytest.approx([0.015, 0.015])
    assert values[np.argmin(curve)] == pytest.approx(middle, rel=0.05) and curve.min() >= 0


def test_half_rate_runs_count_as_measured():
    plan = make_plan(CONFIG)
    half = [record(r, 2.0, 0.5) for r in plan.rungs]
    own = {r.shape for r in plan.rungs}
    assert make_plan(CONFIG, half) == plan  # at the full rate nothing is measured
    none = replace(plan, rungs=())
    blind = add_to_plan(none, CONFIG, half, 3)
    seen = add_to_plan(none, replace(CONFIG, learning_rate_factor=0.5), half, 3)
    assert {r.learning_rate_factor for r in seen} == {0.5}
    assert own & {r.shape for r in blind} and not own & {r.shape for r in seen}
    assert rung_of(half[0]).learning_rate_factor == 0.5


def test_held_out_shapes_are_far_apart_in_predicted_loss():
    law = load_law("our-ladder")
    assert isinstance(law, ConditionalLaw)
    config = replace(CONFIG, space=replace(SPACE, sizes=(1e5, 2e5), x=(0.08, 0.24)), seeds_each=2)
    plan = make_plan(replace(config, space=replace(config.space, sizes=(1e5,)), counts=(12,)))
    rungs = far_apart(plan, config, law, 4)
    assert [r.purpose for r in rungs] == ["held-out"] * 8 and {r.seed for r in rungs} == {0, 1}

    def predicted(shape):
        at = {**law_coordinates(shape), "width_per_layer": shape.hidden_size /
              shape.num_hidden_layers}  # fmt: skip
        return float(np.squeeze(law.relative_loss(**at)))

    chosen = np.array([predicted(r.shape) for r in rungs[:4]])
    inside = [
        p.shape
        for p in candidates(replace(config.space, sizes=(2e5,)), MAKE)
        if all(
            (i := law.domain.interval(n)) is None or i.low <= v <= i.high
            for n, v in {
                **law_coordinates(p.shape),
                "width_per_layer": p.shape.hidden_size / p.shape.num_hidden_layers,
            }.items()
        )
    ]
    everything = np.array([predicted(shape) for shape in inside])
    assert chosen[[0, 3]] == pytest.approx([everything.min(), everything.max()])
    steps = np.diff(chosen)
    assert steps.min() > 0.5 * steps.max()
    with pytest.raises(InputError, match="lie inside the range"):
        far_apart(plan, config, law, 10_000)
    with pytest.raises(InputError, match="not conditional"):
        far_apart(plan, config, load_law("besiroglu2024"), 4)


def test_the_pick_and_its_reference_are_of_equal_size():
    law, like = load_law("our-ladder"), load_shape("meta-llama/Llama-3.2-1B")
    config = replace(CONFIG, space=replace(SPACE, sizes=(1e5, 2e5), x=(0.08, 0.24)), seeds_each=4)
    rungs = pick_and_reference(config, law, like)
    assert [r.purpose for r in rungs] == ["pick", "reference"] * 4
    assert [r.seed for r in rungs] == [0, 0, 1, 1, 2, 2, 3, 3]
    sizes = [r.parameters + VOCAB * r.shape.hidden_size for r in rungs]
    assert max(sizes) / min(sizes) < 1 + 2.1 * SPACE.size_tolerance
    pick, reference = rungs[0].shape, rungs[1].shape
    at = {s: {**law_coordinates(s), "width_per_layer": s.hidden_size / s.num_hidden_layers}
          for s in (pick, reference)}  # fmt: skip
    assert law.relative_loss(**at[pick]) < law.relative_loss(**at[reference])
    # Llama's r is 4.8, its x .066 (the law starts at .071), its KV share a quarter.
    assert at[reference]["r"] > 3 and at[reference]["kv_share"] <= 0.5


def test_losses_are_brought_to_the_size_of_their_scale():
    rungs = [r for r in make_plan(CONFIG).rungs if r.seed == 0]

    def size(rung: LadderRung) -> float:
        return rung.parameters + VOCAB * rung.shape.hidden_size

    # ln L = -.04 ln size - .06 ln D and nothing else: shapes of a class differ by tolerance alone.
    records = [
        record(r, float(np.exp(2 - 0.04 * np.log(size(r)) - 0.06 * np.log(r.tokens))))
        for r in rungs
    ]
    classes = size_classes(records, "head")
    assert len(set(classes.labels)) == 2
    assert size_exponent(classes, [r.loss or 0 for r in records]) == pytest.approx(-0.05, abs=2e-3)
    # With tokens of equal number the exponent of size is its own.
    level = [replace(r, tokens=1_000_000) for r in records]
    losses = [float(np.exp(2 - 0.04 * np.log(size(r)))) for r in rungs]
    assert size_exponent(size_classes(level, "head"), losses) == pytest.approx(-0.04, abs=1e-4)

    def spread(correct: bool) -> float:
        table = runs_table(records, counted="head", correct_size=correct)
        loss = np.log(table.column("loss"))
        return max(np.ptp(loss[classes.numbers == k]) for k in range(2))

    assert spread(False) > 1e-3
    assert spread(True) < 0.4 * spread(False)
    assert "at most" in runs_table(records, counted="head", correct_size=True).notes[0]


def test_an_interaction_is_found_where_there_is_one():
    rng = np.random.default_rng(4)
    rungs = [r for r in make_plan(CONFIG).rungs if r.seed == 0]
    law = load_law("our-ladder")

    def lowest(tilt: float) -> dict[tuple[str, str], float]:
        records = []
        for r in rungs:
            at = law_coordinates(r.shape)
            effect = tilt * np.log(at["x"] / 0.15) * np.log(at["r"])
            loss = np.exp(0.7 + effect + 0.002 * rng.standard_normal())
            records.append(record(r, float(loss)))
        found = interactions(runs_table(records, counted="head"), law.family)
        return {(i.first, i.second): i.p for i in found}

    planted, flat = lowest(0.03), lowest(0.0)
    assert min(planted, key=planted.__getitem__) == ("x", "r") and planted["x", "r"] < 1e-4
    assert ("x", "N") in flat and min(flat.values()) > 0.003
