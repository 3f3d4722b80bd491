"""The page of the code's layout names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:cli|gateway|backends|executors|ledger|evals|recipes|policies)/[\w/.]+)`")


def test_files_on_the_page_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = NAMED.findall(page)
    assert len(named) > 20
    assert [each for each in named if not (ROOT / "src" / "suffice" / each).exists()] == []
