"""Figures, rules and scales in words."""

from __future__ import annotations

from collections.abc import Sequence

from suffice.recipes.evidence.claim import Claim, Condition, Measure, Scale
from suffice.recipes.evidence.registry import Registry
from suffice.recipes.evidence.verdict import NOT_SEEN, Figure, is_toy

BY = {
    "run": "run",
    "recorded": "computed from recorded answers",
    "predicted": "predicted, not measured",
    "simulated": "simulated clock, scripted model",
    "counted": "counted, nothing is run",
}
EFFECTS = {"supports": "supports it", "narrows": "narrows it", "overturns": "speaks against it"}


def number(value: float, measure: Measure) -> str:
    """A value with the measure's digits, without its unit."""
    return f"{value:,.{measure.digits}f}".replace("-", "−")


def figure_text(figure: Figure) -> str:
    """`41.1 % [31.0, 50.2]`."""
    measure = figure.measure
    unit = f" {measure.unit}" if measure.unit else ""
    text = f"{number(figure.estimate, measure)}{unit}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{number(figure.low, measure)}, {number(figure.high, measure)}]"


def n_text(figure: Figure) -> str:
    """`87 questions`, or a dash."""
    return "–" if figure.n is None else f"{figure.n:,} {figure.measure.of}".strip()


def scale_text(scale: Scale) -> str:
    """The first line of a claim: what was tested, how large, beside the paper's."""
    paper = "" if scale.paper is None else f", in the paper {_range(scale.paper)}"
    seen = scale.by not in NOT_SEEN
    small = " **Far smaller than the paper's.**" if is_toy(scale) and seen else ""
    return f"{scale.says} ({BY[scale.by]}; {scale.unit}: {_range(scale.ours)}{paper}).{small}"


def _range(pair: tuple[float, float]) -> str:
    least, most = (_short(each) for each in pair)
    return least if least == most else f"{least} to {most}"


def _short(value: float) -> str:
    """102720 as 103K, 7e9 as 7B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "K")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'K' else size):.3g}{letter}"
    return f"{value:,.4g}"


def rule_text(claim: Claim) -> list[str]:
    """The rule that gives the verdict, in one or two sentences."""
    measures = {each.name: each for each in claim.measures}
    found = []
    for word, conditions in (("Holds", claim.holds_if), ("Fails", claim.fails_if)):
        if conditions:
            parts = " and ".join(_condition_text(each, measures) for each in conditions)
            found.append(f"{word} if {parts}.")
    return found


def _condition_text(condition: Condition, measures: dict[str, Measure]) -> str:
    measure = measures[condition.measure]
    bound = {"estimate": "", "low": "the lower end of ", "high": "the upper end of "}
    limits = (
        ("above", condition.above),
        ("below", condition.below),
        ("above", condition.above_measure),
        ("below", condition.below_measure),
    )
    word, limit = next((word, limit) for word, limit in limits if limit is not None)
    if isinstance(limit, float | int):
        unit = f" {measure.unit}" if measure.unit else ""
        limit = f"{limit:g}{unit}".replace("-", "−")
    return f"{bound[condition.bound]}*{condition.measure}* is {word} {limit}"


def papers_text(registry: Registry, ids: Sequence[str]) -> str:
    """Papers with title, id and month, and how much of them was read."""
    return "; ".join(_paper(registry, each) for each in ids)


def _paper(registry: Registry, id_: str) -> str:
    source = registry.sources[id_]
    read = {
        "paper": "",
        "abstract": ", abstract only",
        "second-hand": ", second-hand",
        "title": ", title only",
    }[source.read]
    title = source.title if source.whole_title else f"{source.title} (title not found whole)"
    return f"{title} ([{id_}](https://arxiv.org/abs/{id_}), {source.date}{read})"


def newer_text(registry: Registry, claim: Claim) -> list[str]:
    """Later work, one line each."""
    return [
        f"{EFFECTS[each.effect]}: {_paper(registry, each.id)}: {each.says}" for each in claim.newer
    ]
