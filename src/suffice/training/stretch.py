"""One stretch of training on the CPU or a GPU: AdamW, a rate that rises and falls, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from suffice.core.errors import ConfigError
from suffice.training.run_state import RunState, require_finite

Tell = Callable[[dict[str, Any]], None]
GRADIENT_CLIP = 1.0
_LOG_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The rate rises over a twentieth of the steps and falls to a twentieth of itself."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    steps: int
    batch: int
    learning_rate: float
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.checkpoint_every) < 1 or not self.learning_rate > 0:
            raise ConfigError("steps, batch, checkpoint_every and learning_rate must be positive")

    def rate_at(self, step: int) -> float:
        """Learning rate at `step`, counted from 0."""
        rise = max(1, self.steps // 20)
        return self.learning_rate * min(1.0, (step + 1) / rise) * max(0.05, 1 - step / self.steps)


def run_stretch(
    learned: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    stretch: Stretch,
    state: RunState,
    *,
    phase: str,
    tell: Tell = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Lower `loss_of(step)` by moving `learned`'s weights; goes on from `state`.

    `loss_of` may hang on nothing but the step and the weights: so a resumed run is the same run.
    """
    optimiser = torch.optim.AdamW(learned.parameters(), lr=1.0, weight_decay=0.0)
    state.optimisers = {"adamw": optimiser}
    state.resume()
    started, begun = clock(), state.step
    while state.step < stretch.steps:
        loss = loss_of(state.step)
        value = require_finite(loss, state.step, phase)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(learned.parameters(), GRADIENT_CLIP)
        for group in optimiser.param_groups:
            group["lr"] = stretch.rate_at(state.step)
        optimiser.step()
        state.step += 1
        if state.step % _LOG_EVERY == 0 or state.step == stretch.steps:
            elapsed_s = clock() - started
            left = stretch.steps - state.step
            line = {
                "phase": phase, "step": state.step, "loss": value, "gradient_norm": float(norm),
                "elapsed_s": elapsed_s, "left_s": elapsed_s / (state.step - begun) * left,
            }  # fmt: skip
            state.log(line)
            tell(line)
        if state.step % stretch.checkpoint_every == 0 or state.step == stretch.steps:
            state.save()
