"""`suffice train latent`: from a config to a folder with weights and their record."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.backends.latent.folder import RECORD, read_record, save_latent
from suffice.core.errors import InputError
from suffice.core.files import write_text
from suffice.core.version import __version__
from suffice.tasks.grids.registry import grid_task
from suffice.training.latent.settings import LatentTraining
from suffice.training.latent.trainer import Trainer
from suffice.training.settings import differences, plain

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedLatent:
    """What a training run came to. `cpu_s` is CPU time over all its stretches."""

    task: str
    parameters: int
    steps: int
    cpu_s: float
    train_inputs: int
    test_inputs: int
    lines: tuple[dict[str, Any], ...]


def train_latent(
    config: LatentTraining,
    out: Path,
    *,
    device: str = "cpu",
    until: int | None = None,
    tell: Tell = lambda _: None,
) -> TrainedLatent:
    """Train into `out`; a run that was interrupted goes on, a finished one is left as it is.

    `until` ends the run at so many steps and keeps their weights; the rest can follow later.
    The weights kept are the moving average.
    """
    task = grid_task(config.task)
    if _is_finished(out, config):
        record = read_record(out)
        return _trained(record, _lines(out))
    splits = task.splits(config.split_seed)
    trainer = Trainer(config, task, splits.train, folder=out / "work", device=device)
    tell({"phase": "network", "parameters": trainer.network.parameter_count()})
    trainer.train(tell, until=until)
    lines = trainer.state.lines or []
    record = {
        "config": plain(config),
        "parameters": trainer.network.parameter_count(),
        "steps": trainer.state.step,
        "cpu_s": round(lines[-1]["cpu_s"], 1) if lines else 0.0,
        "train_inputs": len(splits.train),
        "test_inputs": len(splits.test),
        "device": device,
        "versions": _versions(),
    }
    save_latent(trainer.averaged, task, out, record)
    write_text(out / "progress.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    if trainer.state.step >= config.steps:
        for leftover in (out / "work").glob("*"):
            leftover.unlink()
        (out / "work").rmdir()
    return _trained(read_record(out), lines)


def _trained(record: dict[str, Any], lines: list[dict[str, Any]]) -> TrainedLatent:
    return TrainedLatent(
        task=record["task"], parameters=record["parameters"], steps=record["steps"],
        cpu_s=record["cpu_s"], train_inputs=record["train_inputs"],
        test_inputs=record["test_inputs"], lines=tuple(lines),
    )  # fmt: skip


def _lines(out: Path) -> list[dict[str, Any]]:
    path = out / "progress.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _is_finished(out: Path, config: LatentTraining) -> bool:
    if not (out / RECORD).exists():
        return False
    record = read_record(out)
    if changed := differences(record["config"], plain(config)):
        raise InputError(
            f"{str(out)!r} holds a network of another config ({'; '.join(changed)}): choose "
            "another --out, or delete it"
        )
    return bool(record["steps"] >= config.steps)


def _versions() -> dict[str, str]:
    import torch  # noqa: PLC0415

    return {
        "suffice": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
