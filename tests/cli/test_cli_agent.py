"""`suffice agent` over a real MCP server, against an engine on a real socket."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.testing import FakeEngine, Reply


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    file = tmp_path / "mcp.json"
    server = {
        "command": sys.executable,
        "args": ["-m", "suffice.tools.servers", "calculator"],
        "env": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    }
    file.write_text(json.dumps({"mcpServers": {"calculator": server}}))
    return file


def replies(policy: str):
    if policy.startswith("react"):
        return [
            Reply(tool_call=("calculate", '{"expression": "6 * 7"}'), finish_reason="tool_calls"),
            Reply.saying("it is 42"),
        ]
    return [Reply.saying("#E1 = calculate[6 * 7]"), Reply.saying("it is 42")]


@pytest.mark.parametrize("policy", ["react", "rewoo"])
def test_a_question_with_a_call(policy: str, tools: Path) -> None:
    left = replies(policy)
    with FakeEngine(lambda *_: left.pop(0)) as engine:
        asked = ["agent", "what is 6 * 7?", "--tools", str(tools), "--upstream", engine.url]
        found = CliRunner().invoke(app, [*asked, "--policy", policy, "--json"])
    assert found.exit_code == 0, found.output
    answer = json.loads(found.output)
    assert answer["answer"] == "it is 42"
    (call,) = answer["suffice"]["tools"]
    assert (call["tool"], call["status"], call["result_chars"]) == ("calculate", "finished", 2)


def test_the_view_shows_the_plan(tools: Path) -> None:
    left = [
        Reply.saying("#E1 = calculate[6 * 7]\n#E2 = calculate[#E1 + 1]"), Reply.saying("it is 43"),
    ]  # fmt: skip
    with FakeEngine(lambda *_: left.pop(0)) as engine:
        asked = ["agent", "what?", "--tools", str(tools), "--upstream", engine.url]
        found = CliRunner().invoke(app, [*asked, "--policy", "rewoo"])
    assert found.exit_code == 0, found.output
    shown = " ".join(found.output.split())
    assert "2 calculate" in shown and '{"expression": "42 + 1"}' in shown
    assert "it is 43" in shown and "2 calls" in shown


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text("{}")
    asked = ["agent", "what?", "--tools", str(file), "--upstream", "http://127.0.0.1:9/v1"]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code != 0
    assert "mcpServers" in found.output + str(found.exception)
