"""Tool calls in an answer's text, in the marks that Hermes, Qwen and many other models use.

<tool_call>{"name": "search", "arguments": {"query": "Ulysses"}}</tool_call>
"""

from __future__ import annotations

import json
import re

from suffice.core.requests import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(re.escape(OPEN) + r"(.*?)(?:" + re.escape(CLOSE) + r"|\Z)", re.DOTALL)


class HermesCalls:
    """Takes an answer piece by piece: what is text comes out at once, calls at the end."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """The part of the text so far that can be no call."""
        self._held += text
        at = self._held.find(OPEN)
        if at < 0:
            at = len(self._held) - _begun(self._held)
        shown, self._held = self._held[:at], self._held[at:]
        return shown

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """Text that turned out to be no call, and the calls."""
        calls, rest = [], []
        end = 0
        for number, found in enumerate(_CALL.finditer(self._held)):
            rest.append(self._held[end : found.start()])
            end = found.end()
            call = _call(found[1], number)
            if call is None:
                rest.append(found[0])
            else:
                calls.append(call)
        rest.append(self._held[end:])
        self._held = ""
        return "".join(rest), tuple(calls)


def _begun(text: str) -> int:
    """Characters at the end of the text with which a mark may have begun."""
    longest = min(len(OPEN) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if OPEN.startswith(text[-n:])), 0)


def _call(text: str, number: int) -> ToolCall | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", {})
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=f"call_{number}", name=found["name"], arguments=said)
