"""What an answer says of itself: usage and model, in the forms of every endpoint.

Usage becomes what OpenAI's chat completions have:

| endpoint | form |
|---|---|
| chat, completions, embeddings | `prompt_tokens`, `completion_tokens` |
| responses, audio, images | `input_tokens`, `output_tokens`, with `*_details` |
| messages | the same, but `input_tokens` is without what was read from or written to the cache |
| rerank, score | `total_tokens` alone; Cohere's in `meta.tokens` or `meta.billed_units` |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from suffice.backends.wire import read_usage
from suffice.core.completions import Usage
from suffice.executors.running_sample import guess_tokens

_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")


def usage_in(value: Mapping[str, Any]) -> Usage | None:
    """Usage of an answer or of an event of one; None if it tells none, or one that cannot be."""
    return told_usage(value)[0]


def told_usage(value: Mapping[str, Any]) -> tuple[Usage | None, bool]:
    """The same, and whether one was told that cannot be: negative, or beyond reason."""
    for name in (None, "response", "message"):
        place = value if name is None else value.get(name)
        if isinstance(place, dict) and place.get("usage") is not None:
            usage = place["usage"]
            return _read(usage) if isinstance(usage, dict) else (None, True)
    meta = value.get("meta")
    if isinstance(meta, dict):
        for name in ("tokens", "billed_units"):
            units = meta.get(name)
            if isinstance(units, dict) and _has(units, "input_tokens", "output_tokens"):
                return _read(units)
    return None, False


def _read(usage: Mapping[str, Any]) -> tuple[Usage | None, bool]:
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return read_usage(usage)  # chat's own form, as good as always
    found = chat_usage(usage)
    return (None, False) if found is None else read_usage(found)


def said_tokens(answer: Mapping[str, Any]) -> int:
    """About the completion tokens of an answer, or of an event of one, by what it says."""
    try:
        choices: Any = answer.get("choices") or ()
        if len(choices) == 1 and len(delta := choices[0].get("delta") or {}) == 1:
            text = delta.get("content")  # a stream is one short text per token, as good as always
            if type(text) is str and text.isascii():
                return guess_tokens(len(text))
        return sum(
            guess_tokens(_said_bytes(choice.get("message") or choice.get("delta") or choice))
            for choice in choices
        )
    except (AttributeError, TypeError, LookupError):
        return 0  # it is passed on as it is, in a form that tells nothing


def _said_bytes(part: Mapping[str, Any]) -> int:
    """Bytes of what a message, a delta or a completion's choice says: text, thoughts, calls."""
    calls = [call.get("function") or {} for call in part.get("tool_calls") or ()]
    texts = [part.get(name) for name in ("content", "text", "reasoning", "reasoning_content")]
    texts += [value for call in calls for value in call.values()]
    return sum(len(text.encode(errors="replace")) for text in texts if isinstance(text, str))


def model_of(value: Mapping[str, Any]) -> str | None:
    """The model that an answer, or an event of one, says has answered."""
    for name in (None, "response", "message"):
        place = value if name is None else value.get(name)
        model = place.get("model") if isinstance(place, dict) else None
        if isinstance(model, str) and model:
            return model
    return None


def chat_usage(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    """A usage object in the form of chat completions, None if it counts no tokens."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return dict(usage)
    if _has(usage, "input_tokens", "output_tokens"):
        read, written = (_count(usage.get(name)) for name in _CACHE)
        cached = _detail(usage, "input_tokens_details", "cached_tokens")
        found: dict[str, Any] = {
            "prompt_tokens": _count(usage.get("input_tokens")) + read + written,
            "completion_tokens": _count(usage.get("output_tokens")),
        }
        if usage.get(_CACHE[0]) is not None or cached is not None:
            found["prompt_tokens_details"] = {"cached_tokens": read + (cached or 0)}
        reasoning = _detail(usage, "output_tokens_details", "reasoning_tokens")
        if reasoning is not None:
            found["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        return found
    if _has(usage, "total_tokens"):
        return {"prompt_tokens": _count(usage.get("total_tokens"))}
    return None


def _has(value: Mapping[str, Any], *names: str) -> bool:
    return any(_is_count(value.get(name)) for name in names)


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: object) -> int:
    if not _is_count(value):
        return 0
    assert isinstance(value, int | float)
    return int(value) if math.isfinite(value) else -1  # which nobody takes for a count


def _detail(usage: Mapping[str, Any], details: str, name: str) -> int | None:
    found = usage.get(details)
    value = found.get(name) if isinstance(found, dict) else None
    return _count(value) if _is_count(value) else None
