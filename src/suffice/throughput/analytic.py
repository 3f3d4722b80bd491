"""Predicted speed, latency, memory and cost of any model: roofline times utilisation.

One implementation serves a single model and a grid of a million shapes: a model is a grid of one
row. Arrays are worked through in chunks that stay in cache.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from suffice.architecture.counts import BYTES_PER_VALUE, WEIGHT_VALUE_BYTES, Dimensions, ShapeGrid
from suffice.architecture.model import Model
from suffice.architecture.shape import Shape
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.throughput.fit_check import check_fits
from suffice.throughput.formulas import (
    Scenario,
    capacity,
    decode_step,
    prefill,
    steady_state,
)
from suffice.throughput.measured_pairs import measured_pair
from suffice.throughput.model_work import Layout, model_device
from suffice.throughput.notes import notes_of
from suffice.throughput.serving import Serving
from suffice.throughput.work import (
    TENSOR_CORE_TILES,
    VECTOR_TILES,
    Device,
    Kind,
    Rows,
    Tiles,
    grid_device,
    one_value,
)
from suffice.throughput.workload import Workload

CHUNK_SHAPES = 8192
# What an engine holds besides weights, KV cache and activations: device context, captured graphs,
# communication buffers. vLLM 0.19 with Llama-3.1-8B on an RTX 4090 leaves 41,408 KV tokens of
# 22.7 GB, which is .8 GB less than weights and activations explain (LLMServingSim bench records).
GPU_RUNTIME_BYTES = 0.8e9
# Of requests that are sent together, one waits for half of the others' prefill on average.
BURST_AT_ONCE = 0.5


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
    what: Shape | Model, serving: Serving, workload: Workload, *, batch: int | None = None
) -> Prediction:
    """Prediction for one model; `batch` requests are kept in flight, by default all that fit.

    More requests than fit in memory (or than `max_batch`) wait, and their wait is in the TTFT.
    Raises DoesNotFit if not even one fits, InputError if the layout cannot split the heads.
    """
    if isinstance(what, Shape):
        grid = predict_grid(ShapeGrid.like(what), serving, workload, batch=batch)
        values = {f.name: float(getattr(grid, f.name)[0]) for f in fields(grid)}
    else:
        _check_batch(batch)
        s = scenario(serving, workload, batch)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = evaluate(device_of(what, serving, workload), s, _usd_per_s(serving))
        names = [f.name for f in fields(GridPrediction)]
        values = {name: float(value[0]) for name, value in zip(names, found, strict=True)}
    check_fits(what, serving, workload, largest_batch=values["largest_batch"])
    running = int(values.pop("batch"))
    largest = int(values.pop("largest_batch"))
    concurrency = running if batch is None else batch
    notes = list(notes_of(what, serving, workload))
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


def _check_batch(batch: int | None) -> None:
    if batch is not None and (isinstance(batch, bool) or batch < 1):
        raise InputError(f"batch must be a positive whole number, got {batch!r}")


def _usd_per_s(serving: Serving) -> float:
    return serving.usd_per_hour / 3600.0


def predict_grid(
    grid: ShapeGrid, serving: Serving, workload: Workload, *, batch: int | None = None
) -> GridPrediction:
    """Predictions for every shape of `grid`; see `predict` and `GridPrediction`."""
    _check_batch(batch)
    names = [f.name for f in fields(GridPrediction)]
    columns = np.empty((len(names), len(grid)))
    s, kind = scenario(serving, workload, batch), grid_kind(grid, serving, workload)
    usd_per_s = _usd_per_s(serving)
    dimensions = [getattr(grid, name) for name in Rows._fields]
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, len(grid), CHUNK_SHAPES):
            part = slice(start, min(start + CHUNK_SHAPES, len(grid)))
            rows = Rows(*(dimension[part] for dimension in dimensions))
            device = grid_device(rows, kind, s.tiles, s.tensor_parallel)
            for column, values in zip(columns, evaluate(device, s, usd_per_s), strict=True):
                column[part] = values
    return GridPrediction(**dict(zip(names, columns, strict=True)))


def grid_kind(grid: Dimensions[Any], serving: Serving, workload: Workload) -> Kind:
    """What the shapes of a grid have in common, worked out once."""
    hardware, use = serving.hardware, serving.hardware.utilisation
    window, weights = grid.sliding_window, serving.weight_dtype or "bf16"
    planned = serving.traits.planned_output
    return Kind(
        gates=3.0 if grid.gated_mlp else 2.0,
        embedding_copies=1.0 if grid.tie_word_embeddings else 2.0,
        weight_value_bytes=WEIGHT_VALUE_BYTES[weights],
        kv_value_bytes=BYTES_PER_VALUE[serving.kv_dtype or "bf16"],
        s_per_flop=1.0 / hardware.matmul_flops(weights),
        gemm=use.gemm_for(hardware.multiplies_in(weights)),
        wide_s_per_flop=1.0 / hardware.peak_flops["bf16"],
        wide_gemm=use.gemm,
        attended=workload.decode_context_tokens(),
        attended_sliding=workload.decode_context_tokens(window),
        pairs=workload.prompt_pairs(),
        pairs_sliding=workload.prompt_pairs(window),
        held=workload.held_tokens(planned),
        held_sliding=workload.held_tokens(planned, window),
        slides=window is not None and bool(np.any(grid.num_sliding_layers)),
    )


def device_of(
    model: Model,
    serving: Serving,
    workload: Workload,
    tiles: Tiles | None = None,
    *,
    planned_output: float | None = None,
) -> Device:
    """One device's share of `model` in the layout that `serving` asks for.

    `tiles`: what dimensions of products are rounded up to, by default what the machine computes.
    `planned_output`: share of a sequence's output that room is kept for, by default the engine's.
    """
    planned = serving.traits.planned_output if planned_output is None else planned_output
    device = model_device(
        model,
        serving.formats_of(model),
        kv_value_bytes=BYTES_PER_VALUE[serving.kv_dtype_of(model)],
        hardware=serving.hardware,
        tiles=tiles or _tiles(serving),
        layout=Layout(
            tensor=serving.tensor_parallel,
            data=serving.data_parallel,
            experts=serving.expert_parallel,
        ),
        workload=workload,
        planned_output=planned,
    )
    measured = measured_pair(model, serving.hardware.name, serving.engine)
    if measured is None:
        return device
    return device._replace(
        decode_factor=one_value(measured.decode),
        prefill_factor=one_value(measured.prefill),
        wait_factor=one_value(measured.wait),
    )


def _tiles(serving: Serving) -> Tiles:
    return TENSOR_CORE_TILES if serving.hardware.kind == "gpu" else VECTOR_TILES


def scenario(serving: Serving, workload: Workload, batch: int | None) -> Scenario:
    """Everything that is the same for all models in one place, worked out once."""
    hardware, use, traits = serving.hardware, serving.hardware.utilisation, serving.traits
    runtime = GPU_RUNTIME_BYTES if hardware.kind == "gpu" else 0.0
    link = serving.link
    held = workload.held_tokens(traits.planned_output)
    launches = hardware.kind == "gpu"
    return Scenario(
        tiles=_tiles(serving),
        tensor_parallel=float(serving.tensor_parallel),
        data_parallel=float(serving.data_parallel),
        pipeline_parallel=float(serving.pipeline_parallel),
        memory_bytes=hardware.memory_bytes * serving.memory_fraction - runtime,
        max_batch=float(serving.max_batch),
        concurrency=float(serving.max_batch if batch is None else batch),
        queued=float(batch is not None),
        max_batched_tokens=float(serving.max_batched_tokens),
        prompt_tokens=workload.mean_computed_tokens,
        all_prompt_tokens=workload.mean_input_tokens,
        output_tokens=workload.mean_output_tokens,
        held_share=held / workload.held_tokens(traits.admitted_output),
        accepted=serving.speculative,
        verified=float(serving.verified_tokens),
        memory_s_per_byte=1.0 / hardware.memory_bytes_per_s,
        attention_s_per_flop=1.0 / hardware.peak_flops["bf16"],
        link_s_per_byte=1.0 / link.bytes_per_s,
        link_latency_s=link.latency_s,
        weight_bandwidth=use.weight_bandwidth,
        expert_bandwidth=use.expert_bandwidth,
        kv_bandwidth=use.kv_bandwidth,
        attention=use.attention,
        interconnect=use.interconnect,
        exchange=use.exchange,
        overlap=use.overlap,
        ramp_tokens=use.ramp_tokens,
        expert_spread=use.expert_spread,
        layer_s=use.layer_s,
        expert_layer_s=use.expert_layer_s,
        recurrent_layer_s=use.recurrent_layer_s,
        latent_layer_s=use.latent_layer_s,
        block_layer_s=use.block_layer_s,
        expert_gemm=use.expert_gemm,
        launch=traits.launch if launches else 1.0,
        eager_layer_s=launches * traits.eager_layer_s,
        eager_expert_s=launches * traits.eager_expert_s,
        eager_latent_s=launches * traits.eager_latent_s,
        eager_recurrent_s=launches * traits.eager_recurrent_s,
        captured=float(serving.captured_graphs),
        layer_token_s=use.layer_token_s,
        all_reduce_s=use.all_reduce_s,
        step_s=traits.step_s,
        mixed=traits.mixed,
        burst=BURST_AT_ONCE if workload.at_once else traits.burst,
        crowd=traits.crowd,
        eager_share=launches * traits.eager_share,
        balance_steps=traits.balance_steps,
        lockstep=traits.lockstep if workload.in_step else 0.0,
        first_s=traits.first_s,
        arrival_s=traits.arrival_s,
    )


def evaluate(device: Device, s: Scenario, usd_per_s: float) -> tuple[FloatArray, ...]:
    """Values of GridPrediction's fields, in their order."""
    room = capacity(device, s)
    step = decode_step(device, room.batch, s)
    once = prefill(device, step, s)
    steady = steady_state(room, step, once, s, wait_factor=device.wait_factor)
    fits = room.batch > 0.0
    nothing = np.where(fits, 0.0, np.nan)
    output_rate = np.where(fits, steady.output_tokens_per_s, 0.0)
    total_rate = output_rate * (1.0 + s.all_prompt_tokens / s.output_tokens)
    streaming = step.stream_s >= step.gemm_s
    compute_s = np.where(streaming, 0.0, step.product_s)
    memory_s = step.product_s - compute_s
    memory_s += step.attention_s
    memory_s += step.moved_s
    share = 1.0 / step.total_s
    share += nothing
    undefined = np.nan if s.output_tokens <= 1.0 else 0.0
    return (
        room.batch,
        room.largest_batch,
        output_rate,
        room.batch * s.accepted / step.total_s,
        total_rate,
        steady.ttft_s + nothing,
        steady.tpot_s + (nothing + undefined),
        steady.e2e_s + nothing,
        step.total_s + nothing,
        once.alone_s + nothing,
        room.memory_bytes,
        device.weight_bytes / s.pipeline_parallel,
        device.kv_bytes_per_token / s.pipeline_parallel,
        usd_per_s * 1e6 / output_rate + nothing,
        memory_s * share,
        compute_s * share,
    )
