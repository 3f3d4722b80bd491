"""One rung on several devices: torchrun starts the processes, each takes a part of every batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from suffice.core.errors import InputError
from suffice.training.pretrain.pool import limit_threads
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.pretrain.trainer import Machine, Tick, load_training_data, train_rung
from suffice.training.rung import LadderRung, Recipe


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(machine: Machine) -> Iterator[Machine]:
    """Join torchrun's group; gives the machine as this rank sees it."""
    cuda = machine.device.startswith("cuda")
    dist.init_process_group("nccl" if cuda else "gloo")
    local = int(os.environ["LOCAL_RANK"])
    device = f"cuda:{local}" if cuda else machine.device
    if cuda:
        torch.cuda.set_device(local)
    try:
        yield replace(
            machine, device=device, rank=dist.get_rank(), world_size=dist.get_world_size()
        )
    finally:
        dist.destroy_process_group()


def run_distributed(
    rungs: Sequence[LadderRung],
    recipe: Recipe,
    data_folder: Path,
    machine: Machine,
    *,
    threads: int,
    on_record: Callable[[RunRecord], None],
    on_tick: Callable[[Tick], None],
) -> None:
    """Train `rungs` one after another, each over all ranks; every rank gets every record.

    Rank 0's list counts: other ranks may have read the store a moment later.
    """
    limit_threads(threads)
    shared: list[Any] = [list(rungs), recipe]
    dist.broadcast_object_list(shared, src=0)
    data = load_training_data(data_folder, machine.device)
    first = machine.rank == 0
    for rung in shared[0]:
        batch = shared[1].batch_sequences(rung.tokens)
        if batch % machine.world_size:
            raise InputError(
                f"a batch of {batch} sequences cannot be split over {machine.world_size} processes:"
                " start torchrun with a power of two"
            )
        record = train_rung(
            rung, shared[1], data, machine, tick=on_tick if first else lambda _: None
        )
        on_record(record)
        dist.barrier()
