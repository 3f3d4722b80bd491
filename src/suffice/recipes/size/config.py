"""What sizing is asked: a model, machines, a load and limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from suffice.architecture.counts import KvDtype, WeightDtype
from suffice.architecture.model import Model
from suffice.core.errors import InputError
from suffice.hardware import Hardware
from suffice.throughput.engine_traits import EngineName
from suffice.throughput.workload import Workload

MOST_DEVICES = 64
# vLLM's own limits are wider from here on, except on A100.
LARGE_BYTES = 70 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeConfig:
    """How many devices, in which layout, serve `model` within the limits?

    `hardware`: one machine or several; None tries every embedded GPU. Without `rate_per_s` the
    answer is about one replica: as many requests in flight as fit and stay within the limits. With
    it, about as many replicas as it takes when requests come at random at that rate. Limits hold
    for the share `within` of requests under a rate, for the mean without one. `cached_prompt` is
    the share of each prompt that a prefix cache holds. `speculative` is how many tokens a step
    yields with a draft. `context` is where the KV cache is told (the longest request, by default).
    `max_batch` and `max_batched_tokens` are the engine's own by default, which depend on the
    machine. `devices` fixes how many devices a replica has, `tensor_parallel` how many share an
    attention. Without `captured_graphs` the host launches every layer of every step.
    `disaggregated` looks for a pool that prefills and one that decodes as well.
    """

    model: str | Path | Model
    hardware: str | Hardware | tuple[str | Hardware, ...] | None = None
    input_tokens: int = 1024
    output_tokens: int = 256
    workload: Workload | None = None
    rate_per_s: float | None = None
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    within: float = 0.95
    cached_prompt: float = 0.0
    speculative: float = 1.0
    draft_tokens: int | None = None
    context: int | None = None
    weight_dtype: WeightDtype | None = None
    kv_dtype: KvDtype | None = None
    engine: EngineName = "vllm"
    devices: int | None = None
    tensor_parallel: int | None = None
    max_batch: int | None = None
    max_batched_tokens: int | None = None
    memory_fraction: float = 0.9
    captured_graphs: bool = True
    disaggregated: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rate_per_s", "max_ttft_s", "max_tpot_s"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise InputError(f"{name} must be positive, got {value!r}")
        if not 0.5 <= self.within < 1.0:
            raise InputError(
                f"within is the share of requests inside the limits, from .5 to below 1, got "
                f"{self.within!r}"
            )
        for name in ("devices", "tensor_parallel", "context", "max_batch", "max_batched_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or value < 1):
                raise InputError(f"{name} must be a positive whole number, got {value!r}")
        for name in ("devices", "tensor_parallel"):
            if (getattr(self, name) or 1) > MOST_DEVICES:
                raise InputError(f"{name} must be at most {MOST_DEVICES}")
        if self.disaggregated and self.rate_per_s is None:
            raise InputError("two pools are sized for a rate: give one")

    def limits_on(self, hardware: Hardware) -> tuple[int, int]:
        """Sequences and tokens of a pass at most: vLLM's defaults where none are given."""
        large = hardware.memory_bytes >= LARGE_BYTES and hardware.generation != "ampere"
        return (
            self.max_batch or (1024 if large else 256),
            self.max_batched_tokens or (8192 if large else 2048),
        )

    @property
    def requests(self) -> Workload:
        """The mix of request lengths."""
        if self.workload is not None:
            if self.cached_prompt and not self.workload.cached_share:
                return Workload(
                    classes=self.workload.classes,
                    name=self.workload.name,
                    cached_share=self.cached_prompt,
                )
            return self.workload
        return Workload.single(
            self.input_tokens, self.output_tokens, cached_share=self.cached_prompt
        )
