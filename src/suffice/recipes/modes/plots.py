"""Figures of an evaluation: where the model thinks, and what that buys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from suffice.recipes.modes.evaluate import CellResult, Estimate, ModesResult
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {
    "always-short": AMBER,
    "always-think": BLUE,
    "learned": GREEN,
    "learned, sampled": VIOLET,
    "analytic optimum": RED,
    "prompt-length rule": INK,
    "regression on the prompt": MUTED,
}


def modes_figure(result: ModesResult) -> Figure:
    """One panel a task (accuracy of both modes, p(think)), then accuracy against tokens."""
    tasks = list(dict.fromkeys(cell.task for cell in result.cells))
    with house_style():
        figure = new_figure(4.4 * (len(tasks) + 1), 3.8)
        panels: Any = figure.subplots(1, len(tasks) + 1, squeeze=False)[0]
        for panel, task in zip(panels, tasks, strict=False):
            _draw_task(panel, task, [cell for cell in result.cells if cell.task == task])
        panels[0].legend(loc="center right", bbox_to_anchor=(1.0, 0.55))
        _draw_front(panels[-1], result)
    return figure


def _draw_task(panel: Any, task: str, cells: list[CellResult]) -> None:
    steps = [cell.difficulty for cell in cells]
    for name, colour, found in (
        ("short answers right", AMBER, [cell.short_accuracy for cell in cells]),
        ("thought answers right", BLUE, [cell.think_accuracy for cell in cells]),
    ):
        means, reach = [e.mean for e in found], _reach(found)
        panel.errorbar(steps, means, yerr=reach, fmt="o-", color=colour, capsize=3, label=name)
    panel.plot(steps, [c.p_think for c in cells], "s--", color=GREEN, label="p(think)")
    panel.set_xticks(steps)
    panel.set(ylim=(-0.04, 1.06), xlabel="steps of the problem", title=task)


def _draw_front(panel: Any, result: ModesResult) -> None:
    panel.plot(
        [tokens for _, tokens, _ in result.bias_curve],
        [accuracy for _, _, accuracy in result.bias_curve],
        "-", color=MUTED, lw=1.2, label="learned, with a bias on the mode",
    )  # fmt: skip
    for router in result.routers:
        accuracy, tokens = router.accuracy, router.tokens
        panel.errorbar(
            [tokens.mean], [accuracy.mean],
            xerr=_reach([tokens]), yerr=_reach([accuracy]),
            fmt="x" if router.router == "analytic optimum" else "o",
            color=_COLOURS[router.router], capsize=2, label=router.router,
        )  # fmt: skip
    for mark, policy in zip("^vsDP", (p for p in result.policies if p.tokens), strict=False):
        assert policy.accuracy is not None and policy.tokens is not None
        panel.errorbar(
            [policy.tokens.mean], [policy.accuracy.mean],
            xerr=_reach([policy.tokens]), yerr=_reach([policy.accuracy]),
            fmt=mark, color=INK, mfc="white", ms=5, lw=0.8, capsize=2, label=policy.policy,
        )  # fmt: skip
    if result.policies:
        panel.set_xscale("log")
        ticks = [3, 5, 10, 20, 50, 100]
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.set(xlabel="tokens a response", ylabel="accuracy", title="what the choice buys")
    panel.legend(loc="lower right")


def _reach(found: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """How far intervals reach below and above their means; rounding makes none negative."""
    return (
        [max(0.0, e.mean - e.low) for e in found],
        [max(0.0, e.high - e.mean) for e in found],
    )
