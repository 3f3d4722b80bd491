"""A trained latent network on disk: its weights, its sizes, and the record of its training."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from suffice.backends.latent.network import LatentNetwork
from suffice.backends.latent.shape import LatentShape
from suffice.core.errors import CorruptData, InputError
from suffice.core.files import read_json, write_bytes, write_json
from suffice.tasks.grids.puzzles import GridTask
from suffice.tasks.grids.registry import grid_task

RECORD = "latent.json"
WEIGHTS = "latent.pt"


def save_latent(
    network: LatentNetwork, task: GridTask, folder: Path, record: dict[str, Any]
) -> None:
    """Write `network` and `record`; the record, written last, vouches for the weights."""
    (folder / RECORD).unlink(missing_ok=True)
    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, buffer)
    write_bytes(folder / WEIGHTS, buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    about = {"task": task.name, "shape": asdict(network.shape), "weights_sha256": digest}
    write_json(folder / RECORD, {**about, **record})


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a folder. Raises InputError where there is none."""
    if not (folder / RECORD).is_file():
        raise InputError(
            f"{str(folder)!r} has no {RECORD}: give a folder that `suffice train latent` finished"
        )
    record: dict[str, Any] = read_json(folder / RECORD, what="training record")
    return record


def load_latent(folder: Path, *, device: str = "cpu") -> tuple[LatentNetwork, GridTask]:
    """Network and task of a folder that `suffice train latent` wrote; the weights are checked."""
    record = read_record(folder)
    task = grid_task(record["task"])
    network = LatentNetwork(LatentShape(**record["shape"]), task.shape)
    try:
        data = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(data).hexdigest() != record["weights_sha256"]:
            raise CorruptData(f"{str(folder / WEIGHTS)!r} is not what {RECORD} vouches for")
        network.load_state_dict(torch.load(io.BytesIO(data), weights_only=True))
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorruptData(f"{str(folder)!r} cannot be read ({reason}): train it again") from None
    return network.to(device).eval().requires_grad_(False), task
