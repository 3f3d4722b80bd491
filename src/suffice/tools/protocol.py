"""The contract of tools that are run here: what there is, and one call of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from suffice.core.errors import SufficeError
from suffice.core.requests import Tool


class ToolLost(SufficeError, ConnectionError):
    """The server of a tool cannot be reached, or went away during the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a call came to, as text; `is_error`: the tool says that it went wrong."""

    text: str
    is_error: bool = False


class ToolServer(Protocol):
    """Anything that has tools.

    `call` may raise ToolLost; whatever else it raises is taken for the tool's own failure. A call
    that is cancelled ends as soon as it can, and leaves no process behind.
    """

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Its tools, each with hints (core.requests.ToolHints)."""
        ...

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """One call."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and processes."""
        ...
