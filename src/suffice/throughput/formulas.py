"""Roofline formulas for a decode step, a prefill and their steady state.

A `Device` says what one device holds and does (see `work`); a `Scenario` what surrounds it: limits,
coefficients, lengths. Its fields are scalars when many shapes share it, as in a search, or arrays
when each row has its own, as in a calibration. One implementation, so that a calibrated formula is
the one that is used.

    B  running sequences    b = B / dp, on one device    I  prompt tokens    O  output tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.throughput.work import (
    TENSOR_CORE_TILES,
    Device,
    Products,
    Routed,
    Tiles,
    Value,
    round_up,
)

# Logits are read in 16 bits, widened, normalised and sampled from.
SAMPLING_BYTES_PER_LOGIT = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What surrounds the model; see `Serving`, `Workload`, `Hardware`, `EngineTraits`."""

    tiles: Tiles = TENSOR_CORE_TILES
    tensor_parallel: Value
    data_parallel: Value = 1.0
    pipeline_parallel: Value = 1.0
    memory_bytes: Value  # for weights, KV cache and workspace of one device
    max_batch: Value
    concurrency: Value
    queued: Value  # 1 when requests beyond the running batch exist and wait
    max_batched_tokens: Value
    prompt_tokens: Value  # that are computed: what a cache holds is left out
    all_prompt_tokens: Value
    output_tokens: Value
    held_share: Value  # entries the engine plans for over those of a sequence let in
    accepted: Value = 1.0  # output tokens per step, above 1 with speculation
    verified: Value = 1.0  # tokens per sequence that a step computes
    memory_s_per_byte: Value
    attention_s_per_flop: Value  # at peak
    link_s_per_byte: Value  # at peak
    link_latency_s: Value = 0.0  # of a link that is not NVLink, per all-reduce
    weight_bandwidth: Value
    expert_bandwidth: Value
    kv_bandwidth: Value
    attention: Value
    interconnect: Value
    exchange: Value
    overlap: Value
    ramp_tokens: Value
    expert_spread: Value
    layer_s: Value
    expert_layer_s: Value
    recurrent_layer_s: Value
    latent_layer_s: Value
    block_layer_s: Value
    expert_gemm: Value
    launch: Value
    eager_layer_s: Value
    eager_expert_s: Value
    eager_latent_s: Value
    eager_recurrent_s: Value
    captured: Value = 1.0  # whether decode steps run from captured graphs
    layer_token_s: Value
    all_reduce_s: Value
    step_s: Value
    mixed: Value
    burst: Value
    crowd: Value
    eager_share: Value
    balance_steps: Value
    lockstep: Value = 0.0  # prompts that stay together; 0 unless requests are all of one length
    first_s: Value
    arrival_s: Value


class Capacity(NamedTuple):
    """Sequences that fit, that run, and whose prompts are let in; bytes in use then."""

    largest_batch: FloatArray
    batch: FloatArray
    admitted: FloatArray
    memory_bytes: FloatArray


def capacity(device: Device, s: Scenario) -> Capacity:
    """How many sequences one replica holds beside weights, activations and logits.

    An engine that reserves whole lengths lets in as many as it runs. One that admits early runs as
    many as fit at the planned length, and lets prompts in while they fit.
    """
    sequence_bytes = device.state_bytes + 0.0
    for cache in device.caches:
        sequence_bytes = sequence_bytes + cache.read_bytes * cache.held
    resident = s.max_batched_tokens * device.widest_bytes
    resident = resident + (4.0 * s.max_batch / s.data_parallel) * device.vocabulary
    resident += device.weight_bytes / s.pipeline_parallel
    largest = s.memory_bytes - resident
    largest /= sequence_bytes
    np.maximum(largest, 0.0, out=largest)
    largest *= s.data_parallel * s.pipeline_parallel
    np.floor(largest, out=largest)
    largest *= device.splits
    batch = np.minimum(largest, np.minimum(s.concurrency, s.max_batch))
    admitted = batch
    if np.any(s.queued):
        admitted = np.minimum(largest * s.held_share, np.minimum(s.concurrency, s.max_batch))
    resident += batch * sequence_bytes / (s.data_parallel * s.pipeline_parallel)
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


def decode_step(device: Device, batch: FloatArray, s: Scenario) -> Step:
    """One step for each of `batch` sequences at the mean KV length.

    Under a pipeline the batch goes through in as many parts as there are stages; this is the time
    of one part through all stages, in which every sequence gets its token.
    """
    together = batch / s.pipeline_parallel
    local = together / s.data_parallel
    rows = local * s.verified
    stream_s = device.streamed_bytes * (s.memory_s_per_byte / s.weight_bandwidth)
    computed = round_up(rows, s.tiles.rows) + s.ramp_tokens
    gemm_s = device.head.flops_per_token * (device.head.s_per_flop / device.head.gemm)
    for products in device.products:
        gemm_s = gemm_s + products.flops_per_token * (products.s_per_flop / products.gemm)
    gemm_s *= computed
    product_s = np.maximum(stream_s, gemm_s)
    product_s += s.overlap * np.minimum(stream_s, gemm_s)
    for experts in device.experts:
        product_s += expert_s(experts, together * s.verified, s)
    attention_s = 0.0 * local
    for cache in device.caches:
        per_entry = np.maximum(
            cache.read_bytes * (s.memory_s_per_byte / s.kv_bandwidth),
            cache.decode_flops * (s.verified * s.attention_s_per_flop / s.attention),
        )
        attention_s += local * cache.attended * per_entry
    # Recurrent state is read and written once per step.
    attention_s += local * device.state_bytes * (2.0 * s.memory_s_per_byte / s.kv_bandwidth)
    moved_s = device.activation_bytes + SAMPLING_BYTES_PER_LOGIT * device.vocabulary
    moved_s *= rows * s.memory_s_per_byte
    fixed_s = pass_s(device, s)
    # Every attention replica receives the tokens of all others.
    link_s = link_s_per_token(device, s, s.data_parallel - 1.0)
    total = product_s + attention_s
    total += moved_s
    total += fixed_s
    total += rows * (link_s + device.layers * s.layer_token_s)
    if np.any(np.asarray(s.captured) < 1.0):
        # The host launches every layer, while the device works on those before.
        np.maximum(total, (1.0 - s.captured) * launching_s(device, s), out=total)
    total *= device.decode_factor
    if np.any(s.verified > 1.0):
        total += (s.verified - 1.0) * _draft_s(device, total, computed, s)
    return Step(total, stream_s, gemm_s, product_s, attention_s, moved_s, fixed_s, link_s)


def _draft_s(device: Device, step_s: FloatArray, rows: FloatArray, s: Scenario) -> FloatArray:
    """Time of one drafted token of every sequence: a layer like the model's, and the output matrix.

    That is how multi-token prediction and EAGLE draft; what is looked up in the prompt is free.
    """
    head = device.head
    # A weight of 16 bits has as many bytes as it takes FLOPs per token.
    stream_s = head.flops_per_token * (s.memory_s_per_byte / s.weight_bandwidth)
    head_s = np.maximum(stream_s, head.flops_per_token * rows * (head.s_per_flop / head.gemm))
    layer_s: FloatArray = np.maximum(step_s - s.step_s - head_s, 0.0) / device.layers
    layer_s += head_s
    return layer_s


def pass_s(device: Device, s: Scenario) -> FloatArray:
    """What one pass through the model costs before any byte or FLOP: launches, host, latencies."""
    fixed: FloatArray = device.layers * s.layer_s
    fixed += device.sparse_layers * s.expert_layer_s
    fixed += device.recurrent_layers * s.recurrent_layer_s
    fixed += device.latent_layers * s.latent_layer_s
    fixed += device.block_layers * s.block_layer_s
    fixed *= s.launch
    fixed += s.step_s
    fixed += device.reduces * (s.all_reduce_s + s.link_latency_s)
    return fixed


def launching_s(device: Device, s: Scenario) -> FloatArray:
    """What the host takes to launch one pass without captured graphs."""
    found: FloatArray = device.layers * s.eager_layer_s
    found += device.sparse_layers * s.eager_expert_s
    found += device.latent_layers * s.eager_latent_s
    found += device.recurrent_layers * s.eager_recurrent_s
    return found


def link_s_per_token(device: Device, s: Scenario, others: Value) -> FloatArray:
    """Seconds that a token's activations take over the links, all layers together.

    `others`: attention replicas that send as many tokens at the same time.
    """
    sums = device.reduced_values / s.interconnect
    per_token: FloatArray = sums + others * device.exchanged_values / s.exchange
    per_token *= 4.0 * s.link_s_per_byte
    return per_token


def expert_s(experts: Routed, tokens: FloatArray, s: Scenario) -> FloatArray:
    """Time of the routed experts for `tokens` tokens of a replica.

    With E experts of which a token takes k, tokens that chose at random would touch
    E (1 - (1 - k/E)^tokens); real routers favour some experts, as if there were fewer tokens
    (`expert_spread`). Each touched expert computes at least one tile of rows.
    """
    chosen = experts.per_token / experts.count
    touched = 1.0 - (1.0 - chosen) ** (tokens * s.expert_spread)
    active = np.maximum(experts.count * touched, 1e-9)
    rows = tokens * experts.per_token / active
    stream_s = experts.bytes * touched * (s.memory_s_per_byte / s.expert_bandwidth)
    padded = round_up(rows, s.tiles.rows) * active * experts.share
    one = experts.products
    gemm_s = padded * one.flops_per_token * (one.s_per_flop / (one.gemm * s.expert_gemm))
    both: FloatArray = np.maximum(stream_s, gemm_s)
    both += s.overlap * np.minimum(stream_s, gemm_s)
    return both


class Prefill(NamedTuple):
    """Time of one prompt's pass, in seconds: by itself, and packed with other prompts.

    `passes` is how many passes a packed prompt takes up. `least_s` is what it takes of a cycle at
    least, however much of its pass is shared with decoding.
    """

    alone_s: FloatArray
    shared_s: FloatArray
    passes: Value
    least_s: FloatArray

    @property
    def occupied_s(self) -> FloatArray:
        """What a prompt keeps a replica from doing anything else."""
        found: FloatArray = np.maximum(self.shared_s, self.least_s)
        return found


def prefill(device: Device, step: Step, s: Scenario) -> Prefill:
    """One prompt through the model. Packed passes share streamed weights and fixed costs."""
    prompt = s.prompt_tokens
    # Attention replicas take prompts in turn, so each prompt occupies one of them.
    gemm_s = device.head.flops_per_token * (device.head.s_per_flop / device.head.gemm)
    per_token = 0.0
    for products in device.products:
        per_token = per_token + products.flops_per_token * (products.s_per_flop / products.gemm)
    gemm_s = gemm_s + prompt * per_token
    rest_s = 0.0 * gemm_s
    for cache in device.caches:
        rest_s += cache.pairs * cache.prompt_flops * (s.attention_s_per_flop / s.attention)
    rest_s += prompt * device.state_flops * (s.attention_s_per_flop / s.attention)
    moved = device.activation_bytes * s.memory_s_per_byte + step.link_s_per_token
    rest_s += prompt * moved
    # A lone prompt is sent to the other replicas once, and they send nothing.
    lone_s = prompt * (
        link_s_per_token(device, s, np.minimum(s.data_parallel - 1.0, 1.0)) - step.link_s_per_token
    )
    gemm_s *= device.prefill_factor
    rest_s *= device.prefill_factor
    passes = prompt / s.max_batched_tokens
    alone = np.maximum(np.ceil(passes), 1.0)
    ramp_s = s.ramp_tokens * per_token
    shared_s = np.maximum(passes * step.stream_s, gemm_s + passes * ramp_s) + rest_s
    alone_s = np.maximum(alone * step.stream_s, gemm_s + alone * ramp_s) + rest_s + lone_s
    shared_s += passes * step.fixed_s
    alone_s += alone * step.fixed_s
    for experts in device.experts:
        # Attention replicas work side by side, and their tokens meet at the experts.
        full = expert_s(experts, 0.0 * gemm_s + s.max_batched_tokens * s.data_parallel, s)
        shared_s += passes * full
        alone_s += alone * expert_s(experts, 0.0 * gemm_s + prompt / alone, s)
    # Prompts run without captured graphs: the host launches every layer of every pass.
    launched_s = launching_s(device, s)
    alone_s = np.maximum(alone_s, alone * launched_s)
    ways = s.pipeline_parallel * s.data_parallel
    shared_s /= ways
    # Under load some passes have a single prompt all the same.
    least_s = s.eager_share * launched_s / ways
    return Prefill(alone_s, shared_s, passes / s.data_parallel, least_s)


class Steady(NamedTuple):
    """Continuous batching in steady state."""

    output_tokens_per_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray


def steady_state(
    room: Capacity, step: Step, once: Prefill, s: Scenario, *, wait_factor: Value = 1.0
) -> Steady:
    """Each slot prefills once and decodes O - 1 tokens per cycle; others' prefills come between.

    An engine that puts prompts and decoding into one pass (`mixed`) saves, for each pass of a
    prompt, the part of a decode step that does not depend on the batch. A request waits for the
    share `burst` of the other running requests' prefill, which is how benchmarks start; for
    prompts that happen to come before its own, more the more of the time is prefill (`crowd`);
    where all requests are of one length, for those that ended with its forerunner (`lockstep`);
    for half the step in progress; with attention replicas, for the steps that the engine gives the
    others to bring a prompt too (`balance_steps`); and for the engine's handling of the others. Its
    other time goes into TPOT = (e2e - ttft) / (O - 1). Where more requests are in flight than run,
    the admitted ones stretch TPOT and the others wait for whole cycles.
    """
    batch = room.batch
    steps = (s.output_tokens - 1.0) / s.accepted
    prefills_s = batch * once.shared_s
    saved = np.minimum(batch * once.passes, steps)
    saved_s = s.mixed * saved * np.minimum(step.stream_s + step.fixed_s, step.total_s)
    cycle_s = steps * step.total_s
    added_s = np.maximum(prefills_s - np.minimum(saved_s, prefills_s), batch * once.least_s)
    cycle_s = cycle_s + added_s
    own_s = np.maximum(once.shared_s, once.least_s)  # its own prompt is in the TTFT
    others_s = np.maximum(added_s - own_s, 0.0)
    each_s = once.occupied_s
    busy = np.minimum(batch * each_s / cycle_s, 0.95)
    alone = 1.0 - 1.0 / np.maximum(batch, 1.0)
    waiting_s = batch * each_s * (s.burst * alone)
    waiting_s += s.crowd * alone * busy / (1.0 - busy) * each_s
    # Where nothing is decoded, all of a cycle is prompts, and a request waits for all others.
    waiting_s = np.where(np.asarray(steps) > 0.0, np.minimum(waiting_s, others_s), others_s)
    together = np.minimum(0.5 * np.maximum(batch - 1.0, 0.0), s.lockstep)
    queue_s = waiting_s + together * each_s
    queue_s += alone * (0.5 * step.total_s + s.first_s + batch * s.arrival_s)
    ttft_s = once.alone_s + wait_factor * queue_s
    several = np.minimum(np.asarray(s.data_parallel) - 1.0, 1.0)
    ttft_s += alone * several * s.balance_steps * step.total_s
    decoding_s = np.maximum(steps * step.total_s + others_s - waiting_s, 0.0)
    tpot_s = decoding_s / np.maximum(s.output_tokens - 1.0, 1e-9)
    if np.any(s.queued):
        stretch = room.admitted / batch
        tpot_s = tpot_s * stretch
        decoding_s = decoding_s * stretch
        ttft_s += (s.concurrency / room.admitted - 1.0) * (ttft_s + decoding_s)
    return Steady(batch * s.output_tokens / cycle_s, ttft_s, tpot_s, ttft_s + decoding_s)


__all__ = [
    "Capacity", "Device", "FloatArray", "Prefill", "Products", "Scenario", "Steady", "Step",
    "capacity", "decode_step", "prefill", "steady_state",
]  # fmt: skip
