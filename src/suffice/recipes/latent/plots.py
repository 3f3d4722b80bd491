"""Figures of an evaluation: width, depth and adaptive width by what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from suffice.recipes.latent.evaluate import WidthDepthPoint
from suffice.recipes.latent.run import LatentResult
from suffice.report.style import AMBER, BLUE, GREEN, MUTED, RED, VIOLET, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from suffice.evals.statistics.binomial import Interval

CERTIFIED = "*"
# Policies that decide the width by request; they were played on half of the puzzles.
MARKERS = {
    "adaptive vote": "D",
    "adaptive vote, two exits": "^",
    "one after another, verifier": "P",
    "certified": CERTIFIED,
}


def latent_figure(result: LatentResult) -> Figure:
    """Accuracy by FLOPs, accuracy by serial steps, coverage by FLOPs."""
    with house_style():
        figure = new_figure(13.2, 4.4)
        panels: Any = figure.subplots(1, 3)
        _by_flops(panels[0], result)
        _by_serial_steps(panels[1], result)
        _coverage(panels[2], result)
        figure.suptitle(
            f"{result.task}: {result.parameters:,} parameters, {result.puzzles} held-out puzzles, "
            f"noise: {result.exploration}",
            fontsize=10,
        )
    return figure


def _depth_of(result: LatentResult) -> int:
    """The depth at which width is swept: the one that the contests use."""
    return result.contests[0].wide[1] if result.contests else result.points[0].depth


def _by_flops(panel: Any, result: LatentResult) -> None:
    unit = result.flops_per_step * 1e-6
    deep = sorted(result.deep, key=lambda p: p.depth)
    _line(panel, [p.flops * 1e-6 for p in deep], _accuracy(deep, "first"), colour=BLUE,
          label="deeper, one trajectory")  # fmt: skip
    wide = [p for p in result.points if p.depth == _depth_of(result)]
    for selection, colour, label in (
        ("vote", AMBER, "wider, vote"),
        ("halting", VIOLET, "wider, halting logit"),
        ("verifier", GREEN, "wider, verifier"),
    ):
        _line(panel, [p.flops * 1e-6 for p in wide], _accuracy(wide, selection), colour=colour,
              label=label)  # fmt: skip
    depth, width = _depth_of(result), max(p.width for p in result.points)
    for played in result.policies:
        marker = MARKERS.get(played.policy.partition(":")[0])
        if marker is None or played.accuracy is None or played.flops_share is None:
            continue
        panel.plot(
            unit * depth * width * played.flops_share.estimate, played.accuracy.estimate,
            marker=marker, color=RED if marker == CERTIFIED else MUTED, linestyle="none",
            markersize=13 if marker == CERTIFIED else 7, label=played.policy.partition(":")[0],
        )  # fmt: skip
    panel.set(xscale="log", xlabel="MFLOP per puzzle", ylabel="accuracy", title="at equal FLOPs")
    panel.legend(fontsize=7, loc="lower left")


def _by_serial_steps(panel: Any, result: LatentResult) -> None:
    deep = sorted(result.deep, key=lambda p: p.depth)
    _line(panel, [p.depth for p in deep], _accuracy(deep, "first"), colour=BLUE,
          label="one trajectory, deterministic")  # fmt: skip
    widest = max(p.width for p in result.points)
    wide = sorted((p for p in result.points if p.width == widest), key=lambda p: p.depth)
    for selection, colour, label in (
        ("vote", AMBER, f"width {widest}, vote"),
        ("verifier", GREEN, f"width {widest}, verifier"),
    ):
        _line(panel, [p.depth for p in wide], _accuracy(wide, selection), colour=colour,
              label=label)  # fmt: skip
    panel.set_xscale("log", base=2)
    panel.set(xlabel="serial steps", title="at equal serial steps")
    panel.legend(fontsize=7, loc="lower left")


def _coverage(panel: Any, result: LatentResult) -> None:
    wide = [p for p in result.points if p.depth == _depth_of(result)]
    deep = sorted(result.deep, key=lambda p: p.depth)
    for points, colour, label in ((deep, BLUE, "deeper"), (wide, GREEN, "wider")):
        x = [p.flops * 1e-6 for p in points]
        panel.plot(x, [p.coverage.estimate for p in points], "o-", color=colour,
                   label=f"{label}, all puzzles")  # fmt: skip
        many = [(f, p.coverage_many) for f, p in zip(x, points, strict=True) if p.coverage_many]
        if many:
            panel.plot([f for f, _ in many], [c.estimate for _, c in many], "s--", color=colour,
                       label=f"{label}, three solutions or more")  # fmt: skip
    panel.set(
        xscale="log", ylim=(0, 1.02), xlabel="MFLOP per puzzle", ylabel="share of solutions found",
        title="coverage",
    )  # fmt: skip
    panel.legend(fontsize=7)


def _accuracy(points: Sequence[WidthDepthPoint], selection: str) -> list[Interval]:
    return [p.accuracy[selection] for p in points]


def _line(
    panel: Any, x: Sequence[float], found: Sequence[Interval], *, colour: str, label: str
) -> None:
    # A mean of equal values differs from its percentiles in the last bit.
    reach = (
        [max(0.0, i.estimate - i.low) for i in found],
        [max(0.0, i.high - i.estimate) for i in found],
    )
    panel.errorbar(
        x, [i.estimate for i in found], yerr=reach, fmt="o-", color=colour, capsize=2,
        markersize=4, linewidth=1.2, label=label,
    )  # fmt: skip
