"""One word for one thing, in what users read: pages, help texts and the dashboard."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from suffice.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
# What was said once, and what docs/glossary.md says now.
INSTEAD = {
    r"safe arm": "baseline",
    r"cheap arm": "option",
    r"strong arm": "large model",
    r"uniform baseline": "baseline",
    r"\brungs?\b": "step (of a cascade)",
    r"by the law's word": "if the law is exactly right",
    r"point-estimate": "fastest",
    r"loss-optimal": "lowest loss",
    r"\bvoided\b": "switched off",
    r"drift watch": "monitor",
    r"clusters? of prompts": "question group",
    r"gone on with": "continued",
    r"question cluster|^, cluster |\bclusters? of questions": "question group",
    r"seconds of silence to bear": "give up after so many silent seconds",
    r"come before it\b": "override it",
    r"price lambda": "spending level",
    r"\bwishe?s?\b": "option",
    r"hands tied": "sandboxed",
    r"at its word": "exactly right",
    r"keep its word": "hold",
    r"sockets? (is|are) closed": "cancelled",
    r"settles? it:": "one short sentence for each case",
    r"more often than not": "in more than half",
    r"\bdeals? the\b|\bdealt\b": "gives",
    r"without discordance": "if the two never differ",
    r"gone? on and on": "does not stop",
    r"\bhelps \| does not help\b": "use it when | do not use it when",
}
# Pages for readers who know engines and no statistics: no sentence is longer. Statistics have a
# heading of their own.
MOST_WORDS = 40
SQL = re.compile(r"\b(SELECT|CREATE TABLE|INSERT|DROP TABLE|UPDATE)\b")
PLAIN = ("quickstart.md", "gateway.md", "policies.md", "traces.md", "replay.md", "certify.md")
FOR_SPECIALISTS = (
    "### For statisticians", "## While it runs", "## Does it hold?", "## Format, version",
    "## Departures from the papers",
)  # fmt: skip
# Shapes of the training ladder are its rungs; papers' own titles and history keep their words.
LADDER = "suffice ladder"
EXCUSED = {
    ("ladder.md", r"\brungs?\b"), ("measure.md", r"\brungs?\b"),
    ("policies/registry.py", r"\brungs?\b"),  # the name of the field in older files
}  # fmt: skip


def prose(text: str) -> str:
    """Without code: names in code are not words."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


def help_texts() -> Iterator[tuple[str, str]]:
    """(command, text) of every verb, its options and arguments."""

    def walk(name: str, command: object) -> Iterator[tuple[str, str]]:
        yield name, str(getattr(command, "help", "") or "")
        for parameter in getattr(command, "params", ()):
            if not getattr(parameter, "hidden", False):
                yield f"{name} {parameter.name}", str(getattr(parameter, "help", "") or "")
        for inner, sub in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {inner}", sub)

    command = typer.main.get_command(app)
    command.load_all()
    yield from walk("suffice", command)


def messages() -> Iterator[tuple[str, str]]:
    """(module, text) of what the code may say: sentences and their parts, no docstrings, no SQL."""
    package = ROOT / "src" / "suffice"
    for path in sorted(package.rglob("*.py")):
        name = str(path.relative_to(package))
        if "ladder" in name or name.startswith("training"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        parts = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(text)) if id(node) not in docs:
                    spoken = " " in text.strip() or id(node) in parts
                    if spoken and not SQL.search(text):
                        yield name, text


def faults(where: str, text: str) -> list[str]:
    return [
        f"{where}: {found.group()!r}: say {use}"
        for pattern, use in INSTEAD.items()
        if (where, pattern) not in EXCUSED and not (LADDER in where and "rung" in pattern)
        for found in re.finditer(pattern, text, flags=re.IGNORECASE)
    ]


def for_everyone(text: str) -> str:
    """A page without the parts that say by their heading whom they are for."""
    parts = re.split(r"(?m)^(?=##+ )", text)
    return "".join(part for part in parts if not part.startswith(FOR_SPECIALISTS))


def sentences(text: str) -> Iterator[str]:
    """Sentences outside code, tables and headings; a semicolon and a colon end one too."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "Code", text)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] |\s*\d+\. |\||#)", text):
        if not paragraph.lstrip().startswith(("|", "#")):
            yield from re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split()))


@pytest.mark.parametrize("page", PLAIN)
def test_sentences_are_short(page: str) -> None:
    text = for_everyone((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert not [each for each in sentences(text) if len(each.split()) > MOST_WORDS]


PAGES = {*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"}
MADE_OF_HELP = {ROOT / "docs" / "commands.md"}  # whose texts are judged verb by verb below


@pytest.mark.parametrize("page", sorted(PAGES - MADE_OF_HELP), ids=lambda page: page.name)
def test_pages_use_the_glossary(page: Path) -> None:
    assert not faults(page.name, prose(page.read_text(encoding="utf-8")))


def test_help_texts_use_the_glossary() -> None:
    found = [fault for where, text in help_texts() for fault in faults(where, text)]
    assert not found


def test_no_help_text_leaves_its_subject_to_the_options_name() -> None:
    """ "Of the split and the fit" says nothing; "Random seed of the split and the fit" does."""
    assert not [
        f"{where}: {text}"
        for where, text in help_texts()
        if re.match(r"(Of|Under|By|At|For) ", text)
    ]


def test_messages_use_the_glossary() -> None:
    found = [fault for where, text in messages() for fault in faults(where, text)]
    assert not found


def test_the_dashboard_uses_the_glossary() -> None:
    folder = ROOT / "src" / "suffice" / "gateway" / "dashboard"
    for file in ("index.html", "dashboard.js"):
        assert not faults(file, (folder / file).read_text(encoding="utf-8"))


def test_every_word_of_the_readme_is_explained() -> None:
    """The glossary's own words are in it once."""
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    for word in ("baseline", "accuracy limit", "certificate", "policy file", "recording", "saved"):
        assert glossary.count(f"**{word}") == 1, word


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
