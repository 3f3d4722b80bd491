"""Which calls a model may make once it has read results: text from outside may have asked for them.

A result is untrusted. After the first one a call is made only if one of these holds:

- the same call, tool and arguments, was asked for before any result was read;
- nobody outside sees it and it changes nothing (hints `read_only`, and `open_world` is false);
- it changes nothing (`read_only`), and every text among its arguments stands in the user's own
  turns: it can carry nothing that a result has said.

What is left open: which of the calls that are allowed are made, and with which arguments private
ones are, may depend on results; so may the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from suffice.core.requests import Message, Tool, ToolCall


def refusal(
    call: ToolCall,
    tool: Tool | None,
    messages: Sequence[Message],
    planned: Sequence[tuple[str, str]],
) -> str | None:
    """Why a call is not made, None if it may be; `messages` end before the turn that asks for it.

    `planned` are names and arguments of calls that were asked for before any result was read.
    """
    if not any(turn.role == "tool" for turn in messages):
        return None
    arguments = _read(call.arguments)
    if any(name == call.name and _read(text) == arguments for name, text in planned):
        return None
    hints = None if tool is None else tool.hints
    if hints is not None and hints.read_only is True and hints.open_world is False:
        return None
    if hints is None or hints.read_only is not True:
        return (
            f"{call.name} may change something: once a result was read only calls that were asked "
            "for before are made"
        )
    own = " ".join(turn.text for turn in messages if turn.role == "user").casefold()
    if all(text.casefold() in own for text in _texts(arguments)):
        return None
    return (
        f"{call.name} is seen outside, and its arguments are not the user's own words: once a "
        "result was read they could carry it away"
    )


def _read(text: str) -> Any:
    try:
        return json.loads(text.strip() or "{}")
    except (ValueError, RecursionError):
        return text


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names and numbers included."""
    match value:
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
        case None | bool():
            pass
        case _:
            yield str(value)
