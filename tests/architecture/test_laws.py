"""Laws: where they answer, how surely, and what their files refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suffice.architecture.catalog import load_shape
from suffice.architecture.law_file import law_from_record, law_names, load_law, record_of, save_law
from suffice.architecture.laws import (
    ADDITIVE,
    CHINCHILLA,
    JOINT,
    MULTIPLICATIVE,
    AbsoluteLaw,
    ConditionalLaw,
    Family,
    Provenance,
    build_law,
    register,
)
from suffice.architecture.predict import predict
from suffice.core.errors import InputError, OutsideValidity, UnknownName

HERE = Provenance(source="a test", fitted_on="nothing")


def published() -> ConditionalLaw:
    law = load_law("bian2025-1b")
    assert isinstance(law, ConditionalLaw)
    return law


def conditional(family: Family, *coefficients: float) -> ConditionalLaw:
    law = build_law(family, name="mine", coefficients=coefficients, provenance=HERE)
    assert isinstance(law, ConditionalLaw)
    return law


def test_a_law_refuses_outside_its_evidence_unless_told_and_then_says_so() -> None:
    law = published()
    assert law.check(x=0.07, r=2.0, N=1e9, gqa=4) == ()
    with pytest.raises(OutsideValidity, match=r"of 6.1 is outside \[0.5, 5\].*--extrapolate"):
        law.check(r=6.1)
    (note,) = law.check(r=6.1, extrapolate=True)
    assert "6.1 is outside [0.5, 5]" in note
    with pytest.raises(OutsideValidity, match="parameters N"):
        law.check(N=8e9)


def test_what_the_law_cannot_see_is_noted_not_refused() -> None:
    (note,) = published().check(gqa=9)
    assert "does not model GQA" in note
    (note,) = published().check(tokens_per_parameter=1000)
    assert "outside [33, 105]" in note


def test_domain_masks_arrays() -> None:
    inside = published().domain.contains(x=np.array([0.04, 0.07, 0.09]), r=np.array([1.0, 1, 9]))
    assert inside.tolist() == [False, True, False]
    with pytest.raises(OutsideValidity, match="of 6 to 9"):
        published().check(r=np.array([1.0, 6.0, 9.0]))


def test_no_optimum_without_two_u_shapes() -> None:
    law = conditional(MULTIPLICATIVE, 1.0, 0.1, 0.008, 1.0, -0.01, 0.01)
    assert "b1 is not" in str(law.no_optimum_reason())
    with pytest.raises(InputError, match=r"has no optimum: .*b1 is not"):
        law.optimum()


def test_the_joint_law_has_its_optimum_on_the_tilted_valley() -> None:
    law = conditional(JOINT, 1.04, 0.0375, 0.003, 0.004, 1.0, 0.0163, 0.0168)
    best = law.optimum()
    assert best.x != pytest.approx(0.08, rel=1e-3)
    around = [
        float(law.relative_loss(best.x * a, best.r * b))
        for a in (0.98, 1, 1.02)
        for b in (0.98, 1, 1.02)
    ]
    assert min(around) == around[4]
    with pytest.raises(InputError, match="outweighs the two curves"):
        conditional(JOINT, 1.04, 0.0375, 0.003, 0.5, 1.0, 0.0163, 0.0168).optimum()


def test_an_additive_law_needs_an_anchor_for_ratios() -> None:
    law = conditional(ADDITIVE, 0.82, 0.55, 0.044, 0.02, 0.0206)
    with pytest.raises(InputError, match="anchor it"):
        law.relative_loss(0.07, 2.0)
    assert law.optimum().relative_loss is None
    anchored = law.anchored(2.8, 0.07, 2.0)
    assert float(anchored.loss(0.07, 2.0)) == pytest.approx(2.8)
    difference = float(law.evaluate(x=0.09, r=1.0) - law.evaluate(x=0.07, r=2.0))
    assert float(anchored.loss(0.09, 1.0)) == pytest.approx(2.8 + difference)


def test_anchoring_makes_losses_absolute() -> None:
    anchored = published().anchored(2.803, 0.0657, 4.8)
    assert float(anchored.loss(0.0657, 4.8)) == pytest.approx(2.803)
    with pytest.raises(InputError, match="must be positive"):
        published().anchored(-1.0, 0.07, 1.0)
    with pytest.raises(InputError, match="anchor it at a shape"):
        published().loss(0.07, 1.0)


def test_a_shape_equals_itself_exactly_and_bounds_widen_with_confidence() -> None:
    law, at = published(), {"x": 0.0657, "r": 4.8}
    same = law.compare(0.0657, 4.8, versus=at)
    assert (same.ratio[0], same.low[0], same.high[0]) == (1, 1, 1)
    mild = law.compare(0.082, 1.07, versus=at, confidence=0.8)
    strict = law.compare(0.082, 1.07, versus=at, confidence=0.95)
    assert strict.low[0] < mild.low[0] < mild.ratio[0] < mild.high[0] < strict.high[0]
    even = law.compare(0.082, 1.07, versus=at, confidence=0.5)
    assert even.high[0] == pytest.approx(even.ratio[0])
    with pytest.raises(InputError, match="confidence"):
        law.compare(0.082, 1.07, versus=at, confidence=1.5)


def test_draws_add_to_the_uncertainty() -> None:
    rng = np.random.default_rng(0)
    draws = np.array(published().coefficients) * (1 + 0.01 * rng.normal(size=(500, 6)))
    law = replace(published(), draws=draws)
    points = {"x": np.array([0.06, 0.09]), "r": np.array([1.0, 4.0])}
    assert law.relative_loss_draws(**points).shape == (500, 2)
    for row in (0, 499):
        one = replace(published(), coefficients=tuple(draws[row]))
        assert law.relative_loss_draws(**points)[row] == pytest.approx(one.relative_loss(**points))
    versus = {"x": 0.0657, "r": 4.8}
    assert (law.difference_sd(points, versus) > published().difference_sd(points, versus)).all()
    with pytest.raises(InputError, match="no bootstrap draws"):
        published().relative_loss_draws(0.07, 1.0)


def test_predict_reports_size_differences_and_needs_tokens_for_absolute_laws() -> None:
    panda, circ = load_shape("bian2025/panda-3b"), load_shape("bian2025/panda-3b-circ")
    found = predict(published(), panda, versus=circ)
    assert any("N differs by -2.0 %" in note for note in found.notes)
    chinchilla = load_law("besiroglu2024")
    with pytest.raises(InputError, match="--tokens"):
        predict(chinchilla, panda)
    found = predict(chinchilla, panda, tokens=1e11, versus=load_shape("bian2025/panda-1b"))
    assert found.loss is not None
    assert found.versus_ratio is not None
    assert found.versus_ratio < 1
    with pytest.raises(InputError, match="give versus too"):
        predict(published(), panda, versus_loss=2.6)
    with pytest.raises(OutsideValidity):
        predict(published(), load_shape("meta-llama/Llama-3.1-8B"))
    far = predict(published(), load_shape("meta-llama/Llama-3.1-8B"), extrapolate=True)
    assert any("parameters N" in note for note in far.notes)


def test_morph_predicts_by_width_per_layer() -> None:
    law = load_law("morph2025")
    assert isinstance(law, AbsoluteLaw)
    shape = load_shape("HuggingFaceTB/SmolLM2-135M")
    found = predict(law, shape, tokens=2e9, extrapolate=True)
    total = float(found.parameters)
    ratio = shape.hidden_size / shape.num_hidden_layers
    assert found.loss == pytest.approx(float(law.loss(total, 2e9, width_per_layer=ratio)))


@pytest.mark.parametrize("name", law_names())
def test_law_files_round_trip(name: str, tmp_path: Path) -> None:
    law = load_law(name)
    save_law(tmp_path / "law.json", law)
    assert load_law(tmp_path / "law.json") == law


def test_unknown_and_absent_laws() -> None:
    with pytest.raises(UnknownName, match=r"unknown law 'bian2025-2b'; did you mean bian2025-1b"):
        load_law("bian2025-2b")
    with pytest.raises(InputError, match="does not exist"):
        load_law("absent.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"family": "quadratic"}, "unknown law family 'quadratic'"),
        ({"coefficients": {"a0": 1.0}}, "has the coefficients a0, a1, a2, b0, b1, b2, got a0"),
        ({"coefficients": {"a0": "x"}}, "coefficients.a0"),
        ({"draws": [[1.0, 2.0]]}, "each draw needs 6 numbers"),
        ({"noise": {"relative_sd": -1, "basis": "b"}}, "noise.relative_sd"),
        (
            {"domain": [{"variable": "x", "low": 2, "high": 1, "basis": "b"}]},
            "low 2.0 is above high 1.0",
        ),
        ({"optimal_loss": 0}, "optimal_loss"),
    ],
)
def test_malformed_law_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "law.json"
    path.write_text(json.dumps({**record_of(published()), **change}))
    with pytest.raises(InputError, match=message) as caught:
        load_law(path)
    assert "\n" not in str(caught.value)


def test_uneven_draws_are_refused() -> None:
    record = {**record_of(published()), "draws": [[1.0] * 6, [1.0] * 5]}
    with pytest.raises(InputError, match="each draw needs 6 numbers"):
        law_from_record(record, where="here")


def test_laws_check_their_coefficients() -> None:
    with pytest.raises(InputError, match="needs 5 coefficients"):
        build_law(CHINCHILLA, name="short", coefficients=(1.0,), provenance=HERE)


def test_families_are_registered_once() -> None:
    with pytest.raises(ValueError, match="already registered"):
        register(CHINCHILLA)
