"""A fit in one picture: predicted against measured loss, and what the law misses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from suffice.architecture.fitting import Fit
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.core.files import write_bytes, write_text
from suffice.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_plot(result: Fit, path: Path) -> None:
    """Write the picture of `result` to `path`, PNG or SVG by its ending."""
    if path.suffix not in (".png", ".svg"):
        raise InputError(f"--plot {str(path)!r}: a picture ends in .png or .svg")
    figure = fit_figure(result)
    if path.suffix == ".svg":
        write_text(path, style.to_svg(figure))
    else:
        write_bytes(path, style.to_png(figure))


def fit_figure(result: Fit) -> Figure:
    """Left: every run against its prediction. Right: its error in per cent, over N where known."""
    residual = 100 * np.log(result.runs.column("loss") / result.predicted)
    name, at = _axis(result)
    with style.house_style():
        figure = style.new_figure(11.0, 4.6, margins=(0.08, 0.14, 0.98, 0.88))
        left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.25})
        measured = result.runs.column("loss")
        ends = [min(measured.min(), result.predicted.min()),
                max(measured.max(), result.predicted.max())]  # fmt: skip
        left.plot(ends, ends, color=style.FAINT, zorder=1)
        left.scatter(result.predicted, measured, s=16, color=style.BLUE, alpha=0.8, zorder=2)
        left.set(xlabel="predicted loss, nats", ylabel="measured loss, nats",
                 title=f"{result.law.family.name}, {len(measured)} runs")  # fmt: skip
        right.axhline(0.0, color=style.FAINT, zorder=1)
        right.scatter(at, residual, s=16, color=style.BLUE, alpha=0.8, zorder=2)
        worst = [each.row for each in result.worst[:3]]
        for position in range(len(measured)):
            if result.runs.row(position) in worst:
                right.annotate(
                    f"row {result.runs.row(position)}", (at[position], residual[position]),
                    textcoords="offset points", xytext=(5, 3), fontsize=8, color=style.RED,
                )  # fmt: skip
        if name != "run":
            right.set_xscale("log")
        right.set(xlabel=name, ylabel="measured over predicted, %", title="What it misses")
    return figure


def _axis(result: Fit) -> tuple[str, FloatArray]:
    for name in ("N", "D", *result.law.family.variables):
        if result.runs.has(name):
            values = result.runs.column(name)
            if np.ptp(values) > 0 and (values > 0).all():
                return name, values
    return "run", np.arange(1.0, len(result.runs) + 1)
