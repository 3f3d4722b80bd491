"""What stands for a conversation, so that all its turns go to the upstream that knows it.

A session that the client names comes first (`x-session-id`, `prompt_cache_key`, `user`); else the
model, the system prompt and the first turn, which stay as they are while a conversation grows.
Requests without turns (embeddings, say) stand for themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from suffice.backends.router import Affinity
from suffice.gateway.calls import Call

SESSION_HEADERS = ("x-session-id", "x-session-affinity", "session-id")
_SESSION_FIELDS = ("prompt_cache_key", "user")
# A turn is told from others by its first bytes; a picture of megabytes need not be hashed whole.
_MOST_BYTES = 16 * 2**10
# Of a prompt without turns so much stands for the conversation that it begins.
_PROMPT_CHARACTERS = 512
_INSTRUCTING = ("system", "developer")


def affinity_of(call: Call) -> Affinity:
    """Where a call belongs; its body has been understood."""
    value = call.value
    digest = hashlib.blake2b(call.target.encode(errors="replace"), digest_size=16)
    turns = _turns(value)
    session = _session(call)
    if session is not None:
        digest.update(b"\x01" + session.encode(errors="replace"))
    elif turns is not None:
        for part in (value.get("system"), value.get("instructions"), *_prefix(turns)):
            digest.update(b"\x02" + _text(part)[:_MOST_BYTES].encode(errors="replace"))
    elif isinstance(value.get("prompt"), str):
        digest.update(b"\x03" + value["prompt"][:_PROMPT_CHARACTERS].encode(errors="replace"))
    else:
        digest.update(b"\x04" + call.body)
    return Affinity(
        key=digest.digest(),
        later=turns is not None and any(_role(turn) == "assistant" for turn in turns),
        size_bytes=len(call.body),
        streamed=call.stream,
    )


def _session(call: Call) -> str | None:
    for name in SESSION_HEADERS:
        named = call.header(name)
        if named:
            return named
    for field in _SESSION_FIELDS:
        value = call.value.get(field)
        if isinstance(value, str) and value:
            return value
    return None


def _turns(value: Mapping[str, Any]) -> Sequence[Any] | None:
    for field in ("messages", "input"):
        turns = value.get(field)
        if isinstance(turns, list) and any(_role(turn) for turn in turns):
            return turns
    text = value.get("input")
    return [{"role": "user", "content": text}] if isinstance(text, str) else None


def _prefix(turns: Sequence[Any]) -> list[Any]:
    """What instructs the model at the beginning, and the first turn after it."""
    found = []
    for turn in turns:
        found.append(turn.get("content") if isinstance(turn, dict) else turn)
        if _role(turn) not in _INSTRUCTING:
            break
    return found


def _role(turn: Any) -> str | None:
    role = turn.get("role") if isinstance(turn, dict) else None
    return role if isinstance(role, str) else None


def _text(value: Any) -> str:
    """The beginning of any JSON value, the same for equal ones, without writing all of it."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict | list):
        return repr(value)
    found = "{" if isinstance(value, dict) else "["
    for item in value.items() if isinstance(value, dict) else enumerate(value):
        found += f"{item[0]}:{_text(item[1])[:_MOST_BYTES]},"
        if len(found) > _MOST_BYTES:
            break
    return found
