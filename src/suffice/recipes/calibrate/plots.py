"""Figures of a calibration: the path with its test, and the predictor's reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from suffice.recipes.calibrate.run import Calibration
from suffice.report.style import AMBER, BLUE, FAINT, GREEN, MUTED, RED, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def path_figure(found: Calibration) -> Figure:
    """Loss against saving along the path, with the bound that each step was tested by."""
    target = found.file.certificate.target
    with house_style():
        figure = new_figure(6.4, 4.0)
        panel = figure.add_subplot()
        saving = 100 * np.array(found.saving)
        net = target.loss == "drop"
        loss = np.array([(t.harmed - (t.helped if net else 0)) / t.n for t in found.path]) * 100
        bounds = [t.upper_bound for t in found.path if t.upper_bound is not None]
        shown = np.arange(len(saving)) < found.shown
        if bounds:
            upper = 100 * np.array(bounds)
            panel.vlines(saving, loss, upper, color=FAINT, linewidth=2.2, zorder=1)
            panel.plot(
                saving, upper, "_", color=MUTED, ms=9,
                label=f"bound at {100 * target.confidence:g} %",
            )  # fmt: skip
        panel.plot(saving[shown], loss[shown], "o", color=GREEN, ms=6, label="shown")
        panel.plot(saving[~shown], loss[~shown], "o", color=RED, ms=5, mfc="white",
                   label="not shown")  # fmt: skip
        panel.plot(
            saving[found.shown - 1], loss[found.shown - 1], "o", ms=13, mfc="none", color=GREEN,
            label="certified",
        )  # fmt: skip
        panel.axhline(100 * target.max_drop, color=AMBER, linestyle="--", linewidth=1.4)
        panel.annotate(
            f"target {100 * target.max_drop:g} points", (0.01, 100 * target.max_drop),
            xycoords=("axes fraction", "data"), xytext=(0, 4), textcoords="offset points",
            color=AMBER, fontsize=9,
        )  # fmt: skip
        panel.set_xlabel("saving of the safe arm's cost, %")
        panel.set_ylabel("accuracy lost, points" if net else "questions harmed, %")
        panel.set_title("Along the path, on the certifying questions")
        panel.legend(loc="upper left", bbox_to_anchor=(0, 0.93))
    return figure


def reliability_figure(found: Calibration) -> Figure:
    """Observed against predicted P(right), with exact intervals and the number of answers."""
    certificate = found.file.certificate
    with house_style():
        figure = new_figure(6.4, 4.0)
        panel, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw_bins(panel, counts, found)
        panel.plot([0, 1], [0, 1], color=FAINT, linewidth=1.4, zorder=0)
        panel.set_ylabel("share right")
        panel.set_ylim(-0.03, 1.05)
        area = certificate.predictor.auc
        told = (
            "" if area is None else f", AUC {area.estimate:.3f} [{area.low:.3f}, {area.high:.3f}]"
        )
        panel.set_title(
            f"P(right) of {found.file.option}: ECE {certificate.predictor.ece:.3f}{told}"
        )
        panel.title.set_fontsize(9.5)
        counts.set_xlabel("predicted P(right)")
        counts.set_ylabel("answers")
        counts.set_xlim(-0.03, 1.05)
    return figure


def _draw_bins(panel: Any, counts: Any, found: Calibration) -> None:
    x = [each.predicted for each in found.reliability]
    y = [each.observed.estimate for each in found.reliability]
    low = [each.observed.estimate - each.observed.low for each in found.reliability]
    high = [each.observed.high - each.observed.estimate for each in found.reliability]
    panel.errorbar(x, y, yerr=(low, high), fmt="o", color=BLUE, capsize=3, ms=5)
    counts.bar(x, [each.n for each in found.reliability], width=0.06, color=BLUE, alpha=0.5)
