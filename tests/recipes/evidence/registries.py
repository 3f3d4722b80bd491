"""A registry of one claim in a folder, for tests."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

CLAIM = """
title = "Three is more than two"
claim = "A count of three."
topic = "adaptive"
papers = ["2408.03314"]
published = "three"
confirms = "more than two"
refutes = "less than two"

[scale]
says = "One count"
unit = "parameters"
ours = [100, 100]
paper = [{paper}, 1e9]
by = "run"

[test]
command = "{command}"
result = "results/three.json"
fast = true
budget_s = 1
depends = ["count.py"]
inputs = ["given.txt"]

[[measures]]
name = "count"
says = "how many"
at = ["count"]

[[holds_if]]
measure = "count"
bound = "low"
above = 2

[[fails_if]]
measure = "count"
bound = "high"
below = 2
"""
SOURCES = """
[[source]]
id = "2408.03314"
title = "Scaling LLM Test-Time Compute Optimally"
date = "2024-08"
read = "abstract"
"""
COUNT = """
import json, sys
from pathlib import Path
number = float(Path("given.txt").read_text())
found = {"count": {"estimate": number, "low": number - 0.5, "high": number + 0.5, "n": 7}}
Path(sys.argv[1]).write_text(json.dumps(found))
"""


def make(root: Path, *, command: str = "python count.py OUT", paper: str = "100") -> Path:
    """The folder of a small registry; count.py writes the number in given.txt."""
    claims = root / "data" / "evidence" / "claims"
    claims.mkdir(parents=True)
    (claims / "three.toml").write_text(CLAIM.format(command=command, paper=paper))
    (root / "data" / "evidence" / "sources.toml").write_text(SOURCES)
    (root / "data" / "evidence" / "constraints.toml").write_text("constraint = []\n")
    (root / "count.py").write_text(dedent(COUNT))
    (root / "given.txt").write_text("3")
    return root
