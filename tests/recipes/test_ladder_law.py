"""From a run store to a law, its report and the judgement of its pick; no training happens here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from suffice.architecture.counts import non_embedding_parameters, parameter_counts
from suffice.architecture.ladder_design import DesignSpace, candidates
from suffice.architecture.law_file import load_law, save_law
from suffice.architecture.laws import CONDITIONAL_DEPTH, ConditionalLaw
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, OutsideValidity, TableError
from suffice.recipes.design import DesignConfig, design
from suffice.recipes.ladder.fit import LadderFit, fit_ladder, rate_note
from suffice.recipes.ladder.pick import (
    PICK,
    REFERENCE,
    PickResult,
    judge,
    pick_plan,
    same_ratios,
    search_space,
)
from suffice.recipes.ladder.report import html_report, write_report
from suffice.recipes.ladder.table import (
    RateCheck,
    law_records,
    rate_checks,
    runs_table,
    seed_noise,
)
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import Recipe, dimensions, ladder_shape, law_coordinates

# Lowest at x = .15, r = 1.5, 3 layers; a depth of 8 costs 4 %.
COEFFICIENTS = (0.7, 0.06, 0.009, 0.03, 0.045, 0.06, 0.18)
NOISE = 1e-3
SPACE = DesignSpace(
    sizes=(2e5, 3.5e5), tokens_per_parameter=(5,), head_dim=32, multiple=16, layers=(2, 8),
    x=(0.07, 0.25), r=(0.5, 5.0), attention_per_hidden=(0.5, 3.0),
)  # fmt: skip


def _shape(**dimensions_: int) -> Shape:
    return ladder_shape(**dimensions_, vocab_size=1024)


def _record(
    shape: Shape, tokens: int, seed: int, purpose: str, noise: float, **changes: object
) -> RunRecord:
    at = law_coordinates(shape)
    level = 4.0 if non_embedding_parameters(shape) < 2.7e5 else 3.8
    ratio = CONDITIONAL_DEPTH.evaluate(
        COEFFICIENTS, {"x": at["x"], "r": at["r"], "layers": float(shape.num_hidden_layers)}
    )
    loss = float(level * ratio * np.exp(noise))
    record = RunRecord(
        run_id=f"{tuple(dimensions(shape).values())} {tokens} {seed} {purpose}", status="finished",
        purpose=purpose, **dimensions(shape),
        non_embedding_parameters=int(non_embedding_parameters(shape)),
        total_parameters=parameter_counts(shape).total, **at, tokens=tokens, steps=1000,
        batch_tokens=1024, epochs=0.1, seed=seed, learning_rate_factor=1.0,
        peak_learning_rate=4e-3, precision="fp32", recipe="recipe", data="data", loss=loss,
        loss_per_byte=loss / 3, train_loss=loss, tokens_per_s=1000.0,
    )  # fmt: skip
    return replace(record, **changes)  # type: ignore[arg-type]


def _records() -> list[RunRecord]:
    rng = np.random.default_rng(0)
    points = candidates(SPACE, _shape)
    records = []
    for size, count, purpose in ((2e5, 24, "design"), (3.5e5, 10, "held-out")):
        pool = [p for p in points if p.size == size]
        for row in rng.choice(len(pool), size=count, replace=False):
            shape = pool[int(row)].shape
            noise = NOISE * rng.standard_normal()
            records.append(_record(shape, round(5 * size), 0, purpose, noise))
    first = [ladder_shape(**_dims(r)) for r in records[:3]]
    for seed in (1, 2):
        records += [
            _record(s, 1_000_000, seed, "repeat", NOISE * rng.standard_normal()) for s in first
        ]
    return records


def _dims(record: RunRecord) -> dict[str, int]:
    return {name: getattr(record, name) for name in dimensions(_shape_of_any())}


def _shape_of_any() -> Shape:
    return _shape(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip


def _store(path: Path, records: Iterable[RunRecord]) -> Path:
    store = RunStore(path)
    for record in records:
        store.append(record)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = _records()
    check = replace(records[0], run_id="check", learning_rate_factor=0.5, purpose="check",
                    loss=(records[0].loss or 0) - 0.01)  # fmt: skip
    lost = replace(records[1], run_id="lost", status="diverged", loss=None)
    return _store(tmp_path_factory.mktemp("store") / "runs.jsonl", [*records, check, lost])


@pytest.fixture(scope="module")
def found(store: Path) -> LadderFit:
    return fit_ladder(
        store,
        bootstrap_draws=60,
        compared=("conditional-multiplicative", "conditional-depth", "conditional-shape"),
    )


def test_only_runs_that_say_something_of_shape_are_fitted(store: Path) -> None:
    records = law_records(store)
    assert len(records) == 40
    table = runs_table(records)
    assert set(table.column("layers")) <= set(range(2, 9))
    assert table.column("kv_share") == pytest.approx([r.kv_share for r in records])


def test_stores_that_cannot_be_fitted(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not exist"):
        law_records(tmp_path / "none.jsonl")
    records = _records()[:3]
    lost = [replace(r, status="diverged", loss=None) for r in records]
    with pytest.raises(TableError, match="no finished run"):
        law_records(_store(tmp_path / "lost.jsonl", lost))
    mixed = [records[0], replace(records[1], recipe="another")]
    with pytest.raises(TableError, match="2 recipe hashes"):
        law_records(_store(tmp_path / "mixed.jsonl", mixed))


def test_the_noise_is_the_pooled_spread_over_seeds(store: Path) -> None:
    records = law_records(store)
    noise = seed_noise(records)
    assert noise is not None and noise.degrees_of_freedom == 6
    variances = [np.var(losses, ddof=1) for _, losses in noise.shapes]
    assert noise.sd_nats == pytest.approx(np.sqrt(np.mean(variances)))
    assert noise.low < noise.sd_nats < noise.high
    assert seed_noise([r for r in records if r.seed == 0]) is None


def test_a_better_learning_rate_is_reported(store: Path) -> None:
    (check,) = rate_checks(store)
    assert check.best_factor == 0.5
    assert check.given_up_nats == pytest.approx(0.01)


def test_a_rate_that_costs_shapes_unevenly_is_in_the_certificate() -> None:
    even = [RateCheck(label="a", losses=((0.5, 3.9), (1.0, 4.0))),
            RateCheck(label="b", losses=((0.5, 3.7), (1.0, 3.8)))]  # fmt: skip
    assert rate_note(even) is None and rate_note([]) is None
    uneven = [even[0], RateCheck(label="b", losses=((0.5, 3.7), (1.0, 4.01)))]
    note = rate_note(uneven)
    assert note is not None and "0.100 to 0.310 nats" in note


def test_the_planted_form_and_its_curves_are_found(found: LadderFit) -> None:
    assert found.chosen == "conditional-depth"
    curves = {curve.variable: curve for curve in found.curves}
    assert curves["x"].best == pytest.approx(0.15, rel=0.25)
    assert curves["layers"].best == pytest.approx(3.0, rel=0.25)
    assert curves["layers"].inside_share > 0.9
    assert curves["layers"].verdict.startswith("U-shape")
    assert curves["layers"].effect_percent == pytest.approx(
        100 * (0.06 * np.log(8 / 3) + 0.18 / 8 - 0.06), rel=0.4
    )
    assert found.form("conditional-depth").cross_validated < 3 * NOISE
    assert found.random_ranks["conditional-depth"].n == 10


def test_a_curve_without_a_lowest_point_says_so(store: Path, tmp_path: Path) -> None:
    records = [
        replace(r, loss=(r.loss or 0) * (1 + 0.05 * np.log(r.r / r.x))) for r in law_records(store)
    ]
    path = _store(tmp_path / "runs.jsonl", records)
    steep = fit_ladder(path, family="conditional-depth", bootstrap_draws=20, compared=())
    curves = {curve.variable: curve for curve in steep.curves}
    assert curves["x"].best == pytest.approx(curves["x"].high, rel=0.15)
    assert curves["r"].best < 1.5
    assert steep.forms == () and steep.fit.warnings is not None


def test_the_law_file_carries_its_certificate(found: LadderFit, tmp_path: Path) -> None:
    save_law(tmp_path / "law.json", found.law)
    law = load_law(tmp_path / "law.json")
    assert isinstance(law, ConditionalLaw)
    with pytest.raises(OutsideValidity, match="number of layers of 30"):
        law.check(layers=30.0)
    with pytest.raises(OutsideValidity, match="parameters N"):
        law.check(N=1e9)
    notes = law.check(tokens_per_parameter=100.0)
    assert len(notes) == 1 and "tokens per parameter" in notes[0]
    assert any("head size" in text for text in law.not_modelled)
    assert law.diagnostics["compared"]["conditional-depth"]["next_size"]["n"] == 10
    assert law.draws is not None and len(law.draws) == 60


def test_a_form_without_width_cannot_guide_a_design(store: Path) -> None:
    with pytest.raises(InputError, match="cannot guide a design"):
        fit_ladder(store, family="conditional-depth-alone")


def test_the_report_holds_every_number_and_picture(found: LadderFit, tmp_path: Path) -> None:
    paths = write_report(found, tmp_path / "report")
    html = paths["report"].read_text(encoding="utf-8")
    assert html.count("<svg") == 10
    assert f"{found.form(found.chosen).cross_validated:.4f}" in html
    assert "no script" not in html and "<script" not in html
    assert paths["picture"].read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_report(found, tmp_path / "file")


def test_the_reference_has_a_models_ratios_within_the_laws_range(found: LadderFit) -> None:
    space = search_space(found.law, 3.5e5, head_dim=32, multiple=16, tolerance=0.02)
    from suffice.architecture.catalog import load_shape

    reference = same_ratios(load_shape("meta-llama/Llama-3.2-1B"), space, vocab_size=1024)
    at = law_coordinates(reference)
    assert non_embedding_parameters(reference) == pytest.approx(3.5e5, rel=0.02)
    assert at["r"] > 3 and at["x"] < 0.13 and at["kv_share"] <= 0.5
    found.law.check(**at, layers=float(reference.num_hidden_layers), N=3.5e5)
    with pytest.raises(OutsideValidity):
        search_space(found.law, 1e8, head_dim=32, multiple=16, tolerance=0.02)


def test_a_design_by_the_law_picks_a_depth_it_models(found: LadderFit) -> None:
    reference = _shape(
        hidden_size=48, intermediate_size=288, num_hidden_layers=7, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    result = design(
        DesignConfig(
            like=reference, law=found.law, tokens=1_750_000, hardware="cpu", input_tokens=256,
            output_tokens=64, hidden_multiple=16, mlp_multiple=16, parameter_tolerance=0.02,
            attention_width_range=(0.5, 3.0), key_value_multiple=1,
        )
    )  # fmt: skip
    depths = set(result.grid.num_hidden_layers.tolist())
    assert depths <= set(range(2, 9)) and len(depths) > 3
    chosen = result.recommended
    assert chosen.meets_target and chosen.loss < result.reference.loss
    assert chosen.shape.num_hidden_layers < 7


def _trained(losses: dict[str, list[float]], pick: Shape, reference: Shape) -> list[RunRecord]:
    return [
        _record(shape, 1_750_000, seed, purpose, 0.0, loss=loss)
        for purpose, shape in ((PICK, pick), (REFERENCE, reference))
        for seed, loss in enumerate(losses[purpose])
    ]


def _two_shapes() -> tuple[Shape, Shape]:
    wide = _shape(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, head_dim=32,
    )  # fmt: skip
    deep = _shape(
        hidden_size=48, intermediate_size=288, num_hidden_layers=7, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    return wide, deep


def test_the_judgement_is_welchs(found: LadderFit, tmp_path: Path) -> None:
    from scipy.stats import ttest_ind

    pick, reference = _two_shapes()
    a, b = [3.70, 3.72, 3.71], [3.80, 3.78, 3.83]
    result = judge(_trained({PICK: a, REFERENCE: b}, pick, reference), pick, reference, found.law)
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    assert result.predicted_low < result.predicted_ratio < result.predicted_high
    # Both intervals are two-sided at 90 %: the law's own bounds are one-sided, at 95 % each.
    here, there = (
        {**{n: v for n, v in law_coordinates(s).items() if n in found.law.family.variables},
         "layers": float(s.num_hidden_layers)}
        for s in (pick, reference)
    )  # fmt: skip
    both = found.law.compare(**here, versus=there, confidence=0.95)
    bounds = (float(np.squeeze(both.low)), float(np.squeeze(both.high)))
    assert (result.predicted_low, result.predicted_high) == pytest.approx(bounds)
    assert "told apart" in result.sentences()[1]
    # Runs that were made as held-out ones count, those on other tokens do not.
    records = _trained({PICK: a, REFERENCE: b}, pick, reference)
    records[0] = replace(records[0], purpose="held-out")
    longer = [replace(r, tokens=3_500_000, loss=1.0) for r in records]
    again = judge([*records, *longer], pick, reference, found.law, tokens=1_750_000)
    assert again == result
    result.save(tmp_path / "pick.json")
    assert PickResult.load(tmp_path / "pick.json") == result
    assert escape(result.sentences()[0]) in html_report(found, picks=[result])
    (tmp_path / "pick.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(InputError, match="not a result of"):
        PickResult.load(tmp_path / "pick.json")


def test_what_cannot_be_judged(found: LadderFit) -> None:
    pick, reference = _two_shapes()
    one = _trained({PICK: [3.7], REFERENCE: [3.8, 3.8]}, pick, reference)
    with pytest.raises(TableError, match="1 finished runs of the pick"):
        judge(one, pick, reference, found.law)
    recipe = Recipe()
    with pytest.raises(InputError, match="no interval"):
        pick_plan(pick, reference, recipe=recipe, tokens=1000, seeds=1, flops_per_s=1e9)
    with pytest.raises(InputError, match="the reference itself"):
        pick_plan(pick, pick, recipe=recipe, tokens=1000, seeds=3, flops_per_s=1e9)


def test_shapes_take_turns() -> None:
    plan = pick_plan(*_two_shapes(), recipe=Recipe(), tokens=1000, seeds=3, flops_per_s=1e9)
    assert [r.purpose for r in plan.rungs] == [PICK, REFERENCE] * 3
    assert [r.seed for r in plan.rungs] == [0, 0, 1, 1, 2, 2]
