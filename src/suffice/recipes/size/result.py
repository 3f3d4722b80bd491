"""What sizing answers."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.architecture.model import Model
from suffice.recipes.size.config import SizeConfig
from suffice.throughput.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What the machine's peaks allow at best for the same layout and batch: no figure beats it.

    `devices` is the fewest whose memory holds the weights and whose peaks carry the rate.
    """

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What a simulation of the replicas under random arrivals found.

    Shares of requests within each limit and times that the asked share stays within, in seconds;
    `replicas_by_formula` is what the formulas said before it.
    """

    replicas: int
    replicas_by_formula: int
    requests: int
    share_within_ttft: float
    share_within_tpot: float
    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Replicas that do one half of the work."""

    serving: Serving
    replicas: int
    busy: float  # share of what it could carry

    @property
    def devices(self) -> int:
        """Devices of the pool."""
        return self.serving.devices * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoPools:
    """Prefill and decoding on replicas of their own; times hold for the asked share of requests."""

    prefill: Pool
    decode: Pool
    ttft_s: float
    tpot_s: float
    transfer_s: float  # of a prompt's cache, in the TTFT
    usd_per_hour: float

    @property
    def devices(self) -> int:
        """Devices of both."""
        return self.prefill.devices + self.decode.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """The answer for one machine.

    `weight_bytes` and `memory_bytes` are per device, `kv_bytes` is one sequence at the context, of
    the whole replica. `kv_tokens` is how many tokens of such sequences a replica has room for,
    `largest_batch` how many requests of the workload's lengths; `batch` run on average. Rates are
    of all replicas together. Times are means; `*_within_s` hold for the asked share of requests
    (without a rate they are the means). `reason` says what is missed where `meets` is false.
    """

    serving: Serving
    replicas: int
    weight_bytes: float
    kv_bytes: float
    kv_tokens: int
    memory_bytes: float
    largest_batch: int
    batch: float
    rate_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_s: float
    tpot_s: float
    ttft_within_s: float
    tpot_within_s: float
    usd_per_hour: float
    usd_per_million_tokens: float
    floor: Floor
    meets: bool
    reason: str | None = None
    confirmed: Confirmed | None = None
    pools: TwoPools | None = None
    notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def devices(self) -> int:
        """Devices of all replicas."""
        return self.serving.devices * self.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A machine that no layout fits on, and why."""

    hardware: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """Answers by machine, the cheapest that meets the limits first."""

    config: SizeConfig
    model: Model
    answers: tuple[Sized, ...]
    unfit: tuple[Unfit, ...]

    @property
    def best(self) -> Sized:
        """The first answer."""
        return self.answers[0]

    def __str__(self) -> str:
        best = self.best
        h = best.serving.hardware
        return (
            f"{self.model.name or self.model.model_type}: {best.devices} x {h.name}, "
            f"{best.output_tokens_per_s:,.0f} tok/s, TTFT {best.ttft_within_s * 1e3:.0f} ms, TPOT "
            f"{best.tpot_within_s * 1e3:.1f} ms, ${best.usd_per_million_tokens:.2f} per million"
        )
