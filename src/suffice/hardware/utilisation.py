"""How much of a device's limits real kernels reach: a few positive coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from suffice.core.errors import InputError

_EFFICIENCIES = (
    "gemm",
    "weight_bandwidth",
    "kv_bandwidth",
    "prefill_attention",
    "interconnect",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """Fractions of a device's peaks that are reached, and fixed costs in seconds.

    `gemm` is of peak FLOP/s for large products, `weight_bandwidth` and `kv_bandwidth` of memory
    bytes/s while weights and KV cache stream, `prefill_attention` of the bf16 peak for attention
    over a prompt, `interconnect` of link bytes/s in an all-reduce. `overlap` is the part of the
    shorter of a product's compute and memory time that is *not* hidden behind the longer.
    """

    gemm: float
    weight_bandwidth: float
    kv_bandwidth: float
    prefill_attention: float
    interconnect: float
    overlap: float
    layer_s: float
    all_reduce_s: float
    source: str

    def __post_init__(self) -> None:
        for name in _EFFICIENCIES:
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InputError(
                    f"utilisation {name} must lie in (0, 1], got {getattr(self, name)}"
                )
        if not 0.0 <= self.overlap <= 1.0:
            raise InputError(f"utilisation overlap must lie in [0, 1], got {self.overlap}")
        for name in ("layer_s", "all_reduce_s"):
            if not getattr(self, name) >= 0.0:
                raise InputError(f"utilisation {name} must not be negative")

    def updated(self, values: Mapping[str, float], *, source: str) -> Utilisation:
        """A copy with `values` in place; `source` replaces the provenance unless none changes."""
        if not values:
            return self
        known = {f.name for f in fields(self)} - {"source"}
        if unknown := set(values) - known:
            raise InputError(
                f"unknown utilisation coefficient {sorted(unknown)[0]!r}, known: "
                f"{', '.join(sorted(known))}"
            )
        changed: dict[str, Any] = dict(values)
        return replace(self, **changed, source=source)


def default_utilisation(kind: Literal["gpu", "cpu"]) -> Utilisation:
    """Coefficients for a device that nobody has calibrated."""
    if kind == "cpu":
        return Utilisation(
            gemm=0.7, weight_bandwidth=0.8, kv_bandwidth=0.6, prefill_attention=0.4,
            interconnect=0.5, overlap=0.3, layer_s=30e-6, all_reduce_s=20e-6,
            source="assumed, not calibrated",
        )  # fmt: skip
    return Utilisation(
        gemm=0.6, weight_bandwidth=0.85, kv_bandwidth=0.7, prefill_attention=0.4,
        interconnect=0.6, overlap=0.3, layer_s=12e-6, all_reduce_s=10e-6,
        source="assumed, not calibrated",
    )  # fmt: skip
