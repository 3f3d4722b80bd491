"""Tool calls of a stream as blocks that follow each other, for protocols that know no other way.

In chat, fragments of several calls may come in turns. Here a call's arguments are passed on as they
come while it is the first that is not yet whole; those of later ones wait for it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from suffice.core.requests import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """A piece of call number `number`; the first one `begins` it, the last one `ends` it."""

    number: int
    id: str
    name: str
    arguments: str = ""
    begins: bool = False
    ends: bool = False


class CallBlocks:
    """What can be passed on of the calls so far."""

    def __init__(self) -> None:
        self._calls: Sequence[ToolCall] = ()
        self._current = 0
        self._sent = ""
        self._begun = False

    def read(self, calls: Sequence[ToolCall]) -> list[CallPiece]:
        """Pieces that a look at all calls, in their order, allows to pass on."""
        self._calls = calls
        found: list[CallPiece] = []
        while self._current < len(calls):
            call = calls[self._current]
            later = len(calls) > self._current + 1
            ends = later and _is_whole(call.arguments)
            if not (call.id and call.name and call.arguments) and not ends:
                break  # its name may still grow
            found += self._piece(call, ends=ends)
            if not ends:
                break
        return found

    def end(self) -> list[CallPiece]:
        """The rest, when no more will come."""
        found: list[CallPiece] = []
        while self._current < len(self._calls):
            found += self._piece(self._calls[self._current], ends=True)
        return found

    def _piece(self, call: ToolCall, *, ends: bool) -> list[CallPiece]:
        grown = call.arguments.startswith(self._sent)
        more = call.arguments[len(self._sent) :] if grown else ""
        begins, number = not self._begun, self._current
        if ends:
            self._current, self._sent, self._begun = number + 1, "", False
        elif grown:
            self._sent, self._begun = call.arguments, True
        if not (begins or more or ends):
            return []
        return [
            CallPiece(
                number=number,
                id=call.id or f"call_{secrets.token_hex(12)}",
                name=call.name,
                arguments=more,
                begins=begins,
                ends=ends,
            )
        ]


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True
