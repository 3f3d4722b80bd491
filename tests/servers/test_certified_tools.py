"""A way to call tools is certified against another, as anything else that answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from suffice.gateway.config_file import load_config
from suffice.gateway.tools import ToolsConfig
from suffice.policies.policy_file import PolicyFile
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.test_gateway_tools import mcp_file
from tests.servers.test_record_cli import suffice
from tests.servers.tools import Tools

pytest.importorskip("mcp")
pytest.importorskip("pyarrow.parquet")
QUESTIONS = 60


def planner(number: int, body: dict[str, Any]) -> Reply:
    """Right in turns and with a plan; its plans are read by nobody else."""
    turns = body["messages"]
    asked = next(turn["content"] for turn in turns if turn["role"] == "user")
    a, b = re.findall(r"\d+", asked)[:2]
    if turns[0]["role"] == "system" and "Plan the calls" in turns[0]["content"]:
        return Reply.saying(f"#E1 = calculate[{a} + {b}]")
    if body.get("tools") and turns[-1]["role"] != "tool":
        call = ("calculate", json.dumps({"expression": f"{a} + {b}"}))
        return Reply(tokens=(), tool_call=call, finish_reason="tool_calls")
    said = turns[-1]["content"]
    return Reply.saying(f"it is {re.findall(r'[0-9]+', said)[-1]}")


def test_a_plan_is_certified_against_turns_and_served(tools: type[Tools], tmp_path: Path) -> None:
    asked = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {n} + {n + 1}?", "target": 2 * n + 1} for n in range(QUESTIONS)]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recording, policy = tmp_path / "ways.parquet", tmp_path / "policy.json"
    servers = ToolsConfig(servers=mcp_file(tmp_path), always=("calculator",))
    with FakeEngine(planner) as engine:
        config = tools.config_for(engine.url, tools=servers)
        with tools.serving(config) as gateway:
            done = suffice(
                "record", "--dataset", asked, "--upstream", gateway, "--samples", 1, "--out",
                recording, "--top-logprobs", 0, "--model", "suffice/react", "--model",
                "suffice/rewoo", "--checker", "number",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            done = suffice(
                "calibrate", recording, "--max-drop", "10%", "--out", policy,
                "--baseline", "single@suffice/react", "--option", "single@suffice/rewoo",
                "--price", "suffice/react=2/8", "--price", "suffice/rewoo=.1/.4",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            file = PolicyFile.model_validate_json(policy.read_text())
            assert (file.option, file.baseline) == ("single@suffice/rewoo", "single@suffice/react")
            tested = file.certificate.tested
            assert (tested.harmed, tested.stopped == tested.n > 29) == (0, True)
            settings = tmp_path / "suffice.toml"
            settings.write_text(
                f'policy = "policy.json"\n[[upstream]]\nurl = "{gateway}/v1"\n'
                '[ledger]\nurl = "none"\n'
            )
            with tools.serving(load_config(settings)) as certified:
                body = {
                    "model": "suffice/auto",
                    "messages": [{"role": "user", "content": "What is 30 + 31?"}],
                }
                url = f"{certified}/v1/chat/completions"
                answer = httpx2.post(url, json=body, timeout=60.0).json()
    assert answer["choices"][0]["message"]["content"] == "it is 61"
    assert answer["suffice"]["certificate"]["status"] == "valid"
    assert [each["model"] for each in answer["suffice"]["samples"]] == ["suffice/rewoo"]
