"""Figure of an ablation: measured medians with their range, and predicted curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from suffice.recipes.ablation.plan import LABELS
from suffice.recipes.ablation.run import AblationPoint
from suffice.report.style import MUTED, SERIES, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ablation_figure(
    axis: str, found: Sequence[AblationPoint], *, title: str, statistic: str = "median"
) -> Figure:
    """Decode tokens per second along the axis."""
    series = list(dict.fromkeys(point.setting.series for point in found))
    with house_style():
        figure = new_figure(6.4, 3.9)
        panel = figure.add_subplot()
        for name, colour in zip(series, SERIES, strict=False):
            _draw(panel, [point for point in found if point.setting.series == name], name, colour)
        values = sorted({point.setting.value for point in found})
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [f"{value:,.3g}" for value in values])
        panel.minorticks_off()
        panel.set(xlabel=LABELS[axis], ylabel="decode tokens/s")
        panel.set_ylim(bottom=0)
        panel.set_title(title)
        panel.plot([], [], "o", color=MUTED, label=f"measured, {statistic} time, and range")
        panel.plot([], [], "--", color=MUTED, label="predicted")
        panel.legend(ncols=2, loc="best")
    return figure


def _draw(panel: Any, points: Sequence[AblationPoint], name: str, colour: str) -> None:
    seen = [
        (p.setting.value, p.speed, p.measured)
        for p in points
        if p.measured is not None and p.speed is not None
    ]
    if seen:
        low = [max(0.0, speed - spread.least) for _, speed, spread in seen]
        high = [max(0.0, spread.largest - speed) for _, speed, spread in seen]
        panel.errorbar(
            [value for value, _, _ in seen], [speed for _, speed, _ in seen], yerr=(low, high),
            fmt="o-", color=colour, capsize=3, label=name,
        )  # fmt: skip
    expected = [(p.setting.value, p.predicted) for p in points if p.predicted is not None]
    if expected:
        panel.plot(
            [value for value, _ in expected], [speed for _, speed in expected], "--",
            color=colour, label=None if seen else name,
        )  # fmt: skip
