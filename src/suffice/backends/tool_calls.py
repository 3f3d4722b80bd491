"""Tool calls out of an answer's JSON, whole or in the fragments of a stream.

Servers number the fragments of parallel calls in many ways, and each reading here has a server
that needs it:

| habit | server |
|---|---|
| an index per call, id and name in its first fragment only | OpenAI, vLLM, SGLang, llama.cpp |
| whole calls, every one with index 0 | Ollama |
| whole calls without an index, some without an id | Gemini's compatible endpoint |
| another id with every fragment of one call | older vLLM, some proxies |
| id and name again with every fragment | some proxies |
| arguments as an object instead of its text | Ollama's own form |

So a fragment begins another call if it names a function, and nothing says that it goes on with the
call before: not its id, nor arguments that are still incomplete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from suffice.core.requests import ToolCall

Json = dict[str, Any]
_PLAIN = {"id", "type", "function"}
_PLAIN_FUNCTION = {"name", "arguments"}
# Text that comes piece by piece; every other field is whole where it comes.
_GROWING = ("arguments", "input")


def calls_of(calls: object) -> tuple[ToolCall, ...]:
    """The calls of a whole message, () where there are none. Raises TypeError on anything else."""
    if calls is None:
        return ()
    if not isinstance(calls, list):
        raise TypeError(f"tool_calls is a {type(calls).__name__}")
    return tuple(call_of(call) for call in calls)


def call_of(call: object) -> ToolCall:
    """One call; what is no more than id, name and text of arguments needs no `json`."""
    if not isinstance(call, Mapping):
        raise TypeError(f"a tool call is a {type(call).__name__}")
    kind = call.get("type") or "function"
    body = call.get(kind)
    inner: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    arguments = inner.get("arguments", inner.get("input"))
    name, number = inner.get("name"), call.get("id")
    plain = (
        call.keys() <= _PLAIN
        and kind == "function"
        and inner.keys() <= _PLAIN_FUNCTION
        and isinstance(number, str)
        and isinstance(arguments, str)
    )
    return ToolCall(
        id=number if isinstance(number, str) else "",
        name=name if isinstance(name, str) else "",
        arguments=_text(arguments),
        json=None if plain else json.dumps(call, ensure_ascii=False),
    )


def tool_call_json(call: ToolCall) -> Json:
    """One call that a model asked for, as the wire has it."""
    function = {"name": call.name, "arguments": call.arguments}
    plain: Json = {"id": call.id, "type": "function", "function": function}
    return plain if call.json is None else _as_it_came(call.json, plain)


def _as_it_came(text: str, plain: Json) -> Json:
    """The call as it came; an id and a type are in it in any case, as clients ask for them."""
    came: Json = json.loads(text)
    kind = came.get("type") or "function"
    return {**came, "id": came.get("id") or plain["id"], "type": kind}


class CallFragments:
    """Puts the calls of one streamed message together."""

    def __init__(self) -> None:
        self._calls: list[tuple[int | None, Json]] = []  # with the index they began at
        self._at: dict[int, Json] = {}  # the newest call with an index

    def add(self, fragment: object) -> None:
        """Take a fragment in. Raises TypeError if it is none."""
        if not isinstance(fragment, Mapping):
            raise TypeError(f"a tool call is a {type(fragment).__name__}")
        given = fragment.get("index")
        index = given if type(given) is int else None
        call = self._of_id(fragment) if index is None else self._at.get(index)
        if call is None or _begins_another(call, fragment, numbered=index is not None):
            call = {}
            self._calls.append((index, call))
        if index is not None:
            self._at[index] = call
        _merge(call, {name: value for name, value in fragment.items() if name != "index"})

    def whole(self) -> tuple[ToolCall, ...]:
        """The calls so far: by index where each has its own, else as they began."""
        calls = self._calls
        if len({index for index, _ in calls if index is not None}) == len(calls):
            calls = sorted(calls, key=lambda each: each[0] or 0)
        return tuple(call_of(call) for _, call in calls)

    def _of_id(self, fragment: Mapping[str, Any]) -> Json | None:
        """For a fragment without index: the call that has its id, else the newest."""
        number = fragment.get("id")
        same = [call for _, call in self._calls if number and call.get("id") == number]
        return same[-1] if same else self._calls[-1][1] if self._calls else None


def _begins_another(call: Json, fragment: Mapping[str, Any], *, numbered: bool) -> bool:
    """Whether a fragment that could go on with `call` is the beginning of another one."""
    name, before = _name(fragment), _name(call)
    if not name or not before:
        return False
    arguments = _arguments(call)
    is_whole = isinstance(arguments, dict) or (bool(arguments) and _is_json(arguments))
    if arguments and not is_whole and name == before:
        return False  # the name is merely said again
    number, own = fragment.get("id"), call.get("id")
    if number and own:
        return bool(number != own) or (is_whole and not numbered)
    # Without ids: another function, or the same again after arguments that are whole. A number of
    # its own and no arguments yet: the name itself may come in pieces.
    return is_whole or not numbered or (name != before and bool(arguments))


def _merge(into: Json, more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        old = into.get(name)
        if name == "id" and old:
            continue  # one that changes on the way is still the same call
        if isinstance(old, dict) and isinstance(value, Mapping):
            _merge(old, value)
        elif isinstance(value, Mapping):
            into[name] = {}
            _merge(into[name], value)
        elif name in _GROWING and isinstance(old, str) and isinstance(value, str):
            into[name] = old + value
        elif name == "name" and isinstance(old, str) and isinstance(value, str):
            into[name] = old if old == value else old + value
        elif value is not None or name not in into:
            into[name] = value


def _inner(call: Mapping[str, Any]) -> Mapping[str, Any]:
    found = call.get(call.get("type") or "function")
    return found if isinstance(found, Mapping) else {}


def _name(call: Mapping[str, Any]) -> str:
    name = _inner(call).get("name")
    return name if isinstance(name, str) else ""


def _arguments(call: Mapping[str, Any]) -> Any:
    return _inner(call).get("arguments", "")


def _is_json(text: object) -> bool:
    if not isinstance(text, str) or not text.rstrip().endswith("}"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _text(arguments: object) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
