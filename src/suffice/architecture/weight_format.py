"""How weights are stored and multiplied: one format for each kind of matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from suffice.core.errors import InputError

WeightDtype = Literal[
    "bf16", "fp16", "fp32", "fp8", "int8", "fp4", "mxfp4", "int4", "nf4", "int3", "int2"
]
# What a user may ask for; the others only come with checkpoints.
CHOICES: tuple[WeightDtype, ...] = (
    "bf16", "fp16", "fp8", "int8", "fp4", "mxfp4", "int4",
)  # fmt: skip
# Matrices that quantisers treat apart. "mlp" includes shared experts.
Role = Literal["attention", "mlp", "experts", "head"]

_GROUPED_BITS = {"int4": 4, "int3": 3, "int2": 2}
_FIXED_BYTES: dict[WeightDtype, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    # NVFP4: one fp8 scale per 16 values. MXFP4: one 8-bit exponent per 32. NF4: one fp32 per 64.
    "fp4": 0.5 + 1.0 / 16,
    "mxfp4": 0.5 + 1.0 / 32,
    "nf4": 0.5 + 4.0 / 64,
}
USUAL_GROUP = 128


@dataclass(frozen=True, slots=True)
class Storage:
    """One format: its type, the group that shares a scale, and how much of a part is in it.

    `scale_bytes` is what an integer format keeps per group: a 16-bit scale, and perhaps a zero
    point. `widened`: activations stay at 16 bits, so weights are widened to be multiplied.
    `wide_share` is the share of the part's matrices that the quantiser left at 16 bits.
    """

    dtype: WeightDtype = "bf16"
    group: int | None = None
    widened: bool = False
    wide_share: float = 0.0
    scale_bytes: float = 4.0

    @property
    def value_bytes(self) -> float:
        """Bytes per weight, scales and zero points included."""
        bits = _GROUPED_BITS.get(self.dtype)
        narrow = (
            _FIXED_BYTES[self.dtype]
            if bits is None
            else bits / 8.0 + self.scale_bytes / (self.group or USUAL_GROUP)
        )
        return self.wide_share * 2.0 + (1.0 - self.wide_share) * narrow


WIDE = Storage()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """Formats by kind of matrix; embeddings, norms and routers always stay at 16 bits.

    `method` is the quantiser that the checkpoint names, None for a plain one. `kv` is the cache's
    type where the checkpoint brings scales for it.
    """

    attention: Storage = WIDE
    mlp: Storage = WIDE
    experts: Storage = WIDE
    head: Storage = WIDE
    method: str | None = None
    kv: Literal["fp8"] | None = None

    def of(self, role: Role) -> Storage:
        """The format of one kind of matrix."""
        found: Storage = getattr(self, role)
        return found

    @property
    def main(self) -> Storage:
        """The narrowest format: what a checkpoint is called by."""
        return min((self.experts, self.mlp, self.attention), key=lambda s: s.value_bytes)

    def __str__(self) -> str:
        parts = {"attention": self.attention, "MLP": self.mlp, "experts": self.experts}
        kinds = {storage.dtype for storage in parts.values()}
        if len(kinds) == 1:
            return kinds.pop()
        return ", ".join(f"{name} {storage.dtype}" for name, storage in parts.items())


PLAIN = WeightFormat()


def uniform_format(dtype: str) -> WeightFormat:
    """Every matrix but the output matrix in `dtype`; raises InputError for an unknown one."""
    if dtype not in get_args(WeightDtype):
        raise InputError(f"weight format {dtype!r} is not known: choose {', '.join(CHOICES)}")
    chosen: WeightDtype = dtype  # type: ignore[assignment]
    storage = replace(WIDE, dtype=chosen, widened=chosen in _GROUPED_BITS or chosen == "nf4")
    return WeightFormat(attention=storage, mlp=storage, experts=storage)
