"""The JSON of a request, bounded before any work is done for it.

What is checked here costs a pass over the bytes in C. Work per message, tool or step of a policy
comes afterwards, and only for as many as the settings allow: one request must not hold up others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from suffice.core.errors import InputError
from suffice.gateway.admission import TrafficConfig

# JSON may be nested so deep; its writers and those of the upstreams end at 250 to 1,000.
MOST_DEPTH = 128
# What is read here before the very bytes of a request pass on: two of one of these, and an upstream
# could take the other one.
_READ_HERE = (
    b'"model"', b'"stream"', b'"suffice"', b'"messages"', b'"input"', b'"prompt"', b'"n"',
    b'"max_tokens"', b'"max_completion_tokens"', b'"temperature"', b'"priority"',
    b'"reasoning_effort"',
)  # fmt: skip
# ASCII letters written as escapes: a name could hide in them.
_ESCAPES = (b"\\u005", b"\\u006", b"\\u007")
# A larger body is looked through for the first three only; one that is looked at name by name may
# have so many bytes.
_LARGE_BYTES = 256 * 2**10
_LOOKED_AT_BYTES = 2**20
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_LISTS = ("messages", "input")
_LIMITS: Final = TrafficConfig()


def _deepest() -> int:
    """Levels that the JSON writer goes down."""
    value: list[Any] = []
    for depth in range(1, 5000):
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError:
            return depth - 1
        value = [value]
    return 5000


_WRITERS_DEPTH: Final = _deepest()


def parse_json(body: bytes, limits: TrafficConfig = _LIMITS) -> dict[str, Any]:
    """The JSON object in a body, of `max_values` values and `max_names` names of fields.

    Raises InputError.
    """
    most = limits.max_values
    if len(body) > most and _values(body, most) > most:
        raise InputError(
            f"the body holds more than {most} values (numbers, texts, lists, objects), at "
            "most so many are allowed (traffic.max_values)"
        )
    if len(body) > 3 * limits.max_names and _names(body, limits.max_names) > limits.max_names:
        raise InputError(
            f"the body holds more than {limits.max_names} names of fields, at most so many are "
            "allowed (traffic.max_names)"
        )
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError("the body must be a JSON object")
    # Few brackets cannot be nested deep, which spares nearly every body the look.
    if body.count(b"{") + body.count(b"[") > MOST_DEPTH and _is_deep(value):
        raise InputError(f"the body is nested deeper than {MOST_DEPTH} levels")
    return value


def _values(body: bytes, most: int) -> int:
    """Values in a JSON text, at least as many as there are; counted exactly if it may be too many.

    Every value but the first of a list or an object has a comma before it.
    """
    count = _marks(body)
    if count <= most:
        return count
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    texts = plain.count(b'"') // 2
    if texts > 2 * most + 2:  # each is a value or the name of one
        return texts // 2
    return _marks(b"".join(plain.split(b'"')[::2]))


def _names(body: bytes, most: int) -> int:
    """Names of fields in a JSON text, at least as many as there are.

    Each ends with a quotation mark that a colon follows; a text that begins with a colon is taken
    for one too.
    """
    count = body.count(b":")
    if count <= most:
        return count
    plain = body.translate(None, b" \t\r\n").replace(b"\\\\", b".").replace(b'\\"', b".")
    return plain.count(b'":')


def _marks(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _is_deep(value: Any) -> bool:
    """Whether a value has more than `MOST_DEPTH` levels, by how far the JSON writer gets."""
    for _ in range(_WRITERS_DEPTH - MOST_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


def unambiguous(body: bytes, value: Mapping[str, Any]) -> bytes:
    """The very bytes of a body, if no server can read another value out of them than `value`.

    Which of two equal names counts differs from server to server. A body that has one twice is
    refused (InputError); one that might, and is too large to be looked at name by name, is written
    anew, so that what was checked is what goes on.
    """
    names = _READ_HERE if len(body) <= _LARGE_BYTES else _READ_HERE[:3]
    count = body.count
    suspects = {name[1:-1].decode() for name in [name for name in names if count(name) > 1]}
    if b"\\u00" in body and any(escape in body for escape in _ESCAPES):
        suspects = {name[1:-1].decode() for name in _READ_HERE}
    if not suspects:
        return body
    if len(body) > _LOOKED_AT_BYTES:
        return orjson.dumps(value)
    twice = _twice_on_top(body, suspects)
    if twice is None:
        return body
    raise InputError(
        f"{twice}: the body has this field twice; which of the two counts differs from server to "
        "server, so send one"
    )


def _twice_on_top(body: bytes, suspects: set[str]) -> str | None:
    """The first of the suspected names that the outermost object has twice."""
    depth = 0
    seen: set[str] = set()
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1 and body[token.end() : token.end() + 64].lstrip()[:1] in (b":", b""):
            name = orjson.loads(token[0])
            if name in suspects and name in seen:
                return str(name)
            seen.add(name)
    return None


def check_size(value: Mapping[str, Any], limits: TrafficConfig) -> None:
    """Raise InputError if a policy would have to look at too many messages, parts or tools."""
    for name in _LISTS:
        turns = value.get(name)
        if isinstance(turns, list):
            _at_most(name, len(turns), limits.max_messages, "max_messages")
            _at_most(f"{name}: parts and tool calls", _parts(turns), limits.max_parts, "max_parts")
    for name in ("tools", "functions", "stop"):
        given = value.get(name)
        if isinstance(given, list):
            _at_most(name, len(given), limits.max_tools, "max_tools")


def _parts(turns: list[Any]) -> int:
    count = 0
    for turn in turns:
        if isinstance(turn, dict):
            for each in (turn.get("content"), turn.get("tool_calls")):
                if isinstance(each, list):
                    count += len(each)
    return count


def check_policy_size(value: Mapping[str, Any], limits: TrafficConfig) -> None:
    """Raise InputError if the wishes of a request are larger than any honest ones."""
    wishes = value.get("suffice")
    if wishes is None:
        return
    size = len(orjson.dumps(wishes))
    if size > limits.max_policy_bytes:
        raise InputError(
            f"suffice: {size} bytes, at most {limits.max_policy_bytes} are allowed "
            "(traffic.max_policy_bytes)"
        )


def _at_most(what: str, count: int, most: int, setting: str) -> None:
    if count > most:
        raise InputError(f"{what}: {count}, at most {most} are allowed (traffic.{setting})")
