"""MCP servers through the official SDK: in this process, stdio, HTTP; and when they die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from suffice.backends.fake import FakeBackend, Script
from suffice.core.errors import InputError
from suffice.executors.live import run
from suffice.executors.tool_calls import ToolLimits
from suffice.policies.tool_plan.planned import Rewoo
from suffice.tools.functions import FunctionTools, tool_hints
from suffice.tools.mcp import ServerEntry, connected, mcp_servers
from suffice.tools.protocol import ToolLost
from suffice.tools.servers import calculator, search
from suffice.tools.servers.mcp_server import mcp_server
from tests.tools.scripted import question

ENV = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def entry(*args: str) -> ServerEntry:
    return ServerEntry(command=sys.executable, args=("-m", "suffice.tools.servers", *args), env=ENV)


def test_in_this_process() -> None:
    documents = search.Documents([("dogs", "Dogs bark.")])

    async def main() -> None:
        servers = {"c": mcp_server(calculator.server()), "s": mcp_server(search.server(documents))}
        async with connected(servers) as box:
            first, second = box.tools
            assert (first.name, second.name) == ("calculate", "search")
            assert first.hints is not None and first.hints.is_private
            assert json.loads(second.parameters_json or "")["required"] == ["query"]
            assert (await box.call("calculate", {"expression": "6 * 7"})).text == "42"
            assert (await box.call("search", {"query": "bark"})).text == "dogs: Dogs bark."
            bad = await box.call("calculate", {"expression": "1/0"})
            assert bad.is_error and "divides by zero" in bad.text
            wrong = await box.call("search", {"count": 1})
            assert wrong.is_error

    asyncio.run(main())
    documents.close()


def test_a_plan_over_an_mcp_server_of_its_own_process() -> None:
    plan = "#E1 = calculate[6 * 7]\n#E2 = calculate[#E1 + 1]"

    async def main() -> None:
        async with connected({"c": entry("calculator")}) as box:
            outcome = await run(
                Rewoo(), question(), FakeBackend([Script.of(plan), Script.of("43")]), toolbox=box
            )
            assert [each.status for each in outcome.tool_records] == ["finished", "finished"]
            assert [each.result_chars for each in outcome.tool_records] == [2, 2]
        assert children() == []

    asyncio.run(main())


def test_a_server_that_dies_in_a_call_is_lost_and_started_again() -> None:
    async def main() -> None:
        async with connected({"c": entry("calculator", "--delay", "20")}) as box:
            call = asyncio.create_task(box.call("calculate", {"expression": "1"}))
            await asyncio.sleep(0.5)
            (process,) = children()
            os.kill(process, signal.SIGKILL)
            with pytest.raises(ToolLost, match="c was lost"):
                await asyncio.wait_for(call, 15)
            later = asyncio.create_task(box.call("calculate", {"expression": "1"}))
            while not children() or process in children():
                await asyncio.sleep(0.05)
            later.cancel()
        assert children() == []

    asyncio.run(main())


def test_a_call_that_hangs_ends_at_its_limit_and_leaves_no_process() -> None:
    backend = FakeBackend([Script.of("#E1 = calculate[1]"), Script.of("unknown")])

    async def main() -> None:
        async with connected({"c": entry("calculator", "--delay", "60")}) as box:
            outcome = await run(
                Rewoo(), question(), backend, toolbox=box, limits=ToolLimits(timeout_s=0.3)
            )
            (record,) = outcome.tool_records
            assert (record.status, outcome.completion.text) == ("failed", "unknown")
            assert record.reason == "calculate gave nothing within 0.3 s"
        assert children() == []

    asyncio.run(main())


def test_over_http_with_headers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "suffice.tools.servers", "calculator", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    async def main() -> None:
        url = f"http://127.0.0.1:{port}/mcp"
        for _ in range(200):
            try:
                async with connected({"c": ServerEntry(url=url, headers={"x-key": "k"})}) as box:
                    assert (await box.call("calculate", {"expression": "2 ** 5"})).text == "32"
                    return
            except ToolLost:
                await asyncio.sleep(0.1)
        raise AssertionError("the server never came up")

    try:
        asyncio.run(main())
    finally:
        server.terminate()
        server.wait(20)


def test_a_server_that_is_not_there() -> None:
    async def main() -> None:
        async with connected({"x": ServerEntry(command="/no/such/program")}):
            pass

    with pytest.raises(ToolLost, match="MCP server x cannot be used"):
        asyncio.run(main())


def test_hints_that_are_not_given_are_unknown() -> None:
    @tool_hints()
    def act(what: str) -> str:
        """Acts."""
        return what

    async def main() -> None:
        async with connected({"a": mcp_server(FunctionTools([act]))}) as box:
            assert not box.hints("act").is_repeatable

    asyncio.run(main())


def test_the_usual_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    file = tmp_path / "mcp.json"
    file.write_text(
        json.dumps(
            {
                "mcpServers": {
                    "a": {"command": "python", "args": ["-m", "x"], "env": {"K": "${A_KEY}"}},
                    "b": {"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"h": "v"}},
                    "c": {"command": "x", "disabled": True},
                }
            }
        )
    )
    found = mcp_servers(file)
    assert list(found) == ["a", "b"]
    assert found["a"].env == {"K": "secret"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", 'must hold {"mcpServers"'),
        ('{"mcpServers": {"a": {}}}', "server a needs a command or a url"),
        ('{"mcpServers": {"a": {"command": "x", "url": "y"}}}', "and not both"),
        ('{"mcpServers": {"a": {"comand": "x"}}}', "server a: comand"),
        ('{"mcpServers": {"a": {"command": "${NO_SUCH_VARIABLE}"}}}', "NO_SUCH_VARIABLE; set it"),
        ("{", "mcp.json"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        mcp_servers(file)
    assert said in str(caught.value)


def children() -> list[int]:
    """Tool servers that this process has started and that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (process / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == os.getpid() and b"suffice.tools.servers" in words:
            found.append(int(process.name))
    return found
