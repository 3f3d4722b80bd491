"""Fit utilisation coefficients to measured serving points, and hold points out to check them.

The fit minimises a robust sum of squared log errors of TPOT and (at lower weight) TTFT, plus a
pull of each log coefficient towards a prior value. Serving points cannot tell some coefficients
apart (a fixed cost per layer from a lower bandwidth; KV bandwidth from a cost per sequence); the
prior decides those.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from suffice.architecture.catalog import load_shape
from suffice.core.errors import TableError
from suffice.hardware import load_hardware
from suffice.throughput.analytic import scenario
from suffice.throughput.formulas import (
    FloatArray,
    Rows,
    Scenario,
    capacity,
    decode_step,
    device_share,
    prefill,
    steady_state,
)
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

TTFT_WEIGHT = 0.35
PRIOR_WEIGHT = 0.6
ROBUST_SCALE = 0.1
# InferenceX draws both lengths uniformly from .8 to 1 of the nominal ones.
INFERENCEX_LENGTH_SHARE = 0.9
# Concurrency is not that of one replica in these sources: see data/silicon/README.md.
UNUSABLE_SOURCES = ("tuned", "dynamo")
ENGINES = ("vllm", "sglang", "trtllm")


class Prior(NamedTuple):
    """A coefficient's prior: value, bounds, and standard deviation of its logarithm."""

    value: float
    lowest: float
    highest: float
    deviation: float


DEVICE_PRIORS: Mapping[str, Prior] = {
    "gemm": Prior(0.65, 0.2, 0.95, 0.3),
    "gemm_8bit": Prior(0.6, 0.2, 0.95, 0.3),
    "gemm_4bit": Prior(0.5, 0.1, 0.95, 0.3),
    "weight_bandwidth": Prior(0.85, 0.4, 0.95, 0.1),
    "kv_bandwidth": Prior(0.8, 0.2, 0.95, 0.05),
    "attention": Prior(0.5, 0.1, 0.9, 0.3),
    "interconnect": Prior(0.6, 0.1, 0.95, 0.3),
    "overlap": Prior(0.2, 0.01, 1.0, 0.7),
    "layer_s": Prior(30e-6, 0.5e-6, 200e-6, 0.5),
    "layer_token_s": Prior(1e-7, 1e-9, 5e-6, 0.4),
    "all_reduce_s": Prior(6e-6, 1e-6, 60e-6, 0.5),
}
BURST_PRIOR = Prior(0.07, 0.005, 0.6, 1.0)
ENGINE_PRIORS: Mapping[str, Prior] = {
    "step_s": Prior(3e-4, 2e-5, 10e-3, 0.5),
    "first_s": Prior(0.03, 0.001, 0.3, 0.5),
    "arrival_s": Prior(3e-4, 1e-6, 5e-3, 1.0),
}
# One sweep (Qwen3-32B under SGLang) sends all its requests at once: its TTFT is half the batch's
# prefill at every point. While it is in a fit it gets a burst share of its own; a prediction never
# uses that share.
ONE_WAVE_PRIOR = Prior(0.5, 0.1, 0.9, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured serving point, as in `data/silicon/dense_rows.csv`."""

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
    aiconfigurator_ttft_s: float | None
    aiconfigurator_tpot_s: float | None

    @property
    def usable(self) -> bool:
        """Whether the recorded concurrency is that of the replica which was timed."""
        return self.source not in UNUSABLE_SOURCES

    @property
    def one_wave(self) -> bool:
        """Whether the benchmark sent all requests at once."""
        return self.engine == "sglang" and self.model == "Qwen/Qwen3-32B"


def silicon_points(path: Path | None = None) -> tuple[Point, ...]:
    """The shipped points, or those of a CSV with the same columns."""
    shipped = files("suffice.throughput").joinpath("data/silicon/dense_rows.csv")
    text = (shipped if path is None else path).read_text(encoding="utf-8")
    return tuple(
        _point(row, number) for number, row in enumerate(csv.DictReader(text.splitlines()), 2)
    )


def _point(row: Mapping[str, str], line: int) -> Point:
    values: dict[str, Any] = {}
    for field in fields(Point):
        text = row.get(field.name)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Points in the form that the formulas take: one row of every field per point."""

    points: tuple[Point, ...]
    rows: Rows
    scenario: Scenario
    ttft_s: FloatArray
    tpot_s: FloatArray

    @classmethod
    def of(cls, points: Sequence[Point]) -> Table:
        """Stack the scenarios of `points`."""
        shapes = [load_shape(point.model) for point in points]
        columns = [[float(getattr(shape, name)) for shape in shapes] for name in Rows._fields]
        scenarios = [
            scenario(shape, _serving(point), _workload(point), point.concurrency)
            for shape, point in zip(shapes, points, strict=True)
        ]
        stacked: dict[str, Any] = {
            f.name: np.array([float(getattr(s, f.name)) for s in scenarios])
            for f in fields(Scenario)
            if f.name not in ("has_sliding", "tiles")
        }
        return cls(
            points=tuple(points),
            rows=Rows(*(np.array(column) for column in columns)),
            scenario=Scenario(**stacked, has_sliding=False),
            ttft_s=np.array([point.ttft_s for point in points]),
            tpot_s=np.array([point.tpot_s for point in points]),
        )

    def select(self, chosen: NDArray[np.bool_]) -> Table:
        """The points where `chosen` is true."""
        parts: dict[str, Any] = {
            f.name: getattr(self.scenario, f.name)[chosen]
            for f in fields(Scenario)
            if f.name not in ("has_sliding", "tiles")
        }
        return Table(
            points=tuple(p for p, keep in zip(self.points, chosen, strict=True) if keep),
            rows=Rows(*(column[chosen] for column in self.rows)),
            scenario=Scenario(**parts, has_sliding=False),
            ttft_s=self.ttft_s[chosen],
            tpot_s=self.tpot_s[chosen],
        )


def _serving(point: Point) -> Serving:
    choices: dict[str, Any] = {
        "weight_dtype": point.weight_dtype,
        "kv_dtype": point.kv_dtype,
        "engine": point.engine,
    }
    return Serving(
        hardware=load_hardware(point.hardware),
        tensor_parallel=point.tensor_parallel,
        max_batch=1024,
        **choices,
    )


def _workload(point: Point) -> Workload:
    share = INFERENCEX_LENGTH_SHARE if point.source == "inferencex" else 1.0
    return Workload.single(int(share * point.input_tokens), int(share * point.output_tokens))


class Predicted(NamedTuple):
    """Predicted times of a table's points, in seconds."""

    ttft_s: FloatArray
    tpot_s: FloatArray


def predict_points(
    table: Table, coefficients: Mapping[str, float] | None = None, *, fitting: bool = False
) -> Predicted:
    """Predictions for measured points, with shipped coefficients or those of a fit."""
    s = table.scenario if coefficients is None else _with(table, coefficients, fitting)
    device = device_share(table.rows, s)
    room = capacity(table.rows, device, s)
    step = decode_step(table.rows, device, room.batch, s)
    once = prefill(table.rows, device, step, s)
    with np.errstate(divide="ignore", invalid="ignore"):
        steady = steady_state(room, step, once, s)
    return Predicted(steady.ttft_s, steady.tpot_s)


def _with(table: Table, coefficients: Mapping[str, float], fitting: bool) -> Scenario:
    dtypes = np.array([point.weight_dtype for point in table.points])
    engines = np.array([point.engine for point in table.points])
    changed: dict[str, Any] = {
        name: coefficients[name] for name in DEVICE_PRIORS if not name.startswith("gemm_")
    }
    changed["gemm"] = np.select(
        [dtypes == "fp8", dtypes == "fp4"],
        [coefficients["gemm_8bit"], coefficients["gemm_4bit"]],
        coefficients["gemm"],
    )
    for name in ENGINE_PRIORS:
        values = [coefficients[f"{engine}.{name}"] for engine in ENGINES]
        changed[name] = np.select([engines == engine for engine in ENGINES], values)
    changed["burst"] = coefficients["burst"]
    if fitting:
        one_wave = np.array([point.one_wave for point in table.points])
        changed["burst"] = np.where(one_wave, coefficients["one_wave"], coefficients["burst"])
    return replace(table.scenario, **changed)


def priors() -> dict[str, Prior]:
    """Every coefficient of a fit, by name; engines' are prefixed with the engine."""
    engines = {
        f"{engine}.{name}": prior for engine in ENGINES for name, prior in ENGINE_PRIORS.items()
    }
    return {**DEVICE_PRIORS, "burst": BURST_PRIOR, "one_wave": ONE_WAVE_PRIOR, **engines}


def fit(table: Table) -> dict[str, float]:
    """Coefficients fitted to `table`, by name."""
    known = priors()
    start = np.log([prior.value for prior in known.values()])
    deviation = np.array([prior.deviation for prior in known.values()])

    def residuals(logs: FloatArray) -> FloatArray:
        named = dict(zip(known, np.exp(logs).tolist(), strict=True))
        predicted = predict_points(table, named, fitting=True)
        errors = (
            np.log(predicted.tpot_s / table.tpot_s),
            TTFT_WEIGHT * np.log(predicted.ttft_s / table.ttft_s),
            PRIOR_WEIGHT * (logs - start) / deviation,
        )
        return np.concatenate(errors)

    solution = least_squares(
        residuals,
        start,
        bounds=(
            np.log([prior.lowest for prior in known.values()]),
            np.log([prior.highest for prior in known.values()]),
        ),
        loss="soft_l1",
        f_scale=ROBUST_SCALE,
        max_nfev=60,
    )
    return dict(zip(known, np.exp(solution.x).tolist(), strict=True))


def held_out(table: Table, key: Callable[[Point], str]) -> Predicted:
    """Predictions for each group of points from a fit to the usable points of all other groups."""
    groups = np.array([key(point) for point in table.points])
    usable = np.array([point.usable for point in table.points])
    ttft_s, tpot_s = np.empty(len(groups)), np.empty(len(groups))
    for group in sorted(set(groups.tolist())):
        inside = groups == group
        coefficients = fit(table.select(usable & ~inside))
        predicted = predict_points(table.select(inside), coefficients)
        ttft_s[inside], tpot_s[inside] = predicted.ttft_s, predicted.tpot_s
    return Predicted(ttft_s, tpot_s)


def by_hardware(point: Point) -> str:
    """Group of a point when whole devices are held out."""
    return point.hardware


def by_model_and_hardware(point: Point) -> str:
    """Group of a point when pairs of model and device are held out."""
    return f"{point.model.rsplit('/', 1)[1]} on {point.hardware}"


def absolute_errors(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """|predicted / measured - 1|, per point."""
    errors: FloatArray = np.abs(predicted / measured - 1.0)
    return errors
