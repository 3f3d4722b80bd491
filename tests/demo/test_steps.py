"""What a step prints goes where our own output goes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from suffice.quickstart.steps import run_step


def test_a_step_prints_where_we_print(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with out.open("w") as file, contextlib.redirect_stdout(file):
        run_step(["--version"])
    assert "suffice" in out.read_text()
