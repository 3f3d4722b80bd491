"""The prediction's accounting: units, limits, refusals."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import ShapeGrid, kv_cache_bytes_per_token, weight_bytes
from suffice.core.errors import DoesNotFit, InputError
from suffice.hardware import load_hardware
from suffice.throughput.analytic import CHUNK_SHAPES, GridPrediction, predict, predict_grid
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
