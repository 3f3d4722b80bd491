"""Utilisation of one machine under one engine, fitted to what `suffice measure` recorded there.

The formulas, the robust loss and the pull towards prior values are those of `calibrate`; what
differs is the evidence. A measured sample is a batch that decodes together after a prefill of the
whole batch, so there is no queue: TPOT is one decode step, TTFT one prefill of all prompts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from suffice.architecture.counts import ShapeGrid
from suffice.architecture.shape import Shape
from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError
from suffice.hardware import Hardware
from suffice.throughput.analytic import grid_kind, scenario
from suffice.throughput.engines.protocol import Lengths
from suffice.throughput.formulas import Scenario, decode_step, prefill
from suffice.throughput.priors import (
    DEVICE_PRIORS,
    Predicted,
    Prior,
    absolute_errors,
    selected_scenario,
    softened,
    stacked_scenarios,
)
from suffice.throughput.records import Statistic, TimedSample, step_s
from suffice.throughput.serving import Serving
from suffice.throughput.stacked_work import selected, stacked
from suffice.throughput.work import Device, Rows, grid_device
from suffice.throughput.workload import Workload

# What single-device measurements in 16 bits tell something about. Priors are wider than those of
# GPUs under known engines: a CPU or an unknown engine may lie far from them.
FITTED = ("gemm", "weight_bandwidth", "kv_bandwidth", "attention", "overlap", "layer_s",
          "layer_token_s")  # fmt: skip
_WIDEN = 4.0
_WIDEST = 2.0  # deviations of a logarithm: a factor of 7 either way
_LOWEST_SHARE = 0.005
_LARGEST_COST_S = 20e-3
# A prefill is timed as exactly as a step here: no queue blurs it.
TTFT_WEIGHT = 0.7
PRIOR_WEIGHT = 0.06
_FEWEST_PREFILLS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """One shape at one batch size and lengths: seconds over its repeats."""

    shape: Shape
    batch: int
    lengths: Lengths
    tpot_s: float
    ttft_s: float | None
    repeats: int


def measured_points(
    samples: Iterable[TimedSample], statistic: Statistic = "least"
) -> list[MeasuredPoint]:
    """Points of samples from one device and engine; raises TableError where they are mixed.

    "least" takes the least disturbed step and prefill, right where others use the machine too.
    """
    grouped: dict[tuple[str, ...], list[TimedSample]] = {}
    origins: set[tuple[str, str, str, str]] = set()
    for sample in samples:
        # Repeats of one shape in several files are one point.
        grouped.setdefault(sample.identity[:-1], []).append(sample)
        origins.add((sample.device, sample.engine, sample.dtype, sample.clock))
    if len(origins) > 1:
        found = "; ".join(" ".join(origin) for origin in sorted(origins))
        raise TableError(
            f"a calibration is for one device, engine, dtype and clock, found: {found}; calibrate "
            "them apart"
        )
    if not grouped:
        raise TableError("no samples to calibrate on; `suffice measure --out` writes them")
    choose = min if statistic == "least" else statistics.median
    # Where the machine is shared, the least of one or two may well be a disturbed one.
    needed = _FEWEST_PREFILLS if statistic == "least" and _repeated(grouped.values()) else 1
    points = []
    for group in grouped.values():
        first = group[0]
        prefills = [sample.ttft_s for sample in group if sample.ttft_s is not None]
        points.append(
            MeasuredPoint(
                shape=first.shape,
                batch=first.batch,
                lengths=Lengths(input_tokens=first.input_tokens, output_tokens=first.output_tokens),
                tpot_s=step_s(group, statistic),
                ttft_s=choose(prefills) if len(prefills) >= needed else None,
                repeats=len(group),
            )
        )
    return points


def _repeated(groups: Iterable[Sequence[TimedSample]]) -> bool:
    """Whether any point's prefill was timed often enough to choose from."""
    return any(
        sum(sample.ttft_s is not None for sample in group) >= _FEWEST_PREFILLS for group in groups
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedPoints:
    """Points in the form that the formulas take, one row each; NaN where no prefill was timed."""

    points: tuple[MeasuredPoint, ...]
    device: Device
    decode: Scenario
    prompt: Scenario
    batch: FloatArray
    tpot_s: FloatArray
    ttft_s: FloatArray

    @classmethod
    def of(
        cls, points: Sequence[MeasuredPoint], hardware: Hardware, *, max_batched_tokens: int
    ) -> StackedPoints:
        """Stack the scenarios of `points` on `hardware`."""
        devices, decode, prompt = [], [], []
        for point in points:
            serving = Serving(
                hardware=hardware, max_batch=point.batch, max_batched_tokens=max_batched_tokens
            )
            lengths = point.lengths
            workload = Workload.single(lengths.input_tokens, lengths.output_tokens)
            # The host's launches are in what is measured: they are part of its cost per layer.
            s = replace(
                scenario(serving, workload, point.batch),
                eager_layer_s=0.0, eager_expert_s=0.0, eager_latent_s=0.0,
                eager_recurrent_s=0.0,
            )  # fmt: skip
            grid = ShapeGrid.like(point.shape)
            rows = Rows(*(getattr(grid, name) for name in Rows._fields))
            devices.append(grid_device(rows, grid_kind(grid, serving, workload), s.tiles, 1.0))
            decode.append(s)
            prompt.append(replace(s, prompt_tokens=s.prompt_tokens * point.batch))
        return cls(
            points=tuple(points),
            device=stacked(devices),
            decode=stacked_scenarios(decode),
            prompt=stacked_scenarios(prompt),
            batch=np.array([float(point.batch) for point in points]),
            tpot_s=np.array([point.tpot_s for point in points]),
            ttft_s=np.array([np.nan if point.ttft_s is None else point.ttft_s for point in points]),
        )

    def select(self, chosen: NDArray[np.bool_]) -> StackedPoints:
        """The points where `chosen` is true."""
        return StackedPoints(
            points=tuple(p for p, keep in zip(self.points, chosen, strict=True) if keep),
            device=selected(self.device, chosen),
            decode=selected_scenario(self.decode, chosen),
            prompt=selected_scenario(self.prompt, chosen),
            batch=self.batch[chosen],
            tpot_s=self.tpot_s[chosen],
            ttft_s=self.ttft_s[chosen],
        )


def predict_measured(evidence: StackedPoints, coefficients: Mapping[str, float]) -> Predicted:
    """Predicted times of the points in seconds."""
    changed: dict[str, Any] = dict(coefficients)
    gemm = changed.pop("gemm", None)
    device = evidence.device
    if gemm is not None:
        device = device._replace(
            products=tuple(one._replace(gemm=gemm) for one in device.products),
            head=device.head._replace(gemm=gemm),
        )
    decode, prompt = replace(evidence.decode, **changed), replace(evidence.prompt, **changed)
    step = decode_step(device, evidence.batch, decode)
    # All prompts of the batch stand in line as one; each attends to itself alone.
    together = device._replace(
        caches=tuple(one._replace(pairs=one.pairs * evidence.batch) for one in device.caches)
    )
    once = prefill(together, step, prompt)
    tokens = decode.concurrency * decode.output_tokens
    return Predicted(once.alone_s, step.total_s, tokens / (once.alone_s + step.total_s))


def measured_priors(hardware: Hardware) -> dict[str, Prior]:
    """Priors of the fitted coefficients: the machine's present values, with wide bounds."""
    use = hardware.utilisation
    known = {}
    for name in FITTED:
        prior, value = DEVICE_PRIORS[name], float(getattr(use, name))
        cost = name.endswith("_s")
        lowest = 1e-9 if cost else min(_LOWEST_SHARE, value)
        highest = _LARGEST_COST_S if cost else 1.0
        known[name] = Prior(
            min(max(value, lowest * 1.001), highest * 0.999), lowest, highest,
            min(prior.deviation * _WIDEN, _WIDEST),
        )  # fmt: skip
    return known


def fit_measured(evidence: StackedPoints, priors: Mapping[str, Prior]) -> dict[str, float]:
    """Coefficients fitted to the points, by name."""
    start = np.log([prior.value for prior in priors.values()])
    deviation = np.array([prior.deviation for prior in priors.values()])
    timed = np.isfinite(evidence.ttft_s)

    def residuals(logs: FloatArray) -> FloatArray:
        named = dict(zip(priors, np.exp(logs).tolist(), strict=True))
        predicted = predict_measured(evidence, named)
        errors = (
            softened(np.log(predicted.tpot_s / evidence.tpot_s)),
            TTFT_WEIGHT * softened(np.log(predicted.ttft_s[timed] / evidence.ttft_s[timed])),
            PRIOR_WEIGHT * (logs - start) / deviation,
        )
        return np.concatenate(errors)

    solution = least_squares(
        residuals,
        start,
        bounds=(
            np.log([prior.lowest for prior in priors.values()]),
            np.log([prior.highest for prior in priors.values()]),
        ),
        max_nfev=200,
    )
    return dict(zip(priors, np.exp(solution.x).tolist(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Mean absolute relative errors, and rank correlations of decode speed.

    `ranks` are over the shapes of one load ("batch B, I in"), where there are at least four;
    `rank` is over all shapes and loads together.
    """

    decode: float
    ttft: float | None
    rank: float
    ranks: dict[str, float]
    points: int
    shapes: int


def accuracy(evidence: StackedPoints, predicted: Predicted) -> Accuracy:
    """Errors of predictions for the points."""
    timed = np.isfinite(evidence.ttft_s)
    ttft = absolute_errors(predicted.ttft_s[timed], evidence.ttft_s[timed])
    # Throughput is batch over TPOT: its relative error is that of measured over predicted.
    decode = absolute_errors(evidence.tpot_s, predicted.tpot_s)
    return Accuracy(
        decode=float(decode.mean()),
        ttft=float(ttft.mean()) if ttft.size else None,
        rank=float(spearmanr(_speed(evidence, predicted.tpot_s), _speed(evidence)).statistic),
        ranks=_ranks(evidence, predicted),
        points=len(evidence.points),
        shapes=len({point.shape for point in evidence.points}),
    )


def _speed(evidence: StackedPoints, tpot_s: FloatArray | None = None) -> FloatArray:
    speed: FloatArray = evidence.batch / (evidence.tpot_s if tpot_s is None else tpot_s)
    return speed


def _ranks(evidence: StackedPoints, predicted: Predicted) -> dict[str, float]:
    loads = [(point.batch, point.lengths) for point in evidence.points]
    ranks = {}
    for batch, lengths in dict.fromkeys(loads):
        chosen = np.array([other == (batch, lengths) for other in loads])
        if chosen.sum() >= 4:
            found = spearmanr(predicted.tpot_s[chosen], evidence.tpot_s[chosen])
            ranks[f"batch {batch}, {lengths.input_tokens} in"] = float(found.statistic)
    return ranks


def leave_one_shape_out(evidence: StackedPoints, priors: Mapping[str, Prior]) -> Predicted:
    """Predictions for each shape from a fit to all other shapes; raises TableError below four."""
    shapes = list(dict.fromkeys(point.shape for point in evidence.points))
    if len(shapes) < 4:
        raise TableError(
            f"{len(shapes)} shapes are too few to hold one out: measure at least 4 that differ in "
            "hidden size, MLP width and KV heads"
        )
    owners = np.array([shapes.index(point.shape) for point in evidence.points])
    ttft_s, tpot_s = np.empty(len(owners)), np.empty(len(owners))
    for index in range(len(shapes)):
        inside = owners == index
        coefficients = fit_measured(evidence.select(~inside), priors)
        predicted = predict_measured(evidence.select(inside), coefficients)
        ttft_s[inside], tpot_s[inside] = predicted.ttft_s, predicted.tpot_s
    return Predicted(ttft_s, tpot_s, evidence.batch / tpot_s)
