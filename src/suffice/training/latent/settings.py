"""What a latent training run is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from suffice.backends.latent.shape import LatentShape, Noise
from suffice.core.errors import ConfigError

KlReduction = Literal["sum", "channels", "mean"]
KL_REDUCTIONS: tuple[KlReduction, ...] = ("sum", "channels", "mean")
HaltTarget = Literal["exact", "valid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentTraining:
    """Everything that decides a run. One optimiser step per supervision step.

    With `shape.noise` "none" it is TRM, else GRAM:

        loss = CE(y, h_T) + β [balance KL(sg q ‖ p) + (1 - balance) KL(q ‖ sg p)]
               + halt_weight BCE(halting, target) + reward_weight Σ_n (value_n - r)²

    CE is a mean over tokens, everything a mean over the batch. `kl_reduction`: "sum" over channels
    and tokens; "channels" sums channels and takes the mean of tokens; "mean" is the mean of all.
    The paper names none; its β times tokens is about 4.5 in four tasks, which fits "sum" (`beta`
    None is 4.5 / tokens). `guidance` false draws ε from the prior while learning too, without KL.
    The heads' target is 1 if the answer is the drawn solution ("exact", as published) or any
    solution ("valid"), r that at the last step; their gradient stops at the state.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    task: str = "queens-7"
    shape: LatentShape = field(default_factory=LatentShape)
    steps: int = 6000
    batch: int = 256
    supervision_steps: int = 4
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 1.0
    gradient_clip: float = 1.0
    ema: float = 0.999
    beta: float | None = None
    balance: float = 0.8
    kl_reduction: KlReduction = "sum"
    guidance: bool = True
    halt_weight: float = 0.5
    halt_target: HaltTarget = "valid"
    reward_weight: float = 0.5
    seed: int = 0
    split_seed: int = 0
    checkpoint_every: int = 200
    probe_every: int = 400

    def __post_init__(self) -> None:
        for name in (
            "steps", "batch", "supervision_steps", "learning_rate", "gradient_clip",
            "checkpoint_every", "probe_every",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warm_up_steps", "weight_decay", "halt_weight", "reward_weight", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.beta is not None and self.beta < 0:
            raise ConfigError(f"beta must be 0 or more, got {self.beta}")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, got {self.ema}")
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance must lie between 0 and 1, got {self.balance}")
        if self.kl_reduction not in KL_REDUCTIONS:
            raise ConfigError(
                f"kl_reduction {self.kl_reduction!r} must be one of {', '.join(KL_REDUCTIONS)}"
            )
        if self.halt_target not in ("exact", "valid"):
            raise ConfigError(f"halt_target {self.halt_target!r} must be exact or valid")


def published(task: str, *, noise: Noise = "learned", seed: int = 0) -> LatentTraining:
    """The size at which GRAM was published for queens and colouring (arXiv:2605.19376).

    Width 512, 8 heads, two blocks a module, K 4, T 3, 16 supervision steps, batch 768. `steps` is
    our estimate of what 25 to 60 minutes of an H100 hold; the paper gives epochs of its own files.
    """
    return LatentTraining(
        task=task,
        shape=LatentShape(
            width=512, heads=8, mlp_width=512, blocks=2, inner_updates=4, transitions=3,
            noise=noise,
        ),
        steps=48_000, batch=768, supervision_steps=16, learning_rate=1e-4, warm_up_steps=2000,
        weight_decay=1.0, ema=0.9999, halt_target="exact", seed=seed, checkpoint_every=1600,
        probe_every=1600,
    )  # fmt: skip
