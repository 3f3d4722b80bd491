"""Tools that the gateway runs: chosen by the request, recorded, on the receipt, streamed too."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from suffice.backends.fake import FakeBackend
from suffice.core.completions import Budget
from suffice.gateway.app import Gateway
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_file import load_config
from suffice.gateway.tools import ToolsConfig
from suffice.testing.fake_replies import Reply
from tests.servers.test_recording import Stack, stack
from tests.servers.tools import Tools

pytest.importorskip("mcp")
QUESTION = {"model": "fake", "messages": [{"role": "user", "content": "what is 6 * 7?"}]}
CALL = ("calculate", '{"expression": "6 * 7"}')
PLAN = "#E1 = calculate[6 * 7]\n#E2 = calculate[#E1 + 1]\n#E3 = calculate[1 / 0]"


def mcp_file(folder: Path) -> str:
    """The calculator over stdio, and a server that nobody may ask for: it cannot start."""
    path = folder / "mcp.json"
    servers = {
        "calculator": {
            "command": sys.executable,
            "args": ["-m", "suffice.tools.servers", "calculator"],
        },
        "broken": {"command": str(folder / "nothing")},
    }
    path.write_text(json.dumps({"mcpServers": servers}))
    return str(path)


def model(number: int, body: dict[str, Any]) -> Reply:
    """Plans where it is asked for a plan, calls where it is shown tools, else answers."""
    turns = body["messages"]
    if turns[0]["role"] == "system" and "Plan the calls" in turns[0]["content"]:
        numbered = '1. calculate("6 * 7")\n2. join()'
        return Reply.saying(numbered if "join()" in turns[0]["content"] else PLAN)
    if body.get("tools") and turns[-1]["role"] != "tool":
        return Reply(tokens=("let me see",), tool_call=CALL, finish_reason="tool_calls")
    said = turns[-1]["content"]
    return Reply.saying(f"it is {'42' if '42' in said else 'unknown'}")


@contextmanager
def running(tools: type[Tools], folder: Path, **settings: Any) -> Iterator[Stack]:
    given = {"tools": ToolsConfig(servers=mcp_file(folder)), "policy": "rewoo"} | settings
    with stack(tools, folder, model, **given) as found:
        yield found


def wish(policy: str | None = None, **fields: Any) -> dict[str, Any]:
    named = {} if policy is None else {"policy": policy}
    return QUESTION | {"suffice": {"tools": ["calculator"], **named}} | fields


@pytest.mark.parametrize("policy", ["react", "rewoo"])
def test_calls_are_run_recorded_and_on_the_receipt(
    tools: type[Tools], tmp_path: Path, policy: str
) -> None:
    with running(tools, tmp_path) as s:
        answer = s.ask(wish(policy)).json()
        (row,) = s.rows(1)
        state = s.get("/admin/state").json()
    message = answer["choices"][0]["message"]
    assert (message["content"], message.get("tool_calls")) == ("it is 42", None)
    assert answer["choices"][0]["finish_reason"] == "stop"
    shown = answer["suffice"]["tools"]
    kept = row["tool_rows"]
    assert [(each["tool"], each["status"]) for each in shown] == [
        (each["tool"], each["status"]) for each in kept
    ]
    assert kept[0]["status"] == "finished" and kept[0]["result_chars"] == 2
    assert (row["arm"], row["ending"]) == (policy, "answered")
    assert state["recent"][0]["tool_rows"][0]["tool"] == "calculate"
    # Beside the same calls in turns: a call without tools would not have known.
    saving = answer["suffice"]["saving"]
    assert saving["baseline"] == f"react@{QUESTION['model']}"
    basis = ("same", "calls") if policy == "react" else ("estimated", "turns")
    assert (saving["basis"], saving["method"]) == basis
    assert (answer["suffice"]["saved"] is None) == (policy == "react")
    assert row["saving_method"] == saving["method"]
    if policy == "rewoo":
        cited = {each["step"]: each["cites"] for each in kept}
        assert cited == {"1": "", "2": "1", "3": ""}
        # What a tool said is kept only where outputs are.
        (failed,) = [each for each in kept if each["step"] == "3"]
        assert (failed["status"], failed["reason"]) == ("failed", None)


@pytest.mark.parametrize("policy", ["react", "rewoo", "dag"])
def test_a_stream_shows_the_answer_and_none_of_the_calls(
    tools: type[Tools], tmp_path: Path, policy: str
) -> None:
    with running(tools, tmp_path) as s:
        body = wish(policy, stream=True)
        lines = s.ask(body).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    deltas = [each["choices"][0]["delta"] for each in events if each["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "it is 42"
    assert not any(delta.get("tool_calls") for delta in deltas)
    receipts = [each["suffice"] for each in events if each.get("suffice")]
    assert receipts[-1]["tools"][0]["tool"] == "calculate"
    assert lines[-2:] == ["data: [DONE]", ""] or "data: [DONE]" in lines[-3:]


def test_who_names_tools_alone_is_answered_in_turns(tools: type[Tools], tmp_path: Path) -> None:
    with running(tools, tmp_path, policy=None) as s:
        answer = s.ask(wish()).json()
    assert (answer["suffice"]["arm"], answer["suffice"]["tools"][0]["tool"]) == (
        "react",
        "calculate",
    )


def test_the_clients_own_calls_go_back_in_one_message(tools: type[Tools], tmp_path: Path) -> None:
    mine = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}

    def asks(number: int, body: dict[str, Any]) -> Reply:
        return Reply(tokens=(), tool_call=("mine", "{}"), finish_reason="tool_calls")

    settings = {"tools": ToolsConfig(servers=mcp_file(tmp_path)), "policy": "react"}
    with stack(tools, tmp_path, asks, **settings) as s:
        answer = s.ask(wish(tools=[mine])).json()
        own = {each["function"]["name"] for each in s.engine.seen.bodies[-1]["tools"]}
    assert own == {"mine", "calculate"}
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "mine"
    assert answer["suffice"]["tools"] == []


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (QUESTION | {"suffice": {"tools": ["shell"]}}, 400, "tools: no server 'shell' (there are"),
        (wish("self_consistency"), 400, "policy self_consistency does not run any"),
        (wish("react", n=2), 400, "n: one choice where tools are run"),
        (wish("bypass"), 400, "tools: bypass passes a request on"),
        (QUESTION | {"suffice": {"tools": ["broken"]}}, 502, "MCP server broken cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said(
    tools: type[Tools], tmp_path: Path, body: Any, status: int, said: str
) -> None:
    with running(tools, tmp_path) as s:
        answer = s.ask(body)
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True)
        assert s.ask(wish("rewoo")).status_code == 200  # the others go on


def test_the_operators_budget_and_the_clients(tools: type[Tools], tmp_path: Path) -> None:
    with running(tools, tmp_path, budget=Budget(tool_calls=1)) as s:
        kept = s.ask(wish("rewoo")).json()["suffice"]["tools"]
        asked = wish("rewoo")
        asked["suffice"]["budget"] = {"tool_calls": 0}
        none = s.ask(asked).json()["suffice"]["tools"]
    assert [each["attempts"] for each in kept].count(1) == 1
    assert all(each["attempts"] == 0 for each in none)


def test_the_file_names_servers_and_its_folder_counts(tmp_path: Path) -> None:
    mcp_file(tmp_path)
    path = tmp_path / "suffice.toml"
    path.write_text(
        '[tools]\nservers = "mcp.json"\ntimeout_s = 5\n[budget]\ntool_calls = 3\n'
        '[[upstream]]\nurl = "http://localhost:1/v1"\n'
    )
    config = load_config(path)
    assert config.tools.servers == str(tmp_path / "mcp.json")
    assert (config.tools.limits.timeout_s, config.budget.tool_calls) == (5, 3)


@pytest.mark.anyio
async def test_a_reload_takes_other_servers_and_leaves_the_rest(tmp_path: Path) -> None:
    gateway = Gateway(GatewayConfig(), [FakeBackend(["4"])], ())
    pool = gateway.service.pool
    gateway.apply(GatewayConfig(tools=ToolsConfig(servers=mcp_file(tmp_path))))
    assert gateway.service.tools.names == ("calculator", "broken")
    kept = gateway.service.tools
    gateway.apply(GatewayConfig(tools=ToolsConfig(servers=mcp_file(tmp_path)), max_choices=3))
    assert gateway.service.tools is kept
    assert gateway.service.pool is pool
    await gateway.aclose()
