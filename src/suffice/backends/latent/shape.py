"""Sizes of a latent network; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from suffice.core.errors import ConfigError

Noise = Literal["none", "learned", "fixed", "zero_mean"]
NOISES: tuple[Noise, ...] = ("none", "learned", "fixed", "zero_mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentShape:
    """Sizes of the network, and how its transitions are random.

    `noise`: "none" is TRM, "learned" is GRAM, "fixed" has a learned mean and σ = `fixed_sigma`,
    "zero_mean" a learned σ about 0.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    width: int = 64
    heads: int = 4
    mlp_width: int = 192
    blocks: int = 1
    inner_updates: int = 2
    transitions: int = 2
    noise: Noise = "none"
    fixed_sigma: float = 0.135  # where a learned one starts: e to the -2

    def __post_init__(self) -> None:
        for name in ("width", "heads", "mlp_width", "blocks", "inner_updates", "transitions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ConfigError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.noise not in NOISES:
            raise ConfigError(f"noise {self.noise!r} must be one of {', '.join(NOISES)}")
        if not self.fixed_sigma > 0:
            raise ConfigError(f"fixed_sigma must be positive, got {self.fixed_sigma}")
