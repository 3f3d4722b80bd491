"""Measure shapes on an engine: in turn, repeated, with warm-up apart, resumable.

For every batch size the shapes of a group are made ready first, then timed A B C, A B C, …: a
ratio of two shapes compares neighbours in time. Samples are appended as they are taken.
"""

from __future__ import annotations

import datetime
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit, MeasurementError, SufficeError, UnsupportedModel
from suffice.core.version import __version__
from suffice.throughput.engines.protocol import (
    Ceilings,
    Engine,
    Environment,
    Footprint,
    Lengths,
    Session,
    Timing,
)
from suffice.throughput.floors import decode_floor_s, prefill_floor_s
from suffice.throughput.records import (
    FailureRecord,
    MeasureRun,
    ResultFile,
    TimedSample,
    dimensions,
    sample_identity,
    shape_config,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePlan:
    """What to measure. `prefill_repeats` of the `repeats` also time the prefill.

    `stop_at` is a time.monotonic() after which no further batch is begun.
    """

    shapes: tuple[Shape, ...]
    lengths: Lengths
    batches: tuple[int, ...]
    repeats: int = 5
    prefill_repeats: int | None = None
    dtype: str = "bf16"
    stop_at: float | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median of repeats, with the least and the largest."""

    median: float
    least: float
    largest: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Spread of at least one value."""
        values = sorted(values)
        return cls(
            median=statistics.median(values), least=values[0], largest=values[-1], n=len(values)
        )

    @property
    def relative(self) -> float:
        """(largest − least) / median."""
        return (self.largest - self.least) / self.median


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All repeats of one shape at one batch size. Shares of the floor are floor over measured."""

    shape: Shape
    engine: str
    device: str
    batch: int
    lengths: Lengths
    decode_tokens_per_s: Spread
    tpot_s: Spread
    ttft_s: Spread | None
    memory_bytes: int | None
    decode_floor_s: float | None
    decode_share_of_floor: float | None
    prefill_share_of_floor: float | None


def begin_run(
    engine: Engine, results: ResultFile, *, command: str, commit: str | None = None
) -> tuple[str, Environment, Ceilings | None]:
    """Record where and with what the samples that follow are taken; returns the run's id.

    `commit` is for a copy of the sources without their history.
    """
    environment, ceilings = engine.environment(), engine.ceilings()
    now = datetime.datetime.now(datetime.UTC)
    run = now.strftime("%Y%m%dT%H%M%S.%fZ")
    results.append(
        MeasureRun(
            run=run,
            started_at=now.isoformat(timespec="seconds"),
            command=command,
            suffice_version=__version__,
            commit=commit or source_commit(),
            engine=environment.engine,
            engine_version=environment.engine_version,
            device=environment.device,
            driver=environment.driver,
            software=environment.software,
            copy_bytes_per_s=ceilings.copy_bytes_per_s if ceilings else None,
            matmul_flops_per_s=ceilings.matmul_flops_per_s if ceilings else None,
        )
    )
    return run, environment, ceilings


class Measurement:
    """Runs plans on one engine into one file, leaving out what the file already holds."""

    def __init__(
        self,
        engine: Engine,
        results: ResultFile,
        *,
        run: str,
        environment: Environment,
        held: Iterable[TimedSample] = (),
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.engine, self.results, self.run, self.environment = engine, results, run, environment
        self.held = {sample.identity: sample for sample in held}
        self.progress = progress

    def carry_out(self, plan: MeasurePlan) -> list[TimedSample]:
        """Samples of the plan, those already held included; failures are recorded, not raised.

        Shapes that do not fit into memory together are measured alone afterwards.
        """
        self._group(plan, plan.shapes)
        return [
            self.held[key]
            for shape in plan.shapes
            for batch in plan.batches
            for repeat in range(plan.repeats)
            if (key := self._identity(plan, shape, batch, repeat)) in self.held
        ]

    def _group(self, plan: MeasurePlan, shapes: Sequence[Shape]) -> None:
        wanted = [shape for shape in shapes if self._missing(plan, [shape], plan.batches)]
        if not wanted or _late(plan):
            return
        alone: dict[int, list[int]] = {}
        try:
            with self.engine.open(wanted, plan.lengths, plan.batches) as sessions:
                for batch in plan.batches:
                    for index in self._batch(plan, sessions, batch, retry=len(wanted) > 1):
                        alone.setdefault(index, []).append(batch)
        except DoesNotFit as error:
            if len(wanted) == 1:
                for batch in plan.batches:
                    self._fail(plan, wanted[0], batch, error)
                return
            self.progress(f"{error}; measuring them one by one")
            alone = {index: list(plan.batches) for index in range(len(wanted))}
        except (MeasurementError, UnsupportedModel) as error:
            sound = self._those_that_open(plan, wanted, error)
            if len(sound) < len(wanted):
                self._group(plan, sound)
                return
            alone = {index: list(plan.batches) for index in range(len(wanted))}
        for index, batches in alone.items():
            self._group(
                MeasurePlan(
                    shapes=(wanted[index],), lengths=plan.lengths, batches=tuple(batches),
                    repeats=plan.repeats, prefill_repeats=plan.prefill_repeats, dtype=plan.dtype,
                    stop_at=plan.stop_at, tags=plan.tags,
                ),
                [wanted[index]],
            )  # fmt: skip

    def _those_that_open(
        self, plan: MeasurePlan, shapes: Sequence[Shape], error: SufficeError
    ) -> list[Shape]:
        """Shapes that the engine can load; opening them together does not tell which it cannot."""
        if len(shapes) > 1:
            self.progress(f"{error}; looking for the shape that cannot be loaded")
        sound: list[Shape] = []
        for shape in shapes:
            try:
                if len(shapes) == 1:
                    raise error
                with self.engine.open([shape], plan.lengths, plan.batches):
                    sound.append(shape)
            except (MeasurementError, UnsupportedModel, DoesNotFit) as own:
                for batch in plan.batches:
                    self._fail(plan, shape, batch, own)
        return sound

    def _batch(
        self, plan: MeasurePlan, sessions: Sequence[Session], batch: int, *, retry: bool
    ) -> list[int]:
        """Measure one batch size; returns the shapes that may fit when they are alone."""
        if _late(plan):
            self.progress(f"out of time: batch {batch} and later are left out")
            return []
        ready: list[tuple[Session, Footprint | None]] = []
        alone: list[int] = []
        for index, session in enumerate(sessions):
            if not self._missing(plan, [session.shape], [batch]):
                continue
            try:
                ready.append((session, session.prepare(batch)))
            except DoesNotFit as error:
                if retry:
                    alone.append(index)
                else:
                    self._fail(plan, session.shape, batch, error)
            except SufficeError as error:
                self._fail(plan, session.shape, batch, error)
        for repeat in range(plan.repeats):
            for session, footprint in ready:
                if self._identity(plan, session.shape, batch, repeat) in self.held:
                    continue
                prefills = plan.repeats if plan.prefill_repeats is None else plan.prefill_repeats
                try:
                    timing = session.measure(batch, prefill=repeat < prefills)
                except SufficeError as error:
                    self._fail(plan, session.shape, batch, error)
                    continue
                self._keep(plan, session, batch, repeat, len(ready), footprint, timing)
        return alone

    def _keep(  # noqa: PLR0917
        self,
        plan: MeasurePlan,
        session: Session,
        batch: int,
        repeat: int,
        interleaved: int,
        footprint: Footprint | None,
        timing: Timing,
    ) -> None:
        shape = session.shape
        sample = TimedSample(
            run=self.run,
            name=shape.name or str(shape),
            config=shape_config(shape),
            engine=self.environment.engine,
            device=self.environment.device,
            dtype=plan.dtype,
            input_tokens=plan.lengths.input_tokens,
            output_tokens=plan.lengths.output_tokens,
            batch=batch,
            repeat=repeat,
            interleaved=interleaved,
            method=timing.method,
            ttft_s=timing.ttft_s,
            decode_s=timing.decode_s,
            contexts=list(timing.contexts),
            step_s=list(timing.step_s),
            weight_bytes=footprint.weight_bytes if footprint else None,
            kv_cache_bytes=footprint.kv_cache_bytes if footprint else None,
            workspace_bytes=footprint.workspace_bytes if footprint else None,
            kernels=session.describe(batch),
            tags=plan.tags,
            clock=self.engine.clock,
        )
        self.results.append(sample)
        self.held[self._identity(plan, shape, batch, repeat)] = sample
        ttft = f", TTFT {sample.ttft_s:.4g} s" if sample.ttft_s is not None else ""
        self.progress(
            f"{sample.name} batch {batch} repeat {repeat + 1}/{plan.repeats}: "
            f"{sample.decode_tokens_per_s:,.1f} tok/s decode, "
            f"TPOT {sample.tpot_s * 1e3:.3f} ms{ttft}"
        )

    def _fail(self, plan: MeasurePlan, shape: Shape, batch: int, error: SufficeError) -> None:
        message = " ".join(str(error).split())
        self.results.append(
            FailureRecord(
                run=self.run, name=shape.name or str(shape), config=shape_config(shape),
                engine=self.environment.engine, device=self.environment.device, batch=batch,
                error=type(error).__name__, message=message,
            )
        )  # fmt: skip
        self.progress(f"{type(error).__name__}: {message}")

    def _missing(self, plan: MeasurePlan, shapes: Sequence[Shape], batches: Sequence[int]) -> bool:
        return any(
            self._identity(plan, shape, batch, repeat) not in self.held
            for shape in shapes
            for batch in batches
            for repeat in range(plan.repeats)
        )

    def _identity(
        self, plan: MeasurePlan, shape: Shape, batch: int, repeat: int
    ) -> tuple[str, ...]:
        return sample_identity(
            shape=shape, engine=self.environment.engine, device=self.environment.device,
            dtype=plan.dtype, input_tokens=plan.lengths.input_tokens,
            output_tokens=plan.lengths.output_tokens, method=self.engine.method, batch=batch,
            repeat=repeat, clock=self.engine.clock,
        )  # fmt: skip


def summarise(samples: Iterable[TimedSample], ceilings: Ceilings | None) -> list[Summary]:
    """One summary per engine, device, lengths, shape and batch size, in order of appearance."""
    grouped: dict[tuple[str, ...], list[TimedSample]] = {}
    for sample in samples:
        grouped.setdefault(sample.identity[:-1], []).append(sample)
    return [_summary(group, ceilings) for group in grouped.values()]


def paired_ratios(
    samples: Iterable[TimedSample], shape: Shape, reference: Shape, batch: int
) -> Spread | None:
    """Decode throughput of `shape` over `reference`'s, repeat by repeat; None without pairs."""
    speeds = {
        (dimensions(sample.shape), (sample.run, sample.method, sample.repeat)): (
            sample.decode_tokens_per_s
        )
        for sample in samples
        if sample.batch == batch
    }
    over, under = dimensions(shape), dimensions(reference)
    ratios = [
        speed / speeds[under, turn]
        for (candidate, turn), speed in speeds.items()
        if candidate == over and (under, turn) in speeds
    ]
    return Spread.of(ratios) if ratios else None


def _summary(group: Sequence[TimedSample], ceilings: Ceilings | None) -> Summary:
    first = group[0]
    shape, batch = first.shape, first.batch
    lengths = Lengths(input_tokens=first.input_tokens, output_tokens=first.output_tokens)
    tpot = Spread.of(sample.tpot_s for sample in group)
    prefills = [sample.ttft_s for sample in group if sample.ttft_s is not None]
    ttft = Spread.of(prefills) if prefills else None
    memory = [
        sample.weight_bytes + (sample.kv_cache_bytes or 0) + (sample.workspace_bytes or 0)
        for sample in group
        if sample.weight_bytes is not None
    ]
    floor = decode_floor_s(shape, batch, lengths, ceilings) if ceilings else None
    prefill = prefill_floor_s(shape, batch, lengths, ceilings) if ceilings else None
    return Summary(
        shape=shape,
        engine=first.engine,
        device=first.device,
        batch=batch,
        lengths=lengths,
        decode_tokens_per_s=Spread.of(sample.decode_tokens_per_s for sample in group),
        tpot_s=tpot,
        ttft_s=ttft,
        memory_bytes=max(memory, default=None),
        decode_floor_s=floor,
        decode_share_of_floor=floor / tpot.median if floor else None,
        prefill_share_of_floor=prefill / ttft.median if prefill and ttft else None,
    )


def _late(plan: MeasurePlan) -> bool:
    return plan.stop_at is not None and time.monotonic() > plan.stop_at


def source_commit() -> str | None:
    """Commit of the source tree that this runs from, None outside one."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5,
            check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
