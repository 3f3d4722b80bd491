"""The whole demonstration, small: every figure against what the engines counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.demo.page import rows_of, sentences, write_demo
from suffice.demo.result import Demo
from suffice.demo.run import DemoConfig, run_demo

# With so few questions a limit of 6 points is what can be shown.
SMALL = DemoConfig(calibrated=200, asked=60, limit=6.0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, Path, list[str]]:
    out = tmp_path_factory.mktemp("demo")
    told: list[str] = []
    return run_demo(SMALL, out, tell=told.append), out, told


def test_one_set_is_certified_and_the_other_refused(demo: tuple[Demo, Path, list[str]]) -> None:
    found, _, _ = demo
    assert found.trusted.policy is not None
    assert found.trusted.policy.certificate.data.certify_questions == 200
    assert found.refused.policy is None


def test_the_ledger_says_what_the_engines_counted(demo: tuple[Demo, Path, list[str]]) -> None:
    part = demo[0].trusted
    after = part.others[-1]
    assert part.reported_saved == pytest.approx(part.saved(after), abs=0.05)
    assert 0.2 < part.saved(after) < 0.95
    assert sum(after.by_model.values()) == part.questions == 60


def test_who_answered_is_who_the_engines_saw(demo: tuple[Demo, Path, list[str]]) -> None:
    for part in (demo[0].trusted, demo[0].refused):
        assert part.baseline.by_model == {"Llama-3.1-405B-Instruct": 60}
        assert set(part.others[-1].by_model) > {"Llama-3.1-405B-Instruct"}


def test_every_step_is_an_ordinary_command(demo: tuple[Demo, Path, list[str]]) -> None:
    commands = [line.strip() for line in demo[2] if line.strip().startswith("$ ")]
    verbs = [command.split()[2] for command in commands]
    assert verbs[:2] == ["record", "calibrate"]
    assert set(verbs) == {"record", "calibrate", "serve"}


def test_page_picture_and_figures(demo: tuple[Demo, Path, list[str]], tmp_path: Path) -> None:
    paths = write_demo(demo[0], tmp_path)
    html = paths["html"].read_text(encoding="utf-8")
    for question in (
        "What did it save?",
        "Against what?",
        "How sure is it?",
        "What would break it?",
    ):
        assert question in html
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    figures = json.loads(paths["json"].read_text())
    assert figures["parts"][0]["ways"][0]["questions"] == 60
    assert len(rows_of(demo[0].trusted)) == 4
    assert any("refused" in text for text in sentences(demo[0]))


def test_json_is_all_that_is_printed(
    demo: tuple[Demo, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(_config: object, _out: Path, tell: Callable[[str], None]) -> Demo:
        print("a step says something of its own")
        tell("and the demonstration too")
        return demo[0]

    monkeypatch.setattr("suffice.cli.demo.run_demo", ran)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["parts"]) == 2
    assert "of its own" in done.stderr
