"""What a faster shape is worth once samples are bought with it: the frontier under two shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suffice.evals.router_metrics import non_decreasing_hull
from suffice.evals.traces.trace_set import TraceSet
from suffice.recipes.frontier.run import Frontier, FrontierConfig, frontier
from suffice.throughput.pricing import OwnModel, cost_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """At one budget of GPU-seconds per question: what each shape affords."""

    gpu_s: float
    accuracy_base: float
    accuracy_other: float
    samples_base: float  # single samples of mean length
    samples_other: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compound:
    """Two frontiers of the same samples, and the gains between them."""

    base_name: str
    other_name: str
    base: Frontier
    other: Frontier
    speedup: float  # GPU-seconds of a single sample, base over other
    gains: tuple[Gain, ...]


def compound(
    traces: TraceSet, config: FrontierConfig, base: OwnModel, other: OwnModel,
    names: tuple[str, str],
) -> Compound:  # fmt: skip
    """The frontier of `traces` were its models of shape `base`, and of shape `other`.

    Accuracy is the recorded one under both: that a shape of equal loss answers alike is an
    assumption, which only a trained model can check.
    """
    found = tuple(
        frontier(traces, config, cost_model=cost_model(dict.fromkeys(traces.models, model)))
        for model in (base, other)
    )
    curves = [_curve(each) for each in found]
    single = [min(point.measured.gpu_s.mean() for point in each.points) for each in found]
    low, high = curves[0][0][0], curves[0][0][-1]
    gains = tuple(
        Gain(
            gpu_s=float(budget),
            accuracy_base=_at(curves[0], float(budget)),
            accuracy_other=_at(curves[1], float(budget)),
            samples_base=float(budget / single[0]),
            samples_other=float(budget / single[1]),
        )
        for budget in np.geomspace(low, max(high, low * 1.01), 6)
    )
    return Compound(
        base_name=names[0],
        other_name=names[1],
        base=found[0],
        other=found[1],
        speedup=float(single[0] / single[1]),
        gains=gains,
    )


Curve = tuple[np.ndarray, np.ndarray]


def _curve(found: Frontier) -> Curve:
    costs = [float(point.measured.gpu_s.mean()) for point in found.points]
    return non_decreasing_hull(costs, [point.accuracy.estimate for point in found.points])


def _at(curve: Curve, budget: float) -> float:
    """Accuracy of a mixture of hull policies within the budget; of the cheapest below its cost."""
    return float(np.interp(budget, curve[0], curve[1]))
