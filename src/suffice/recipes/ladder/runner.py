"""Where a plan's rungs run: this process, several processes, or a Ray cluster; on which devices."""

from __future__ import annotations

from pathlib import Path

import torch

from suffice.core.errors import InputError
from suffice.recipes.ladder.events import Events
from suffice.recipes.ladder.plan import Plan
from suffice.recipes.ladder.run import Runner, here, on_cluster, pooled
from suffice.training.pretrain.pool import PoolConfig
from suffice.training.pretrain.ray_runner import RayConfig
from suffice.training.pretrain.trainer import Machine


def runner_for(
    data: Path, machine: Machine, events: Events, plan: Plan, *, devices: tuple[str, ...],
    workers: int, threads: int, ray: str | None, gpus_per_rung: float, deadline_s: float | None,
) -> Runner:  # fmt: skip
    """Where the rungs of `plan` run: this process, several, or a Ray cluster."""
    if ray is not None:
        cluster = RayConfig(
            address=None if ray == "local" else ray,
            cpus_per_rung=threads,
            gpus_per_rung=gpus_per_rung,
        )
        return on_cluster(data, machine, cluster, events=events)
    if workers == 1 and len(devices) == 1 and deadline_s is None:
        return here(data, machine, threads=threads, events=events)
    config = PoolConfig(
        workers=max(workers, len(devices)),
        devices=devices,
        threads_per_worker=threads,
        deadline_s=deadline_s,
        flops_per_s=plan.flops_per_s / max(workers, len(devices)) * len(devices),
        start_s=10.0,
    )
    return pooled(data, machine, config, events=events)


def devices_of(text: str) -> tuple[str, ...]:
    """Devices in a list such as cuda:0,cuda:1; `auto` takes a GPU where there is one."""
    if text == "auto":
        return ("cuda",) if torch.cuda.is_available() else ("cpu",)
    devices = tuple(part.strip() for part in text.split(","))
    for device in devices:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(
                f"device {device!r} was asked for and no GPU is seen: use --device cpu"
            )
        if not device.startswith(("cuda", "cpu")):
            raise InputError(f"device {device!r} is not cpu, cuda or cuda:N")
    return devices
