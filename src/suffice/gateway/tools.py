"""Tools that the gateway runs: the operator names MCP servers, a request chooses among them.

    [tools]                                     {"suffice": {"policy": "dag", "tools": ["search"]}}
    servers = "mcp.json"

A server is connected by the first request that names it, and is shared by all that follow. Its
calls have the gateway's rights, not the client's: a server that is in the file is for everybody who
may ask the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.core.settings import STRICT, About
from suffice.executors.tool_calls import ToolLimits
from suffice.gateway.config_errors import BadSetting
from suffice.policies.tool_plan.choose import Choose
from suffice.policies.tool_plan.futures import Futures
from suffice.policies.tool_plan.planned import PlanFirst
from suffice.policies.tool_plan.program import Program
from suffice.policies.tool_plan.react import React
from suffice.policies.wrapper import Composed
from suffice.tools.measured import ToolTimes
from suffice.tools.toolbox import Toolbox

if TYPE_CHECKING:  # the SDK is an extra
    from suffice.tools.mcp import McpServer, ServerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsConfig:
    """`[tools]`: MCP servers that a request may name; none while `servers` is not given."""

    __pydantic_config__ = STRICT
    servers: Annotated[
        str | None,
        About("file of MCP servers (mcpServers) that requests may name", example="mcp.json"),
    ] = None
    always: Annotated[
        tuple[str, ...],
        About(
            "servers of requests that name none, where the policy runs tools",
            example=["calculator"],
        ),
    ] = ()
    timeout_s: Annotated[float, Gt(0), About("one attempt of one call")] = 30.0
    retries: Annotated[
        int, Ge(0), About("further attempts where a call that changes nothing lost its server")
    ] = 1
    result_chars: Annotated[int, Gt(0), About("of a result; longer ones are cut")] = 16_000
    at_once: Annotated[int, Ge(1), About("calls of one request that run beside each other")] = 16

    @property
    def limits(self) -> ToolLimits:
        """What one call may take."""
        return ToolLimits(
            timeout_s=self.timeout_s,
            retries=self.retries,
            result_chars=self.result_chars,
            at_once=self.at_once,
        )


def runs_tools(policy: AnyPolicy) -> bool:
    """Whether every part of a policy knows what to do with tools that are run here."""
    if isinstance(policy, Choose | React | PlanFirst | Futures | Program):
        return True
    return isinstance(policy, Composed) and all(runs_tools(part) for part in policy.parts)


class ServerTools:
    """The servers of the operator's file, connected when they are first asked for."""

    def __init__(self, config: ToolsConfig) -> None:
        """Reads the file. Raises InputError for one that cannot be used."""
        self.config = config
        self._entries: dict[str, ServerEntry] = {}
        self._open: dict[str, McpServer] = {}
        self._opening = asyncio.Lock()
        self._times = ToolTimes()  # of all requests: `choose` goes by them
        if config.servers is not None:
            from suffice.tools.mcp import mcp_servers  # noqa: PLC0415 - the SDK is an extra

            self._entries = mcp_servers(Path(config.servers))
        unknown = [name for name in config.always if name not in self._entries]
        if unknown:
            there = ", ".join(self._entries) or "none"
            raise BadSetting(
                "tools.always", InputError(f"there is no server {unknown[0]!r} (there are {there})")
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Servers that a request may name."""
        return tuple(self._entries)

    async def toolbox(
        self, asked: Sequence[str] | None, policy: AnyPolicy, *, choices: int
    ) -> Toolbox | None:
        """The tools of the servers that a request names. Raises InputError, ToolLost."""
        if asked is None and runs_tools(policy):
            asked = self.config.always
        if not asked:
            return None
        if choices != 1:
            raise InputError(f"n: one choice where tools are run by the gateway, got {choices}")
        if not runs_tools(policy):
            raise InputError(
                f"tools: policy {policy.name} does not run any; react, rewoo, dag, futures, "
                "program, abstraction and choose do"
            )
        for name in asked:
            if name not in self._entries:
                there = f"there are {', '.join(self._entries) or 'none'}"
                raise InputError(
                    f"tools: no server {name[:80]!r} ({there}); the operator names them: [tools]"
                )
        servers = [await self._server(name) for name in dict.fromkeys(asked)]
        return Toolbox(servers, times=self._times)

    async def _server(self, name: str) -> McpServer:
        from suffice.tools.mcp import McpServer  # noqa: PLC0415 - the SDK is an extra

        async with self._opening:
            if name not in self._open:
                server = McpServer(name, self._entries[name])
                try:
                    await server.open()
                except BaseException:
                    await server.aclose()  # not half connected; the error goes on
                    raise
                self._open[name] = server
            return self._open[name]

    async def aclose(self) -> None:
        """Disconnect; processes that were started are ended."""
        servers, self._open = list(self._open.values()), {}
        for server in servers:
            await server.aclose()
