"""The fit recovers planted coefficients; the table of points says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import TableError
from suffice.throughput.calibrate import (
    ENGINES,
    Table,
    by_hardware,
    by_model_and_hardware,
    fit,
    predict_points,
    priors,
    silicon_points,
)
from suffice.throughput.engine_traits import engine_traits


@pytest.fixture(scope="module")
def points() -> Table:
    return Table.of([point for point in silicon_points() if point.usable])


def test_planted_coefficients_are_recovered(points: Table) -> None:
    """Times made by known coefficients: the fit predicts them to 1 %.

    Not the coefficients one by one: some trade against each other, and the prior decides.
    """
    planted = {name: prior.value for name, prior in priors().items()}
    planted |= {"gemm": 0.5, "weight_bandwidth": 0.7, "layer_s": 60e-6, "burst": 0.1}
    made = predict_points(points, planted, fitting=True)
    every_third = np.arange(len(points.points)) % 3 == 0
    table = replace(points, ttft_s=made.ttft_s, tpot_s=made.tpot_s).select(every_third)
    fitted = fit(table)
    found = predict_points(table, fitted, fitting=True)
    assert np.mean(np.abs(found.tpot_s / table.tpot_s - 1)) < 0.01
    assert fitted["burst"] == pytest.approx(0.1, rel=0.1)
    assert fitted["gemm"] == pytest.approx(0.5, rel=0.05)
    assert fitted["layer_s"] == pytest.approx(60e-6, rel=0.1)


def test_the_groups_cover_what_the_docs_say(points: Table) -> None:
    assert len(points.points) == 1014
    assert {by_hardware(p) for p in points.points} == {"b200", "h100", "h200"}
    assert len({by_model_and_hardware(p) for p in points.points}) == 6
    assert {p.engine for p in points.points} == set(ENGINES)


def test_a_prediction_never_uses_the_one_wave_share(points: Table) -> None:
    base = {name: prior.value for name, prior in priors().items()}
    other = {**base, "one_wave": 0.9}
    np.testing.assert_array_equal(
        predict_points(points, base).ttft_s, predict_points(points, other).ttft_s
    )
    assert np.any(
        predict_points(points, base, fitting=True).ttft_s
        != predict_points(points, other, fitting=True).ttft_s
    )


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
