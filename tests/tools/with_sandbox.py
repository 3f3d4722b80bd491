"""Scripted tools beside a real sandbox: the calls are in virtual time, programs really run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suffice.backends.fake import Script
from suffice.core.requests import Tool
from suffice.policies.registry import parse_policy
from suffice.tools.code_sandbox import Runner
from suffice.tools.protocol import ToolResult
from suffice.tools.servers import python
from tests.tools.scripted import Ran, Recorded, ask, echo

# One process for all programs of a test run; each program starts with nothing of the ones before.
# The limit is far from what a program takes here, on a loaded machine too.
RUNNER = Runner(limit_s=10.0, memory_bytes=512 << 20)
ENDLESS = Runner(limit_s=0.5, memory_bytes=512 << 20)  # of programs that never end


@dataclass
class WithSandbox(Recorded):
    """The tools of a scripted server, and `run_python`."""

    inner: Recorded = field(default_factory=lambda: Recorded(echo))

    def __post_init__(self) -> None:
        self.tools: tuple[Tool, ...] = (*self.inner.tools, python.server().tools[0])

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        if tool != "run_python":
            return await self.inner.call(tool, arguments)
        await asyncio.sleep(0.0)
        runner = ENDLESS if "while True" in arguments["code"] else RUNNER
        ran = runner.run(arguments["code"])
        return ToolResult(text=ran.output or "late", is_error=not ran.passed)


def ask_program(
    policy: str,
    said: Sequence[str | Script] | Any,
    *,
    server: Recorded | None = None,
    **given: Any,
) -> Ran:
    """The request under the policy; `server` of what comes back is the scripted one."""
    inner = server or Recorded(echo)
    ran = ask(parse_policy(policy), said, server=WithSandbox(echo, inner=inner), **given)
    ran.server = inner
    return ran
