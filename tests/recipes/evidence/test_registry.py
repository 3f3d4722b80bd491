"""The registry is read strictly, covers both questions, and names its sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suffice.core.errors import ConfigError, UnknownName
from suffice.recipes.evidence.claim import PLACES
from suffice.recipes.evidence.registry import Registry, read_registry
from suffice.recipes.evidence.report import Entry, claim_lines, entries, markdown
from suffice.recipes.evidence.wording import scale_text
from tests.recipes.evidence.registries import make

ROOT = Path(__file__).resolve().parents[3]
ARXIV = re.compile(r"(?<![\d.])2[0-9](?:0[1-9]|1[0-2])\.[0-9]{5}(?!\d)")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return read_registry(ROOT)


@pytest.fixture(scope="module")
def judged(registry: Registry) -> list[Entry]:
    return entries(registry)


def test_every_note_and_bullet_has_a_claim(registry: Registry) -> None:
    covered = {place for claim in registry.claims.values() for place in claim.places}
    assert covered == set(PLACES)
    assert len(registry.claims) >= 30


def test_every_claim_is_tested_or_says_why_not(registry: Registry) -> None:
    for name, claim in registry.claims.items():
        if claim.test is None:
            assert claim.untested, name
        else:
            assert (ROOT / claim.test.result).is_file(), name
            for file in (*claim.test.depends, *claim.test.inputs):
                assert (ROOT / file).exists(), (name, file)


def test_fast_tests_fit_into_twenty_minutes(registry: Registry) -> None:
    tests = {
        claim.test.command: claim.test.budget_s
        for claim in registry.claims.values()
        if claim.test and claim.test.fast
    }
    assert sum(tests.values()) < 1200


def test_sources_have_the_month_of_their_id(registry: Registry) -> None:
    sources = registry.sources.values()
    assert all(ARXIV.fullmatch(each.id) for each in sources)
    assert all(each.date == f"20{each.id[:2]}-{each.id[2:4]}" for each in sources)
    assert all(len(each.title) > 5 for each in sources)


def test_every_paper_that_a_page_names_is_a_source(registry: Registry) -> None:
    """docs/, README and the registry itself."""
    known = set(registry.sources)
    pages = [
        *(ROOT / "docs").rglob("*.md"), *(ROOT / "data" / "evidence").rglob("*.toml"),
        ROOT / "README.md", ROOT / "CHANGELOG.md",
    ]  # fmt: skip
    missing = {
        (page.name, id_)
        for page in pages
        for id_ in ARXIV.findall(page.read_text(encoding="utf-8"))
        if id_ not in known
    }
    assert not missing, "add them to data/evidence/sources.toml, with title and date"


def test_the_page_is_what_the_registry_says_now(registry: Registry, judged: list[Entry]) -> None:
    """After a change: suffice evidence report --out DIR, then DIR/evidence.md to docs/."""
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert page == markdown(registry, judged)


def test_scale_stands_in_the_first_line_of_every_claim(
    registry: Registry, judged: list[Entry]
) -> None:
    for entry in judged:
        title, _, first, *_ = claim_lines(registry, entry)
        assert title.startswith("#### ")
        assert first.startswith("*Scale*: ")
        if entry.claim.scale is not None:
            assert scale_text(entry.claim.scale) in first


def test_papers_of_which_the_abstract_alone_was_read_say_so(
    registry: Registry, judged: list[Entry]
) -> None:
    for entry in judged:
        text = "\n".join(claim_lines(registry, entry))
        for id_ in entry.claim.papers:
            if registry.sources[id_].read == "abstract":
                assert re.search(rf"{id_}\), [\d-]+, abstract only", text), (entry.name, id_)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("published =", "publisht =", "publisht"),
        ('topic = "adaptive"', 'topic = "cooking"', "topic"),
        ('papers = ["2408.03314"]', 'papers = ["2408.00001"]', "is not in sources.toml"),
        ("above = 2", "above = 2\nbelow = 3", "exactly one of above, below"),
        ('measure = "count"', 'measure = "sum"', "the measures are count"),
        ('claim = "A', 'places = ["note 13"]\nclaim = "A', "place 'note 13'"),
        ("[scale]", "[test2]\nx = 1\n[scale]", "test2"),
    ],
)
def test_mistakes_in_a_claim_are_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    root = make(tmp_path)
    path = root / "data" / "evidence" / "claims" / "three.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(says)):
        read_registry(root)


def test_a_claim_without_a_test_says_what_one_would_take(tmp_path: Path) -> None:
    root = make(tmp_path)
    path = root / "data" / "evidence" / "claims" / "three.toml"
    path.write_text(path.read_text().split("[scale]")[0])
    with pytest.raises(ConfigError, match="what one would take"):
        read_registry(root)


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean three"):
        read_registry(make(tmp_path)).claim("thre")
    with pytest.raises(ConfigError, match="holds no data/evidence/claims"):
        read_registry(tmp_path / "nowhere")
