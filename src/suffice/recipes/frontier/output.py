"""Tables and pages of a frontier; files are rendered first and written last."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from suffice.core.files import write_bytes, write_text
from suffice.evals.statistics.binomial import Interval
from suffice.recipes.frontier.compound import Compound
from suffice.recipes.frontier.plots import LABELS, compound_figure, frontier_figure
from suffice.recipes.frontier.run import Frontier
from suffice.report.page import FigureBlock, figures, heading, notes, page, table
from suffice.report.style import to_png, to_svg

UNITS = {
    "tokens": "tokens",
    "samples": "samples",
    "flops": "TFLOP",
    "gpu_s": "GPU ms",
    "usd": "USD / 1,000",
}
SCALES = {"tokens": 1.0, "samples": 1.0, "flops": 1e-12, "gpu_s": 1e3, "usd": 1e3}


def percent(interval: Interval) -> str:
    """An accuracy with its interval."""
    return f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def saved_range(saved: Interval) -> str:
    """What was saved with its interval in percent, or how many times as much was spent."""
    if saved.estimate >= 0.0:
        return f"{100 * saved.estimate:.0f} [{100 * saved.low:.0f}, {100 * saved.high:.0f}] %"
    times = (1.0 - each for each in (saved.estimate, saved.high, saved.low))
    return "costs {:.2f} [{:.2f}, {:.2f}]x".format(*times)


def against(found: Frontier) -> str:
    """What `saved` is measured against, in which unit."""
    if not found.baseline:
        return "saved: no plain call was recorded to compare with; say what you run (--baseline)"
    if "tokens" not in found.axes:
        return "saved: not known: the recording does not count the tokens of every sample"
    if all(point.saved is None for point in found.points):
        return f"saved: not known against {found.baseline}: give every model a price (--price)"
    unit = {"usd": "USD", "tokens": "tokens, prompts included"}[found.unit]
    return f"saved: against {found.baseline}, in {unit}"


def policy_rows(found: Frontier) -> tuple[list[str], list[list[str]], list[int]]:
    """(header, rows by rising cost, numbers of the rows on the hull)."""
    axis = found.axes[0]
    shown = [name for name in found.axes if name != "samples"]  # they have a column of their own
    header = ["policy", "accuracy, %", "shuffled", "samples", *(UNITS[a] for a in shown), "saved"]
    ordered = sorted(found.points, key=lambda p: p.measured.axis(axis).mean())
    rows = []
    for point in (*ordered, found.oracle):
        costs = []
        for name in shown:
            interval = point.cost(name)
            costs.append("" if interval is None else f"{interval.estimate * SCALES[name]:,.4g}")
        saved = "–" if point.saved is None else saved_range(point.saved)
        control = "" if point.control is None else percent(point.control)
        drawn = f"{point.samples:.2f}"
        rows.append([point.policy, percent(point.accuracy), control, drawn, *costs, saved])
    hull = {point.policy for point in found.hull(axis)}
    return header, rows, [i for i, point in enumerate(ordered) if point.policy in hull]


def buy_rows(found: Frontier) -> list[list[str]]:
    """The best policy within each budget."""
    return [
        [
            f"{buy.budget * SCALES[found.axis]:,.4g}",
            buy.policy,
            f"{100 * buy.accuracy:.1f}",
            f"{100 * buy.share:.0f} %",
        ]
        for buy in found.buys
    ]


def gain_rows(found: Compound) -> list[list[str]]:
    """What each shape affords at some budgets."""
    return [
        [
            f"{1e3 * gain.gpu_s:.3g}",
            f"{gain.samples_base:.1f}",
            f"{gain.samples_other:.1f}",
            f"{100 * gain.accuracy_base:.1f}",
            f"{100 * gain.accuracy_other:.1f}",
        ]
        for gain in found.gains
    ]


def write_frontier(found: Frontier, folder: Path, shapes: Compound | None = None) -> list[Path]:
    """Write page, pictures and table; the paths written."""
    blocks, pictures = [], {}
    for name in found.axes:
        figure = frontier_figure(found, name)
        pictures[f"accuracy_{name}.png"] = to_png(figure)
        caption = f"Accuracy against {LABELS[name]}; intervals resample questions."
        blocks.append(FigureBlock(svg=to_svg(figure), caption=caption))
    sections = [figures(blocks, columns=False)]
    if shapes is not None:
        figure = compound_figure(shapes)
        pictures["shapes.png"] = to_png(figure)
        caption = "Hulls under both shapes. Equal answers of both shapes are assumed."
        block = FigureBlock(svg=to_svg(figure), caption=caption)
        head = ["GPU ms", f"samples, {shapes.base_name}", f"samples, {shapes.other_name}",
                f"accuracy, {shapes.base_name}", f"accuracy, {shapes.other_name}"]  # fmt: skip
        sections += [
            heading("A faster shape"), figures([block], columns=False),
            table(head, gain_rows(shapes)),
        ]  # fmt: skip
    header, rows, strong = policy_rows(found)
    sections += [
        heading("Policies, by cost; the hull stands out"), table(header, rows, strong=strong),
        notes((against(found),)),
        heading("Best buy within a budget"),
        table(
            [UNITS[found.axis], "policy", "accuracy, %", "best in resamples"], buy_rows(found)
        ),
        heading("How to read it"), notes(NOTES),
    ]  # fmt: skip
    html = page(
        "Accuracy against cost",
        f"{found.questions} questions of {', '.join(found.datasets)}, {len(found.points)} policies",
        sections,
        footer="suffice frontier",
    )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(folder / "frontier.html", html)
    write_text(folder / "frontier.csv", text.getvalue())
    for name, data in pictures.items():
        write_bytes(folder / name, data)
    return [folder / name for name in ("frontier.html", "frontier.csv", *pictures)]


NOTES = (
    "Accuracy and cost are means over questions; intervals are percentiles over resampled "
    "questions, samples of a question stay together.",
    "The hull is what mixing two policies at random attains; a policy below it is never needed.",
    "The oracle takes, for every question, the policy that is most often right there: it sees the "
    "recorded outcomes, no policy can.",
    "A model's second sample of a question finds its prompt in the cache.",
    "Shuffled: the accuracy if each question had been given another one's samples, the same number "
    "of samples of the same models in all. What a policy gains over it comes from knowing where to "
    "spend.",
    "One sample of every model at every recorded effort or length is always in the table.",
)
