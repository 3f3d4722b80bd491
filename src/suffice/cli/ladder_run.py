"""`suffice ladder run`: train what a plan asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suffice.cli.ladder_view import LadderProgress
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, LadderStore
from suffice.core.quantities import parse_duration

if not HELP_ONLY:
    from suffice.recipes.ladder.plan import Plan
    from suffice.training.extras import require_torch
    from suffice.training.pretrain.run_store import RunRecord, RunStore

if TYPE_CHECKING:
    from suffice.recipes.ladder.run import LadderRun

_WHERE = "Where it runs"
DataFolder = Annotated[Path, typer.Option("--data", help="Folder made by `suffice ladder data`.")]


def run(
    plan: Annotated[Path, typer.Option()],
    data: DataFolder,
    store: LadderStore,
    device: str = "auto",
    workers: int = 1,
    threads: int = 1,
    ray: str | None = None,
    gpus_per_rung: float = 0.0,
    compile_: Annotated[bool | None, typer.Option("--compile/--no-compile")] = None,
    graph: bool | None = None,
    micro_batch: int = 128,
    deadline: str | None = None,
    work: Path | None = None,
    checkpoint_every: str = "60s",
    export: Path | None = None,
    parquet: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Train what the plan asks for and the store does not hold; a killed run goes on.

    Example: [bold]suffice ladder run --plan plan.json --data data/ --store runs.jsonl[/bold]

    Options:
        plan: Plan file.
        deadline: Start no rung that would end later, e.g. 9m.
        work: Checkpoints; default beside --store.
        checkpoint_every: Time between checkpoints.
        export: Folder for the trained models.
        parquet: Also write the store as Parquet.
    Where it runs:
        device: cpu, cuda, or a list: cuda:0,cuda:1.
        workers: Rungs at a time, spread over devices.
        threads: CPU threads each.
        ray: Ray's address, or `local`: many machines.
        gpus_per_rung: With --ray; .25 packs four.
        compile_: Default: on a GPU.
        graph: CUDA graphs. Default: on a GPU.
        micro_batch: Most sequences in memory at once.
    """  # fmt: skip
    require_torch()
    from suffice.recipes.ladder.run import over_ranks, run_ladder  # noqa: PLC0415 - torch
    from suffice.recipes.ladder.runner import devices_of, runner_for  # noqa: PLC0415 - torch
    from suffice.training.pretrain.distributed import process_group, under_torchrun  # noqa: PLC0415 - torch
    from suffice.training.pretrain.trainer import Machine  # noqa: PLC0415 - torch

    devices = devices_of(device)
    on_gpu = devices[0].startswith("cuda")
    machine = Machine(
        device=devices[0],
        compiled=on_gpu if compile_ is None else compile_,
        cuda_graph=on_gpu if graph is None else graph,
        micro_batch_sequences=micro_batch,
        work=work or store.with_suffix(".work"),
        checkpoint_every_s=parse_duration(checkpoint_every, what="--checkpoint-every"),
        export=export,
    )
    deadline_s = None if deadline is None else parse_duration(deadline, what="--deadline")
    asked = Plan.load(plan)
    if under_torchrun():
        with process_group(machine) as mine:
            runs = RunStore(store, writes=mine.rank == 0)
            with LadderProgress(quiet=as_json or mine.rank > 0) as events:
                runner = over_ranks(data, mine, threads=threads, events=events)
                outcome = run_ladder(asked, data, runs, runner, events=events)
            if mine.rank > 0:
                return
    else:
        with LadderProgress(quiet=as_json) as events:
            runner = runner_for(
                data, machine, events, asked,
                devices=devices, workers=workers, threads=threads, ray=ray,
                gpus_per_rung=gpus_per_rung, deadline_s=deadline_s,
            )  # fmt: skip
            outcome = run_ladder(asked, data, RunStore(store), runner, events=events)
    if parquet:
        RunStore(store).write_parquet(parquet)
    _print_outcome(outcome, asked, store, as_json)


def _print_outcome(outcome: LadderRun, plan: Plan, store: Path, as_json: bool) -> None:
    ended = _by_status(outcome.made)
    if as_json:
        typer.echo(
            json.dumps({"made": len(outcome.made), "left": len(outcome.left), "status": ended})
        )
        return
    if not outcome.made and not outcome.left:
        typer.echo(f"all {len(plan.rungs)} rungs are in {store}: nothing to do")
        return
    text = ", ".join(f"{count} {status}" for status, count in ended.items()) or "no"
    left = f"; {len(outcome.left)} left, the same command goes on" if outcome.left else ""
    typer.echo(f"{text} runs made now, in {store}{left}")


def _by_status(records: tuple[RunRecord, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        counts[record.status] = counts.get(record.status, 0) + 1
    return counts
