"""Predicted speed, latency, memory and cost of any dense shape: roofline times utilisation.

One implementation serves a single shape and a grid of a million: a shape is a grid of one row.
Arrays are worked through in chunks that stay in cache.

    d  hidden_size    f  intermediate_size    L  num_hidden_layers    V  vocab_size
    t  tensor_parallel    B  running batch    I  prompt tokens    O  output tokens    D  decode step
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.counts import BYTES_PER_VALUE, INT4_WEIGHT_BYTES, ShapeGrid
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.throughput.fit_check import check_fits
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

FloatArray = NDArray[np.float64]

CHUNK_SHAPES = 2048
# What an engine holds besides weights, KV cache and activations: device context, captured graphs,
# communication buffers. vLLM 0.19 with Llama-3.1-8B on an RTX 4090 leaves 41,408 KV tokens of
# 22.7 GB, which is .8 GB less than weights and activations explain (LLMServingSim bench records).
GPU_RUNTIME_BYTES = 0.8e9
# Tensor-core tiles: output columns are computed in multiples of 128, the inner dimension of 64.
TILE_COLUMNS = 128.0
TILE_INNER = 64.0
# Rows of a decode batch are computed in multiples of 16.
TILE_ROWS = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPrediction:
    """Predictions for many shapes, one float64 array per quantity.

    A shape that does not fit, or that `tensor_parallel` cannot split, has batch 0, throughput 0
    and NaN latencies.
    """

    batch: FloatArray
    largest_batch: FloatArray
    output_tokens_per_s: FloatArray
    decode_tokens_per_s: FloatArray
    total_tokens_per_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    decode_step_s: FloatArray
    prefill_s: FloatArray
    memory_bytes: FloatArray
    weight_bytes: FloatArray
    kv_bytes_per_token: FloatArray
    usd_per_million_tokens: FloatArray
    memory_share: FloatArray
    compute_share: FloatArray

    def __len__(self) -> int:
        return int(self.batch.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What serving one shape is predicted to cost, in steady state at `batch` running sequences.

    `output_tokens_per_s` counts generated tokens of the whole replica, with the prefill of
    arriving requests in the time; `decode_tokens_per_s` is batch over decode step, without it;
    `total_tokens_per_s` counts prompt tokens too. `tpot_s` is (e2e - ttft) / (O - 1), NaN for one
    output token. Bytes are per device. `usd_per_million_tokens` is per million *output* tokens.
    `memory_share` and `compute_share` are the parts of a decode step that wait for memory and
    that compute; the rest is overhead and communication.
    """

    batch: int
    concurrency: int
    largest_batch: int
    output_tokens_per_s: float
    decode_tokens_per_s: float
    total_tokens_per_s: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    decode_step_s: float
    prefill_s: float
    memory_bytes: float
    weight_bytes: float
    kv_bytes_per_token: float
    usd_per_million_tokens: float
    memory_share: float
    compute_share: float
    notes: tuple[str, ...] = ()

    @property
    def bound(self) -> str:
        """What a decode step mostly waits for: memory, compute or overhead."""
        shares = {
            "memory": self.memory_share,
            "compute": self.compute_share,
            "overhead": 1.0 - self.memory_share - self.compute_share,
        }
        return max(shares, key=lambda name: shares[name])


def predict(
    shape: Shape, serving: Serving, workload: Workload, *, batch: int | None = None
) -> Prediction:
    """Prediction for one shape; `batch` requests are kept in flight, by default all that fit.

    More requests than fit in memory (or than `max_batch`) wait, and their wait is in the TTFT.
    Raises DoesNotFit if not even one fits, InputError if `tensor_parallel` cannot split the heads.
    """
    grid = predict_grid(ShapeGrid.like(shape), serving, workload, batch=batch)
    values: dict[str, Any] = {f.name: float(getattr(grid, f.name)[0]) for f in fields(grid)}
    check_fits(shape, serving, workload, largest_batch=values["largest_batch"])
    running = int(values.pop("batch"))
    largest = int(values.pop("largest_batch"))
    concurrency = running if batch is None else batch
    notes = list(_notes(serving))
    if concurrency > running:
        limit = "memory" if largest < serving.max_batch else "max_batch"
        notes.append(f"{limit} holds {running} of {concurrency} requests; the others wait")
    return Prediction(
        batch=running,
        concurrency=concurrency,
        largest_batch=largest,
        notes=tuple(notes),
        **values,
    )


def predict_grid(
    grid: ShapeGrid, serving: Serving, workload: Workload, *, batch: int | None = None
) -> GridPrediction:
    """Predictions for every shape of `grid`; see `predict` and `GridPrediction`."""
    if batch is not None and (isinstance(batch, bool) or batch < 1):
        raise InputError(f"batch must be a positive whole number, got {batch!r}")
    names = [f.name for f in fields(GridPrediction)]
    columns = np.empty((len(names), len(grid)))
    plan = _Plan.of(grid, serving, workload, batch)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, len(grid), CHUNK_SHAPES):
            rows = slice(start, min(start + CHUNK_SHAPES, len(grid)))
            for column, values in zip(columns, plan.evaluate(grid, rows), strict=True):
                column[rows] = values
    return GridPrediction(**dict(zip(names, columns, strict=True)))


def _notes(serving: Serving) -> list[str]:
    source = serving.hardware.utilisation.source
    return [f"utilisation: {source}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Everything that is the same for all shapes, worked out once."""

    serving: Serving
    batch: int | None
    gates: float
    copies: float
    weight_value_bytes: float
    kv_value_bytes: float
    prompt_tokens: float
    output_tokens: float
    prompt_pairs: float
    prompt_pairs_sliding: float
    context_tokens: float
    context_tokens_sliding: float
    held_tokens: float
    held_tokens_sliding: float
    has_sliding: bool
    budget_bytes: float
    peak_flops: float
    attention_flops: float

    @classmethod
    def of(cls, grid: ShapeGrid, serving: Serving, workload: Workload, batch: int | None) -> _Plan:
        hardware, window = serving.hardware, grid.sliding_window
        weight_dtype = serving.weight_dtype
        runtime = GPU_RUNTIME_BYTES if hardware.kind == "gpu" else 0.0
        return cls(
            serving=serving,
            batch=batch,
            gates=3.0 if grid.gated_mlp else 2.0,
            copies=1.0 if grid.tie_word_embeddings else 2.0,
            weight_value_bytes=(
                INT4_WEIGHT_BYTES if weight_dtype == "int4" else BYTES_PER_VALUE[weight_dtype]
            ),
            kv_value_bytes=BYTES_PER_VALUE[serving.kv_dtype],
            prompt_tokens=workload.mean_input_tokens,
            output_tokens=workload.mean_output_tokens,
            prompt_pairs=workload.prompt_pairs(),
            prompt_pairs_sliding=workload.prompt_pairs(window),
            context_tokens=workload.decode_context_tokens(),
            context_tokens_sliding=workload.decode_context_tokens(window),
            held_tokens=workload.held_tokens(),
            held_tokens_sliding=workload.held_tokens(window),
            has_sliding=window is not None and bool(np.any(grid.num_sliding_layers > 0)),
            budget_bytes=hardware.memory_bytes * serving.memory_fraction - runtime,
            peak_flops=hardware.matmul_flops(weight_dtype),
            attention_flops=hardware.peak_flops["bf16"],
        )

    def evaluate(self, grid: ShapeGrid, rows: slice) -> tuple[FloatArray, ...]:
        """Values of GridPrediction's fields, in their order, for the shapes at `rows`."""
        serving, hardware = self.serving, self.serving.hardware
        use, traits = hardware.utilisation, serving.traits
        t = float(serving.tensor_parallel)
        d = grid.hidden_size[rows]
        depth = grid.num_hidden_layers[rows]
        heads = grid.num_attention_heads[rows]
        kv_heads = grid.num_key_value_heads[rows]
        head_dim = grid.head_dim[rows]
        vocabulary = grid.vocab_size[rows] * (1.0 / t)
        f = grid.intermediate_size[rows] * (1.0 / t)
        sliding = grid.num_sliding_layers[rows]

        # One device's share of a layer. KV heads are copied when there are more devices than heads.
        queries = heads * head_dim * (1.0 / t)
        local_kv = np.maximum(kv_heads * (1.0 / t), 1.0) if t > 1 else kv_heads
        kv_width = local_kv * head_dim
        qkv = queries + 2.0 * kv_width
        layer_weights = d * (qkv + queries + self.gates * f)
        head_weights = d * vocabulary
        streamed_bytes = self.weight_value_bytes * depth * layer_weights + 2.0 * head_weights
        weights = streamed_bytes + (self.copies - 1.0) * 2.0 * head_weights

        # Multiplications per token, with the columns and inner dimension that tiles round up to.
        d_tiles = _round_up(d, TILE_COLUMNS)
        f_tiles = _round_up(f, TILE_COLUMNS)
        layer_tiles = d_tiles * (
            _round_up(qkv, TILE_COLUMNS) + _round_up(queries, TILE_INNER) + self.gates * f_tiles
        )
        flops_per_token = 2.0 * depth * layer_tiles
        head_flops = 2.0 * d_tiles * vocabulary
        activation_per_token = 2.0 * (6.0 * d + 3.0 * f + 2.0 * qkv)

        # Memory: how many sequences fit.
        kv_per_token = 2.0 * self.kv_value_bytes * depth * kv_width
        kv_layer_token = 2.0 * self.kv_value_bytes * kv_width
        held = depth * self.held_tokens
        context = depth * self.context_tokens
        pairs = depth * self.prompt_pairs
        if self.has_sliding:
            held = held - sliding * (self.held_tokens - self.held_tokens_sliding)
            context = context - sliding * (self.context_tokens - self.context_tokens_sliding)
            pairs = pairs - sliding * (self.prompt_pairs - self.prompt_pairs_sliding)
        sequence_bytes = kv_layer_token * held
        workspace = (
            serving.max_batched_tokens * activation_per_token + 4.0 * serving.max_batch * vocabulary
        )
        room = self.budget_bytes - weights - workspace
        largest = np.floor(np.maximum(room / sequence_bytes, 0.0))
        if t > 1:
            splits = (np.remainder(heads, t) == 0) & (
                (np.remainder(kv_heads, t) == 0) | (np.remainder(t, kv_heads) == 0)
            )
            largest *= splits
        wanted = float(serving.max_batch if self.batch is None else self.batch)
        b = np.minimum(largest, min(wanted, float(serving.max_batch)))

        # Decode step.
        bandwidth = 1.0 / hardware.memory_bytes_per_s
        gemm_rate = 1.0 / (self.peak_flops * use.gemm)
        stream_s = streamed_bytes * (bandwidth / use.weight_bandwidth)
        gemm_s = _round_up(b, TILE_ROWS) * ((flops_per_token + head_flops) * gemm_rate)
        product_s = np.maximum(stream_s, gemm_s) + use.overlap * np.minimum(stream_s, gemm_s)
        kv_s = b * context * kv_layer_token * (bandwidth / use.kv_bandwidth)
        score_s = b * context * queries * (4.0 / (self.attention_flops * use.prefill_attention))
        attention_s = np.maximum(kv_s, score_s)
        # Logits are read in 16 bits, widened, normalised and sampled from: about 16 bytes each.
        moved_s = b * (depth * activation_per_token + 16.0 * vocabulary) * bandwidth
        fixed_s = depth * use.layer_s + traits.step_s
        token_link_s: Any = 0.0
        if t > 1:
            fixed_s = fixed_s + depth * (2.0 * use.all_reduce_s)
            per_value = 2.0 * 2.0 * (t - 1.0) / t
            link = 1.0 / (hardware.interconnect_bytes_per_s * use.interconnect)
            token_link_s = 2.0 * depth * d * (per_value * link)
        memory_s = attention_s + moved_s
        step_s = product_s + memory_s + fixed_s + b * (token_link_s + traits.sequence_s)

        # One prompt's prefill: alone (latency), and beside other work (throughput).
        prompt = self.prompt_tokens
        passes = prompt / serving.max_batched_tokens
        prompt_gemm_s = (prompt * flops_per_token + head_flops) * gemm_rate
        prompt_rest_s = pairs * queries * (
            4.0 / (self.attention_flops * use.prefill_attention)
        ) + prompt * (depth * activation_per_token * bandwidth + token_link_s)
        shared_s = np.maximum(passes * stream_s, prompt_gemm_s) + prompt_rest_s + passes * fixed_s
        alone = max(1.0, passes)
        alone_s = np.maximum(alone * stream_s, prompt_gemm_s) + prompt_rest_s + alone * fixed_s

        # Steady state: each slot decodes O - 1 steps and prefills once per cycle.
        outputs = self.output_tokens
        steps = outputs - 1.0
        cycle_s = steps * step_s + b * shared_s
        if steps > 0.0:
            tpot_s = step_s + traits.stall / outputs * (b - 1.0) * shared_s
        else:
            tpot_s = np.full_like(b, np.nan)
        ttft_s = traits.first_s + alone_s + traits.burst * (b - 1.0) * shared_s
        service_s = ttft_s + (steps * tpot_s if steps > 0.0 else 0.0)
        ttft_s = ttft_s + (np.maximum(wanted / b, 1.0) - 1.0) * service_s * (self.batch is not None)
        e2e_s = ttft_s + (steps * tpot_s if steps > 0.0 else 0.0)
        output_rate = b * outputs / cycle_s
        usd = serving.usd_per_hour / 3600.0 * 1e6 / output_rate
        fits = b > 0.0
        nan = np.where(fits, 0.0, np.nan)
        memory_share = (memory_s + np.where(stream_s >= gemm_s, product_s, 0.0)) / step_s
        compute_share = np.where(stream_s >= gemm_s, 0.0, product_s) / step_s
        return (
            b,
            largest,
            np.where(fits, output_rate, 0.0),
            b / step_s,
            np.where(fits, output_rate * (1.0 + prompt / outputs), 0.0),
            ttft_s + nan,
            tpot_s + nan,
            e2e_s + nan,
            step_s + nan,
            alone_s + nan,
            weights + workspace + b * sequence_bytes,
            weights,
            kv_per_token,
            usd + nan,
            memory_share + nan,
            compute_share + nan,
        )


def _round_up(values: FloatArray, multiple: float) -> FloatArray:
    return np.ceil(values * (1.0 / multiple)) * multiple
