"""What any prediction must obey, for any shape."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import ShapeGrid
from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit
from suffice.hardware import hardware_names, load_hardware
from suffice.throughput.analytic import predict, predict_grid
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

LLAMA = load_shape("meta-llama/Llama-3.2-1B")
GPUS = [name for name in hardware_names() if name != "cpu"]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kv_heads = draw(st.integers(1, 24))
    return LLAMA.resized(
        hidden_size=64 * draw(st.integers(8, 64)),
        intermediate_size=8 * draw(st.integers(64, 1500)),
        num_attention_heads=kv_heads * draw(st.integers(1, 9)),
        num_key_value_heads=kv_heads,
        head_dim=draw(st.sampled_from([64, 80, 96, 128])),
        num_hidden_layers=draw(st.integers(2, 40)),
    )


servings = st.builds(
    Serving,
    hardware=st.sampled_from([load_hardware(name) for name in GPUS]),
    weight_dtype=st.sampled_from(["bf16", "fp8", "int4"]),
    kv_dtype=st.sampled_from(["bf16", "fp8"]),
    engine=st.sampled_from(["generic", "vllm", "sglang", "trtllm"]),
)
batches = st.integers(1, 8)
lengths = st.integers(1, 1500)


@settings(max_examples=60, deadline=None)
@given(shape=shapes(), serving=servings, batch=batches, length=lengths, more=lengths, out=lengths)
def test_longer_context_is_never_faster(
    *, shape: Shape, serving: Serving, batch: int, length: int, more: int, out: int
) -> None:
    near = predict(shape, serving, Workload.single(length, out), batch=batch)
    far = predict(shape, serving, Workload.single(length + more, out), batch=batch)
    assert far.decode_tokens_per_s <= near.decode_tokens_per_s
    assert far.output_tokens_per_s <= near.output_tokens_per_s
    # Steps take longer, so prompts whose time is the host's meet each other a little less.
    assert far.ttft_s >= 0.999 * near.ttft_s
    assert far.largest_batch <= near.largest_batch


@settings(max_examples=60, deadline=None)
@given(shape=shapes(), serving=servings, batch=batches, length=lengths, factor=st.floats(1.0, 8.0))
def test_more_bandwidth_or_compute_is_never_slower(
    shape: Shape, serving: Serving, batch: int, length: int, factor: float
) -> None:
    work = Workload.single(length, 64)
    slow = predict(shape, serving, work, batch=batch)
    hardware = serving.hardware
    wider = replace(hardware, memory_bytes_per_s=factor * hardware.memory_bytes_per_s)
    faster = replace(hardware, peak_flops={k: factor * v for k, v in hardware.peak_flops.items()})
    for better in (wider, faster):
        found = predict(shape, replace(serving, hardware=better), work, batch=batch)
        assert found.decode_step_s <= slow.decode_step_s
        # Not the TTFT: at as many requests in flight, faster decoding sends prompts more often.
        assert found.prefill_s <= slow.prefill_s
        assert found.e2e_s <= slow.e2e_s * (1 + 1e-9)
        assert found.output_tokens_per_s >= slow.output_tokens_per_s


@settings(max_examples=40, deadline=None)
@given(shape=shapes(), serving=servings, length=lengths, batch=st.integers(1, 7))
def test_a_larger_batch_yields_more_tokens_and_longer_intervals(
    shape: Shape, serving: Serving, length: int, batch: int
) -> None:
    work = Workload.single(length, 64)
    small = predict(shape, serving, work, batch=batch)
    large = predict(shape, serving, work, batch=batch + 1)
    assert large.tpot_s >= small.tpot_s
    assert large.output_tokens_per_s >= small.output_tokens_per_s * (1 - 1e-9)
    assert large.usd_per_million_tokens <= small.usd_per_million_tokens * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(shape=shapes(), serving=servings, factor=st.integers(2, 4))
def test_kv_bytes_are_linear_in_kv_heads(shape: Shape, serving: Serving, factor: int) -> None:
    heads = shape.num_attention_heads
    more = replace(
        shape,
        num_attention_heads=heads * factor,
        num_key_value_heads=shape.num_key_value_heads * factor,
    )
    work = Workload.single(64, 8)
    try:
        one, several = (predict(s, serving, work, batch=1) for s in (shape, more))
    except DoesNotFit:  # what does not fit has no prediction to compare
        assume(False)
        return
    assert several.kv_bytes_per_token == pytest.approx(factor * one.kv_bytes_per_token)


@settings(max_examples=15, deadline=None)
@given(
    members=st.lists(shapes(), min_size=1, max_size=5),
    serving=servings,
    batch=st.one_of(st.none(), batches),
)
def test_a_grid_is_its_shapes(members: list[Shape], serving: Serving, batch: int | None) -> None:
    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    )
    columns = {name: np.array([float(getattr(m, name)) for m in members]) for name in names}
    work = Workload.single(256, 128)
    found = predict_grid(ShapeGrid.like(LLAMA, **columns), serving, work, batch=batch)
    for row, member in enumerate(members):
        one = predict(member, serving, work, batch=batch)
        for field in fields(found):
            assert getattr(found, field.name)[row] == pytest.approx(getattr(one, field.name))
