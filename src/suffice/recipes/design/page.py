"""The HTML report of a design run."""

from __future__ import annotations

import json
from dataclasses import replace

from suffice.architecture.effects import grouping_effect
from suffice.architecture.search import TIE_TOLERANCE
from suffice.core.quantities import format_count
from suffice.core.version import __version__
from suffice.recipes.design.loss_model import sees_grouping
from suffice.recipes.design.plots import single_figures
from suffice.recipes.design.result import DesignResult
from suffice.recipes.design.table import (
    LEGEND,
    SERVING_COLUMNS,
    SHAPE_COLUMNS,
    roles_by_note,
    rows_of,
    short_name,
)
from suffice.report import page
from suffice.report.style import to_svg


def html_report(result: DesignResult) -> str:
    """The report as one HTML document."""
    drawn = {name: to_svg(figure) for name, figure in single_figures(result).items()}
    captions = {
        "front": "Each dot is a shape of the reference's size. Green ones keep the loss target at "
        "the stated confidence; the line is the Pareto front.",
        "contours": "The law over its two axes, in per cent above the lowest loss on the map. "
        "Small dots are the shapes that were compared. KV heads are not on this map.",
        "batches": "A curve that stops early has filled the device's memory.",
        "kv": "The lowest loss is not the cheapest to serve: its KV cache per token is shown "
        "against the reference's.",
    }
    picks = list(result.picks)
    strong = [index for index, pick in enumerate(picks) if pick.role == "recommended"]
    sections = [
        page.cards(_cards(result)),
        page.notes([result.headline()]),
        page.heading("Shapes"),
        page.table(SHAPE_COLUMNS, rows_of(result, SHAPE_COLUMNS), strong=strong),
        page.table(SERVING_COLUMNS, rows_of(result, SERVING_COLUMNS), strong=strong),
        page.notes(_legend(result)),
        page.heading("What the prediction does not know"),
        page.notes(_all_notes(result)),
        page.heading("Where they stand"),
        page.figures([page.FigureBlock(svg=drawn[k], caption=captions[k]) for k in captions]),
        page.heading("What fewer KV heads cost elsewhere"),
        *_grouping_evidence(result),
        page.heading("The recommended config.json"),
        page.code(json.dumps(result.recommended.config(), indent=2)),
    ]
    if result.law.errata:
        sections += [
            page.heading(f"Corrections to the source of law {result.law.name}"),
            page.notes(list(result.law.errata)),
        ]
    config = result.config
    classes = ", ".join(
        f"{c.input_tokens} in / {c.output_tokens} out" for c in config.requests.classes
    )
    return page.page(
        f"{short_name(result)}, resized for {result.hardware.title}",
        f"{len(result.grid):,} shapes compared for {classes} tokens, objective "
        f"{config.objective}, {format_count(config.tokens)} training tokens, law "
        f"{result.law.name}.",
        sections,
        footer=f"suffice {__version__} · every number is a prediction unless marked as given",
    )


def _cards(result: DesignResult) -> list[page.Card]:
    pick, reference, gain = result.recommended, result.reference, result.gain
    kv = pick.kv_bytes_per_token(result.serving) / reference.kv_bytes_per_token(result.serving)
    cost = pick.prediction.usd_per_million_tokens / reference.prediction.usd_per_million_tokens - 1
    stated = result.stated_confidence
    found = [
        page.Card(value=f"{gain.total:.2f}×", label="tokens per second, recommended / reference"),
        page.Card(value=f"{gain.kept:.2f}×", label="of this: width and MLP, KV heads kept"),
        page.Card(
            value=f"{gain.regrouped:.2f}×",
            label=f"of this: KV heads, at {gain.loss_change:+.3f} nats "
            f"[{gain.loss_low:+.3f}, {gain.loss_high:+.3f}]".replace("-", "\N{MINUS SIGN}"),
        ),
        page.Card(
            value="none" if stated is None else f"{stated:.0%}",
            label=f"confidence that loss ≤ {result.target_loss:.3f} nats",
        ),
        page.Card(value=f"{pick.loss - reference.loss:+.4f}", label="predicted loss, nats"),
        page.Card(value=f"{cost:+.0%}", label="cost per million output tokens"),
        page.Card(value=f"{kv:.2f}×", label="KV cache per token"),
    ]
    return [replace(card, value=card.value.replace("-", "−")) for card in found]


def _legend(result: DesignResult) -> list[str]:
    stated = result.stated_confidence
    sure = (
        "Outside the law's evidence no confidence is stated: the recommended shape is the fastest "
        "if the law is exactly right, a guess."
        if stated is None
        else f"recommended: the best whose loss meets the target with {stated:.0%} probability, "
        "the law's error and what is not known of KV heads included; else the reference itself."
    )
    return [
        LEGEND,
        "lowest loss: the lowest predicted loss at equal size, KV heads in the reference's "
        "proportion. fastest 50 %: the best by the objective if the law is exactly right; "
        "half of the time its loss is above the target.",
        sure,
        f"Speeds within {TIE_TOLERANCE:.0%} of the best are ties, of which the lowest loss is "
        "taken: a runner-up may be that much faster.",
        "bounds: one-sided, of the loss given the reference's; a question mark says that the upper "
        "one is above the target.",
        f"The reference's loss is {result.anchor.basis}.",
        f"Noise of the law: {result.law.noise.basis}." if result.law.noise else
        "The law's bounds come from its bootstrap draws.",
    ]  # fmt: skip


def _grouping_evidence(result: DesignResult) -> list[str]:
    """The published comparisons behind the term of KV heads; none where the law has its own."""
    if sees_grouping(result.law):
        return [page.notes([f"Law {result.law.name} has KV heads among its variables."])]
    effect = grouping_effect()
    rows = [
        (
            each.source, each.models, f"{each.before:g} → {each.after:g}",
            f"{100 * each.per_doubling:+.2f} %".replace("-", "−"), each.measured,
        )
        for each in effect.evidence
    ]  # fmt: skip
    header = ("source", "models", "query heads per KV head", "loss per doubling", "measured")
    spread = f"{100 * effect.sd:.2f}"
    return [
        page.table(header, rows),
        page.notes(
            [
                f"The next model's effect per doubling is taken as {100 * effect.mean:+.2f} % of "
                f"the loss with standard deviation {spread} % ({effect.degrees_of_freedom} degrees "
                "of freedom): the spread over sources, as a prediction for one more."
            ]
        ),
    ]


def _all_notes(result: DesignResult) -> list[str]:
    by_pick = [f"{', '.join(roles)}: {note}" for note, roles in roles_by_note(result).items()]
    return [*dict.fromkeys(result.notes), *by_pick]
