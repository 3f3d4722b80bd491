"""The prediction's accounting: units, limits, refusals."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.architecture.catalog import load_model, load_shape
from suffice.architecture.counts import (
    WEIGHT_VALUE_BYTES,
    KvDtype,
    ShapeGrid,
    WeightDtype,
    kv_cache_bytes_per_token,
    weight_bytes,
)
from suffice.architecture.weight_format import CHOICES, uniform_format
from suffice.cli.main import app
from suffice.core.errors import DoesNotFit, InputError
from suffice.hardware import load_hardware
from suffice.throughput.analytic import (
    CHUNK_SHAPES,
    GridPrediction,
    device_of,
    predict,
    predict_grid,
    scenario,
)
from suffice.throughput.formulas import capacity, decode_step, prefill, steady_state
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

LLAMA = load_shape("meta-llama/Llama-3.2-1B")
H200 = Serving(hardware=load_hardware("h200"))
LONG = Workload.single(4096, 1024)


def test_bytes_agree_with_the_counts() -> None:
    found = predict(LLAMA, H200, LONG)
    assert found.weight_bytes == pytest.approx(float(weight_bytes(LLAMA, "bf16")))
    assert found.kv_bytes_per_token == float(kv_cache_bytes_per_token(LLAMA, "bf16"))
    assert found.memory_bytes <= 0.9 * H200.hardware.memory_bytes


@pytest.mark.parametrize("dtype", ["bf16", "fp8", "fp4", "int4"])
def test_weight_bytes_follow_the_dtype(dtype: str) -> None:
    serving = replace(H200, weight_dtype=dtype)  # type: ignore[arg-type]
    found = predict(LLAMA, serving, LONG)
    assert found.weight_bytes == pytest.approx(float(weight_bytes(LLAMA, dtype)))  # type: ignore[arg-type]


def test_times_and_rates_are_consistent() -> None:
    found = predict(LLAMA, H200, LONG, batch=64)
    assert found.decode_tokens_per_s == pytest.approx(64 / found.decode_step_s)
    assert found.tpot_s == pytest.approx((found.e2e_s - found.ttft_s) / 1023)
    assert found.total_tokens_per_s == pytest.approx(5 * found.output_tokens_per_s)
    per_hour = found.output_tokens_per_s * 3600
    assert found.usd_per_million_tokens == pytest.approx(H200.usd_per_hour / per_hour * 1e6)
    assert 0 < found.memory_share < 1
    assert found.bound == "memory"
    assert found.tpot_s > found.decode_step_s


def test_never_faster_than_the_device() -> None:
    """A step streams all weights and the batch's KV cache at peak bandwidth at best."""
    for batch in (1, 16, 256):
        found = predict(LLAMA, H200, LONG, batch=batch)
        moved = found.weight_bytes + batch * 4608 * found.kv_bytes_per_token
        assert found.decode_step_s > moved / H200.hardware.memory_bytes_per_s


def test_one_output_token_has_no_tpot() -> None:
    found = predict(LLAMA, H200, Workload.single(512, 1), batch=8)
    assert math.isnan(found.tpot_s)
    assert found.e2e_s == found.ttft_s
    assert found.output_tokens_per_s > 0


def test_requests_beyond_memory_wait() -> None:
    serving = Serving(hardware=load_hardware("a100-40gb"), max_batch=4096)
    fits = predict(load_shape("meta-llama/Llama-3.2-3B"), serving, LONG)
    over = predict(
        load_shape("meta-llama/Llama-3.2-3B"), serving, LONG, batch=2 * fits.largest_batch
    )
    assert over.batch == fits.largest_batch == fits.batch
    assert over.output_tokens_per_s == pytest.approx(fits.output_tokens_per_s)
    # Twice the requests in flight at the same rate: each takes twice as long (Little's law).
    assert over.e2e_s == pytest.approx(2 * fits.e2e_s, rel=0.05)
    assert any("wait" in note for note in over.notes)


def test_an_early_admitting_engine_stretches_tpot_instead() -> None:
    serving = Serving(hardware=load_hardware("h100"), engine="vllm", tensor_parallel=2)
    shape, work = load_shape("meta-llama/Llama-3.1-70B"), Workload.single(512, 4096)
    serving = replace(serving, weight_dtype="fp8")
    fits = predict(shape, serving, work, batch=32)
    assert fits.batch == 32
    over = predict(shape, serving, work, batch=2 * fits.largest_batch)
    assert over.tpot_s > 1.5 * over.decode_step_s
    assert over.ttft_s < 0.1 * over.e2e_s


def test_does_not_fit_says_what_would() -> None:
    with pytest.raises(DoesNotFit, match=r"missing .* GiB.*tensor_parallel 8.*fp8"):
        predict(load_shape("meta-llama/Llama-3.1-70B"), Serving(hardware=load_hardware("l4")), LONG)


def test_an_impossible_split_is_refused() -> None:
    serving = replace(H200, tensor_parallel=5)
    with pytest.raises(InputError, match="possible here: 1, 2, 4, 8, 16"):
        predict(LLAMA, serving, LONG)
    grid = predict_grid(ShapeGrid.like(LLAMA), serving, LONG)
    assert grid.batch[0] == 0
    assert grid.output_tokens_per_s[0] == 0
    assert np.isnan(grid.tpot_s[0])


def test_more_devices_than_kv_heads_copy_the_cache() -> None:
    eight = predict(LLAMA, replace(H200, tensor_parallel=8), LONG, batch=8)
    sixteen = predict(LLAMA, replace(H200, tensor_parallel=16), LONG, batch=8)
    assert sixteen.kv_bytes_per_token == eight.kv_bytes_per_token


def test_padding_makes_an_awkward_width_cost_more() -> None:
    def shape(width: int) -> float:
        odd = LLAMA.resized(
            hidden_size=2048, intermediate_size=width, num_attention_heads=32, num_key_value_heads=8
        )
        return predict(odd, H200, Workload.single(8192, 1), batch=8).ttft_s

    assert shape(8192 + 8) == pytest.approx(shape(8192 + 128), rel=2e-3)
    assert shape(8192 + 8) > shape(8192) * 1.003


def test_sliding_windows_hold_less() -> None:
    gemma = load_shape("google/gemma-2-2b")
    full = replace(gemma, sliding_window=None, num_sliding_layers=0)
    work = Workload.single(16384, 1024)
    assert predict(gemma, H200, work, batch=8).tpot_s < predict(full, H200, work, batch=8).tpot_s
    assert predict(gemma, H200, work).largest_batch > predict(full, H200, work).largest_batch


def test_chunks_do_not_show() -> None:
    shapes = CHUNK_SHAPES + 3
    grid = ShapeGrid.like(LLAMA, intermediate_size=1024.0 + 8 * np.arange(shapes))
    whole = predict_grid(grid, H200, LONG)
    ends = predict_grid(grid.take(np.array([0, shapes - 1])), H200, LONG)
    for field in fields(GridPrediction):
        values = getattr(whole, field.name)
        assert len(values) == shapes
        np.testing.assert_allclose(values[[0, -1]], getattr(ends, field.name), rtol=1e-13)


def test_notes_tell_where_nothing_was_measured() -> None:
    notes = predict(LLAMA, Serving(hardware=load_hardware("l4")), LONG, batch=4).notes
    assert any("no measured point is from l4" in note for note in notes)
    assert not any("no measured point" in note for note in predict(LLAMA, H200, LONG).notes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tensor_parallel": 0},
        {"max_batch": -1},
        {"memory_fraction": 1.5},
        {"weight_dtype": "fp12"},
        {"kv_dtype": "none"},
        {"engine": "tgi"},
    ],
)
def test_absurd_serving_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Serving(hardware=load_hardware("h100"), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [0, -3, True])
def test_absurd_batch_is_refused(batch: int) -> None:
    with pytest.raises(InputError, match="batch"):
        predict(LLAMA, H200, LONG, batch=batch)


def test_one_sequence_on_a_cpu_is_bound_by_memory() -> None:
    """No tensor-core tiles there: a batch of one is not padded to sixteen rows."""
    found = predict(
        LLAMA, Serving(hardware=load_hardware("cpu"), max_batched_tokens=512), LONG, batch=1
    )
    moved = found.weight_bytes + 4608 * found.kv_bytes_per_token
    assert found.bound == "memory"
    assert found.decode_step_s < 2 * moved / load_hardware("cpu").memory_bytes_per_s


def test_speculation_trades_work_for_steps() -> None:
    plain = predict(LLAMA, H200, LONG, batch=1)
    drafted = predict(LLAMA, replace(H200, speculative=2.1), LONG, batch=1)
    # Two steps' worth in one, less what three drafted layers and output matrices take.
    assert 1.2 < drafted.decode_tokens_per_s / plain.decode_tokens_per_s < 2.1
    assert drafted.decode_step_s > plain.decode_step_s
    # At full load the products are what counts, and more of them are computed.
    loaded = predict(LLAMA, replace(H200, max_batch=1024), Workload.single(64, 64), batch=1024)
    both = replace(H200, max_batch=1024, speculative=2.1)
    assert (
        predict(LLAMA, both, Workload.single(64, 64), batch=1024).output_tokens_per_s
        < 1.3 * loaded.output_tokens_per_s
    )


def test_a_cached_prompt_is_attended_to_but_not_computed() -> None:
    work = Workload.single(8192, 256, cached_share=0.75)
    whole, part = predict(LLAMA, H200, Workload.single(8192, 256)), predict(LLAMA, H200, work)
    assert 0.1 < part.prefill_s / whole.prefill_s < 0.6
    assert part.largest_batch == whole.largest_batch
    assert part.output_tokens_per_s > whole.output_tokens_per_s


def test_a_lone_request_waits_for_nothing() -> None:
    """What engines add under load is not in the TTFT of one request."""
    for engine in ("generic", "vllm", "sglang", "trtllm"):
        serving = replace(H200, engine=engine)  # type: ignore[arg-type]
        alone = predict(LLAMA, serving, LONG, batch=1)
        assert alone.ttft_s == pytest.approx(alone.prefill_s)
        assert predict(LLAMA, serving, LONG, batch=2).ttft_s > alone.ttft_s


def test_smaller_chunks_stretch_a_prompt_and_mixing_shortens_the_cycle() -> None:
    small = replace(H200, max_batched_tokens=256)
    work = Workload.single(8192, 64)
    assert predict(LLAMA, small, work, batch=8).prefill_s > predict(LLAMA, H200, work).prefill_s
    assert (
        predict(LLAMA, small, work, batch=64).output_tokens_per_s
        < predict(LLAMA, H200, work, batch=64).output_tokens_per_s
    )


def test_sums_over_pcie_and_over_a_network_cost_more() -> None:
    serving = Serving(hardware=load_hardware("l40s"), tensor_parallel=4)
    linked = replace(serving.hardware, interconnect_latency_s=0.0)
    shape = load_shape("meta-llama/Llama-3.1-8B")
    pcie = predict(shape, serving, LONG, batch=8)
    nvlink = predict(shape, replace(serving, hardware=linked), LONG, batch=8)
    assert pcie.decode_step_s - nvlink.decode_step_s == pytest.approx(64 * 25e-6, rel=0.01)
    wide = predict(shape, replace(H200, tensor_parallel=16), LONG, batch=8)
    assert any("more than one node" in note for note in wide.notes)
    node = replace(H200.hardware, node_devices=16)
    single = replace(H200, hardware=node, tensor_parallel=16)
    assert wide.decode_step_s > predict(shape, single, LONG, batch=8).decode_step_s


@pytest.mark.parametrize("name", ["Qwen3-30B-A3B", "DeepSeek-V3", "gpt-oss-120b"])
def test_experts_touched_grow_with_the_batch(name: str) -> None:
    """A step of many sequences streams nearly all experts, a step of one a few."""
    model = load_model(name)
    serving = replace(H200, tensor_parallel=8, weight_dtype="fp8")
    steps = [predict(model, serving, Workload.single(64, 64), batch=b) for b in (1, 8, 64)]
    assert steps[0].decode_step_s < steps[1].decode_step_s < steps[2].decode_step_s
    # Yet far less than the weights' whole stream at batch 1.
    whole_s = steps[0].weight_bytes / serving.hardware.memory_bytes_per_s
    fixed_s = predict(model, replace(serving, weight_dtype="fp4"), LONG, batch=1).decode_step_s
    assert steps[0].decode_step_s < whole_s + fixed_s


def test_choices_of_formats_are_said_the_same_everywhere() -> None:
    help_text = CliRunner().invoke(app, ["design", "--help"]).output
    words = set(help_text.replace(",", " ").replace(".", " ").split())
    assert set(get_args(WeightDtype)) | set(get_args(KvDtype)) <= words
    assert set(CHOICES) == set(get_args(WeightDtype))
    for dtype in get_args(WeightDtype):
        stored = uniform_format(dtype)
        assert stored.mlp.value_bytes == pytest.approx(WEIGHT_VALUE_BYTES[dtype])


def test_without_captured_graphs_a_step_takes_what_the_host_takes_to_launch_it() -> None:
    """94 layers with experts: a floor under few sequences, none where the device takes longer."""
    model = load_model("Qwen3-235B-A22B")
    captured = Serving(hardware=load_hardware("h200"), engine="vllm", tensor_parallel=4)
    eager = replace(captured, captured_graphs=False)
    host_s = 94 * (captured.traits.eager_layer_s + captured.traits.eager_expert_s)
    few, more = (predict(model, eager, LONG, batch=b).decode_step_s for b in (4, 20))
    assert few == more == pytest.approx(host_s)
    assert predict(model, captured, LONG, batch=4).decode_step_s < 0.5 * host_s
    many = Workload.single(500, 100)
    slow, slower = (
        predict(model, replace(serving, tensor_parallel=8, max_batch=1024), many, batch=1000)
        for serving in (captured, eager)
    )
    assert slow.decode_step_s == slower.decode_step_s > host_s


def test_a_prompt_waits_for_those_of_other_replicas_only_among_others() -> None:
    """TensorRT-LLM with replicas of the attention: `balance_steps` decode steps."""
    model = load_model("DeepSeek-V3")
    replicas = Serving(
        hardware=load_hardware("b200"), engine="trtllm", data_parallel=8, expert_parallel=True
    )
    device = device_of(model, replicas, LONG)
    times = []
    for steps in (0.0, 20.0):
        s = replace(scenario(replicas, LONG, 64), balance_steps=steps)
        room = capacity(device, s)
        step = decode_step(device, room.batch, s)
        found = steady_state(room, step, prefill(device, step, s), s)
        times.append((float(found.ttft_s[0]), float(step.total_s[0])))
    assert times[1][0] - times[0][0] == pytest.approx(20.0 * (1 - 1 / 64) * times[0][1])
    lone = predict(model, replicas, LONG, batch=1)
    assert lone.ttft_s == pytest.approx(lone.prefill_s)
