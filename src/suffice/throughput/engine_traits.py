"""What an engine adds to the device's time: host work per step and how requests wait."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTraits:
    """Costs of scheduling.

    `step_s` is host time per forward pass, `sequence_s` per running sequence and pass. `stall` is
    the part of other requests' prefill that lengthens a running request's token interval.
    `burst` is the share of a whole batch's prefill that an average request waits for. `first_s`
    is paid once per request: tokenising, queueing, first network reply.
    """

    step_s: float
    sequence_s: float
    stall: float
    burst: float
    first_s: float


@cache
def engine_traits(name: str) -> EngineTraits:
    """Traits of an engine by name."""
    del name
    return EngineTraits(step_s=1e-3, sequence_s=10e-6, stall=1.0, burst=0.05, first_s=10e-3)
