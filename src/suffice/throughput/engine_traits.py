"""What an engine adds to the device's time: host work per step and how requests wait."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

EngineName = Literal["generic", "vllm", "sglang", "trtllm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraits:
    """Costs of scheduling and habits of admission.

    `step_s` is host time per forward pass that the device does not hide; `launch` multiplies the
    device's fixed costs per layer. Prompts run without captured graphs: the host takes at least
    `eager_layer_s` for a layer, `eager_expert_s` more for routed experts, `eager_latent_s` for
    latent attention and `eager_recurrent_s` for recurrent state. `mixed` is how far one pass serves
    prompts and decoding at once.

    `burst` is the share of the other running requests' prefill that an average request waits for
    before its first token: .05 comes from a start at full concurrency with ten requests per slot,
    which is how serving benchmarks are run. `crowd` weighs the prompts that happen to come just
    before. Under load a prompt takes up at least `eager_share` of the host's time for its own pass.
    With replicas of the attention a prompt
    waits `balance_steps` decode steps for prompts of the other replicas (TensorRT-LLM's
    `attention_dp_config`: `timeout_iters`, `batching_wait_iters`).
    `lockstep` is how many prompts a request waits for where all are of one length and groups of
    them stay together. `first_s` is paid per request that finds others running, `arrival_s` once
    for each of them. An engine plans to hold a prompt and `planned_output` of its output when it
    decides how many sequences run, and lets a prompt in at `admitted_output`: engines that set
    sequences back when memory runs out admit early, others reserve the whole length.
    """

    step_s: float
    launch: float
    eager_layer_s: float
    eager_expert_s: float
    eager_latent_s: float
    eager_recurrent_s: float
    mixed: float
    burst: float
    crowd: float
    eager_share: float
    balance_steps: float
    lockstep: float
    first_s: float
    arrival_s: float
    planned_output: float
    admitted_output: float
    source: str


@cache
def engine_traits(name: EngineName) -> EngineTraits:
    """Traits of an engine by name; "generic" is the mean engine, which reserves whole lengths."""
    text = files("suffice.throughput").joinpath("data/engines.json").read_text(encoding="utf-8")
    records: dict[str, dict[str, Any]] = json.loads(text)
    return EngineTraits(**records[name])
