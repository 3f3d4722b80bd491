"""Measured serving points: what they say, and which of them say enough."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from silicon_split import Side, side_of

from suffice.architecture.catalog import load_model, served
from suffice.architecture.model import Model
from suffice.architecture.weight_format import WIDE, Storage, WeightFormat, uniform_format
from suffice.core.errors import TableError
from suffice.hardware import load_hardware
from suffice.throughput.model_work import Precision, precision_of
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

FILES = ("dense_rows.csv", "sparse_rows.csv")
FULL_LOAD = "full_load.csv"
# Those runs leave the cache 95 % of what is free; the engine's limit of sequences per replica.
FULL_MEMORY_FRACTION = 0.95
MOST_SEQUENCES = 4096
# InferenceX draws both lengths uniformly from .8 to 1 of the nominal ones.
INFERENCEX_LENGTH_SHARE = 0.9
# Concurrency is not that of one replica in these sources: see data/silicon/README.md.
UNUSABLE_SOURCES = ("tuned", "dynamo")
# The records give no limit of memory. Where weights take most of it, whoever served the model
# raised the engine's default until it ran.
SPARSE_MEMORY_FRACTION = 0.95
# A time to first token this much above that at twice the concurrency is a start, not a load.
STARTUP = 1.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured serving point, as in `data/silicon/*.csv`."""

    model: str
    hardware: str
    engine: str
    engine_version: str
    weight_dtype: str
    kv_dtype: str
    tensor_parallel: int
    input_tokens: int
    output_tokens: int
    concurrency: int
    source: str
    ttft_s: float
    tpot_s: float
    attention_data_parallel: int = 1
    expert_parallel: int = 1
    aiconfigurator_ttft_s: float | None = None
    aiconfigurator_tpot_s: float | None = None

    @property
    def usable(self) -> bool:
        """Whether the record says what was timed: see data/silicon/README.md.

        Its concurrency must be that of the replica. Where the model has experts, the engine's
        version must be named, it must not speculate unsaid, and not be queued for more than half of
        its time by a limit that the record does not give.
        """
        return self.source not in UNUSABLE_SOURCES and (self.dense or self._says_enough)

    @property
    def _says_enough(self) -> bool:
        return (
            bool(self.engine_version or self.source == "sweep")
            and not self._speculates
            and self.ttft_s < self.output_tokens * self.tpot_s
        )

    @property
    def _speculates(self) -> bool:
        return (
            self.model == "Qwen/Qwen3.5-397B-A17B"
            and self.engine_version == "0.5.9"
            and (self.weight_dtype, self.tensor_parallel, self.expert_parallel) == ("fp8", 4, 1)
        )

    @property
    def released(self) -> bool:
        """Whether a released engine ran it: builds named "nightly" or after a model are none."""
        return not self.engine_version or self.engine_version[0].isdigit()

    @property
    def one_wave(self) -> bool:
        """Whether the benchmark sent all requests at once."""
        return self.engine == "sglang" and self.model == "Qwen/Qwen3-32B"

    @property
    def in_step(self) -> bool:
        """Whether its requests stayed together: sweeps of TensorRT-LLM, all of one length.

        At 8 in flight their times to first token are four prompts' on the fitted side, which is the
        mean wait in a group of 8. Sweeps of the other engines show none of it.
        """
        return self.source == "sweep" and self.engine == "trtllm"

    @property
    def dense(self) -> bool:
        """Whether the model has no experts."""
        return self.model not in served()

    @property
    def partly(self) -> bool:
        """Whether the quantiser treated experts and attention apart."""
        return not self.dense

    @property
    def sweep(self) -> tuple[object, ...]:
        """All that the points of one curve over concurrency have in common."""
        return (
            self.engine, self.engine_version, self.weight_dtype, self.tensor_parallel,
            self.attention_data_parallel, self.expert_parallel, self.input_tokens,
            self.output_tokens, self.source,
        )  # fmt: skip

    @property
    def side(self) -> Side:
        """Whether constants may be fitted to it."""
        return side_of(self.model, self.hardware, self.sweep)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullLoad:
    """One offline run with all requests sent at once, as in `data/silicon/full_load.csv`."""

    model: str
    hardware: str
    engine: str
    engine_version: str
    weight_dtype: str
    kv_dtype: str
    tensor_parallel: int
    attention_data_parallel: int
    input_tokens: int
    output_tokens: int
    requests: int
    output_tokens_per_s: float

    @property
    def partly(self) -> bool:
        """Whether the quantiser treated experts and attention apart."""
        return self.weight_dtype == "mxfp4" or self.model.startswith("deepseek-ai/")

    @property
    def sweep(self) -> tuple[object, ...]:
        """All that the points of one column of the tables have in common."""
        return (
            self.engine, self.engine_version, self.weight_dtype, self.tensor_parallel,
            self.attention_data_parallel,
        )  # fmt: skip

    @property
    def side(self) -> Side:
        """Whether constants may be fitted to it."""
        return side_of(self.model, self.hardware, self.sweep)

    @property
    def serving(self) -> Serving:
        """How it was served."""
        choices: dict[str, Any] = {"kv_dtype": self.kv_dtype, "engine": self.engine}
        return Serving(
            hardware=load_hardware(self.hardware),
            tensor_parallel=self.tensor_parallel,
            data_parallel=self.attention_data_parallel,
            expert_parallel=self.attention_data_parallel > 1,
            memory_fraction=FULL_MEMORY_FRACTION,
            max_batch=min(MOST_SEQUENCES * self.attention_data_parallel, self.requests),
            **choices,
        )


def full_loads() -> tuple[FullLoad, ...]:
    """The shipped offline runs."""
    source = files("suffice.throughput").joinpath(f"data/silicon/{FULL_LOAD}")
    kinds = {field.name: field.type for field in fields(FullLoad)}
    cast: dict[str, Any] = {"int": int, "float": float, "str": str}
    return tuple(
        FullLoad(**{name: cast[str(kinds[name])](text) for name, text in row.items()})
        for row in csv.DictReader(source.read_text(encoding="utf-8").splitlines())
    )


_OPTIONAL = ("attention_data_parallel", "expert_parallel", "aiconfigurator_ttft_s",
             "aiconfigurator_tpot_s")  # fmt: skip


def silicon_points(path: Path | None = None) -> tuple[Point, ...]:
    """The shipped points, or those of a CSV with the same columns."""
    folder = files("suffice.throughput").joinpath("data/silicon")
    sources = [folder.joinpath(name) for name in FILES] if path is None else [path]
    return tuple(
        _point(row, number)
        for source in sources
        for number, row in enumerate(
            csv.DictReader(source.read_text(encoding="utf-8").splitlines()), 2
        )
    )


def _point(row: Mapping[str, str], line: int) -> Point:
    values: dict[str, Any] = {}
    for field in fields(Point):
        text = row.get(field.name)
        if text is None and field.name in _OPTIONAL:
            continue
        if text is None:
            raise TableError(f"serving points: line {line} has no column {field.name!r}")
        try:
            if field.type == "int":
                values[field.name] = int(text)
            elif field.type == "float":
                values[field.name] = float(text)
            elif field.type == "float | None":
                values[field.name] = float(text) if text else None
            else:
                values[field.name] = text
        except ValueError:
            raise TableError(
                f"serving points: line {line}, {field.name}: {text!r} is not a number"
            ) from None
    return Point(**values)


@cache
def _load(name: str) -> Model:
    return load_model(name)


BLOCKS = Storage("fp8", group=128)
# Quantisers of these checkpoints leave attention and shared experts at 16 bits.
_EXPERTS_ALONE = {
    "fp4": replace(uniform_format("fp4"), attention=WIDE),
    "fp8": WeightFormat(attention=BLOCKS, mlp=BLOCKS, experts=BLOCKS),
    "int4": WeightFormat(experts=Storage("int4", group=32, widened=True, scale_bytes=2.0)),
    "mxfp4": WeightFormat(experts=Storage("mxfp4")),
}


def model_of(point: Point | FullLoad) -> Model:
    """The model in the formats that were served."""
    model = _load(point.model)
    formats = uniform_format(point.weight_dtype)
    if point.partly:
        formats = _EXPERTS_ALONE.get(point.weight_dtype, formats)
    return replace(model, weights=formats)


def expert_precision(point: Point | FullLoad) -> Precision:
    """What its experts are multiplied in."""
    return precision_of(model_of(point).weights.experts, load_hardware(point.hardware))


def serving_of(point: Point) -> Serving:
    """How it was served."""
    choices: dict[str, Any] = {"kv_dtype": point.kv_dtype, "engine": point.engine}
    return Serving(
        hardware=load_hardware(point.hardware),
        tensor_parallel=point.tensor_parallel,
        data_parallel=point.attention_data_parallel,
        expert_parallel=point.expert_parallel > 1,
        memory_fraction=0.9 if point.dense else SPARSE_MEMORY_FRACTION,
        max_batch=4096,
        **choices,
    )


def workload_of(point: Point) -> Workload:
    """What was asked of it."""
    share = INFERENCEX_LENGTH_SHARE if point.source == "inferencex" else 1.0
    return Workload.single(
        int(share * point.input_tokens),
        int(share * point.output_tokens),
        at_once=point.one_wave,
        in_step=point.in_step,
    )


def steady_ttft(points: Sequence[Point]) -> NDArray[np.bool_]:
    """Which points' times to first token are of a running server.

    Where few requests are sent, the first ones' stall (compilation, allocation) is most of the
    mean: it then falls with concurrency, as no load does. Such times are left out of every sum.
    """
    sweeps: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, point in enumerate(points):
        sweeps[point.model, point.hardware, *point.sweep].append(i)
    steady = np.ones(len(points), dtype=bool)
    for members in sweeps.values():
        for i in members:
            later = [
                points[j].ttft_s
                for j in members
                if points[j].concurrency >= 2 * points[i].concurrency
            ]
            steady[i] = not later or points[i].ttft_s <= STARTUP * min(later)
    return steady


def by_model_and_hardware(point: Point) -> str:
    """Group of a point: its model on its machine."""
    return f"{point.model.rsplit('/', 1)[1]} on {point.hardware}"
