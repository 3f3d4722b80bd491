"""Tools of MCP servers, through the official SDK (`mcp>=2`): stdio, streamable HTTP, in-process.

    async with await connected(mcp_servers(Path("mcp.json"))) as toolbox: …

The file is the usual one: {"mcpServers": {NAME: {"command": …, "args": […], "env": {…}} or
{"url": …, "headers": {…}}}}; `${VARIABLE}` stands for an environment variable.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from suffice.core.errors import InputError, MissingExtra
from suffice.core.files import read_json
from suffice.core.requests import Tool, ToolHints
from suffice.core.strict import Strict
from suffice.tools.protocol import ToolLost, ToolResult
from suffice.tools.toolbox import Toolbox

try:
    import httpx2
    from mcp import Client, MCPError, StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client
except ImportError as error:
    raise MissingExtra.of("mcp", "tools", "MCP servers") from error

logger = logging.getLogger("suffice.tools")

CONNECT_S = 20.0
CLOSE_S = 5.0
# Of the SDK: the connection ended, and a request took too long.
_CLOSED, _TIMED_OUT = -32000, -32001
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ServerEntry(Strict):
    """One server of the file: a command to start, or an address."""

    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    type: str | None = None  # stdio, http, streamable-http; told by the other fields
    disabled: bool = False


def mcp_servers(file: Path) -> dict[str, ServerEntry]:
    """The servers of an `mcpServers` file that are not disabled. Raises InputError."""
    found = read_json(file, what="file of MCP servers")
    listed = found.get("mcpServers") if isinstance(found, dict) else None
    if not isinstance(listed, dict):
        raise InputError(f'{file} must hold {{"mcpServers": {{NAME: …}}}}')
    entries: dict[str, ServerEntry] = {}
    for name, value in listed.items():
        try:
            entry = ServerEntry.model_validate(_expanded(value, name))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{file}: server {name}: {where}: {first['msg']}") from None
        if (entry.command is None) == (entry.url is None):
            raise InputError(f"{file}: server {name} needs a command or a url, and not both")
        if not entry.disabled:
            entries[name] = entry
    return entries


def _expanded(value: Any, name: str) -> Any:
    """A value with its environment variables."""

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise InputError(f"server {name} needs the environment variable {found[1]}; set it")
        return os.environ[found[1]]

    if isinstance(value, str):
        return _VARIABLE.sub(variable, value)
    if isinstance(value, list):
        return [_expanded(each, name) for each in value]
    if isinstance(value, dict):
        return {key: _expanded(each, name) for key, each in value.items()}
    return value


@asynccontextmanager
async def connected(servers: Mapping[str, ServerEntry | Any]) -> AsyncIterator[Toolbox]:
    """A toolbox of servers: entries of a file, or an `MCPServer` object that runs in this process.

    Leaving it closes every connection and ends every process that it started.
    """
    async with AsyncExitStack() as stack:
        made = [McpServer(name, server) for name, server in servers.items()]
        for server in made:
            stack.push_async_callback(server.aclose)
        await asyncio.gather(*(server.open() for server in made))
        yield Toolbox(made)


class McpServer:
    """One server; connected again by the next call where its connection was lost."""

    def __init__(self, name: str, server: Any) -> None:
        self._name = name
        self._server = server
        self._tools: tuple[Tool, ...] = ()
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._close = asyncio.Event()
        self._opening = asyncio.Lock()

    @property
    def name(self) -> str:
        """Its name in the file."""
        return self._name

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What it listed when it was opened."""
        return self._tools

    async def open(self) -> None:
        """Connect and list the tools. Raises ToolLost."""
        client = await self._connected()
        try:
            self._tools = tuple([_tool(each) async for each in _listed(client)])
        except MCPError as error:
            raise ToolLost(f"MCP server {self._name} lists no tools: {error}") from None

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """One call."""
        client = await self._connected()
        try:
            result = await client.call_tool(tool, dict(arguments))
        except MCPError as error:
            if error.error.code in (_CLOSED, _TIMED_OUT):
                await self._drop()
                raise ToolLost(f"MCP server {self._name} was lost: {error}") from None
            return ToolResult(text=str(error), is_error=True)
        except (OSError, httpx2.HTTPError) as error:
            await self._drop()
            said = str(error) or type(error).__name__
            raise ToolLost(f"MCP server {self._name} was lost: {said}") from None
        return ToolResult(text=text_of(result), is_error=bool(result.is_error))

    async def aclose(self) -> None:
        """Disconnect; a process that was started is ended."""
        await self._drop()

    async def _connected(self) -> Client:
        async with self._opening:
            if self._client is not None and self._task is not None and not self._task.done():
                return self._client
            ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
            self._close = asyncio.Event()
            # The SDK's connection must be left by the task that entered it: it has one of its own.
            self._task = asyncio.create_task(self._hold(ready, self._close))
            try:
                async with asyncio.timeout(CONNECT_S):
                    self._client = await asyncio.shield(ready)
            except TimeoutError:
                self._task.cancel()
                raise ToolLost(
                    f"MCP server {self._name} did not answer within {CONNECT_S:g} s"
                ) from None
            return self._client

    async def _hold(self, ready: asyncio.Future[Client], close: asyncio.Event) -> None:
        try:
            async with AsyncExitStack() as stack:
                transport = await self._transport(stack)
                client = await stack.enter_async_context(Client(transport))
                if not ready.done():
                    ready.set_result(client)
                await close.wait()
        except Exception as error:  # noqa: BLE001 - groups of whatever the SDK's tasks raised
            said = _innermost(error)
            if not ready.done():
                ready.set_exception(ToolLost(f"MCP server {self._name} cannot be used: {said}"))
            else:
                logger.warning("MCP server %s ended with an error: %s", self._name, said)

    async def _transport(self, stack: AsyncExitStack) -> Any:
        entry = self._server
        if not isinstance(entry, ServerEntry):
            return entry
        if entry.url is None:
            return StdioServerParameters(
                command=entry.command or "", args=list(entry.args), env=entry.env or None,
                cwd=entry.cwd,
            )  # fmt: skip
        if not entry.headers:
            return entry.url
        http = await stack.enter_async_context(
            httpx2.AsyncClient(headers=entry.headers, timeout=httpx2.Timeout(30.0, read=300.0))
        )
        return streamable_http_client(entry.url, http_client=http)

    async def _drop(self) -> None:
        task, self._task, self._client = self._task, None, None
        if task is None:
            return
        self._close.set()
        done, _ = await asyncio.wait({task}, timeout=CLOSE_S)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_S)


async def _listed(client: Client) -> AsyncIterator[Any]:
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor) if cursor else await client.list_tools()
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if cursor is None:
            return


def _tool(listed: Any) -> Tool:
    said = listed.annotations
    hints = ToolHints()
    if said is not None:
        hints = ToolHints(
            read_only=said.read_only_hint,
            destructive=said.destructive_hint,
            idempotent=said.idempotent_hint,
            open_world=said.open_world_hint,
        )
    return Tool(
        name=listed.name,
        description=listed.description,
        parameters_json=json.dumps(listed.input_schema),
        hints=hints,
    )


def text_of(result: Any) -> str:
    """A result's text; its structured content where it has no text, other content by its kind."""
    parts: list[str] = []
    for block in result.content:
        text = getattr(block, "text", None)
        parts.append(text if isinstance(text, str) else f"[{block.type}]")
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _innermost(error: BaseException) -> str:
    """What an error of nested groups of tasks is about."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return str(error) or type(error).__name__
