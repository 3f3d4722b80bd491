"""Table, picture and page of a demonstration."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suffice.core.files import write_bytes, write_json, write_text
from suffice.evals.statistics.binomial import Interval
from suffice.policies.policy_file import write_policy_file
from suffice.recipes.demo.run import Demo, Live
from suffice.report.page import Card, FigureBlock, cards, code, figures, heading, notes, page, table
from suffice.report.style import (
    AMBER,
    BLUE,
    GREEN,
    RED,
    VIOLET,
    house_style,
    new_figure,
    to_png,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "answered by", "right, %", "tokens", "samples", "saved, % of vote's",
    "saved, % of thinking's", "replayed",
)  # fmt: skip
_COLOURS = (RED, BLUE, AMBER, GREEN, VIOLET)


def rows_of(demo: Demo) -> list[list[str]]:
    """The table's cells; intervals are 95 %, over resampled problems."""
    return [
        [
            result.arm,
            _share(result.accuracy),
            _number(result.tokens),
            f"{result.samples:.1f}",
            _share(result.saved),
            _share(result.saved_of_thinking),
            "–"
            if result.replayed is None
            else f"{100 * result.replayed[0]:.1f}, {result.replayed[1]:.1f}",
        ]
        for result in demo.results
    ]


def notes_of(demo: Demo) -> list[str]:
    """What a reader has to know beside the table."""
    found = demo.calibration.file
    tested, expected = found.certificate.tested, found.certificate.expected
    return [
        f"{len(demo.problems)} problems. Half have three to six steps and were held out of "
        "training; the others have one or two, which are the tables that the model was taught.",
        f"Temperature {demo.config.temperature:g}; every answer came through the gateway over "
        "HTTP. Tokens are completion tokens a problem; intervals 95 % over problems.",
        f"Calibrated on {demo.calibration_problems} other problems: {found.certificate.statement} "
        f"Of {tested.n} certifying questions {tested.stopped} stopped at the short answer, "
        f"{tested.harmed} were lost by it; expected to save {expected.saving.estimate:.1%} "
        f"[{expected.saving.low:.1%}, {expected.saving.high:.1%}] of thinking's tokens.",
        "The mode that a model's name or a policy forces is a token of the prompt, the one that "
        "the model chooses a token of the answer.",
        "On the page, replayed: share right and tokens of the same policies over samples recorded "
        "anew.",
        "One small model, one made-up task: this shows the machinery, not what other models save.",
    ]


def figure_of(demo: Demo) -> Figure:
    """Accuracy against tokens; tokens by the steps of the problem."""
    with house_style():
        figure = new_figure(9.6, 3.9)
        panels: Any = figure.subplots(1, 2)
        _draw_arms(panels[0], demo)
        _draw_steps(panels[1], demo)
    return figure


def _draw_arms(panel: Any, demo: Demo) -> None:
    for result, colour in zip(demo.results, _COLOURS, strict=True):
        panel.errorbar(
            [result.tokens.estimate], [result.accuracy.estimate], xerr=_reach(result.tokens),
            yerr=_reach(result.accuracy), fmt="o", color=colour, capsize=3, label=result.arm,
        )  # fmt: skip
    panel.set_xscale("log")
    ticks = [2, 5, 10, 20, 50, 100]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.set_xlabel("tokens a question (log)")
    panel.set_ylabel("answered right")
    panel.set_title("what an answer costs")
    panel.legend(loc="lower right")


def _draw_steps(panel: Any, demo: Demo) -> None:
    steps = np.array([problem.difficulty for problem in demo.problems])
    shown = np.unique(steps)
    for answers, colour in list(zip(demo.answers, _COLOURS, strict=True))[1:]:
        means = [answers.tokens[steps == n].mean() for n in shown]
        panel.plot(shown, means, "o-", color=colour, label=answers.arm)
    panel.set_xticks(shown)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("steps of the problem")
    panel.set_ylabel("tokens a question")
    panel.set_title("where the tokens go")
    panel.legend(loc="upper left")


def write_demo(demo: Demo, folder: Path) -> dict[str, Path]:
    """Write policy, figures and page; everything is rendered before the first byte is written."""
    figure = figure_of(demo)
    png, svg = to_png(figure), to_svg(figure)
    best = demo.results[-1]
    right = f"{best.accuracy.estimate:.1%}"
    html = page(
        "The gateway with suffice-nano",
        "Five ways to answer the same problems, live, and one receipt of an easy and a hard one.",
        [
            cards(
                [
                    Card(value=right, label="right, calibrated policy"),
                    Card(value=f"{best.saved.estimate:.0%}", label="fewer tokens than voting"),
                    Card(value=f"{len(demo.problems)}", label="problems, half of them held out"),
                ]
            ),
            figures([FigureBlock(svg=svg, caption="95 % intervals over problems.")], columns=False),
            heading("Table"),
            table(COLUMNS, rows_of(demo), strong=(len(demo.results) - 1,)),
            notes(notes_of(demo)),
            heading("Two receipts"),
            *(code(receipt_text(live)) for live in (demo.easy, demo.hard)),
        ],
        footer="suffice demo",
    )
    paths = {
        "page": folder / "demo.html",
        "picture": folder / "demo.png",
        "figures": folder / "demo.json",
        "policy": folder / "calibrated.json",
    }
    write_text(paths["page"], html)
    write_bytes(paths["picture"], png)
    write_json(paths["figures"], summary(demo))
    write_policy_file(paths["policy"], demo.calibration.file)
    return paths


def summary(demo: Demo) -> dict[str, Any]:
    """The figures for machines."""
    return {
        "config": asdict(demo.config),
        "problems": len(demo.problems),
        "certificate": demo.calibration.file.certificate.model_dump(mode="json"),
        "arms": [asdict(result) for result in demo.results],
        "receipts": {"easy": demo.easy.receipt, "hard": demo.hard.receipt},
        "elapsed_s": round(demo.elapsed_s, 1),
    }


def receipt_text(live: Live) -> str:
    """A receipt as a few lines."""
    receipt = live.receipt
    samples = ", ".join(
        f"{sample['model']} {sample['completion_tokens']} tokens → {sample['answer']}"
        for sample in receipt["samples"]
    )
    thought = f"thought {live.reasoning!r}, " if live.reasoning else ""
    due = "right" if live.answer == live.problem.answer else f"wrong, {live.problem.answer} is due"
    return (
        f"{live.problem.prompt} ({live.problem.difficulty} steps): {thought}answered "
        f"{live.answer} ({due})\n  {samples}\n  why: {receipt['why']}\n"
        f"  {receipt['usage']['completion_tokens']} tokens in {receipt['elapsed_ms']:.1f} ms, "
        f"{receipt['overhead_ms']:.1f} ms of them the gateway's"
    )


def _share(interval: Interval) -> str:
    return _number(interval, 100.0)


def _number(interval: Interval, unit: float = 1.0) -> str:
    estimate, low, high = (
        unit * value for value in (interval.estimate, interval.low, interval.high)
    )
    return f"{estimate:.1f} [{low:.1f}, {high:.1f}]"


def _reach(interval: Interval) -> list[list[float]]:
    return [
        [max(0.0, interval.estimate - interval.low)],
        [max(0.0, interval.high - interval.estimate)],
    ]
