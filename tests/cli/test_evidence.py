"""`suffice evidence` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from suffice.cli.main import app
from tests.recipes.evidence.registries import make


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["evidence", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_list_show_run_report(tmp_path: Path) -> None:
    root = ("--root", str(make(tmp_path / "clone")))
    assert "1 not tested" in said("list", *root)
    assert "three: verified, was not tested" in said("run", "--fast", *root)
    listed = said("list", *root)
    assert "3.0 [2.5, 3.5]" in listed
    assert "current" in listed
    (facts,) = json.loads(said("list", "--json", "--topic", "adaptive", *root))
    assert facts["verdict"] == "verified"
    assert facts["figures"][0]["n"] == 7
    assert said("list", "--topic", "shape", *root).startswith("name")
    shown = said("show", "three", *root)
    assert "*Scale*: One count (run; parameters: 100, in the paper 100 to 1B)." in shown
    assert "Holds if the lower end of *count* is above 2." in shown
    assert json.loads(said("show", "three", "--json", *root))["result"] == "current"
    out = tmp_path / "out"
    said("report", "--out", str(out), *root)
    page = (out / "evidence.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "Three is more than two" in page
    assert "http-equiv" not in page
    assert "## Sources" in (out / "evidence.md").read_text(encoding="utf-8")


def test_an_unknown_topic_is_an_error(tmp_path: Path) -> None:
    root = str(make(tmp_path))
    done = CliRunner().invoke(app, ["evidence", "list", "--topic", "cooking", "--root", root])
    assert done.exit_code != 0
    assert "known are shape, adaptive" in str(done.exception)
