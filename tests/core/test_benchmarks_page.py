"""The list of benchmarks names each of them and only files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_benchmark_is_listed_once() -> None:
    folder = ROOT / "benchmarks"
    listed = re.findall(r"\]\(([\w/]+\.py)\)", (folder / "README.md").read_text(encoding="utf-8"))
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
    assert sorted(listed) == sorted(there)
