"""Figures of a frontier: accuracy against one kind of cost; two shapes beside each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.evals.router_metrics import non_decreasing_hull
from suffice.recipes.frontier.compound import Compound
from suffice.recipes.frontier.run import Frontier, FrontierPoint
from suffice.report.style import AMBER, BLUE, FAINT, GREEN, INK, MUTED, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LABELS = {
    "tokens": "completion tokens per question",
    "samples": "samples per question",
    "flops": "FLOPs per question",
    "gpu_s": "GPU-seconds per question",
    "usd": "USD per question",
}
_SHORT = (
    ("adaptive_consistency", "AC"),
    ("self_consistency", "vote"),
    ("max_samples=", ""),
    ("samples=", ""),
    ("agreement:models=", "agree "),
    ("two_sided", "2-sided"),
)


def short_name(policy: str) -> str:
    """A policy's text, short enough for a label."""
    for long, short in _SHORT:
        policy = policy.replace(long, short)
    return re.sub(r":(?=\d)", " ", policy)


def frontier_figure(found: Frontier, axis: str) -> Figure:
    """Every policy with its intervals, the hull, and the oracle."""
    hull = found.hull(axis)
    with house_style():
        figure = new_figure(8.4, 5.2)
        panel = figure.add_subplot()
        _points(panel, [p for p in found.points if p not in hull], axis, FAINT, MUTED)
        _points(panel, list(hull), axis, BLUE, BLUE)
        x = [_cost(point, axis) for point in hull]
        y = [100 * point.accuracy.estimate for point in hull]
        panel.plot(*_mixtures(x, y), "-", color=BLUE, linewidth=1.4, zorder=2, label="convex hull")
        oracle = _cost(found.oracle, axis)
        top = 100 * found.oracle.accuracy.estimate
        panel.plot(oracle, top, "*", color=AMBER, ms=13, label="oracle, not attainable")
        panel.plot([], [], "o", color=MUTED, ms=5, label="other policies")
        _controls(panel, list(found.points), axis)
        panel.set_xscale("log")
        _plain_ticks(panel, [_cost(point, axis) for point in found.points] + [oracle])
        _label(panel, hull, axis, one_model="@" + found.one_model if found.one_model else None)
        panel.set(
            xlabel=LABELS[axis], ylabel="accuracy, %",
            title=f"{', '.join(found.datasets)}: {found.questions} questions, 95 % intervals",
        )  # fmt: skip
        panel.margins(x=0.12, y=0.1)
        panel.legend(loc="lower right")
    return figure


def compound_figure(found: Compound) -> Figure:
    """Accuracy against GPU-seconds under both shapes."""
    with house_style():
        figure = new_figure(8.4, 4.8)
        panel = figure.add_subplot()
        every = []
        for frontier, name, colour in (
            (found.base, found.base_name, MUTED),
            (found.other, found.other_name, GREEN),
        ):
            costs = [_cost(point, "gpu_s") for point in frontier.points]
            right = [100 * point.accuracy.estimate for point in frontier.points]
            panel.plot(costs, right, "o", color=colour, alpha=0.35, ms=4)
            corners = non_decreasing_hull(costs, right)
            panel.plot(*_mixtures(*corners), "-", color=colour, label=name)
            panel.plot(*corners, "o", color=colour, ms=5)
            every += costs
        panel.set_xscale("log")
        _plain_ticks(panel, every)
        panel.set(
            xlabel=LABELS["gpu_s"], ylabel="accuracy, %",
            title=f"Same samples, two shapes: a sample costs {found.speedup:.2f}x less",
        )  # fmt: skip
        panel.legend(loc="lower right")
    return figure


def _label(panel: Any, hull: tuple[FrontierPoint, ...], axis: str, one_model: str | None) -> None:
    """Names beside the hull's corners, those of the dearer half to their left."""
    x = [_cost(point, axis) for point in hull]
    middle = (x[0] * x[-1]) ** 0.5
    for number, (point, cost) in enumerate(zip(hull, x, strict=True)):
        name = short_name(point.policy.removesuffix(one_model or ""))
        left = cost > middle
        panel.annotate(
            name, (cost, 100 * point.accuracy.estimate), xytext=(-7 if left else 7, 7 if left else
            (-13 if number % 2 else 8)), ha="right" if left else "left",
            textcoords="offset points", fontsize=8, color=INK,
        )  # fmt: skip


def _points(panel: Any, points: list[FrontierPoint], axis: str, bars: str, colour: str) -> None:
    if not points:
        return
    x = np.array([_cost(point, axis) for point in points])
    y = np.array([point.accuracy.estimate for point in points])
    low = np.array([point.accuracy.low for point in points])
    high = np.array([point.accuracy.high for point in points])
    panel.errorbar(
        x, 100 * y, yerr=(100 * np.maximum(y - low, 0), 100 * np.maximum(high - y, 0)),
        fmt="none", ecolor=bars, alpha=0.6, elinewidth=1.2, zorder=1,
    )  # fmt: skip
    panel.plot(x, 100 * y, "o", color=colour, ms=5, zorder=3)


def _controls(panel: Any, points: list[FrontierPoint], axis: str) -> None:
    """What the same samples give where each question gets another one's share."""
    known = [point for point in points if point.control is not None]
    x = [_cost(point, axis) for point in known]
    y = [100 * point.control.estimate for point in known if point.control is not None]
    if known:
        panel.plot(x, y, "x", color=MUTED, ms=5, zorder=2, label="its samples shuffled")


def _mixtures(
    x: Sequence[float] | FloatArray, y: Sequence[float] | FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The hull between its corners: mixing two policies is a straight line in linear cost."""
    dense = np.unique(np.concatenate((np.geomspace(x[0], x[-1], 200), x)))
    return dense, np.interp(dense, x, y)


def _plain_ticks(panel: Any, values: list[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten within the values, written out."""
    low, high = min(values), max(values)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [m * p for p in powers for m in (1, 2, 5) if low * 0.7 <= m * p <= high * 1.5]
    panel.set_xticks(ticks, [f"{tick:,.4g}" if tick < 1e6 else f"{tick:.0e}" for tick in ticks])
    panel.minorticks_off()


def _cost(point: FrontierPoint, axis: str) -> float:
    interval = point.cost(axis)
    return float("nan") if interval is None else interval.estimate
