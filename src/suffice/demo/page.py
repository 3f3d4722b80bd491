"""Table, picture and page of a demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.core.files import write_bytes, write_json, write_text
from suffice.demo.recorded import LARGE_MODEL, PARAMETERS_B, SMALL_MODELS
from suffice.demo.result import Demo, DemoPart, Way
from suffice.report.page import Card, FigureBlock, cards, figures, heading, notes, page, table
from suffice.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    RED,
    house_style,
    new_figure,
    to_png,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("answered by", "right, % [95 %]", "cost, %", "points below", "who answered")


def rows_of(part: DemoPart) -> list[list[str]]:
    """One line a way; cost is in per cent of the baseline's."""
    return [
        [
            way.name,
            f"{100 * way.right / way.questions:.1f} [{100 * way.accuracy.low:.1f}, "
            f"{100 * way.accuracy.high:.1f}]",
            f"{100 * way.cost / part.baseline.cost:.0f}",
            "–" if way is part.baseline else f"{part.lost_points(way):+.1f}".replace("-", "−"),
            ", ".join(
                f"{_short(model)} {100 * count / way.questions:.0f} %"
                for model, count in sorted(way.by_model.items())
            ),
        ]
        for way in (part.baseline, *part.others)
    ]


def sentences(demo: Demo) -> list[str]:
    """What a reader has to know, in the order of his questions."""
    good, bad = demo.trusted, demo.refused
    after = good.others[-1]
    found = []
    if good.policy is not None:
        expected = good.policy.certificate.expected.saving
        seen, told = 100 * good.saved(after), 100 * (good.reported_saved or 0)
        found += [
            f"What did it save? {seen:.0f} % of the cost of {LARGE_MODEL} alone, on "
            f"{good.questions} {good.title} questions that calibration had not seen. The engines "
            f"counted that; the gateway's own ledger says {told:.0f} %, the certificate promised "
            f"{100 * expected.estimate:.0f} % [{100 * expected.low:.0f}, "
            f"{100 * expected.high:.0f}].",
            f"Against what? Against one call of {LARGE_MODEL} for every question. A token is taken "
            f"to cost in proportion to the model's size ({_sizes()}), a prompt token a quarter of "
            "that; your own prices go into --price.",
            f"How sure is it? {good.policy.certificate.statement} Here "
            f"{good.only_baseline_right} of {good.questions} answers were lost and "
            f"{good.only_other_right} won.",
        ]
    else:
        found.append(f"Nothing was certified on {good.title}.")
    plain = bad.others[-1]
    refused = bad.policy is None
    found += [
        f"What would break it? Other questions. On all {bad.questions} of {bad.title} the same "
        f"rule would save {100 * bad.saved(plain):.0f} % and lose "
        f"{bad.lost_points(plain):.1f} points: two small "
        "models agree on wrong answers. "
        + (
            "Calibrate refused it, and the gateway keeps the large model."
            if refused
            else "Calibrate found a stricter setting that is close enough."
        ),
        "What is new here? The rule (two small models agree, else the large one) is old. New is "
        "that it is switched on only where your own questions show, at a stated confidence, "
        "that it costs at most so many points.",
        "What is not shown? Latency: the engines answer at once. Where the small models disagree, "
        "the large one is asked after them, one more round trip.",
        "The answers are real, recorded by WildEval/ZeroEval (Apache-2.0), greedy, one each. "
        "Lengths were recorded in characters: a token is four of them, an estimate.",
    ]
    return found


def figure_of(demo: Demo) -> Figure:
    """Accuracy over cost, one panel a set of questions."""
    with house_style():
        figure = new_figure(10.4, 4.1, margins=(0.07, 0.13, 0.985, 0.86))
        panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.22})
        _draw(panels[0], demo.trusted, f"{demo.trusted.title}: certified", demo.limit)
        refused = demo.refused.policy is None
        title = f"{demo.refused.title}: {'refused' if refused else 'certified'}"
        _draw(panels[1], demo.refused, title, demo.limit)
    return figure


def _draw(axes: Axes, part: DemoPart, title: str, limit: float) -> None:
    last = part.others[-1]
    colours = {part.baseline.name: INK, last.name: GREEN if part.policy is not None else RED}
    for way in (part.baseline, *part.others):
        x, y = 100 * way.cost / part.baseline.cost, 100 * way.right / way.questions
        spread = [[y - 100 * way.accuracy.low], [100 * way.accuracy.high - y]]
        colour = colours.get(way.name, BLUE)
        axes.errorbar(x, y, yerr=spread, fmt="o", ms=8, color=colour, capsize=3, lw=1.2)
        axes.annotate(
            way.name, (x, y), textcoords="offset points", fontsize=8.5, color=colour,
            xytext=(7, 7) if x < 50 else (-7, 9 if way is part.baseline else -17),
            ha="left" if x < 50 else "right",
        )  # fmt: skip
    floor = 100 * part.baseline.right / part.questions - limit
    axes.axhline(floor, color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.annotate(
        f"{limit:g} points below {_short(LARGE_MODEL)}", (0.01, floor),
        xycoords=("axes fraction", "data"), xytext=(2, 3), textcoords="offset points", fontsize=8,
        color=MUTED,
    )  # fmt: skip
    axes.set_xlim(-4, 112)
    axes.set(title=title, xlabel="cost, % of the large model alone", ylabel="right, %")


def html_of(demo: Demo) -> str:
    """The page."""
    good, bad = demo.trusted, demo.refused
    after = good.others[-1]
    sections = [
        cards(
            [
                Card(
                    value=f"{100 * after.cost / good.baseline.cost:.0f} %",
                    label=f"of the cost on {good.title}",
                ),
                Card(
                    value=f"{100 * after.right / good.questions:.1f} %",
                    label=f"right; {_short(LARGE_MODEL)} alone "
                    f"{100 * good.baseline.right / good.questions:.1f} %",
                ),
                Card(
                    value=f"≤ {demo.limit:g} points" if good.policy else "none",
                    label=f"lost, certified at {100 * demo.confidence:g} %",
                ),
                Card(
                    value="refused" if bad.policy is None else "certified",
                    label=f"on {bad.title}, where the plain rule loses "
                    f"{bad.lost_points(bad.others[-1]):.1f} points",
                ),
            ]
        ),
        figures(
            [
                FigureBlock(
                    svg=to_svg(figure_of(demo)),
                    caption="Accuracy with exact 95 % intervals over cost; where something was "
                    "certified, on questions that calibration had not seen.",
                )
            ],
            columns=False,
        ),
        notes(sentences(demo)),
    ]
    for part in (good, bad):
        strong = [1 + len(part.others) - 1]
        sections += [heading(f"{part.title}, {part.questions} questions"), _table(part, strong)]
    return page(
        "suffice, shown on recorded answers",
        f"{SMALL_MODELS[0]} and {SMALL_MODELS[1]} in front of {LARGE_MODEL}: quickstart's own path "
        "through three local engines and the real gateway.",
        sections,
        footer=f"made in {demo.elapsed_s:.0f} s by suffice demo",
    )


def _table(part: DemoPart, strong: list[int]) -> str:
    return table(COLUMNS, rows_of(part), strong=strong)


def summary(demo: Demo) -> dict[str, Any]:
    """The figures for machines."""

    def way(part: DemoPart, one: Way) -> dict[str, Any]:
        return {
            "name": one.name,
            "questions": one.questions,
            "right": one.right,
            "cost_share": one.cost / part.baseline.cost,
            "by_model": dict(one.by_model),
        }

    def of(part: DemoPart) -> dict[str, Any]:
        certificate = None if part.policy is None else part.policy.certificate
        return {
            "title": part.title,
            "calibrated_on": part.calibrated_on,
            "ways": [way(part, one) for one in (part.baseline, *part.others)],
            "certificate": None if certificate is None else certificate.statement,
            "saved": part.saved(part.others[-1]),
            "saved_reported": part.reported_saved,
            "saved_promised": None if certificate is None else certificate.expected.saving.estimate,
            "lost_points": part.lost_points(part.others[-1]),
            "only_baseline_right": part.only_baseline_right,
            "only_other_right": part.only_other_right,
        }

    return {
        "limit_points": demo.limit,
        "confidence": demo.confidence,
        "parts": [of(demo.trusted), of(demo.refused)],
    }


def write_demo(demo: Demo, folder: Path) -> dict[str, Path]:
    """demo.html, demo.png, demo.json; returns them by name."""
    paths = {kind: folder / f"demo.{kind}" for kind in ("html", "png", "json")}
    html, picture = html_of(demo), to_png(figure_of(demo))
    write_text(paths["html"], html)
    write_bytes(paths["png"], picture)
    write_json(paths["json"], summary(demo))
    return paths


def _short(model: str) -> str:
    return model.removeprefix("Meta-").removesuffix("-Instruct").removesuffix("-it")


def _sizes() -> str:
    return ", ".join(f"{_short(model)} {size:g}" for model, size in PARAMETERS_B.items())
