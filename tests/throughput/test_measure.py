"""The measuring plan on a scripted engine: turns, resuming, what fits alone, what is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit, MeasurementError, TableError
from suffice.throughput.engines.protocol import (
    Ceilings,
    EngineName,
    Environment,
    Footprint,
    Lengths,
    Method,
    Session,
    Timing,
)
from suffice.throughput.floors import decode_floor_s
from suffice.throughput.measure import (
    Measurement,
    MeasurePlan,
    begin_run,
    paired_ratios,
    summarise,
)
from suffice.throughput.records import (
    FailureRecord,
    MeasureRun,
    ResultFile,
    TimedSample,
    read_records,
    read_samples,
)

LENGTHS = Lengths(input_tokens=100, output_tokens=11)
CEILINGS = Ceilings(copy_bytes_per_s=1e10, matmul_flops_per_s=1e12, dtype="bf16")


def shape(width: int, kv: int = 2) -> Shape:
    return Shape(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2,
        num_attention_heads=8, num_key_value_heads=kv, head_dim=16, vocab_size=100,
        name=f"w{width}",
    )  # fmt: skip


A, B = shape(64), shape(128)


class ScriptedEngine:
    """Takes width / 1e6 seconds a step; together no more than `room` shapes fit."""

    name: EngineName = "torch"
    method: Method = "full"
    clock = "wall"

    def __init__(self, *, room: int = 9, largest_batch: int = 64) -> None:
        self.room, self.largest_batch = room, largest_batch
        self.asked: list[tuple[str, int]] = []
        self.prefills: list[bool] = []
        self.broken: set[str] = set()
        self.unloadable: set[str] = set()
        self.slower = 1.0

    def environment(self) -> Environment:
        return Environment(
            engine="torch", engine_version="1", device="box", driver=None, software={}
        )

    def ceilings(self) -> Ceilings:
        return CEILINGS

    @contextlib.contextmanager
    def open(
        self, shapes: Sequence[Shape], lengths: Lengths, batches: Sequence[int]
    ) -> Iterator[list[Session]]:
        if len(shapes) > self.room:
            raise DoesNotFit(f"{len(shapes)} shapes do not fit together")
        if any(shape.name in self.unloadable for shape in shapes):
            raise MeasurementError("an assertion of the engine")
        yield [ScriptedSession(self, shape) for shape in shapes]


class ScriptedSession:
    def __init__(self, engine: ScriptedEngine, shape: Shape) -> None:
        self.engine, self.shape = engine, shape

    def prepare(self, batch: int) -> Footprint:
        if batch > self.engine.largest_batch:
            raise DoesNotFit(f"batch {batch} is too much; batch {self.engine.largest_batch} fits")
        return Footprint(weight_bytes=10, kv_cache_bytes=batch, workspace_bytes=1)

    def measure(self, batch: int, *, prefill: bool) -> Timing:
        name = str(self.shape.name)
        self.engine.asked.append((name, batch))
        self.engine.prefills.append(prefill)
        if name in self.engine.broken:
            raise MeasurementError("it broke\nbadly")
        self.engine.slower *= 1.1  # a machine that slows down all the time
        step = self.shape.hidden_size / 1e6 * self.engine.slower
        return Timing(ttft_s=step if prefill else None, decode_s=10 * step, method="full")

    def describe(self, batch: int) -> dict[str, str]:
        return {"kernel": "scripted"}


def measure(
    engine: ScriptedEngine, path: Path, *, repeats: int = 3, batches: tuple[int, ...] = (1, 4),
    prefill_repeats: int | None = None, shapes: tuple[Shape, ...] = (A, B),
) -> list[TimedSample]:  # fmt: skip
    results = ResultFile(path)
    run, environment, _ = begin_run(engine, results, command="test")
    held = read_samples(path)
    measurement = Measurement(engine, results, run=run, environment=environment, held=held)
    return measurement.carry_out(
        MeasurePlan(
            shapes=shapes, lengths=LENGTHS, batches=batches, repeats=repeats,
            prefill_repeats=prefill_repeats,
        )
    )  # fmt: skip


def test_shapes_take_turns_and_samples_are_on_disk(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    samples = measure(engine, tmp_path / "r.jsonl", prefill_repeats=1)
    turns = [("w64", 1), ("w128", 1)] * 3 + [("w64", 4), ("w128", 4)] * 3
    assert engine.asked == turns
    assert engine.prefills == [True, True, False, False, False, False] * 2
    assert read_samples(tmp_path / "r.jsonl") == sorted(
        samples, key=lambda s: (s.batch, s.repeat, s.name == "w128")
    )
    run = read_records(tmp_path / "r.jsonl")[0]
    assert isinstance(run, MeasureRun)
    assert run.copy_bytes_per_s == 1e10
    assert {sample.interleaved for sample in samples} == {2}
    assert samples[0].kernels == {"kernel": "scripted"}


def test_a_ratio_compares_neighbours_so_that_drift_does_not_matter(tmp_path: Path) -> None:
    samples = measure(ScriptedEngine(), tmp_path / "r.jsonl", batches=(1,), repeats=5)
    medians = {s.shape.name: s.decode_tokens_per_s.median for s in summarise(samples, None)}
    ratio = paired_ratios(samples, A, B, 1)
    assert ratio is not None
    # B comes 1.1 times later in every turn, and takes 2 times as long.
    assert ratio.median == pytest.approx(2.2)
    assert ratio.relative == pytest.approx(0, abs=1e-9)
    assert medians["w64"] / medians["w128"] == pytest.approx(2.2)
    assert paired_ratios(samples, A, shape(256), 1) is None


def test_an_interrupted_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    measure(ScriptedEngine(), path)
    lines = path.read_text().splitlines(keepends=True)
    # Five samples were taken; the sixth was being written.
    path.write_text("".join(lines[:6]) + lines[6][:40])
    engine = ScriptedEngine()
    samples = measure(engine, path)
    assert engine.asked == [("w128", 1)] + [("w64", 4), ("w128", 4)] * 3
    assert len(samples) == 12
    assert len(read_samples(path)) == 12
    idle = ScriptedEngine()
    assert len(measure(idle, path)) == 12
    assert idle.asked == []


def test_another_workload_is_not_taken_for_the_same(tmp_path: Path) -> None:
    measure(ScriptedEngine(), tmp_path / "r.jsonl", batches=(1,), repeats=1)
    processor = ScriptedEngine()
    processor.clock = "cpu"
    assert len(measure(processor, tmp_path / "r.jsonl", batches=(1,), repeats=1)) == 2
    assert len(processor.asked) == 2


def test_shapes_that_do_not_fit_together_are_measured_alone(tmp_path: Path) -> None:
    engine = ScriptedEngine(room=1)
    samples = measure(engine, tmp_path / "r.jsonl", batches=(1,), repeats=2)
    assert engine.asked == [("w64", 1)] * 2 + [("w128", 1)] * 2
    assert {sample.interleaved for sample in samples} == {1}


def test_what_does_not_fit_or_breaks_is_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    engine = ScriptedEngine(largest_batch=4)
    engine.broken = {"w128"}
    samples = measure(engine, tmp_path / "r.jsonl", batches=(4, 8), repeats=1)
    assert [(s.name, s.batch) for s in samples] == [("w64", 4)]
    failures = [r for r in read_records(tmp_path / "r.jsonl") if isinstance(r, FailureRecord)]
    assert {(f.name, f.batch, f.error, f.message) for f in failures} == {
        ("w128", 4, "MeasurementError", "it broke badly"),
        ("w64", 8, "DoesNotFit", "batch 8 is too much; batch 4 fits"),
        ("w128", 8, "DoesNotFit", "batch 8 is too much; batch 4 fits"),
    }


def test_summary_states_the_floor_share_and_leaves_the_first_token_out(tmp_path: Path) -> None:
    samples = measure(ScriptedEngine(), tmp_path / "r.jsonl", batches=(4,), repeats=1)
    (summary, _) = summarise(samples, CEILINGS)
    step = 64e-6 * 1.1
    assert summary.tpot_s.median == pytest.approx(step)
    assert summary.decode_tokens_per_s.median == pytest.approx(4 / step)
    assert summary.memory_bytes == 10 + 4 + 1
    floor = decode_floor_s(A, 4, LENGTHS, CEILINGS)
    assert summary.decode_share_of_floor == pytest.approx(floor / step)
    # 2 layers of (4 + 2·12) matrices of 64·128 at 64·(128·2 + 32·2) + 3·64·256, head 64·100; KV of
    # 4 sequences at a mean of 105.5 entries.
    weights = 2 * (64 * (128 * 2 + 32 * 2) + 3 * 64 * 256) + 6400
    cache = 4 * 105.5 * (2 * 2 * 2 * 16)
    assert floor == pytest.approx(2 * (weights + cache) / 1e10)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"record": "sample", "name": 1}\n')
    with pytest.raises(TableError, match="line 1"):
        read_samples(path)


def test_a_shape_that_cannot_be_loaded_does_not_stop_the_others(tmp_path: Path) -> None:
    engine, path = ScriptedEngine(), tmp_path / "r.jsonl"
    engine.unloadable = {"w64"}
    samples = measure(engine, path, batches=(1,), repeats=2)
    assert [sample.name for sample in samples] == ["w128", "w128"]
    failures = [record for record in read_records(path) if isinstance(record, FailureRecord)]
    assert [(failure.name, failure.message) for failure in failures] == [
        ("w64", "an assertion of the engine")
    ]


def test_all_shapes_unloadable_is_recorded_for_each(tmp_path: Path) -> None:
    engine, path = ScriptedEngine(), tmp_path / "r.jsonl"
    engine.unloadable = {"w64", "w128"}
    assert measure(engine, path, batches=(1,), repeats=1) == []
    failures = [record for record in read_records(path) if isinstance(record, FailureRecord)]
    assert {failure.name for failure in failures} == {"w64", "w128"}
