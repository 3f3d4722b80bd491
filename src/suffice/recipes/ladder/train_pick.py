"""`suffice ladder train-pick`: design or read the two shapes, train both, time both, judge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from suffice.architecture.catalog import load_shape
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.shape import Shape
from suffice.recipes.design import DesignConfig, design
from suffice.recipes.design.output import write_run
from suffice.recipes.ladder.events import Events
from suffice.recipes.ladder.pick import (
    PickResult,
    Timed,
    as_rung_shape,
    judge,
    named,
    pick_plan,
    read_shape,
    same_ratios,
    search_space,
)
from suffice.recipes.ladder.plan import Plan
from suffice.recipes.ladder.table import typical_loss
from suffice.throughput.engines.choose import EngineOptions, make_engine
from suffice.throughput.engines.protocol import Lengths
from suffice.throughput.measure import Measurement, MeasurePlan, begin_run, paired_ratios
from suffice.throughput.records import ResultFile, read_samples
from suffice.training.pretrain.run_store import RunStore
from suffice.training.pretrain.shards import read_manifest
from suffice.training.rung import Recipe

FLOPS_PER_S = 2e10  # of a run without a plan, for the time left


@dataclass(frozen=True, kw_only=True)
class TrainPick:
    """The pick of `law` against a reference, both of N = `parameters`, on `tokens` each.

    `pick` and `reference` are files of shapes; without, a design picks in place of a shape with
    the ratios of `like`. Results lie in `out`; runs in `store`, where those that are there count.
    """

    law: ConditionalLaw
    data: Path
    store: Path
    out: Path
    parameters: float
    tokens: float
    plan: Path | None = None
    pick: str | None = None
    reference: str | None = None
    like: str
    hardware: str
    confidence: float
    seeds: int
    learning_rate_factor: float
    head_dim: int
    multiple: int
    tolerance: float
    workers: int
    threads: int
    device: str
    batches: tuple[int, ...]
    lengths: Lengths
    repeats: int
    clock: str

    @cached_property
    def shapes(self) -> tuple[Shape, Shape]:
        """The pick and the reference; a design's report goes to `out`/design."""
        vocabulary = read_manifest(self.data).vocab_size
        space = search_space(
            self.law, self.parameters, head_dim=self.head_dim, multiple=self.multiple,
            tolerance=self.tolerance,
        )  # fmt: skip
        if self.reference:
            theirs = read_shape(self.reference, vocabulary)
        else:
            theirs = same_ratios(load_shape(self.like), space, vocab_size=vocabulary)
        if self.pick:
            return read_shape(self.pick, vocabulary), theirs
        return self._designed(theirs, space), theirs

    def _designed(self, reference: Shape, space: dict[str, Any]) -> Shape:
        loss = typical_loss(
            self.store, space["parameters"], self.tokens,
            learning_rate_factor=self.learning_rate_factor,
        )  # fmt: skip
        result = design(
            DesignConfig(
                # A design's notes start at 1M tokens; at equal N the budget changes no pick.
                like=reference, law=self.law, tokens=max(self.tokens, 1e6), hardware=self.hardware,
                confidence=self.confidence, input_tokens=self.lengths.input_tokens,
                output_tokens=self.lengths.output_tokens, reference_loss=loss, **space,
            )
        )  # fmt: skip
        write_run(result, self.out / "design")
        return as_rung_shape(result.recommended.shape, reference.vocab_size)

    def train(self, progress: AbstractContextManager[Events]) -> None:
        """Train both shapes with every seed; runs that the store holds are not made again."""
        from suffice.recipes.ladder.run import run_ladder  # noqa: PLC0415 - torch
        from suffice.recipes.ladder.runner import devices_of, runner_for  # noqa: PLC0415 - torch
        from suffice.training.pretrain.trainer import Machine  # noqa: PLC0415 - torch

        ladder = None if self.plan is None else Plan.load(self.plan)
        asked = pick_plan(
            *self.shapes, recipe=Recipe() if ladder is None else ladder.recipe,
            tokens=round(self.tokens), seeds=self.seeds,
            flops_per_s=FLOPS_PER_S if ladder is None else ladder.flops_per_s,
            learning_rate_factor=self.learning_rate_factor,
        )  # fmt: skip
        if ladder is not None:
            # A tuned ladder trains at the rate that its tuning runs chose; they are in the store.
            tuning = tuple(rung for rung in ladder.rungs if rung.purpose == "tune")
            asked = replace(asked, rungs=(*tuning, *asked.rungs))
        devices = devices_of(self.device)
        on_gpu = devices[0].startswith("cuda")
        machine = Machine(
            device=devices[0], compiled=on_gpu, cuda_graph=on_gpu,
            work=self.store.with_suffix(".work"),
        )  # fmt: skip
        with progress as events:
            runner = runner_for(
                self.data, machine, events, asked, devices=devices, workers=self.workers,
                threads=self.threads, ray=None, gpus_per_rung=0.0, deadline_s=None,
            )  # fmt: skip
            run_ladder(asked, self.data, RunStore(self.store), runner, events=events)

    def time(
        self, command: str, *, progress: Callable[[str], None], warn: Callable[[str], None]
    ) -> list[Timed]:
        """Both shapes on the torch engine in turn; samples go to `out`/throughput.jsonl."""
        if not self.batches:
            return []
        device = None if self.device == "auto" else self.device
        options: Any = {"clock": self.clock, "device": device}
        engine = make_engine("torch", EngineOptions(dtype="fp32", threads=self.threads, **options))
        shapes = named(*self.shapes)
        asked = MeasurePlan(
            shapes=shapes, lengths=self.lengths, batches=self.batches, repeats=self.repeats,
            prefill_repeats=1, dtype="fp32",
        )  # fmt: skip
        path = self.out / "throughput.jsonl"
        run, environment, _ = begin_run(engine, ResultFile(path), command=command)
        samples = Measurement(
            engine, ResultFile(path), run=run, environment=environment, held=read_samples(path),
            progress=progress,
        ).carry_out(asked)  # fmt: skip
        found = []
        for size in self.batches:
            ratio = paired_ratios(samples, *shapes, size)
            if ratio is None:
                warn(f"no timing at batch {size}: {path} says why")
                continue
            found.append(
                Timed(
                    batch=size, input_tokens=self.lengths.input_tokens,
                    output_tokens=self.lengths.output_tokens, ratio=ratio.median,
                    least=ratio.least, largest=ratio.largest, repeats=ratio.n,
                    where=f"{environment.device}, torch, {self.clock} clock",
                )
            )  # fmt: skip
        return found

    def judge(self, timed: list[Timed]) -> PickResult:
        """What the runs of the store say, written to `out`/train-pick.json."""
        recipe = Recipe() if self.plan is None else Plan.load(self.plan).recipe
        result = judge(
            RunStore(self.store).read(), *self.shapes, self.law, confidence=self.confidence,
            timed=timed, learning_rate_factor=self.learning_rate_factor,
            tokens=recipe.trained_tokens(round(self.tokens)),
        )  # fmt: skip
        result.save(self.out / "train-pick.json")
        return result
