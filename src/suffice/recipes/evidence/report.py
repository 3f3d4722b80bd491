"""The report: one page first for a busy reader, then every claim; Markdown and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from suffice.core.files import write_text
from suffice.recipes.evidence.claim import TOPICS, Claim
from suffice.recipes.evidence.freshness import Freshness, freshness
from suffice.recipes.evidence.registry import Registry, Source
from suffice.recipes.evidence.verdict import Judged, judge
from suffice.recipes.evidence.wording import (
    figure_text,
    n_text,
    newer_text,
    papers_text,
    rule_text,
    scale_text,
)

WORDS = ("verified", "toy, holds", "inconclusive", "toy, fails", "falsified", "not tested")
MEANINGS = {
    "verified": "holds in a test at the paper's own size, or by counting",
    "toy, holds": "holds in a test a tenth of the paper's size or less, or where nothing was run",
    "inconclusive": "the figures do not tell",
    "toy, fails": "fails in such a small test; the paper's own figures may stand",
    "falsified": "fails at the paper's size, or one counter-example refutes a claim about all",
    "not tested": "no test of ours; what one would take is said",
}


FRONT = """\
# Evidence

What is said about efficient inference, each claim with a test that anyone can run, a number with
an interval, and a verdict that follows from the number by a rule fixed in the claim's file
(`data/evidence/claims`). This page is made by `suffice evidence report --out DIR`: verdicts and
tables are computed, the sentences beside them are written by hand.

| verdict | claims | means |
|---|--:|---|
{meanings}

Most tests are small: models of .1 to 135 million parameters, puzzles, recorded answers. A small
test can show that a claim is not true of every model, and that a mechanism exists. It cannot
confirm a figure of a large model, and *toy* says so. Rules were written down after many of the
results were known: their limits are no proof of foresight, and stand beside each claim to be
argued with. Intervals are of 95 % unless a claim says otherwise. Papers were mostly read as
abstracts; [the list of sources](#sources) says which.

```console no-run
$ suffice evidence list             # verdicts, and which results are older than their code
$ suffice evidence show NAME        # one claim: source, test, figures, rule
$ suffice evidence run --fast       # test again what fits a CPU: {minutes} quiet minutes
$ suffice evidence run NAME
```

## In one page

What became of each constraint is read from papers ([below](#what-became-of-each-constraint)); the
counts are of our own tests.

"""
CONSTRAINTS = """\
## What became of each constraint

The questions behind this registry ask of each constraint whether newer models, engines or
hardware relaxed, kept, narrowed or inverted it. This part reads papers, mostly their abstracts.
It measures nothing; the claims that it names do.
"""
QUESTIONS = """\
## The two research questions
"""
SOURCES = """\
## Sources

*read*: how much of it was seen for this page; title: its title and id alone.

| arXiv | month | title | read |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A claim with its verdict and the age of its result."""

    name: str
    claim: Claim
    judged: Judged
    freshness: Freshness


def entries(registry: Registry) -> list[Entry]:
    """Every claim judged, by topic."""
    order, known = list(TOPICS), dict[str, str]()
    found = [
        Entry(
            name=name, claim=claim, judged=judge(claim, registry.root),
            freshness=freshness(registry.root, name, claim, known),
        )
        for name, claim in registry.claims.items()
    ]  # fmt: skip
    return sorted(found, key=lambda each: (order.index(each.claim.topic), each.name))


def counts(found: Sequence[Entry]) -> dict[str, int]:
    """How many claims have each verdict, in the order of `WORDS`."""
    by_word = Counter(each.judged.word for each in found)
    return {word: by_word[word] for word in WORDS}


def headline_figure(entry: Entry) -> str:
    """The first figure of a claim, for tables."""
    if not entry.judged.figures:
        return "–"
    return figure_text(entry.judged.figures[0])


def headline_n(entry: Entry) -> str:
    """Rows behind the first figure."""
    return n_text(entry.judged.figures[0]) if entry.judged.figures else "–"


def markdown(registry: Registry, found: Sequence[Entry]) -> str:
    """The whole report. The age of results is not in it: `suffice evidence list` says it."""
    parts = [*_front(registry, found), *_constraints(registry), *_questions(registry, found)]
    parts += _claims(registry, found)
    return "\n".join([*parts, *_sources(registry)]).rstrip() + "\n"


def write_report(registry: Registry, found: Sequence[Entry], out: Path, html: str) -> list[Path]:
    """Both pages in a folder, and their paths."""
    paths = [out / "evidence.md", out / "evidence.html"]
    write_text(paths[0], markdown(registry, found))
    write_text(paths[1], html)
    return paths


def _front(registry: Registry, found: Sequence[Entry]) -> list[str]:
    number = counts(found)
    meanings = [f"| {word} | {number[word]} | {MEANINGS[word]} |" for word in WORDS]
    tests = [each.claim.test for each in found if each.claim.test]
    budgets = {test.command: test.budget_s for test in tests if test.fast}
    minutes = ceil(sum(budgets.values()) / 60)
    lines = FRONT.format(meanings="\n".join(meanings), minutes=minutes).splitlines()
    effects = {each.topic: each.effect for each in registry.constraints}
    lines += [f"| topic | its constraint is | {' | '.join(WORDS)} |"]
    lines += [f"|---|---|{'--:|' * len(WORDS)}"]
    for topic, title in TOPICS.items():
        by_word = counts([each for each in found if each.claim.topic == topic])
        cells = " | ".join(str(number or "") for number in by_word.values())
        lines.append(f"| {title} | {effects.get(topic, '')} | {cells} |")
    lines.append("")
    for word in WORDS[:-1]:
        chosen = [each for each in found if each.judged.word == word]
        if chosen:
            title = f"{word[0].upper()}{word[1:]}"
            lines += [f"**{title}**", "", "| claim | of what | figure | n |", "|---|---|--:|--:|"]
            lines += [
                f"| {_link(each)} | {each.claim.measures[0].says} | {headline_figure(each)} "
                f"| {headline_n(each)} |"
                for each in chosen
            ]
            lines.append("")
    untested = [_link(each) for each in found if each.judged.word == WORDS[-1]]
    if untested:
        lines += [f"**Not tested**: {', '.join(untested)}.", ""]
    return lines


def _link(entry: Entry) -> str:
    return f"[{entry.claim.title}](#{_anchor(entry)})"


def _constraints(registry: Registry) -> list[str]:
    lines = [*CONSTRAINTS.splitlines(), ""]
    for each in registry.constraints:
        lines += [
            f"### {each.constraint}: {each.effect}",
            "",
            f"- models: {each.models}",
            f"- engines: {each.engines}",
            f"- hardware: {each.hardware}",
            f"- where it still bites: {each.still_bites}",
            f"- strongest work against it: {each.against}",
            "",
        ]
    return lines


def _questions(registry: Registry, found: Sequence[Entry]) -> list[str]:
    by_name = {each.name: each for each in found}
    lines = [*QUESTIONS.splitlines(), ""] if registry.questions else []
    for each in registry.questions:
        claims = ", ".join(
            f"{_link(by_name[name])} ({by_name[name].judged.word})" for name in each.claims
        )
        lines += [
            f"### {each.question}",
            "",
            f"- exists: {each.exists}",
            f"- missing: {each.missing}",
            f"- first experiment: {each.experiment}",
            f"- found: {each.found}",
            f"- claims: {claims}",
            "",
        ]
    return lines


def _claims(registry: Registry, found: Sequence[Entry]) -> list[str]:
    lines = ["## Claim by claim", ""]
    for topic, title in TOPICS.items():
        chosen = [each for each in found if each.claim.topic == topic]
        if chosen:
            lines += [f"### {title}", ""]
        for each in chosen:
            lines += claim_lines(registry, each)
    return lines


def claim_lines(registry: Registry, entry: Entry) -> list[str]:
    """One claim: scale first, then verdict, figures, rule, sources, later work, gaps, command."""
    claim = entry.claim
    lines = [f"#### {claim.title}", ""]
    if claim.scale is not None:
        lines += [f"*Scale*: {scale_text(claim.scale)}", ""]
    elif claim.untested:
        lines += [f"*Scale*: no test of ours. {claim.untested}", ""]
    lines += [f"**{entry.judged.word}**: {claim.claim}", ""]
    if claim.reading:
        lines += [claim.reading, ""]
    if entry.judged.figures:
        lines += ["| figure | | value | n |", "|---|---|--:|--:|"]
        lines += [
            f"| {each.measure.name} | {each.measure.says} | {figure_text(each)} | {n_text(each)} |"
            for each in entry.judged.figures
        ]
        lines.append("")
    source = papers_text(registry, claim.papers) or "ours"
    lines += [f"- source: {source}. Published: {claim.published}"]
    lines += [f"- would confirm it: {claim.confirms}", f"- would refute it: {claim.refutes}"]
    if rules := rule_text(claim):
        lines += [f"- rule: {' '.join(rules)}"]
    lines += [f"- later work {line}" for line in newer_text(registry, claim)]
    lines += [f"- not grounded: {each}" for each in claim.not_grounded]
    if claim.test is not None:
        kind = "fast" if claim.test.fast else "from a committed result"
        lines += [f"- test ({kind}): `{claim.test.command}`, result `{claim.test.result}`"]
    return [*lines, ""]


def _sources(registry: Registry) -> list[str]:
    found = sorted(registry.sources.values(), key=lambda each: each.id)
    return [*SOURCES.splitlines(), *map(_source, found)]


def _source(source: Source) -> str:
    link = f"[{source.id}](https://arxiv.org/abs/{source.id})"
    title = source.title if source.whole_title else f"{source.title} (title not found whole)"
    return f"| {link} | {source.date} | {title} | {source.read} |"


def _anchor(entry: Entry) -> str:
    """The name of a claim's heading, as GitHub makes it."""
    kept = "".join(
        letter for letter in entry.claim.title.lower() if letter.isalnum() or letter in " -_"
    )
    return kept.replace(" ", "-")
