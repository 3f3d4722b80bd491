"""Table, figure and page of an exchange."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from suffice.core.files import write_bytes, write_text
from suffice.evals.statistics.binomial import Interval
from suffice.recipes.tradeoff.run import Cell, Tradeoff
from suffice.report.page import FigureBlock, figures, heading, notes, page, table
from suffice.report.style import FAINT, SERIES, house_style, new_figure, to_png, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = ("R", "bin", "n", "k", "large", "small, vote", "difference", "small, verifier",
          "difference", "better")  # fmt: skip


def rows_of(found: Tradeoff) -> list[list[str]]:
    """A row for every ratio and bin."""
    return [_row(cell) for cell in found.cells]


def _row(cell: Cell) -> list[str]:
    k = f"{cell.samples}" if cell.samples + 1 > cell.affordable else (
        f"{cell.samples} of {cell.affordable:.0f}"
    )  # fmt: skip
    return [
        f"{cell.ratio:g}",
        f"{cell.bin}",
        f"{cell.n}",
        k,
        f"{100 * cell.large:.1f}",
        f"{100 * cell.vote:.1f}",
        _points(cell.vote_gain),
        f"{100 * cell.covered:.1f}",
        _points(cell.verifier_gain),
        verdict(cell),
    ]


def _points(gain: Interval) -> str:
    return f"{100 * gain.estimate:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def verdict(cell: Cell) -> str:
    """Which is better at equal FLOPs, where the interval says so."""
    if cell.vote_gain.low > 0.0:
        return "small, vote"
    if cell.verifier_gain.high < 0.0:
        return "large"
    if cell.verifier_gain.low > 0.0:
        return "small, if verified"
    return "open"


def tradeoff_figure(found: Tradeoff) -> Figure:
    """Gain of the small model by difficulty, a line for every ratio."""
    ratios = list(dict.fromkeys(cell.ratio for cell in found.cells))
    with house_style():
        figure = new_figure(8.4, 4.2)
        panels = figure.subplots(1, 2, sharey=True)
        for panel, name, title in zip(
            panels, ("vote_gain", "verifier_gain"), ("by majority vote", "with a perfect verifier"),
            strict=True,
        ):  # fmt: skip
            for number, ratio in enumerate(ratios):
                cells = [cell for cell in found.cells if cell.ratio == ratio]
                gains: list[Interval] = [getattr(cell, name) for cell in cells]
                y = [100 * gain.estimate for gain in gains]
                spread = (
                    [100 * max(gain.estimate - gain.low, 0.0) for gain in gains],
                    [100 * max(gain.high - gain.estimate, 0.0) for gain in gains],
                )
                x = [cell.bin + 0.08 * (number - (len(ratios) - 1) / 2) for cell in cells]
                panel.errorbar(x, y, yerr=spread, fmt="o-", ms=4, capsize=2, color=SERIES[number],
                               label=f"R = {ratio:g}, k = {cells[0].samples}")  # fmt: skip
            panel.axhline(0, color=FAINT, linewidth=1.5, zorder=0)
            panel.set_xlabel("difficulty bin, easy to hard")
            panel.set_xticks(sorted({cell.bin for cell in found.cells}))
            panel.set_title(f"Small model {title}")
        panels[0].set_ylabel("points above the large model")
        panels[0].legend()
    return figure


def write_tradeoff(found: Tradeoff, folder: Path) -> list[Path]:
    """Write page and picture; the paths written."""
    figure = tradeoff_figure(found)
    caption = "Accuracy of the small model with k samples minus that of the large one with one."
    html = page(
        f"{found.small.model} with samples against {found.large.model}",
        "Equal FLOPs over training and inference, by difficulty.",
        [
            figures([FigureBlock(svg=to_svg(figure), caption=caption)], columns=False),
            heading("By ratio and difficulty"),
            table(HEADER, rows_of(found)),
            heading("How to read it"),
            notes(notes_of(found)),
        ],
        footer="suffice tradeoff; method: 2408.03314, section 7",
    )
    picture = to_png(figure)
    write_text(folder / "tradeoff.html", html)
    write_bytes(folder / "tradeoff.png", picture)
    return [folder / "tradeoff.html", folder / "tradeoff.png"]


def notes_of(found: Tradeoff) -> tuple[str, ...]:
    """What the figures mean and what they leave out."""
    told = (
        "difficulty is told by one half of the small model's samples, the other half is evaluated"
        if found.held_out
        else "difficulty is told by the evaluated samples themselves (fewer than 8 were recorded): "
        "easy bins flatter the small model"
    )
    return (
        "R is inference tokens over training tokens of the large model; k what equal FLOPs leave.",
        "A perfect verifier is a ceiling: it picks a right sample whenever there is one.",
        told + ".",
        f"At most {found.recorded} samples were left to draw; k as 'a of b': b were affordable.",
    )
