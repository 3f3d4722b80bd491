"""The fit recovers planted coefficients; the table of points says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from silicon import Point, by_model_and_hardware, silicon_points
from silicon_fit import ENGINES, Table, fit, predict_points, priors, without_factors

from suffice.architecture.catalog import load_model
from suffice.core.errors import TableError
from suffice.hardware import load_hardware
from suffice.throughput.analytic import predict
from suffice.throughput.engine_traits import engine_traits
from suffice.throughput.measured_pairs import measured_pair
from suffice.throughput.priors import softened
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return [point for point in silicon_points() if point.usable]


def test_planted_coefficients_are_recovered(points: list[Point]) -> None:
    """Times made by known coefficients: the fit predicts them to 1 %.

    Not the coefficients one by one: some trade against each other, and the prior decides.
    """
    planted = {name: prior.value for name, prior in priors().items()}
    planted |= {"hopper.gemm": 0.5, "blackwell.layer_s": 60e-6, "vllm.burst": 0.1}
    planted |= {"expert_bandwidth": 0.5, "trtllm.eager_expert_s": 2e-3}
    table = without_factors(Table.of(points[::9]))
    made = predict_points(table, planted)
    table = replace(table, ttft_s=made.ttft_s, tpot_s=made.tpot_s)
    fitted = fit(table)
    found = predict_points(table, fitted)
    assert np.mean(np.abs(found.tpot_s / table.tpot_s - 1)) < 0.01
    assert fitted["vllm.burst"] == pytest.approx(0.1, rel=0.2)
    assert fitted["hopper.gemm"] == pytest.approx(0.5, rel=0.05)
    assert fitted["blackwell.layer_s"] == pytest.approx(60e-6, rel=0.1)
    assert fitted["expert_bandwidth"] == pytest.approx(0.5, rel=0.1)


def test_small_errors_count_as_their_square_and_large_ones_as_themselves() -> None:
    errors = softened(np.array([1e-3, -1e-3, 1.0, 2.0]))
    assert errors[0] == pytest.approx(1e-3, rel=1e-3)
    assert errors[1] == -errors[0]
    assert errors[3] ** 2 / errors[2] ** 2 == pytest.approx(2.0, rel=0.1)


def test_the_groups_cover_what_the_docs_say(points: list[Point]) -> None:
    assert len([p for p in points if p.dense]) == 1014
    assert len(points) == 1154 + 1316
    assert len([p for p in points if p.side == "fit"]) == 1154
    assert {p.hardware for p in points} == {"b200", "b300", "h100", "h200"}
    assert len({by_model_and_hardware(p) for p in points}) == 27
    assert {p.engine for p in points} == set(ENGINES)


def test_nothing_is_fitted_to_the_unseen() -> None:
    """Models and a pair that no row of side "fit" has, and no sweep on two sides."""
    points = silicon_points()
    fitted = {by_model_and_hardware(p) for p in points if p.side == "fit"}
    assert not fitted & {by_model_and_hardware(p) for p in points if p.side == "unseen"}
    sides = {(p.model, p.hardware, p.sweep): set() for p in points}  # type: ignore[var-annotated]
    for p in points:
        sides[p.model, p.hardware, p.sweep].add(p.side)
    assert all(len(found) == 1 for found in sides.values())


def test_only_preempting_engines_admit_early() -> None:
    assert engine_traits("generic").planned_output == 1.0
    assert engine_traits("trtllm").admitted_output == 1.0
    assert engine_traits("vllm").admitted_output < engine_traits("vllm").planned_output < 1.0


def test_a_bad_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("model,hardware\na,b\n")
    with pytest.raises(TableError, match="line 2 has no column 'engine'"):
        silicon_points(path)
    header = (
        "model,hardware,engine,engine_version,weight_dtype,kv_dtype,tensor_parallel,input_tokens,"
        "output_tokens,concurrency,source,ttft_s,tpot_s,aiconfigurator_ttft_s,aiconfigurator_tpot_s"
    )
    path.write_text(f"{header}\na,h100,vllm,,bf16,bf16,one,1,1,1,sweep,1,1,,\n")
    with pytest.raises(TableError, match="line 2, tensor_parallel: 'one' is not a number"):
        silicon_points(path)


def test_a_measured_pair_is_found_by_its_architecture() -> None:
    model = load_model("deepseek-ai/DeepSeek-V3")
    found = measured_pair(model, "h200", "sglang")
    assert found is not None
    assert measured_pair(model.renamed("a copy"), "h200", "sglang") == found
    assert measured_pair(model, "a100-80gb", "sglang") is None
    assert measured_pair(load_model("Qwen/Qwen3-235B-A22B"), "h100", "trtllm") is None


def test_factors_of_a_pair_multiply_the_step_and_leave_others_alone() -> None:
    model = load_model("openai/gpt-oss-120b")
    serving = Serving(hardware=load_hardware("b200"), engine="trtllm")
    workload = Workload.single(1024, 512)
    factor = measured_pair(model, "b200", "trtllm")
    assert factor is not None
    found = predict(model, serving, workload, batch=8)
    other = replace(serving.hardware, name="mine")
    plain = predict(model, replace(serving, hardware=other), workload, batch=8)
    assert found.decode_step_s == pytest.approx(factor.decode * plain.decode_step_s, rel=1e-9)
    assert found.largest_batch == plain.largest_batch
