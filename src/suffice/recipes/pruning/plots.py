"""Figures of a pruning run: P(answer) and what is kept, by how much of a trace is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from suffice.recipes.pruning.run import PruneResult
from suffice.report.style import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    MUTED,
    RED,
    VIOLET,
    house_style,
    new_figure,
)
from suffice.training.pruning.problems import CATEGORIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = {
    "greedy-answer": GREEN, "greedy-mean": BLUE, "greedy-joint": VIOLET, "random": RED,
    "surprisal": AMBER, "truncation": MUTED,
}  # fmt: skip


def pruning_figure(result: PruneResult) -> Figure:
    """P(answer) by share kept, what is left at half by kind of token, and students."""
    with house_style():
        figure = new_figure(13.5, 3.9)
        left, middle, right = figure.subplots(1, 3)
        _draw_curves(left, result)
        _draw_kept(middle, result)
        _draw_students(right, result)
    return figure


def _draw_curves(panel: Any, result: PruneResult) -> None:
    for curve in result.curves:
        if curve.method in _SHOWN:
            shares = [share for share, _ in curve.p_answer]
            means = [e.mean for _, e in curve.p_answer]
            panel.plot(shares, means, color=_SHOWN[curve.method], label=curve.method)
            panel.fill_between(
                shares, [e.low for _, e in curve.p_answer], [e.high for _, e in curve.p_answer],
                color=_SHOWN[curve.method], alpha=0.15, linewidth=0,
            )  # fmt: skip
    panel.set(
        xlabel="share of the trace kept", ylabel="P(answer), 95 % over traces", ylim=(0, 1.03),
    )  # fmt: skip
    panel.invert_xaxis()
    panel.legend()


def _draw_kept(panel: Any, result: PruneResult) -> None:
    width = 0.26
    for n, method in enumerate(("greedy-answer", "greedy-mean", "random")):
        curve = next(c for c in result.curves if c.method == method)
        found = [curve.kept_at_half[kind] for kind in CATEGORIES]
        panel.bar(
            [x + (n - 1) * width for x in range(len(CATEGORIES))], [e.mean for e in found], width,
            yerr=[[e.mean - e.low for e in found], [e.high - e.mean for e in found]],
            color=_SHOWN[method], label=method, error_kw={"ecolor": INK, "elinewidth": 0.8},
        )  # fmt: skip
    panel.set_xticks(range(len(CATEGORIES)), CATEGORIES, rotation=30)
    panel.set_ylabel("left at half")
    panel.legend()


def _draw_students(panel: Any, result: PruneResult) -> None:
    students = [*result.students, result.untaught]
    for y, student in enumerate(students[::-1]):
        e = student.accuracy
        panel.errorbar(
            [e.mean], [y], xerr=[[e.mean - e.low], [e.high - e.mean]], fmt="o", capsize=3,
            color=_SHOWN.get(student.arm, INK),
        )  # fmt: skip
    panel.set_yticks(
        range(len(students)), [f"{s.arm} ({s.tokens:.0f} tokens)" for s in students[::-1]]
    )
    panel.set_xlabel("students: right on new problems")
