"""docs/findings.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "findings.md").read_text()
NAMED = re.findall(r"`([\w/]+)(?:\.py)?(?::(test_\w+))?`", PAGE.partition("|---")[2])


def test_every_finding_is_in_the_table() -> None:
    rows = re.findall(r"^\| (\w+)", PAGE, re.MULTILINE)
    wanted = [f"G{n}" for n in range(1, 30)] + [
        "A1",
        "A2",
        "A3",
        "B1",
        "B3",
        "B4",
        "B5",
        "B6",
        "B7",
    ]
    assert not {*wanted, "B2a", "B2b", "B2c", "B8", "C"} - set(rows)


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_it_is_there(file: str, test: str) -> None:
    text = (ROOT / "tests" / f"{file}.py").read_text()
    assert f"def {test or 'test_'}" in text
