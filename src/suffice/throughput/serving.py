"""How a model is served: device, number formats, parallelism and the engine's habits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from suffice.architecture.counts import KvDtype, WeightDtype
from suffice.core.errors import InputError
from suffice.hardware import Hardware
from suffice.throughput.engine_traits import EngineName, EngineTraits, engine_traits


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One replica of a server.

    `memory_fraction` of each device's memory is the engine's to use. `max_batch` sequences run at
    once at most. `max_batched_tokens` is the token budget of one forward pass: longer prompts are
    prefilled in chunks of it.
    """

    hardware: Hardware
    weight_dtype: WeightDtype = "bf16"
    kv_dtype: KvDtype = "bf16"
    tensor_parallel: int = 1
    memory_fraction: float = 0.9
    max_batch: int = 256
    max_batched_tokens: int = 8192
    engine: EngineName = "generic"

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "max_batch", "max_batched_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive whole number, got {value!r}")
        if not 0.0 < self.memory_fraction <= 1.0:
            raise InputError(f"memory_fraction must lie in (0, 1], got {self.memory_fraction}")
        for name, allowed in (
            ("weight_dtype", get_args(WeightDtype)),
            ("kv_dtype", get_args(KvDtype)),
            ("engine", get_args(EngineName)),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} {getattr(self, name)!r} is not known: choose {', '.join(allowed)}"
                )

    @property
    def traits(self) -> EngineTraits:
        """Scheduling costs and queueing habits of the engine."""
        return engine_traits(self.engine)

    @property
    def usd_per_hour(self) -> float:
        """Price of the replica's devices."""
        return self.hardware.usd_per_hour * self.tensor_parallel

    def __str__(self) -> str:
        count = f"{self.tensor_parallel} x " if self.tensor_parallel > 1 else ""
        return f"{count}{self.hardware.name}, weights {self.weight_dtype}, KV {self.kv_dtype}"
