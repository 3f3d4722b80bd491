"""What calls of tools have taken: the last ones of each tool, kept in memory."""

from __future__ import annotations

from collections import deque
from statistics import median

from suffice.core.requests import ToolMeasured

# Calls of one tool that are remembered; older ones say little about how it is now.
LAST = 64


class ToolTimes:
    """Seconds and sizes of the last calls, by tool; several toolboxes may share one."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def note(self, tool: str, seconds: float, result_chars: int) -> None:
        """A call has given its result."""
        self._seen.setdefault(tool, deque(maxlen=LAST)).append((seconds, result_chars))

    def of(self, tool: str) -> ToolMeasured | None:
        """Medians over the last calls of a tool; None before the first."""
        seen = self._seen.get(tool)
        if not seen:
            return None
        return ToolMeasured(
            calls=len(seen),
            seconds=median(seconds for seconds, _ in seen),
            result_chars=median(chars for _, chars in seen),
        )
