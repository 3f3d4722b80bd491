"""The least time that the device's peaks allow: every byte once, every FLOP once, nothing else.

No prediction may be faster. Padding, launches, links and queues are left out; memory and products
overlap fully. Routed experts that a step touches are those that real routers do (`expert_spread`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suffice.architecture.model import Model
from suffice.core.arrays import FloatArray
from suffice.throughput.analytic import device_of, scenario
from suffice.throughput.formulas import Scenario
from suffice.throughput.serving import Serving
from suffice.throughput.work import Device, Products, Routed, Tiles, Value
from suffice.throughput.workload import Workload

EXACT = Tiles(columns=1.0, inner=1.0, rows=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Seconds of one decode step and one prompt, and the most output tokens per second."""

    decode_step_s: float
    prefill_s: float
    output_tokens_per_s: float


def roofline(model: Model, serving: Serving, workload: Workload, batch: int) -> Roofline:
    """Bounds for `batch` running sequences of one replica."""
    s = scenario(serving, workload, batch)
    device = device_of(model, serving, workload, EXACT)
    running = np.array([float(batch)])
    cycle = float(cycle_s(device, running, s)[0])
    tokens = batch * workload.mean_output_tokens
    return Roofline(
        decode_step_s=float(np.maximum(*_step(device, running, s))[0]),
        prefill_s=float(np.maximum(*_prompt(device, s))[0]),
        output_tokens_per_s=tokens / cycle,
    )


def cycle_s(device: Device, batch: FloatArray, s: Scenario) -> FloatArray:
    """Seconds in which each of `batch` sequences is prefilled once and decoded to its end.

    Prompts and decoding may share passes, so weights need streaming for decode steps alone.
    """
    steps = (s.output_tokens - 1.0) / s.accepted
    moved, computed = _step(device, batch, s)
    _, prompt = _prompt(device, s)
    computed = steps * computed + batch / s.data_parallel * prompt
    # Under a pipeline a step of one part passes all stages, one behind the other.
    least: FloatArray = np.maximum(steps * moved, computed / s.pipeline_parallel)
    return least


def _step(device: Device, batch: FloatArray, s: Scenario) -> tuple[FloatArray, FloatArray]:
    """Seconds that a decode step moves bytes, and that it computes."""
    together = batch / s.pipeline_parallel * s.verified
    local = batch / s.pipeline_parallel / s.data_parallel
    moved = device.streamed_bytes + local * device.state_bytes * 2.0
    computed = local * s.verified * _flop_s(device)
    for cache in device.caches:
        entries = local * cache.attended
        moved = moved + entries * cache.read_bytes
        computed = computed + entries * s.verified * cache.decode_flops * s.attention_s_per_flop
    for experts in device.experts:
        chosen = experts.per_token / experts.count
        touched = 1.0 - (1.0 - chosen) ** (together * s.expert_spread)
        moved = moved + experts.bytes * touched
        computed = computed + together * _expert_flop_s(experts)
    return moved * s.memory_s_per_byte, computed


def _prompt(device: Device, s: Scenario) -> tuple[FloatArray, FloatArray]:
    """The same for one prompt."""
    computed = s.prompt_tokens * _flop_s(device, head=0.0) + _seconds(device.head)
    moved = device.streamed_bytes
    for cache in device.caches:
        computed = computed + cache.pairs * cache.prompt_flops * s.attention_s_per_flop
    for experts in device.experts:
        computed = computed + s.prompt_tokens * _expert_flop_s(experts)
    return moved * s.memory_s_per_byte, computed


def _flop_s(device: Device, head: float = 1.0) -> FloatArray:
    found: FloatArray = head * _seconds(device.head)
    for products in device.products:
        found = found + _seconds(products)
    return found


def _expert_flop_s(experts: Routed) -> Value:
    return experts.per_token * experts.share * _seconds(experts.products)


def _seconds(products: Products) -> Value:
    return products.flops_per_token * products.s_per_flop
