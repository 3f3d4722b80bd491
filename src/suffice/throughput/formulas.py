"""Roofline formulas for a decode step, a prefill and their steady state.

Shapes come as arrays; what surrounds them (device, lengths, coefficients) as a `Scenario` whose
fields are scalars when many shapes share it, as in a search, or arrays when each row has its own,
as in a calibration. One implementation, so that a calibrated formula is the one that is used.

    d  hidden_size    f  intermediate_size    L  num_hidden_layers    V  vocab_size
    t  tensor_parallel    B  running batch    I  prompt tokens    O  output tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
# Any: a float when it is the same for all rows, an array when each row has its own. numpy treats
# both alike, the type checker cannot say so.
Value = Any

# Logits are read in 16 bits, widened, normalised and sampled from.
SAMPLING_BYTES_PER_LOGIT = 16.0


class Tiles(NamedTuple):
    """What a product's dimensions are rounded up to before they are computed."""

    columns: float
    inner: float
    rows: float


# Tensor cores compute whole tiles; vector units waste little on any size.
TENSOR_CORE_TILES = Tiles(columns=128.0, inner=64.0, rows=16.0)
VECTOR_TILES = Tiles(columns=16.0, inner=1.0, rows=1.0)


class Rows(NamedTuple):
    """Dimensions of the shapes, one value per row."""

    hidden_size: FloatArray
    intermediate_size: FloatArray
    num_hidden_layers: FloatArray
    num_attention_heads: FloatArray
    num_key_value_heads: FloatArray
    head_dim: FloatArray
    vocab_size: FloatArray
    num_sliding_layers: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What surrounds the shapes; see `Serving`, `Workload`, `Hardware`, `EngineTraits`."""

    tiles: Tiles = TENSOR_CORE_TILES
    gates: Value
    embedding_copies: Value
    weight_value_bytes: Value
    kv_value_bytes: Value
    tensor_parallel: Value
    memory_bytes: Value  # for weights, KV cache and workspace of one device
    max_batch: Value
    concurrency: Value
    queued: Value  # 1 when requests beyond the running batch exist and wait
    max_batched_tokens: Value
    prompt_tokens: Value
    output_tokens: Value
    prompt_pairs: Value
    prompt_pairs_sliding: Value
    context_tokens: Value
    context_tokens_sliding: Value
    held_tokens: Value  # per running sequence, as the engine plans for it
    held_tokens_sliding: Value
    admitted_tokens: Value  # per sequence whose prompt was let in, running or set back
    has_sliding: bool
    memory_s_per_byte: Value
    gemm_s_per_flop: Value  # at peak
    attention_s_per_flop: Value  # at peak
    link_s_per_byte: Value  # at peak
    gemm: Value
    weight_bandwidth: Value
    kv_bandwidth: Value
    attention: Value
    interconnect: Value
    overlap: Value
    layer_s: Value
    layer_token_s: Value
    all_reduce_s: Value
    step_s: Value
    burst: Value
    first_s: Value
    arrival_s: Value


class Device(NamedTuple):
    """One device's share of the shapes: what it holds, streams and multiplies."""

    weight_bytes: FloatArray
    streamed_bytes: FloatArray
    flops_per_token: FloatArray
    head_flops: FloatArray
    activation_bytes: FloatArray  # per token and layer
    kv_bytes: FloatArray  # per token and layer
    query_width: FloatArray
    vocabulary: FloatArray


def device_share(rows: Rows, s: Scenario) -> Device:
    """What one of `tensor_parallel` devices holds and does; KV heads are copied beyond t."""
    share = 1.0 / s.tensor_parallel
    d, depth = rows.hidden_size, rows.num_hidden_layers
    f = rows.intermediate_size * share
    vocabulary = rows.vocab_size * share
    queries = rows.num_attention_heads * rows.head_dim * share
    kv_width = np.maximum(rows.num_key_value_heads * share, 1.0) * rows.head_dim
    qkv = queries + 2.0 * kv_width
    head_weights = d * vocabulary
    streamed = (s.weight_value_bytes * depth) * (d * (qkv + queries + s.gates * f))
    streamed += 2.0 * head_weights
    d_tiles = _round_up(d, s.tiles.columns)
    columns = _round_up(qkv, s.tiles.columns)
    columns += _round_up(queries, s.tiles.inner)
    columns += s.gates * _round_up(f, s.tiles.columns)
    return Device(
        weight_bytes=streamed + (2.0 * (s.embedding_copies - 1.0)) * head_weights,
        streamed_bytes=streamed,
        flops_per_token=2.0 * depth * d_tiles * columns,
        head_flops=2.0 * d_tiles * vocabulary,
        activation_bytes=12.0 * d + 6.0 * f + 4.0 * qkv,
        kv_bytes=(2.0 * s.kv_value_bytes) * kv_width,
        query_width=queries,
        vocabulary=vocabulary,
    )


class Capacity(NamedTuple):
    """How many sequences one replica holds, and the bytes behind it, per device."""

    largest_batch: FloatArray
    batch: FloatArray
    admitted: FloatArray
    memory_bytes: FloatArray


def capacity(rows: Rows, device: Device, s: Scenario) -> Capacity:
    """Sequences that fit at the length the engine plans for; 0 where t cannot split the heads."""
    held = _over_layers(rows, s, s.held_tokens, s.held_tokens_sliding)
    sequence_bytes = device.kv_bytes * held
    resident = s.max_batched_tokens * device.activation_bytes
    resident += (4.0 * s.max_batch) * device.vocabulary
    resident += device.weight_bytes
    largest = s.memory_bytes - resident
    largest /= sequence_bytes
    np.maximum(largest, 0.0, out=largest)
    np.floor(largest, out=largest)
    t = s.tensor_parallel
    if np.any(t > 1):
        kv = rows.num_key_value_heads
        largest *= np.remainder(rows.num_attention_heads, t) == 0
        largest *= (np.remainder(kv, t) == 0) | (np.remainder(t, kv) == 0)
    batch = np.minimum(largest, np.minimum(s.concurrency, s.max_batch))
    admitted = batch
    if np.any(s.queued):
        more = largest * (s.held_tokens / s.admitted_tokens)
        admitted = np.minimum(more, np.minimum(s.concurrency, s.max_batch))
    resident += batch * sequence_bytes
    return Capacity(largest, batch, admitted, resident)


class Step(NamedTuple):
    """Time of one decode step and what it is made of, in seconds."""

    total_s: FloatArray
    stream_s: FloatArray
    gemm_s: FloatArray
    product_s: FloatArray
    attention_s: FloatArray
    moved_s: FloatArray
    fixed_s: FloatArray
    link_s_per_token: Value


def decode_step(rows: Rows, device: Device, batch: FloatArray, s: Scenario) -> Step:
    """One token for each of `batch` sequences at the mean KV length."""
    depth = rows.num_hidden_layers
    stream_s = device.streamed_bytes * (s.memory_s_per_byte / s.weight_bandwidth)
    gemm_s = device.flops_per_token + device.head_flops
    gemm_s *= s.gemm_s_per_flop / s.gemm
    gemm_s *= _round_up(batch, s.tiles.rows)
    product_s = np.maximum(stream_s, gemm_s)
    product_s += s.overlap * np.minimum(stream_s, gemm_s)
    attended = batch * _over_layers(rows, s, s.context_tokens, s.context_tokens_sliding)
    attention_s = np.maximum(
        device.kv_bytes * (s.memory_s_per_byte / s.kv_bandwidth),
        device.query_width * (4.0 * s.attention_s_per_flop / s.attention),
    )
    attention_s *= attended
    moved_s = depth * device.activation_bytes
    moved_s += SAMPLING_BYTES_PER_LOGIT * device.vocabulary
    moved_s *= batch * s.memory_s_per_byte
    fixed_s = depth * s.layer_s + s.step_s
    link_s: Value = 0.0
    if np.any(s.tensor_parallel > 1):
        others = s.tensor_parallel - 1.0
        fixed_s += depth * (2.0 * s.all_reduce_s * (others > 0))
        per_value = 8.0 * others / s.tensor_parallel
        link_s = depth * rows.hidden_size * (per_value * s.link_s_per_byte / s.interconnect)
    total = product_s + attention_s
    total += moved_s
    total += fixed_s
    total += batch * (link_s + depth * s.layer_token_s)
    return Step(total, stream_s, gemm_s, product_s, attention_s, moved_s, fixed_s, link_s)


class Prefill(NamedTuple):
    """Time of one prompt's pass, in seconds: by itself, and packed with other prompts."""

    alone_s: FloatArray
    shared_s: FloatArray


def prefill(rows: Rows, device: Device, step: Step, s: Scenario) -> Prefill:
    """One prompt through the model. Packed passes share streamed weights and fixed costs."""
    gemm_s = s.prompt_tokens * device.flops_per_token + device.head_flops
    gemm_s *= s.gemm_s_per_flop / s.gemm
    pairs = _over_layers(rows, s, s.prompt_pairs, s.prompt_pairs_sliding)
    rest_s = pairs * device.query_width
    rest_s *= 4.0 * s.attention_s_per_flop / s.attention
    moved = rows.num_hidden_layers * device.activation_bytes
    moved *= s.memory_s_per_byte
    moved += step.link_s_per_token
    rest_s += s.prompt_tokens * moved
    passes = s.prompt_tokens / s.max_batched_tokens
    alone = np.maximum(passes, 1.0)
    shared_s = np.maximum(passes * step.stream_s, gemm_s)
    shared_s += rest_s
    shared_s += passes * step.fixed_s
    alone_s = np.maximum(alone * step.stream_s, gemm_s)
    alone_s += rest_s
    alone_s += alone * step.fixed_s
    return Prefill(alone_s, shared_s)


class Steady(NamedTuple):
    """Continuous batching in steady state."""

    output_tokens_per_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray


def steady_state(room: Capacity, step: Step, once: Prefill, s: Scenario) -> Steady:
    """Each slot prefills once and decodes O - 1 steps per cycle; others' prefills come between.

    TPOT is (e2e - ttft) / (O - 1): the decode step and the prefills of the B - 1 others that fall
    into it, but for the share `burst` of them that a request waits for before its first token.
    Where more requests are in flight than run, the admitted ones stretch TPOT and the others wait
    for whole cycles.
    """
    batch = room.batch
    steps = s.output_tokens - 1.0
    prefills_s = batch * once.shared_s
    cycle_s = steps * step.total_s
    cycle_s += prefills_s
    others_s = prefills_s - once.shared_s
    ttft_s = others_s * s.burst
    tpot_s = others_s - ttft_s
    tpot_s /= s.output_tokens
    tpot_s += step.total_s
    ttft_s += once.alone_s
    ttft_s += s.first_s
    ttft_s += batch * s.arrival_s
    decoding_s = steps * tpot_s
    if np.any(s.queued):
        stretch = room.admitted / batch
        tpot_s *= stretch
        decoding_s *= stretch
        ttft_s += (s.concurrency / room.admitted - 1.0) * (ttft_s + decoding_s)
    return Steady(batch * s.output_tokens / cycle_s, ttft_s, tpot_s, ttft_s + decoding_s)


def _over_layers(rows: Rows, s: Scenario, full: Value, sliding: Value) -> FloatArray:
    """Σ over layers of a per-layer quantity that sliding-window layers see less of."""
    total: FloatArray = rows.num_hidden_layers * full
    if s.has_sliding:
        total -= rows.num_sliding_layers * (full - sliding)
    return total


def _round_up(values: FloatArray, multiple: float) -> FloatArray:
    rounded: FloatArray = values * (1.0 / multiple)
    np.ceil(rounded, out=rounded)
    rounded *= multiple
    return rounded
