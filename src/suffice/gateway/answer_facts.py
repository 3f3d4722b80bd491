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

from collections.abc import Mapping
from typing import Any

from suffice.backends.wire import usage_of
from suffice.core.completions import Usage

_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")


def usage_in(value: Mapping[str, Any]) -> Usage | None:
    """Usage of an answer or of an event of one; None if it tells none."""
    for place in (value, value.get("response"), value.get("message")):
        if isinstance(place, Mapping) and isinstance(place.get("usage"), Mapping):
            return usage_of(chat_usage(place["usage"]))
    meta = value.get("meta")
    if isinstance(meta, Mapping):
        for name in ("tokens", "billed_units"):
            units = meta.get(name)
            if isinstance(units, Mapping) and _has(units, "input_tokens", "output_tokens"):
                return usage_of(chat_usage(units))
    return None


def model_of(value: Mapping[str, Any]) -> str | None:
    """The model that an answer, or an event of one, says has answered."""
    for place in (value, value.get("response"), value.get("message")):
        model = place.get("model") if isinstance(place, Mapping) else None
        if isinstance(model, str) and model:
            return model
    return None


def chat_usage(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    """A usage object in the form of chat completions, None if it counts no tokens."""
    if _has(usage, "prompt_tokens", "completion_tokens"):
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
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _detail(usage: Mapping[str, Any], details: str, name: str) -> int | None:
    found = usage.get(details)
    value = found.get(name) if isinstance(found, Mapping) else None
    return _count(value) if _is_count(value) else None
