"""Several rungs at once: worker processes that each train one rung after another.

One process trains small models far below what a GPU, or a machine with many cores, can do; several
fill it, and while one compiles the others train. A worker that dies costs its own rung alone.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from suffice.core.errors import SufficeError
from suffice.training.pretrain.flops import training_flops
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.pretrain.trainer import (
    Machine,
    Tick,
    failed_record,
    free_memory,
    load_training_data,
    train_rung,
)
from suffice.training.rung import LadderRung, Recipe

# A worker that dies is most often killed for memory by a neighbour: one more try is cheap.
TRIES = 2
# A forked process cannot use CUDA after its parent did.
_SPAWN = mp.get_context("spawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How many workers, on which devices, and when to stop starting rungs.

    `flops_per_s` is what one worker reaches while all run; it is corrected by the rungs that
    finish. With `deadline_s` a rung is only started if it should end before.
    """

    workers: int
    devices: tuple[str, ...] = ("cpu",)
    threads_per_worker: int = 1
    deadline_s: float | None = None
    flops_per_s: float = 1e10
    start_s: float = 0.0


@dataclass(slots=True)
class _Worker:
    process: Any
    connection: Connection
    rung: LadderRung | None = None
    started: float = 0.0


@dataclass(slots=True)
class _Estimate:
    """Seconds a rung will take, from those that ended."""

    config: PoolConfig
    ratios: list[float] = field(default_factory=list)

    def seconds(self, flops: float) -> float:
        prior = self.config.start_s + flops / self.config.flops_per_s
        if not self.ratios:
            return prior
        ordered = sorted(self.ratios)
        return prior * ordered[len(ordered) * 3 // 4]

    def learn(self, flops: float, seconds: float) -> None:
        self.ratios.append(seconds / (self.config.start_s + flops / self.config.flops_per_s))


def run_pool(
    rungs: Sequence[LadderRung],
    recipe: Recipe,
    data_folder: Path,
    machine: Machine,
    config: PoolConfig,
    *,
    on_record: Callable[[RunRecord], None],
    on_tick: Callable[[Tick], None] = lambda _: None,
    on_skip: Callable[[LadderRung], None] = lambda _: None,
) -> None:
    """Train `rungs` in order; each record is handed over as soon as its rung ends.

    `on_skip` gets the rungs that no longer fit before the deadline; later, shorter ones may.
    """
    _Pool(
        waiting=list(rungs),
        recipe=recipe,
        data_folder=data_folder,
        machine=machine,
        config=config,
        on_record=on_record,
        on_tick=on_tick,
        on_skip=on_skip,
        estimate=_Estimate(config),
    ).run()


@dataclass(slots=True, kw_only=True)
class _Pool:
    waiting: list[LadderRung]
    recipe: Recipe
    data_folder: Path
    machine: Machine
    config: PoolConfig
    on_record: Callable[[RunRecord], None]
    on_tick: Callable[[Tick], None]
    on_skip: Callable[[LadderRung], None]
    estimate: _Estimate
    tries: dict[LadderRung, int] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    fingerprint: str = ""
    bytes_per_token: float = 1.0

    def run(self) -> None:
        try:
            for index in range(min(self.config.workers, len(self.waiting))):
                self.workers.append(self._start(index))
            while self.workers:
                self._react()
        finally:
            for worker in self.workers:
                worker.process.terminate()
                worker.process.join()

    def _react(self) -> None:
        ready = wait([w.connection for w in self.workers], timeout=self._time_left())
        if not ready and self._time_left() == 0:
            # What is still running could not be finished in time; its checkpoint stays.
            for worker in list(self.workers):
                worker.process.terminate()
                if worker.rung:
                    self.on_skip(worker.rung)
                self._retire(worker)
            return
        for worker in [w for w in self.workers if w.connection in ready]:
            try:
                kind, value = worker.connection.recv()
            except EOFError:
                self._bury(worker)
                continue
            self._handle(worker, kind, value)

    def _handle(self, worker: _Worker, kind: str, value: Any) -> None:
        if kind == "tick":
            self.on_tick(value)
        elif kind == "error":
            raise SufficeError(value)
        elif kind == "ready":
            self.fingerprint, self.bytes_per_token = value
            self._feed(worker)
        else:
            if worker.rung is not None and value.status == "finished" and value.resumes == 0:
                self.estimate.learn(
                    training_flops(worker.rung, self.recipe), time.monotonic() - worker.started
                )
            worker.rung = None
            self.on_record(value)
            self._feed(worker)

    def _feed(self, worker: _Worker) -> None:
        """Give `worker` the first waiting rung that fits before the deadline, or let it go."""
        left = self._time_left()
        while self.waiting:
            rung = self.waiting.pop(0)
            needed = self.estimate.seconds(training_flops(rung, self.recipe))
            if left is not None and needed > left:
                self.on_skip(rung)
                continue
            worker.rung, worker.started = rung, time.monotonic()
            worker.connection.send(rung)
            return
        worker.connection.send(None)
        worker.process.join()
        self._retire(worker)

    def _bury(self, worker: _Worker) -> None:
        """A worker is gone: try its rung once more, then record it as failed."""
        worker.process.join()
        code, rung = worker.process.exitcode, worker.rung
        index = self.workers.index(worker)
        self._retire(worker)
        if rung is None:
            raise SufficeError(
                f"a training worker ended with exit code {code} before its first rung: see the "
                "messages above"
            )
        self.tries[rung] = self.tries.get(rung, 0) + 1
        if self.tries[rung] < TRIES:
            self.waiting.insert(0, rung)
        else:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            error = f"the worker ended with {reason}, {TRIES} times"
            self.on_record(
                failed_record(rung, self.recipe, self.fingerprint, self.bytes_per_token, error)
            )
        if self.waiting:
            self.workers.append(self._start(index))

    def _start(self, index: int) -> _Worker:
        device = self.config.devices[index % len(self.config.devices)]
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_worker,
            args=(theirs, self.recipe, self.data_folder, replace(self.machine, device=device),
                  self.config.threads_per_worker),
            daemon=True,
        )  # fmt: skip
        process.start()
        theirs.close()
        return _Worker(process=process, connection=ours)

    def _retire(self, worker: _Worker) -> None:
        worker.connection.close()
        self.workers.remove(worker)

    def _time_left(self) -> float | None:
        if self.config.deadline_s is None:
            return None
        return max(0.0, self.config.deadline_s - (time.monotonic() - self.begun))


def _worker(
    connection: Connection, recipe: Recipe, data_folder: Path, machine: Machine, threads: int
) -> None:
    limit_threads(threads)
    try:
        data = load_training_data(data_folder, machine.device)
    except SufficeError as error:
        connection.send(("error", str(error)))
        return
    connection.send(("ready", (data.fingerprint, data.bytes_per_token)))
    while (rung := connection.recv()) is not None:
        try:
            record = train_rung(
                rung, recipe, data, machine, tick=lambda tick: connection.send(("tick", tick))
            )
        except Exception as error:  # noqa: BLE001 - of any kind: it would come again, so it is told
            record = failed_record(
                rung, recipe, data.fingerprint, data.bytes_per_token,
                f"{type(error).__name__}: {error}",
            )  # fmt: skip
        connection.send(("record", record))
        free_memory()


def limit_threads(threads: int) -> None:
    """Use `threads` cores in this process; small matrices gain nothing from more."""
    import torch  # noqa: PLC0415

    # Compile in this process: a pool of compilers per worker would start 16 interpreters each.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
