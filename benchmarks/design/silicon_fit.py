"""Fit utilisation coefficients to measured serving points, and hold points out to check them.

The fit minimises a robust sum of squared log errors of TPOT and throughput and (at lower weight) of
squared relative errors of TTFT, plus a pull of each log coefficient towards a prior value. Serving points cannot tell some coefficients
apart (a fixed cost per layer from a lower bandwidth; KV bandwidth from a cost per sequence); the
prior decides those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from silicon import (
    FullLoad,
    Point,
    expert_precision,
    model_of,
    serving_of,
    steady_ttft,
    workload_of,
)

from suffice.core.arrays import FloatArray
from suffice.hardware import load_hardware
from suffice.throughput.analytic import BURST_AT_ONCE, device_of, scenario
from suffice.throughput.formulas import (
    Capacity,
    Scenario,
    capacity,
    decode_step,
    prefill,
    steady_state,
)
from suffice.throughput.model_work import PRECISIONS
from suffice.throughput.priors import (
    DEVICE_PRIORS,
    Predicted,
    Prior,
    selected_scenario,
    softened,
    stacked_scenarios,
)
from suffice.throughput.stacked_work import selected, stacked
from suffice.throughput.work import Device
from suffice.throughput.workload import Workload

TTFT_WEIGHT = 0.6
FULL_WEIGHT = 1.0
PRIOR_WEIGHT = 0.25

# Of the factors of a measured model, machine and engine: deviations of their logarithms.
PAIR_DEVIATIONS = (0.15, 0.15, 0.2)

ENGINES = ("vllm", "sglang", "trtllm")
# Constants of TensorRT-LLM alone: sweeps whose requests stayed together, and prompts that wait for
# those of the other attention replicas.
OF_TRTLLM = ("lockstep", "balance_steps")
GENERATIONS = ("hopper", "blackwell")


# Coefficients that each generation has of its own.
GEMMS = ("gemm", "gemm_8bit", "gemm_8bit_block", "gemm_4bit")
OWN = (*GEMMS, "layer_s", "expert_layer_s")
ENGINE_PRIORS: Mapping[str, Prior] = {
    "step_s": Prior(3e-4, 2e-5, 10e-3, 0.5),
    "launch": Prior(1.0, 0.3, 3.0, 0.2),
    "eager_layer_s": Prior(3e-4, 1e-5, 6e-3, 0.3),
    "eager_expert_s": Prior(5e-4, 1e-5, 6e-3, 0.7),
    "eager_latent_s": Prior(5e-4, 1e-5, 6e-3, 0.7),
    "eager_recurrent_s": Prior(5e-4, 1e-5, 2e-2, 0.7),
    "mixed": Prior(0.3, 0.01, 1.0, 0.7),
    "burst": Prior(0.05, 0.005, 0.6, 0.5),
    "crowd": Prior(0.5, 0.01, 5.0, 1.0),
    "eager_share": Prior(0.2, 1e-3, 2.0, 0.7),
    "balance_steps": Prior(10.0, 0.1, 200.0, 1.0),
    "lockstep": Prior(3.0, 0.05, 30.0, 0.5),
    "first_s": Prior(0.015, 0.001, 0.3, 0.5),
    "arrival_s": Prior(3e-4, 1e-6, 5e-3, 0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Points in the form that the formulas take: one row of every field per point."""

    points: tuple[Point, ...]
    device: Device
    scenario: Scenario
    ttft_s: FloatArray
    tpot_s: FloatArray
    steady: NDArray[np.bool_]  # whether the time to first token is of a running server
    codes: Mapping[str, NDArray[np.intp]]  # generation, engine, one wave, bits of experts

    @classmethod
    def of(cls, points: Sequence[Point]) -> Table:
        """Stack the scenarios of `points`."""
        scenarios, devices = [], []
        for point in points:
            model, serving, workload = model_of(point), serving_of(point), workload_of(point)
            scenarios.append(scenario(serving, workload, point.concurrency))
            devices.append(device_of(model, serving, workload))
        codes = _codes(points)
        codes["in_step"] = np.array([int(point.in_step) for point in points])
        codes["one_wave"] = np.array([int(point.one_wave) for point in points])
        return cls(
            points=tuple(points),
            device=stacked(devices),
            scenario=stacked_scenarios(scenarios),
            ttft_s=np.array([point.ttft_s for point in points]),
            tpot_s=np.array([point.tpot_s for point in points]),
            steady=steady_ttft(points),
            codes=codes,
        )

    def select(self, chosen: NDArray[np.bool_]) -> Table:
        """The points where `chosen` is true."""
        return Table(
            points=tuple(p for p, keep in zip(self.points, chosen, strict=True) if keep),
            device=selected(self.device, chosen),
            scenario=selected_scenario(self.scenario, chosen),
            ttft_s=self.ttft_s[chosen],
            tpot_s=self.tpot_s[chosen],
            steady=self.steady[chosen],
            codes={name: values[chosen] for name, values in self.codes.items()},
        )


def _codes(points: Sequence[Point] | Sequence[FullLoad]) -> dict[str, NDArray[np.intp]]:
    """Which generation, engine and precision of experts each point has."""
    generations = [str(load_hardware(point.hardware).generation) for point in points]
    return {
        "generation": np.array([GENERATIONS.index(g) for g in generations]),
        "engine": np.array([ENGINES.index(point.engine) for point in points]),
        "experts": np.array([PRECISIONS.index(expert_precision(p)) for p in points]),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FullTable:
    """Offline runs in the form that the formulas take."""

    runs: tuple[FullLoad, ...]
    device: Device
    scenario: Scenario
    requests: FloatArray
    output_tokens_per_s: FloatArray
    codes: Mapping[str, NDArray[np.intp]]

    @classmethod
    def of(cls, runs: Sequence[FullLoad]) -> FullTable:
        """Stack the scenarios of `runs`."""
        scenarios, devices = [], []
        for run in runs:
            workload = Workload.single(run.input_tokens, run.output_tokens)
            scenarios.append(scenario(run.serving, workload, None))
            devices.append(device_of(model_of(run), run.serving, workload))
        return cls(
            runs=tuple(runs),
            device=stacked(devices),
            scenario=stacked_scenarios(scenarios),
            requests=np.array([float(run.requests) for run in runs]),
            output_tokens_per_s=np.array([run.output_tokens_per_s for run in runs]),
            codes=_codes(runs),
        )


Rows = TypeVar("Rows", Table, FullTable)


def predict_full(table: FullTable, coefficients: Mapping[str, float] | None = None) -> FloatArray:
    """Output tokens per second of offline runs: waves of as many as fit, the last one smaller."""
    s, device = table.scenario, table.device
    if coefficients is not None:
        s, device = _with(s, device, table.codes, coefficients)
    room = capacity(device, s)
    waves = np.floor(table.requests / np.maximum(room.batch, 1.0))
    last = table.requests - waves * room.batch
    whole_s = _cycle_s(device, room, room.batch, s)
    last_s = np.where(last > 0.0, _cycle_s(device, room, np.maximum(last, 1.0), s), 0.0)
    found: FloatArray = table.requests * s.output_tokens / (waves * whole_s + last_s)
    return found


def _cycle_s(device: Device, room: Capacity, batch: FloatArray, s: Scenario) -> FloatArray:
    step = decode_step(device, batch, s)
    once = prefill(device, step, s)
    with np.errstate(divide="ignore", invalid="ignore"):
        running = room._replace(batch=batch, admitted=batch)
        steady = steady_state(running, step, once, s, wait_factor=device.wait_factor)
    cycle: FloatArray = batch * s.output_tokens / steady.output_tokens_per_s
    return cycle


def predict_points(table: Table, coefficients: Mapping[str, float] | None = None) -> Predicted:
    """Predictions for measured points, with shipped coefficients or those of a fit."""
    s, device = table.scenario, table.device
    if coefficients is not None:
        s, device = _with(s, device, table.codes, coefficients)
    room = capacity(device, s)
    step = decode_step(device, room.batch, s)
    once = prefill(device, step, s)
    with np.errstate(divide="ignore", invalid="ignore"):
        steady = steady_state(room, step, once, s, wait_factor=device.wait_factor)
    # What the load asks for: every request in flight, its tokens over its time.
    rate = s.concurrency * s.output_tokens / steady.e2e_s
    return Predicted(steady.ttft_s, steady.tpot_s, rate)


def _with(
    s: Scenario,
    device: Device,
    codes: Mapping[str, NDArray[np.intp]],
    coefficients: Mapping[str, float],
) -> tuple[Scenario, Device]:
    changed: dict[str, Any] = {
        name: coefficients[name] for name in DEVICE_PRIORS if name not in OWN
    }
    for name in ENGINE_PRIORS:
        values = np.array([coefficients.get(f"{engine}.{name}", 0.0) for engine in ENGINES])
        changed[name] = values[codes["engine"]]
    for name in OWN[len(GEMMS) :]:
        own = np.array([coefficients[f"{g}.{name}"] for g in GENERATIONS])
        changed[name] = own[codes["generation"]]
    changed["lockstep"] = changed["lockstep"] * codes.get("in_step", 0)
    if "one_wave" in codes:
        changed["burst"] = np.where(codes["one_wave"] == 1, BURST_AT_ONCE, changed["burst"])
    gemm = {
        bits: np.array([coefficients[f"{g}.{name}"] for g in GENERATIONS])[codes["generation"]]
        for bits, name in zip(PRECISIONS, GEMMS, strict=True)
    }
    by_experts = np.select(
        [codes["experts"] == i for i in range(len(PRECISIONS))], [gemm[p] for p in PRECISIONS]
    )
    changed_device = device._replace(
        products=tuple(
            products._replace(gemm=gemm[bits])
            for bits, products in zip(PRECISIONS, device.products, strict=True)
        ),
        head=device.head._replace(gemm=gemm["16"]),
        experts=tuple(
            routed._replace(products=routed.products._replace(gemm=by_experts))
            for routed in device.experts
        ),
    )
    return replace(s, **changed), changed_device


def priors() -> dict[str, Prior]:
    """Every coefficient of a fit, by name, behind the engine or generation it belongs to."""
    engines = {
        f"{engine}.{name}": prior
        for engine in ENGINES
        for name, prior in ENGINE_PRIORS.items()
        if name not in OF_TRTLLM or engine == "trtllm"
    }
    own = {f"{g}.{name}": DEVICE_PRIORS[name] for g in GENERATIONS for name in OWN}
    shared = {name: prior for name, prior in DEVICE_PRIORS.items() if name not in OWN}
    return {**shared, **own, **engines}


def fit(table: Table, full: FullTable | None = None) -> dict[str, float]:
    """Coefficients fitted to `table` and to offline runs, by name."""
    table, full = without_factors(table), None if full is None else without_factors(full)
    known = priors()
    start = np.log([prior.value for prior in known.values()])
    deviation = np.array([prior.deviation for prior in known.values()])

    def residuals(logs: FloatArray) -> FloatArray:
        named = dict(zip(known, np.exp(logs).tolist(), strict=True))
        pull = PRIOR_WEIGHT * (logs - start) / deviation
        return np.concatenate([_errors(table, None, named), pull, _errors(None, full, named)])

    solution = least_squares(
        residuals,
        start,
        bounds=(
            np.log([prior.lowest for prior in known.values()]),
            np.log([prior.highest for prior in known.values()]),
        ),
        max_nfev=60,
    )
    return dict(zip(known, np.exp(solution.x).tolist(), strict=True))


def _errors(
    table: Table | None, full: FullTable | None, coefficients: Mapping[str, float] | None
) -> FloatArray:
    errors = [np.zeros(0)]
    if table is not None:
        predicted = predict_points(table, coefficients)
        ttft = (predicted.ttft_s / table.ttft_s - 1.0)[table.steady]
        errors.append(softened(np.log(predicted.tpot_s / table.tpot_s)))
        errors.append(TTFT_WEIGHT * softened(ttft))
    if full is not None:
        rates = np.log(predict_full(full, coefficients) / full.output_tokens_per_s)
        errors.append(FULL_WEIGHT * softened(rates))
    return np.concatenate(errors)


def without_factors(table: Rows) -> Rows:
    """The same rows by the formulas alone, without the factors of measured pairs."""
    return scaled(table, np.ones(3))


Pair = tuple[str, str, str]
# One architecture under two names; factors are found by the architecture.
SAME_MODEL = {"deepseek-ai/DeepSeek-R1": "deepseek-ai/DeepSeek-V3"}


def pair_of(point: Point | FullLoad) -> Pair:
    """Its model, machine and engine."""
    return SAME_MODEL.get(point.model, point.model), point.hardware, point.engine


def fit_pairs(
    table: Table, full: FullTable, coefficients: Mapping[str, float] | None
) -> dict[Pair, tuple[float, float, float]]:
    """Factors on decode steps, prompts and waits of every pair, each fitted to its own rows."""
    table, full = without_factors(table), without_factors(full)
    deviations = np.array(PAIR_DEVIATIONS)
    found = {}
    for pair in sorted({pair_of(p) for p in (*table.points, *full.runs)}):
        chosen = np.array([pair_of(p) == pair for p in table.points])
        offline = [run for run in full.runs if pair_of(run) == pair]
        points = table.select(chosen) if chosen.any() else None
        runs = without_factors(FullTable.of(offline)) if offline else None

        def residuals(
            logs: FloatArray, points: Table | None = points, runs: FullTable | None = runs
        ) -> FloatArray:
            with_it = [None if t is None else scaled(t, np.exp(logs)) for t in (points, runs)]
            errors = _errors(with_it[0], with_it[1], coefficients)
            return np.concatenate([errors, PRIOR_WEIGHT * logs / deviations])

        solution = least_squares(residuals, np.zeros(3), max_nfev=30)
        decode, prefill, wait = np.exp(solution.x).tolist()
        found[pair] = decode, prefill, wait
    return found


def scaled(table: Rows, factors: FloatArray) -> Rows:
    """The same rows with one pair's factors, or with each row's own (three columns)."""
    rows = len(table.device.layers)
    decode, prefill, wait = np.broadcast_to(factors, (rows, 3)).T
    return replace(
        table,
        device=table.device._replace(
            decode_factor=decode, prefill_factor=prefill, wait_factor=wait
        ),
    )
