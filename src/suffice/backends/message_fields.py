"""Fields of a message, a delta and what stands around them: text, thoughts, and all else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from suffice.core.completions import Extras

Json = dict[str, Any]

# What is modelled of an event, a choice, a message; the rest is passed on as it came.
RESPONSE = {"id", "object", "created", "model", "choices", "usage", "error"}
CHOICE = {"index", "delta", "message", "text", "logprobs", "finish_reason"}
MESSAGE = {"role", "content", "reasoning", "reasoning_content", "tool_calls"}


def news(value: Mapping[str, Any], modelled: set[str]) -> Json:
    """What a stream's event says beside what is modelled; it repeats what is null all the time."""
    return {n: each for n, each in value.items() if each is not None and n not in modelled}


def news_of_delta(delta: Mapping[str, Any]) -> Json:
    """The same of a delta; content and thoughts in parts are among it."""
    found = news(delta, MESSAGE)
    for name in ("content", "reasoning", "reasoning_content"):
        if delta.get(name) and not isinstance(delta[name], str):
            found[name] = delta[name]
    return found


def rest(value: Mapping[str, Any], modelled: set[str]) -> Json:
    """The same of an answer that came whole, in which null says something too."""
    if value.keys() <= modelled:
        return {}
    return {name: each for name, each in value.items() if name not in modelled}


def rest_of_message(message: Mapping[str, Any]) -> Json:
    """What of a message, or of a delta, its text, thoughts and calls do not say."""
    found = rest(message, MESSAGE)
    if "content" in message and not isinstance(message["content"], str):
        found["content"] = message["content"]
    for name in ("reasoning", "reasoning_content"):
        if message.get(name) and not isinstance(message[name], str):
            found[name] = message[name]
    if "tool_calls" in message and not message["tool_calls"]:
        found["tool_calls"] = message["tool_calls"]
    return found


def extras_of(message: Json, choice: Json, response: Json) -> Extras | None:
    """What else the server said, as JSON texts; None if nothing."""
    if not (message or choice or response):
        return None
    return Extras(
        message_json=json.dumps(message, ensure_ascii=False) if message else "{}",
        choice_json=json.dumps(choice, ensure_ascii=False) if choice else "{}",
        response_json=json.dumps(response, ensure_ascii=False) if response else "{}",
    )


def reasoning_in(message: Mapping[str, Any]) -> str:
    """Thoughts that have a field of their own."""
    for name in ("reasoning", "reasoning_content"):
        text = message.get(name)
        if isinstance(text, str) and text:
            return text
    return ""


def read_content(content: object) -> tuple[str, str]:
    """Text and thoughts of a message's content, which some servers send as a list of parts."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise TypeError(f"text is a {type(content).__name__}")
    texts, thoughts = [], []
    for part in content:
        if not isinstance(part, dict):
            raise TypeError(f"a part of the text is a {type(part).__name__}")
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif "thinking" in part:
            thoughts.append(_thinking(part["thinking"]))
    return "".join(texts), "".join(thoughts)


def _thinking(value: object) -> str:
    """A part's thoughts: text, or a list of parts with text."""
    if isinstance(value, list):
        return "".join(_thinking(part) for part in value)
    if isinstance(value, dict):
        value = value.get("text")
    return value if isinstance(value, str) else ""


def joined(extras: Iterable[Extras]) -> Extras | None:
    """The extras of a stream's chunks as those of the whole message.

    Text of a delta's field is put together and lists are made longer, as OpenAI's own clients do;
    of everything else, and of what stands beside the delta, the last value counts. Content in
    parts is left out: its text and thoughts have been read.
    """
    message: Json = {}
    choice: Json = {}
    response: Json = {}
    for each in extras:
        _grow(message, json.loads(each.message_json))
        choice |= json.loads(each.choice_json)
        response |= json.loads(each.response_json)
    message.pop("content", None)
    return extras_of(message, choice, response)


def _grow(into: Json, more: Json) -> None:
    for name, value in more.items():
        old = into.get(name)
        if isinstance(old, str) and isinstance(value, str):
            into[name] = old + value
        elif isinstance(old, list) and isinstance(value, list):
            into[name] = [*old, *value]
        elif isinstance(old, dict) and isinstance(value, dict):
            _grow(old, value)
        elif value is not None or name not in into:
            into[name] = value
