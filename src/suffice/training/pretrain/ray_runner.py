"""Rungs on many machines: one Ray task each, tried again from its checkpoint if a worker dies.

The data folder and the checkpoint folder must be reachable under the same path on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from suffice.core.errors import MissingExtra, SufficeError
from suffice.training.pretrain.pool import limit_threads
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.pretrain.trainer import (
    Machine,
    TrainingData,
    failed_record,
    load_training_data,
    train_rung,
)
from suffice.training.rung import LadderRung, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RayConfig:
    """Where the cluster is and what a rung takes of it.

    `address` is Ray's ("auto", "host:6379"); None starts a cluster on this machine. Fractions of a
    GPU pack several small rungs on one.
    """

    address: str | None
    cpus_per_rung: float = 1.0
    gpus_per_rung: float = 0.0
    retries: int = 3


def run_on_ray(
    rungs: Sequence[LadderRung],
    recipe: Recipe,
    data_folder: Path,
    machine: Machine,
    config: RayConfig,
    *,
    on_record: Callable[[RunRecord], None],
) -> None:
    """Train `rungs` as Ray tasks; each record is handed over as soon as its task ends.

    A task whose worker died `config.retries` times is recorded as failed; the others go on.
    """
    ray = _ray()
    started_here = not ray.is_initialized()
    if started_here:
        _connect(ray, config.address)
    try:
        data = load_training_data(data_folder, "cpu")
        train = ray.remote(
            num_cpus=config.cpus_per_rung,
            num_gpus=config.gpus_per_rung,
            max_retries=config.retries,
        )(_train_here)
        threads = max(1, int(config.cpus_per_rung))
        folder = str(data_folder.resolve())
        waiting = {train.remote(r, recipe, folder, machine, threads): r for r in rungs}
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            rung = waiting.pop(ready[0])
            record = _result(ray, ready[0], config)
            if isinstance(record, str):
                record = failed_record(rung, recipe, data.fingerprint, data.bytes_per_token, record)
            on_record(record)
    finally:
        if started_here:
            ray.shutdown()


def _result(ray: Any, task: Any, config: RayConfig) -> RunRecord | str:
    """The task's record, or why there is none."""
    try:
        record: RunRecord = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise SufficeError(f"a training task failed: {error.cause}") from None
    except ray.exceptions.RayError as error:
        return f"the worker died {config.retries + 1} times: {type(error).__name__}"
    return record


def _train_here(
    rung: LadderRung, recipe: Recipe, data_folder: str, machine: Machine, threads: int
) -> RunRecord:
    limit_threads(threads)
    return train_rung(rung, recipe, _data(data_folder, machine.device), machine)


@lru_cache(maxsize=1)
def _data(folder: str, device: str) -> TrainingData:
    """Loaded once per worker process, which trains several rungs."""
    return load_training_data(Path(folder), device)


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, log_to_driver=False)
    except ConnectionError as error:
        raise SufficeError(
            f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]}): start one with "
            "`ray start --head`, or give --ray local"
        ) from None


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("ray", "ray", "running a ladder on several machines") from None
    return ray
