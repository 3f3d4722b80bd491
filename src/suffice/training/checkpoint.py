"""A run's state on disk, from which it goes on exactly as if it had never stopped."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suffice.core.errors import CorruptData
from suffice.core.files import disk_full_is_an_error, write_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: steps done, the loss of each, held-out losses by tokens seen."""

    step: int
    losses: tuple[float, ...]
    evaluations: tuple[tuple[int, float], ...]
    elapsed_s: float
    resumes: int


def save_checkpoint(
    path: Path, run_id: str, model: nn.Module, optimiser: torch.optim.AdamW, progress: Progress
) -> None:
    """Write weights, both moments and progress to `path`, atomically."""
    state = {
        "run_id": run_id,
        "weights": model.state_dict(),
        "moments": [dict(optimiser.state[weight]) for weight in _weights(optimiser)],
        "progress": {name: getattr(progress, name) for name in Progress.__slots__},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with disk_full_is_an_error(path):
        write_bytes(path, buffer.getvalue())


def load_checkpoint(
    path: Path, run_id: str, model: nn.Module, optimiser: torch.optim.AdamW
) -> Progress:
    """Restore `model` and `optimiser` in place (a captured graph keeps its addresses)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorruptData(
            f"checkpoint {str(path)!r} cannot be read ({reason}): delete it, the run then starts "
            "over"
        ) from None
    if state.get("run_id") != run_id:
        raise CorruptData(
            f"checkpoint {str(path)!r} belongs to run {state.get('run_id')}, not {run_id}: "
            "delete it"
        )
    model.load_state_dict(state["weights"])
    with torch.no_grad():
        for weight, saved in zip(_weights(optimiser), state["moments"], strict=True):
            _restore(optimiser, weight, saved)
    return Progress(**state["progress"])


def snapshot(model: nn.Module) -> list[torch.Tensor]:
    """Copies of all weights, for `reset`."""
    return [weight.detach().clone() for weight in model.parameters()]


def reset(model: nn.Module, optimiser: torch.optim.AdamW, weights: list[torch.Tensor]) -> None:
    """Put `weights` back and forget all moments, in place."""
    with torch.no_grad():
        for weight, value in zip(model.parameters(), weights, strict=True):
            weight.copy_(value)
        for state in optimiser.state.values():
            for value in state.values():
                value.zero_()


def _weights(optimiser: torch.optim.AdamW) -> list[torch.Tensor]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _restore(
    optimiser: torch.optim.AdamW, weight: torch.Tensor, saved: dict[str, torch.Tensor]
) -> None:
    state = optimiser.state[weight]
    for name, value in saved.items():
        if name in state:
            state[name].copy_(value)
        else:
            state[name] = value.to(weight.device)
