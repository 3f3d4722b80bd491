"""The HTML report of a design run."""

from __future__ import annotations

import json

from suffice import __version__
from suffice.recipes.design.plots import single_figures
from suffice.recipes.design.result import DesignResult
from suffice.recipes.design.table import (
    SERVING_COLUMNS,
    SHAPE_COLUMNS,
    roles_by_note,
    rows_of,
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
        "Small dots are the lattice that was searched. Head counts are not on this map: the law "
        "does not see them.",
        "batches": "A curve that stops early has filled the device's memory.",
        "kv": "The lowest loss is not the cheapest to serve: its KV cache per token is shown "
        "against the reference's.",
    }
    picks = list(result.picks)
    strong = [index for index, pick in enumerate(picks) if pick.role == "chosen"]
    sections = [
        page.cards(_cards(result)),
        page.heading("Shapes"),
        page.table(SHAPE_COLUMNS, rows_of(result, SHAPE_COLUMNS), strong=strong),
        page.table(SERVING_COLUMNS, rows_of(result, SERVING_COLUMNS), strong=strong),
        page.notes(_legend(result)),
        page.heading("Where they stand"),
        page.figures([page.FigureBlock(svg=drawn[k], caption=captions[k]) for k in captions]),
        page.heading("What the prediction does not know"),
        page.notes(_all_notes(result)),
        page.heading("The chosen config.json"),
        page.code(json.dumps(result.chosen.config(), indent=2)),
    ]
    config = result.config
    name = result.reference.shape.name or result.reference.shape.model_type
    classes = ", ".join(
        f"{c.input_tokens} in / {c.output_tokens} out" for c in config.requests.classes
    )
    return page.page(
        f"{name}, resized for {result.hardware.title}",
        f"{len(result.grid):,} shapes compared for {classes} tokens, objective "
        f"{config.objective}, {config.tokens:.3g} training tokens, law {result.law.name}.",
        sections,
        footer=f"suffice {__version__} · every number is a prediction unless marked as given",
    )


def _cards(result: DesignResult) -> list[page.Card]:
    chosen, reference = result.chosen, result.reference
    kv = chosen.kv_bytes_per_token(result.serving) / reference.kv_bytes_per_token(result.serving)
    cost = (
        chosen.prediction.usd_per_million_tokens / reference.prediction.usd_per_million_tokens - 1
    )
    return [
        page.Card(value=f"{chosen.speedup:.2f}×", label="tokens per second, chosen / reference"),
        page.Card(value=f"{cost:+.0%}", label="cost per million output tokens"),
        page.Card(value=f"{chosen.loss - reference.loss:+.4f}", label="predicted loss, nats"),
        page.Card(
            value=f"{result.config.confidence:.0%}",
            label=f"confidence that loss ≤ {result.target_loss:.3f} nats",
        ),
        page.Card(value=f"{kv:.2f}×", label="KV cache per token"),
        page.Card(
            value=f"{result.pick('point-estimate').speedup:.2f}×",
            label="if the law is taken at its word (50 %)",
        ),
    ]


def _legend(result: DesignResult) -> list[str]:
    low, high = 1 - result.config.confidence, result.config.confidence
    return [
        "loss-optimal: the lowest predicted loss at equal size, GQA as the reference's. "
        "point-estimate: the best by the objective whose predicted loss meets the target. "
        f"chosen and runners-up: the best whose loss meets it with {high:.0%} probability.",
        f"interval: the {low:.0%} and {high:.0%} bounds of the loss, given the reference's; "
        "a question mark says that the upper bound is above the target.",
        f"The reference's loss is {result.anchor.basis}.",
        f"Noise of the law: {result.law.noise.basis}." if result.law.noise else
        "The law's interval comes from its bootstrap draws.",
    ]  # fmt: skip


def _all_notes(result: DesignResult) -> list[str]:
    by_pick = [f"{', '.join(roles)}: {note}" for note, roles in roles_by_note(result).items()]
    return [*dict.fromkeys(result.notes), *by_pick, *(f"Erratum: {e}" for e in result.law.errata)]
