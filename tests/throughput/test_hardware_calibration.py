"""Calibration on measured samples: planted utilisation comes back, and held-out shapes are met."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.architecture.catalog import load_shape
from suffice.architecture.shape import Shape
from suffice.cli.main import app
from suffice.core.errors import InputError, TableError
from suffice.hardware import load_hardware
from suffice.recipes.ablation.families import shapes_along
from suffice.recipes.ablation.scaling import shrunk
from suffice.throughput.analytic import predict
from suffice.throughput.engines.protocol import Lengths
from suffice.throughput.hardware_calibration import (
    FITTED,
    MeasuredPoint,
    StackedPoints,
    accuracy,
    measured_points,
    predict_measured,
)
from suffice.throughput.hardware_report import calibrate_files
from suffice.throughput.records import MeasureRun, ResultFile, TimedSample, shape_config
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

LENGTHS = Lengths(input_tokens=1024, output_tokens=17)
PLANTED = {
    "gemm": 0.8, "weight_bandwidth": 0.5, "kv_bandwidth": 0.3, "attention": 0.2, "overlap": 0.6,
    "layer_s": 4e-4, "layer_token_s": 3e-5,
}  # fmt: skip
COPY, MATMUL = 10e9, 400e9


def shapes() -> list[Shape]:
    reference = shrunk(load_shape("meta-llama/Llama-3.2-1B"), 4)
    along = [*shapes_along("hidden_size", reference), *shapes_along("gqa", reference)]
    return list(dict.fromkeys([reference, *along]))[::2]


def planted_samples(noise: float, *, repeats: int = 3) -> list[TimedSample]:
    """Samples of a machine that obeys the formulas with PLANTED, slowed at random."""
    points = [
        MeasuredPoint(shape=s, batch=b, lengths=LENGTHS, tpot_s=1, ttft_s=1, repeats=1)
        for s in shapes()
        for b in (1, 16)
    ]
    evidence = StackedPoints.of(points, machine(), max_batched_tokens=2048)
    exact = predict_measured(evidence, PLANTED)
    rng = random.Random(0)
    samples = []
    for point, step, prompt in zip(points, exact.tpot_s, exact.ttft_s, strict=True):
        for repeat in range(repeats):
            slower = 1 + noise * rng.random()
            samples.append(sample(point, repeat, float(step) * slower, float(prompt) * slower))
    return samples


def machine() -> Any:
    from dataclasses import replace

    cpu = load_hardware("cpu")
    peaks = {"fp32": MATMUL, "bf16": MATMUL, "fp16": MATMUL}
    return replace(cpu, memory_bytes_per_s=COPY, peak_flops=peaks)


def sample(point: MeasuredPoint, repeat: int, step_s: float, ttft_s: float) -> TimedSample:
    steps = point.lengths.steps
    return TimedSample(
        run="r", name=point.shape.name or "reference", config=shape_config(point.shape),
        engine="vllm", device="planted CPU", dtype="bf16",
        input_tokens=point.lengths.input_tokens, output_tokens=point.lengths.output_tokens,
        batch=point.batch, repeat=repeat, interleaved=1, method="full", ttft_s=ttft_s,
        # One step in the sample was interrupted: the median step must not care.
        decode_s=step_s * (steps + 50), step_s=[step_s] * (steps - 1) + [51 * step_s],
        contexts=list(range(steps)),
    )  # fmt: skip


def write(path: Path, samples: list[TimedSample], **changes: Any) -> Path:
    results = ResultFile(path)
    values: dict[str, Any] = {
        "run": "r", "started_at": "now", "command": "test", "suffice_version": "0", "commit": None,
        "engine": "vllm", "engine_version": "0", "device": "planted CPU", "driver": None,
        "software": {"max_batched_tokens": "2048"}, "copy_bytes_per_s": COPY,
        "matmul_flops_per_s": MATMUL,
    }  # fmt: skip
    results.append(MeasureRun(**values | changes))
    for one in samples:
        results.append(one)
    return path


def test_a_machine_that_obeys_the_formulas_is_recovered(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", planted_samples(0.0, repeats=1))
    found = calibrate_files([path], base=None, name="mine", engine=None, statistic="least")
    # The priors pull a little; where coefficients can stand in for each other they move more.
    assert found.held_out.decode < 0.02
    assert found.held_out.ttft is not None
    assert found.held_out.ttft < 0.02
    assert found.held_out.rank > 0.95
    # At batch 1 shapes of one N are nearly tied; with a cache to read they are not.
    assert found.held_out.ranks["batch 16, 1024 in"] > 0.95
    for name in ("gemm", "weight_bandwidth"):
        assert found.coefficients[name] == pytest.approx(PLANTED[name], rel=0.25)


def test_least_of_the_repeats_ignores_disturbance(tmp_path: Path) -> None:
    samples = planted_samples(0.6, repeats=8)
    path = write(tmp_path / "r.jsonl", samples)
    least = calibrate_files([path], base=None, name="m", engine=None, statistic="least")
    exact = {p.shape: p for p in measured_points(planted_samples(0.0, repeats=1)) if p.batch == 16}
    for point in measured_points(samples):
        if point.batch == 16:
            assert point.tpot_s < 1.35 * exact[point.shape].tpot_s
    assert least.held_out.decode < 0.10


def test_the_file_is_what_design_loads(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", planted_samples(0.0, repeats=1))
    out = tmp_path / "my cpu.toml"
    done = CliRunner().invoke(app, ["calibrate-hardware", str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "leaving one shape out" in done.output
    loaded = load_hardware(out)
    assert loaded.name == "my cpu"
    assert loaded.memory_bytes_per_s == pytest.approx(COPY)
    for name in FITTED:
        assert 0 < getattr(loaded.utilisation, name) <= 1
    # What it predicts for serving is what was measured: no second model stands between.
    shape = shapes()[0]
    served = predict(shape, Serving(hardware=loaded), Workload.single(1024, 17), batch=16)
    exact = next(
        p for p in measured_points(planted_samples(0.0, repeats=1))
        if p.shape == shape and p.batch == 16
    )  # fmt: skip
    assert served.decode_step_s == pytest.approx(exact.tpot_s, rel=0.03)


def test_ranks_are_over_the_shapes_of_a_load() -> None:
    points = [
        MeasuredPoint(shape=s, batch=b, lengths=LENGTHS, tpot_s=t, ttft_s=None, repeats=1)
        for b, times in ((1, (1.0, 2.0, 3.0, 4.0)), (16, (4.0, 3.0, 2.0, 1.0)))
        for s, t in zip(shapes(), times, strict=False)
    ]
    evidence = StackedPoints.of(points, machine(), max_batched_tokens=2048)
    predicted = predict_measured(evidence, PLANTED)._replace(
        tpot_s=np.array([1.0, 2.0, 3.0, 4.0] * 2)
    )
    scores = accuracy(evidence, predicted)
    assert scores.ranks == pytest.approx({"batch 1, 1024 in": 1.0, "batch 16, 1024 in": -1.0})
    assert 0 < scores.rank < 1
    assert scores.ttft is None
    # Throughput errors: measured over predicted, less one.
    assert scores.decode == pytest.approx((0 * 4 + 3 + 0.5 + 1 / 3 + 0.75) / 8)


def test_a_gpu_keeps_its_datasheet(tmp_path: Path) -> None:
    samples = [replace_device(s, "NVIDIA H200") for s in planted_samples(0.0, repeats=1)]
    path = write(tmp_path / "r.jsonl", samples)
    found = calibrate_files([path], base=None, name="mine", engine=None, statistic="median")
    h200 = load_hardware("h200")
    assert found.hardware.memory_bytes_per_s == h200.memory_bytes_per_s
    assert found.hardware.kind == "gpu"


def replace_device(one: TimedSample, device: str) -> TimedSample:
    from dataclasses import replace

    return replace(one, device=device)


def test_what_cannot_be_calibrated_on_is_refused(tmp_path: Path) -> None:
    samples = planted_samples(0.0, repeats=1)
    names = list(dict.fromkeys(s.name for s in samples))[:3]
    few = [s for s in samples if s.name in names]
    with pytest.raises(TableError, match="3 shapes are too few"):
        calibrate_files(
            [write(tmp_path / "few.jsonl", few)], base=None, name="m", engine=None,
            statistic="least",
        )  # fmt: skip
    mixed = [*samples, replace_device(samples[0], "another")]
    with pytest.raises(TableError, match="calibrate them apart"):
        measured_points(mixed)
    with pytest.raises(TableError, match="no samples"):
        measured_points([])
    with pytest.raises(InputError, match="least, median"):
        calibrate_files([], base=None, name="m", engine=None, statistic="mean")
    blind = write(tmp_path / "b.jsonl", samples, copy_bytes_per_s=None)
    with pytest.raises(TableError, match="--base"):
        calibrate_files([blind], base=None, name="m", engine=None, statistic="least")
