"""The report as one HTML file: verdicts by topic, each figure beside the limits of its rule."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from suffice.recipes.evidence.claim import TOPICS, Claim
from suffice.recipes.evidence.registry import Registry
from suffice.recipes.evidence.report import (
    MEANINGS,
    WORDS,
    Entry,
    counts,
    headline_figure,
    headline_n,
)
from suffice.recipes.evidence.verdict import Figure
from suffice.recipes.evidence.wording import (
    figure_text,
    n_text,
    newer_text,
    papers_text,
    rule_text,
    scale_text,
)
from suffice.report import page, style

COLOURS = {
    "verified": style.GREEN,
    "toy, holds": style.TEAL,
    "inconclusive": style.FAINT,
    "toy, fails": style.AMBER,
    "falsified": style.RED,
    "not tested": style.MUTED,
}
WIDTH, HEIGHT = 420.0, 46.0


def html(registry: Registry, found: Sequence[Entry]) -> str:
    """The whole document; needs no network."""
    number = counts(found)
    stale = sum(each.freshness.stale for each in found)
    cards = [page.Card(value=str(number[word]), label=word) for word in WORDS]
    cards.append(page.Card(value=str(stale), label="results older than their code"))
    rows = [
        (each.claim.title, each.judged.word, headline_figure(each), headline_n(each),
         each.freshness.word.partition(":")[0] if each.claim.test else "–")
        for each in found
    ]  # fmt: skip
    sections = [
        page.cards(cards),
        page.figures(
            [page.FigureBlock(svg=verdicts_svg(found), caption="Verdicts by topic.")],
            columns=False,
        ),
        page.table(("claim", "verdict", "figure", "n", "result"), rows),
        page.notes([f"{word}: {MEANINGS[word]}" for word in WORDS]),
        *(part for each in found for part in _claim(registry, each)),
    ]
    return page.page(
        "Evidence: what holds of what is said about efficient inference",
        "Each claim with a test, an interval, and a verdict that follows from its rule.",
        sections,
        footer="Made by suffice evidence report. Papers were mostly read as abstracts.",
    )


def _claim(registry: Registry, entry: Entry) -> list[str]:
    claim = entry.claim
    scale = scale_text(claim.scale) if claim.scale else f"No test of ours. {claim.untested}"
    parts = [page.heading(claim.title), page.notes([scale.replace("**", "")])]
    said = [f"{entry.judged.word}: {claim.claim}", *([claim.reading] if claim.reading else [])]
    if entry.judged.figures:
        blocks = [
            page.FigureBlock(
                svg=figure_svg(claim, each),
                caption=f"{each.measure.name}: {each.measure.says}; {figure_text(each)}, "
                f"n {n_text(each)}",
            )
            for each in entry.judged.figures
        ]
        parts.append(page.figures(blocks))
    said += [f"published: {claim.published}", *rule_text(claim)]
    said += [f"source: {papers_text(registry, claim.papers) or 'ours'}"]
    said += [f"later work {line}" for line in newer_text(registry, claim)]
    said += [f"not grounded: {each}" for each in claim.not_grounded]
    if claim.test is not None:
        said += [f"test: {claim.test.command}", f"result: {entry.freshness.word}"]
    return [*parts, page.notes(said)]


def figure_svg(claim: Claim, figure: Figure) -> str:
    """An estimate with its interval, and the limits of the rule: green holds, red fails."""
    limits = [
        (each.above if each.above is not None else each.below, colour)
        for conditions, colour in ((claim.holds_if, style.GREEN), (claim.fails_if, style.RED))
        for each in conditions
        if each.measure == figure.measure.name
    ]
    drawn = [(limit, colour) for limit, colour in limits if limit is not None]
    low = figure.estimate if figure.low is None else figure.low
    high = figure.estimate if figure.high is None else figure.high
    ends = [low, high, figure.estimate, *(limit for limit, _ in drawn)]
    spread = max(ends) - min(ends) or abs(figure.estimate) or 1.0
    left = min(ends) - 0.12 * spread

    def x(value: float) -> float:
        return WIDTH * (value - left) / (1.24 * spread)

    middle = HEIGHT / 2
    lines = "".join(
        f'<line x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="4" y2="{HEIGHT - 16:.0f}" '
        f'stroke="{colour}" stroke-dasharray="3 3"/>'
        f'<text x="{x(limit):.1f}" y="{HEIGHT - 4:.0f}" font-size="10" fill="{colour}" '
        f'text-anchor="middle">{limit:g}</text>'
        for limit, colour in drawn
    )
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" width="100%" '
        f'role="img" aria-label="{escape(figure_text(figure))}">{lines}'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle - 8:.0f}" y2="{middle - 8:.0f}" '
        f'stroke="{style.BLUE}" stroke-width="3"/>'
        f'<circle cx="{x(figure.estimate):.1f}" cy="{middle - 8:.0f}" r="5" '
        f'fill="{style.BLUE}"/></svg>'
    )


def verdicts_svg(found: Sequence[Entry]) -> str:
    """A bar for each topic, one part for each verdict."""
    topics = [topic for topic in TOPICS if any(each.claim.topic == topic for each in found)]
    with style.house_style():
        figure = style.new_figure(9.0, 0.34 * len(topics) + 1.0, margins=(0.36, 0.09, 0.99, 0.9))
        axes = figure.subplots()
        for row, topic in enumerate(reversed(topics)):
            start = 0
            for word in WORDS:
                number = sum(
                    each.claim.topic == topic and each.judged.word == word for each in found
                )
                axes.barh(row, number, left=start, height=0.7, color=COLOURS[word])
                start += number
        axes.set_yticks(range(len(topics)), [TOPICS[topic] for topic in reversed(topics)])
        handles = [axes.barh(0, 0, color=COLOURS[word], label=word) for word in WORDS]
        figure.legend(handles=handles, ncols=len(WORDS), loc="upper center")
        return style.to_svg(figure)
