"""Functions as an MCP server, by the official SDK."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from suffice.core.errors import MissingExtra
from suffice.tools.functions import FunctionTools, text_of

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise MissingExtra.of("mcp", "tools", "MCP servers") from error


def mcp_server(tools: FunctionTools, *, delay_s: float = 0.0) -> MCPServer:
    """The functions as an `MCPServer`; each call takes `delay_s` longer, to try things out."""
    server = MCPServer(tools.name, log_level="WARNING")
    for tool in tools.tools:
        hints = tool.hints
        server.add_tool(
            _delayed(tools.function(tool.name), delay_s),
            name=tool.name,
            description=tool.description,
            structured_output=False,
            annotations=None
            if hints is None
            else ToolAnnotations(
                read_only_hint=hints.read_only,
                destructive_hint=hints.destructive,
                idempotent_hint=hints.idempotent,
                open_world_hint=hints.open_world,
            ),
        )
    return server


def _delayed(function: Callable[..., Any], delay_s: float) -> Callable[..., Any]:
    @functools.wraps(function)
    async def called(**arguments: Any) -> str:
        if delay_s:
            await asyncio.sleep(delay_s)
        try:
            if inspect.iscoroutinefunction(function):
                return text_of(await function(**arguments))
            return text_of(await asyncio.to_thread(function, **arguments))
        except Exception as error:  # noqa: BLE001 - clients are told of this kind alone
            raise ToolError(f"{type(error).__name__}: {error}") from None

    signature = inspect.signature(function, eval_str=True)
    called.__signature__ = signature.replace(return_annotation=str)  # type: ignore[attr-defined]
    called.__annotations__ = {
        name: parameter.annotation for name, parameter in signature.parameters.items()
    } | {"return": str}
    return called
