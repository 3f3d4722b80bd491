"""How much of a device's limits real kernels reach: a few positive coefficients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from suffice.core.errors import InputError

EFFICIENCIES = (
    "gemm",
    "gemm_8bit",
    "gemm_8bit_block",
    "gemm_4bit",
    "weight_bandwidth",
    "expert_bandwidth",
    "kv_bandwidth",
    "attention",
    "interconnect",
    "exchange",
    "expert_spread",
    "expert_gemm",
)
FIXED_COSTS = (
    "layer_s",
    "expert_layer_s",
    "recurrent_layer_s",
    "latent_layer_s",
    "block_layer_s",
    "layer_token_s",
    "all_reduce_s",
    "ramp_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """Fractions of a device's peaks that are reached, and fixed costs in seconds.

    `gemm` is of the peak FLOP/s of large products (`gemm_8bit`, `gemm_4bit` of the peaks of
    narrower types, `gemm_8bit_block` with a scale per block; routed experts reach `expert_gemm` of
    that share). `weight_bandwidth`, `expert_bandwidth` and `kv_bandwidth` are of memory bytes/s
    while weights, routed experts and KV cache stream, `attention` of the 16-bit peak for attention
    scores, `interconnect` of link bytes/s in an all-reduce, `exchange` where attention replicas
    gather and scatter tokens.
    `overlap` is the part of the shorter of a product's compute and memory time that is *not* hidden
    behind the longer. A pass computes `ramp_tokens` more than it has, which is how products of few
    rows fall short of the peak. Routers favour some experts: `expert_spread` tokens choosing at
    random touch as many experts as one real one does. `layer_s` is paid per layer and pass for
    launches and small kernels, on top `expert_layer_s` by layers with routed experts,
    `recurrent_layer_s` with recurrent state, `latent_layer_s` with latent attention,
    `block_layer_s` where activations are scaled by blocks; `layer_token_s` per layer and token,
    `all_reduce_s` per all-reduce.
    """

    gemm: float
    gemm_8bit: float
    gemm_8bit_block: float
    gemm_4bit: float
    weight_bandwidth: float
    expert_bandwidth: float
    kv_bandwidth: float
    attention: float
    interconnect: float
    exchange: float
    overlap: float
    ramp_tokens: float
    expert_spread: float
    expert_gemm: float
    layer_s: float
    expert_layer_s: float
    recurrent_layer_s: float
    latent_layer_s: float
    block_layer_s: float
    layer_token_s: float
    all_reduce_s: float
    source: str

    def __post_init__(self) -> None:
        for name in EFFICIENCIES:
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InputError(
                    f"utilisation {name} must lie in (0, 1], got {getattr(self, name)}"
                )
        if not 0.0 <= self.overlap <= 1.0:
            raise InputError(f"utilisation overlap must lie in [0, 1], got {self.overlap}")
        for name in FIXED_COSTS:
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise InputError(f"utilisation {name} must not be negative")

    def gemm_for(self, dtype: str) -> float:
        """Fraction of the peak that products computed in `dtype` reach."""
        by_dtype = {"fp8": self.gemm_8bit, "int8": self.gemm_8bit, "fp4": self.gemm_4bit}
        return by_dtype.get(dtype, self.gemm)

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


@cache
def default_utilisation(kind: Literal["gpu", "cpu"], generation: str | None = None) -> Utilisation:
    """Coefficients of a device without a calibration of its own.

    GPUs take the common fit on measured serving points, and what their generation has of its own
    (docs/throughput.md); a generation without measurements takes the mean of the others. CPUs have
    no such data: theirs are assumed.
    """
    text = files("suffice.hardware").joinpath("data/utilisation.json").read_text(encoding="utf-8")
    records: dict[str, dict[str, Any]] = json.loads(text)
    own = records.get(f"{kind}-{generation}", {})
    return Utilisation(**{**records[kind], **own})
