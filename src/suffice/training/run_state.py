"""A training run on disk: its state, from which it goes on exactly, and its progress lines.

Whatever is drawn depends on the seed and the step alone, so the state is weights, moments and the
step.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suffice.core.errors import CorruptData, InputError, TrainingDiverged
from suffice.core.files import disk_full_is_an_error, write_bytes, write_text
from suffice.training.settings import differences


@dataclass(slots=True)
class RunState:
    """What a run must remember: modules and optimisers by name, the step and the progress."""

    path: Path | None  # None keeps nothing on disk
    config: dict[str, Any]
    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    step: int = 0
    lines: list[dict[str, Any]] | None = None

    def save(self) -> None:
        """Write everything atomically."""
        if self.path is None:
            return
        buffer = io.BytesIO()
        torch.save(
            {
                "config": json.dumps(self.config),
                "modules": {name: module.state_dict() for name, module in self.modules.items()},
                "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
                "step": self.step,
                "lines": json.dumps(self.lines or []),
            },
            buffer,
        )
        with disk_full_is_an_error(self.path):
            write_bytes(self.path, buffer.getvalue())

    def resume(self) -> bool:
        """Restore from `path` if it exists; InputError if it was made under another config."""
        if self.path is None or not self.path.exists():
            return False
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CorruptData(
                f"checkpoint {str(self.path)!r} cannot be read ({reason}): delete it, the run then "
                "starts over"
            ) from None
        changed = differences(json.loads(state["config"]), self.config)
        if changed:
            raise InputError(
                f"checkpoint {str(self.path)!r} belongs to another config ({'; '.join(changed)}): "
                "give the old values, another --out, or delete it to start over"
            )
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.step = int(state["step"])
        self.lines = json.loads(state["lines"])
        return True

    def log(self, line: dict[str, Any]) -> None:
        """Keep a progress line, and write all of them beside the checkpoint."""
        self.lines = [*(self.lines or []), line]
        if self.path is not None:
            text = "".join(json.dumps(entry) + "\n" for entry in self.lines)
            write_text(self.path.with_suffix(".jsonl"), text)


def seeded(seed: int, *parts: int | str) -> torch.Generator:
    """A generator on the CPU that depends on the seed and the parts alone."""
    text = "/".join(str(part) for part in (seed, *parts))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def require_finite(loss: torch.Tensor, step: int, what: str) -> float:
    """The loss as a number; raises TrainingDiverged if it is none."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"the loss of {what} is {value} at step {step}: lower the learning rate, or check the "
            "weights that it starts from; no checkpoint was written after it"
        )
    return value
