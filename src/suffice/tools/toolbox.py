"""Tools of several servers under one roof."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from suffice.core.errors import InputError
from suffice.core.requests import Request, Tool, ToolHints
from suffice.tools.measured import ToolTimes
from suffice.tools.protocol import ToolResult, ToolServer


class Toolbox:
    """The tools of `servers`; a ToolServer itself. Raises InputError where two share a name."""

    name = "toolbox"

    def __init__(self, servers: Sequence[ToolServer], *, times: ToolTimes | None = None) -> None:
        """`times`: where calls are measured, if others are to know of them."""
        self._servers = tuple(servers)
        self._times = ToolTimes() if times is None else times
        self._of: dict[str, ToolServer] = {}
        found: list[Tool] = []
        for server in self._servers:
            for tool in server.tools:
                if tool.name in self._of:
                    raise InputError(
                        f"two servers have a tool {tool.name!r}: {self._of[tool.name].name} and "
                        f"{server.name}; leave one of them out"
                    )
                self._of[tool.name] = server
                found.append(tool if tool.hints is not None else replace(tool, hints=ToolHints()))
        self._tools = tuple(found)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools, in the order of their servers."""
        return self._tools

    def hints(self, tool: str) -> ToolHints:
        """What is said of a tool's effects; nothing of one that there is not."""
        found = next((each.hints for each in self._tools if each.name == tool), None)
        return found or ToolHints()

    def equip(self, request: Request) -> Request:
        """The request with these tools beside its own. Raises InputError where names clash."""
        own = {tool.name for tool in request.tools}
        both = [tool.name for tool in self._tools if tool.name in own]
        if both:
            raise InputError(
                f"the request brings a tool {both[0]!r}, and so does {self._of[both[0]].name}; "
                "rename one"
            )
        tools = [replace(tool, measured=self._times.of(tool.name)) for tool in self._tools]
        return replace(request, tools=(*request.tools, *tools))

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """One call of the server that has the tool; how long it took is noted."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        result = await self._of[tool].call(tool, arguments)
        if not result.is_error:
            self._times.note(tool, clock() - began_s, len(result.text))
        return result

    async def aclose(self) -> None:
        """Close every server; the first error is raised once all are closed."""
        errors: list[Exception] = []
        for server in reversed(self._servers):
            try:
                await server.aclose()
            except Exception as error:  # noqa: BLE001 - the others are closed first
                errors.append(error)
        if errors:
            raise errors[0]
