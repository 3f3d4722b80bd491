"""Figures of a calibration: the path with its test, and the predictor's reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from suffice.recipes.calibrate.run import CalibratedPolicy
from suffice.recipes.calibrate.wording import points
from suffice.report.style import AMBER, BLUE, FAINT, GREEN, MUTED, RED, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def path_figure(found: CalibratedPolicy) -> Figure:
    """Loss against saving along the path, with the bound that each rule was tested by."""
    survey, target = found.survey, found.file.certificate.target
    choice = survey.choice
    assert choice is not None
    test, confidence = survey.bench.test_of(choice.chain), 1.0 - choice.level
    with house_style():
        figure = new_figure(6.4, 4.0)
        panel = figure.add_subplot()
        saving = np.array([100 * step.saving for step in found.path])
        loss = np.array([100 * float(step.losses(test.loss).mean()) for step in found.path])
        bounds = [test.bound(step, confidence) for step in found.path]
        shown = np.arange(len(saving)) < found.shown
        if None not in bounds:
            upper = np.array([100 * bound for bound in bounds if bound is not None])
            panel.vlines(saving, loss, upper, color=FAINT, linewidth=2.2, zorder=1)
            panel.plot(
                saving, upper, "_", color=MUTED, ms=9, label=f"bound at {100 * confidence:.3g} %"
            )
        panel.plot(saving[shown], loss[shown], "o", color=GREEN, ms=6, label="shown")
        panel.plot(saving[~shown], loss[~shown], "o", color=RED, ms=5, mfc="white",
                   label="not shown")  # fmt: skip
        panel.plot(
            saving[choice.rule], loss[choice.rule], "o", ms=13, mfc="none", color=GREEN,
            label="certified",
        )  # fmt: skip
        panel.axhline(100 * target.max_drop, color=AMBER, linestyle="--", linewidth=1.4)
        panel.annotate(
            f"limit: {points(target.max_drop)}", (0.01, 100 * target.max_drop),
            xycoords=("axes fraction", "data"), xytext=(0, 4), textcoords="offset points",
            color=AMBER, fontsize=9,
        )  # fmt: skip
        panel.set(
            xlabel="saved, % of the baseline's cost",
            ylabel="accuracy lost, points" if test.loss == "drop" else "answers lost, %",
            title="Along the path, on the certifying questions",
        )  # fmt: skip
        panel.legend(loc="upper left", bbox_to_anchor=(0, 0.93))
    return figure


def reliability_figure(found: CalibratedPolicy) -> Figure:
    """Observed against predicted P(right), with exact intervals and the number of answers."""
    quality = found.file.certificate.predictor
    assert quality is not None
    with house_style():
        figure = new_figure(6.4, 4.0)
        panel, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw_bins(panel, counts, found)
        panel.plot([0, 1], [0, 1], color=FAINT, linewidth=1.4, zorder=0)
        panel.set(ylabel="share right", ylim=(-0.03, 1.05))
        area = quality.auc
        told = (
            "" if area is None else f", AUC {area.estimate:.3f} [{area.low:.3f}, {area.high:.3f}]"
        )
        panel.set_title(f"P(right) of {found.file.option}: ECE {quality.ece:.3f}{told}")
        panel.title.set_fontsize(9.5)
        counts.set(xlabel="predicted P(right)", ylabel="answers", xlim=(-0.03, 1.05))
    return figure


def _draw_bins(panel: Any, counts: Any, found: CalibratedPolicy) -> None:
    x = [each.predicted for each in found.reliability]
    y = [each.observed.estimate for each in found.reliability]
    low = [each.observed.estimate - each.observed.low for each in found.reliability]
    high = [each.observed.high - each.observed.estimate for each in found.reliability]
    panel.errorbar(x, y, yerr=(low, high), fmt="o", color=BLUE, capsize=3, ms=5)
    counts.bar(x, [each.n for each in found.reliability], width=0.06, color=BLUE, alpha=0.5)
