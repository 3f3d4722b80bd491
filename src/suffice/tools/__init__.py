"""Tools that are run here: Python functions, MCP servers, and the servers that ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.tools.functions import FunctionTools, tool_hints
    from suffice.tools.protocol import ToolLost, ToolResult, ToolServer
    from suffice.tools.toolbox import Toolbox

__all__ = [
    "FunctionTools",
    "ToolLost",
    "ToolResult",
    "ToolServer",
    "Toolbox",
    "tool_hints",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.tools.functions": ("FunctionTools", "tool_hints"),
        "suffice.tools.protocol": ("ToolLost", "ToolResult", "ToolServer"),
        "suffice.tools.toolbox": ("Toolbox",),
    },
)
