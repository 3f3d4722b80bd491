"""How a model is served: device, number formats, parallelism and the engine's habits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, get_args

from suffice.architecture.counts import KvDtype, WeightDtype
from suffice.architecture.model import Model
from suffice.architecture.weight_format import PLAIN, WeightFormat, uniform_format
from suffice.core.errors import InputError
from suffice.hardware import Hardware
from suffice.throughput.engine_traits import EngineName, EngineTraits, engine_traits

MOST_ACCEPTED = 16.0


class Link(NamedTuple):
    """Bytes per second that a device sends, and what a sum takes beyond NVLink's latency."""

    bytes_per_s: float
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One replica of a server.

    `weight_dtype` None: as the checkpoint stores them, 16 bits where it does not say; `kv_dtype`
    None: 8 bits where the checkpoint brings scales for it, else 16. `tensor_parallel` devices share
    each attention, `data_parallel` replicas of it take sequences in turn, and all of them share the
    experts: whole ones with `expert_parallel`. The layers are cut into `pipeline_parallel` stages.
    `speculative` is how many tokens a step yields with a draft of `draft_tokens` (by default as
    many as the yield, rounded up). `memory_fraction` of each device's memory is the engine's to
    use. `max_batch` sequences run at once at most. `max_batched_tokens` is the token budget of one
    forward pass: longer prompts are prefilled in chunks of it. Without `captured_graphs` the host
    launches every layer of every step (vLLM's `--enforce-eager`).
    """

    hardware: Hardware
    weight_dtype: WeightDtype | None = None
    kv_dtype: KvDtype | None = None
    tensor_parallel: int = 1
    data_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: bool = False
    speculative: float = 1.0
    draft_tokens: int | None = None
    memory_fraction: float = 0.9
    max_batch: int = 256
    max_batched_tokens: int = 8192
    engine: EngineName = "generic"
    captured_graphs: bool = True

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "data_parallel", "pipeline_parallel", "max_batch",
                     "max_batched_tokens"):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive whole number, got {value!r}")
        if not 0.0 < self.memory_fraction <= 1.0:
            raise InputError(f"memory_fraction must lie in (0, 1], got {self.memory_fraction}")
        if not 1.0 <= self.speculative <= MOST_ACCEPTED:
            raise InputError(
                f"speculative must lie between 1 and {MOST_ACCEPTED:.0f} tokens per step, got "
                f"{self.speculative}"
            )
        for name, allowed in (
            ("weight_dtype", (None, *get_args(WeightDtype))),
            ("kv_dtype", (None, *get_args(KvDtype))),
            ("engine", get_args(EngineName)),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} {getattr(self, name)!r} is not known: choose "
                    f"{', '.join(str(choice) for choice in allowed if choice)}"
                )

    @property
    def traits(self) -> EngineTraits:
        """Scheduling costs and queueing habits of the engine."""
        return engine_traits(self.engine)

    @property
    def devices(self) -> int:
        """Devices of the replica."""
        return self.tensor_parallel * self.data_parallel * self.pipeline_parallel

    @property
    def usd_per_hour(self) -> float:
        """Price of the replica's devices."""
        return self.hardware.usd_per_hour * self.devices

    @property
    def verified_tokens(self) -> int:
        """Tokens per sequence that a step computes: the drafted ones and the one behind them."""
        if self.speculative == 1.0 and self.draft_tokens is None:
            return 1
        drafted = self.draft_tokens or max(1, math.ceil(self.speculative - 1e-9))
        return drafted + 1

    @property
    def link(self) -> Link:
        """What joins the devices of a stage: the node's own links, or the network between nodes."""
        h = self.hardware
        if self.tensor_parallel * self.data_parallel > h.node_devices:
            return Link(h.network_bytes_per_s, h.interconnect_latency_s + h.network_latency_s)
        return Link(h.interconnect_bytes_per_s, h.interconnect_latency_s)

    def formats_of(self, model: Model | None) -> WeightFormat:
        """Weight formats: the ones asked for, else the checkpoint's."""
        if self.weight_dtype is not None:
            return uniform_format(self.weight_dtype)
        return PLAIN if model is None else model.weights

    def kv_dtype_of(self, model: Model | None) -> KvDtype:
        """Type of the cache: the one asked for, else the checkpoint's."""
        if self.kv_dtype is not None:
            return self.kv_dtype
        return "bf16" if model is None or model.weights.kv is None else model.weights.kv

    def __str__(self) -> str:
        count = f"{self.devices} x " if self.devices > 1 else ""
        weights, cache = self.weight_dtype or "as stored", self.kv_dtype or "as stored"
        return f"{count}{self.hardware.name}, weights {weights}, KV {cache}"
