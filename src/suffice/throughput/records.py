"""Measurements on disk: one JSON object per line, appended as each is taken.

    {"record": "run", ...}      where, when and with what; the ceilings; the command
    {"record": "sample", ...}   one repeat of one shape at one batch size
    {"record": "failure", ...}  a shape and batch size that could not be measured, and why

A file may hold several runs. Plain dataclasses rather than pydantic, so that a machine with nothing
but torch can measure; unknown and missing fields are refused all the same.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from suffice.architecture.hf_config import config_from_shape, shape_from_config
from suffice.architecture.shape import Shape
from suffice.core.errors import TableError

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRun:
    """One invocation. `ceilings` is None where the engine cannot measure the device."""

    run: str
    started_at: str
    command: str
    suffice_version: str
    commit: str | None
    engine: str
    engine_version: str
    device: str
    driver: str | None
    software: Mapping[str, str]
    copy_bytes_per_s: float | None
    matmul_flops_per_s: float | None
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedSample:
    """One repeat of one shape at one batch size; seconds as `protocol.Timing` defines them.

    `interleaved` is the number of shapes that were measured in turn within the repeat. `clock` is
    "wall", or "cpu" for processor time of a single thread.
    """

    run: str
    name: str
    config: Mapping[str, Any]
    engine: str
    device: str
    dtype: str
    input_tokens: int
    output_tokens: int
    batch: int
    repeat: int
    interleaved: int
    method: str
    ttft_s: float | None
    decode_s: float
    contexts: list[int] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    weight_bytes: int | None = None
    kv_cache_bytes: int | None = None
    workspace_bytes: int | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    clock: str = "wall"

    @property
    def shape(self) -> Shape:
        """The shape that was measured."""
        return shape_from_config(self.config, name=self.name)

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens per second of the whole batch after the first tokens."""
        return self.batch * (self.output_tokens - 1) / self.decode_s

    @property
    def tpot_s(self) -> float:
        """Seconds per token of one sequence, the first token left out."""
        return self.decode_s / (self.output_tokens - 1)

    @property
    def identity(self) -> tuple[str, ...]:
        """What a resumed run matches: the same measurement on the same device."""
        return sample_identity(
            shape=self.shape, engine=self.engine, device=self.device, dtype=self.dtype,
            input_tokens=self.input_tokens, output_tokens=self.output_tokens, method=self.method,
            batch=self.batch, repeat=self.repeat, clock=self.clock,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord:
    """A shape and batch size that could not be measured."""

    run: str
    name: str
    config: Mapping[str, Any]
    engine: str
    device: str
    batch: int
    error: str
    message: str


Statistic = Literal["least", "median"]


def step_s(samples: Sequence[TimedSample], statistic: Statistic) -> float:
    """Seconds of a decode step over repeats of one point.

    "median" of the repeats, each by the median of its steps where all were timed: an interruption
    is one step. "least" is the least disturbed step of all, for machines that others use.
    """
    if statistic == "least":
        return min(min(s.step_s) if _timed_steps(s) else s.tpot_s for s in samples)
    return statistics.median(
        statistics.median(s.step_s) if _timed_steps(s) else s.tpot_s for s in samples
    )


def _timed_steps(sample: TimedSample) -> bool:
    return sample.method == "full" and len(sample.step_s) == sample.output_tokens - 1


Record = MeasureRun | TimedSample | FailureRecord
_KINDS: dict[str, type[MeasureRun] | type[TimedSample] | type[FailureRecord]] = {
    "run": MeasureRun,
    "sample": TimedSample,
    "failure": FailureRecord,
}
R = TypeVar("R", MeasureRun, TimedSample, FailureRecord)


def sample_identity(
    *,
    shape: Shape,
    engine: str,
    device: str,
    dtype: str,
    input_tokens: int,
    output_tokens: int,
    method: str,
    batch: int,
    repeat: int,
    clock: str = "wall",
) -> tuple[str, ...]:
    """Key of one sample: engine, device, workload, method, dimensions, batch size and repeat."""
    parts = (
        engine, device, dtype, input_tokens, output_tokens, method, clock, *dimensions(shape),
        batch, repeat,
    )  # fmt: skip
    return tuple(map(str, parts))


def dimensions(shape: Shape) -> tuple[int, ...]:
    """What a measurement of `shape` depends on.

    Two shapes may be one here and differ in `model_type`: transformers only writes a Llama whose
    heads do not divide its hidden size as a Mistral.
    """
    return (
        shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers,
        shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim, shape.vocab_size,
        int(shape.tie_word_embeddings), int(shape.qk_norm != "none"),
    )  # fmt: skip


def shape_config(shape: Shape) -> dict[str, Any]:
    """Config that rebuilds the shape, without the keys that no engine reads."""
    keep = ("rope_theta", "rms_norm_eps", "hidden_act")
    config = config_from_shape(shape)
    unread = {key for key in shape.config if key not in keep and key not in shape_fields()}
    return {key: value for key, value in config.items() if key not in unread}


def shape_fields() -> frozenset[str]:
    """Names of a shape's own fields."""
    return frozenset(f.name for f in fields(Shape))


class ResultFile:
    """Appends records; a line is written at once and flushed, so an interruption loses one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)

    def append(self, record: Record) -> None:
        """Write one line."""
        kind = next(name for name, cls in _KINDS.items() if isinstance(record, cls))
        line = json.dumps({"record": kind, **asdict(record)}, allow_nan=False)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def read_records(path: Path) -> list[Record]:
    """All records of a file; raises TableError that names the line."""
    return list(_records(path))


def read_samples(path: Path) -> list[TimedSample]:
    """The samples of a file."""
    return [record for record in _records(path) if isinstance(record, TimedSample)]


def _records(path: Path) -> Iterator[Record]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise TableError(f"results {str(path)!r} do not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"results {str(path)!r} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            kind = _KINDS[value.pop("record")]
            yield kind(**value)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise TableError(
                f"{path}, line {number}: not a measurement ({error}); such files are written by "
                "`suffice measure --out`"
            ) from None


def _drop_torn_line(path: Path) -> None:
    """Cut an unfinished last line that an interruption may have left."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
