"""`/v1/responses` (OpenAI) to a chat completion's request.

| there | here |
|---|---|
| `instructions` | system message, before all others |
| `input`, a text or items | messages |
| `input_text`, `input_image` | `text`, `image_url` parts |
| `input_file`, `input_audio` | `file`, `input_audio` parts |
| `function_call` | `tool_calls` |
| `function_call_output` | messages of role tool; pictures in an output follow it |
| reasoning items | `reasoning_content` of the turn that follows |
| function tools, `tool_choice` | functions, the same choices |
| `max_output_tokens`, `reasoning.effort` | `max_tokens`, `reasoning_effort` |
| `text.format`, `text.verbosity` | `response_format`, `verbosity` |
| `top_logprobs` | `logprobs`, `top_logprobs` |

What a service would have to keep (earlier responses, conversations, background work, uploaded
files) and what runs at OpenAI only (built-in tools) is refused; fields that nobody here knows go to
the engine as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from suffice.core.errors import InputError
from suffice.gateway.translate.parts import (
    Json,
    content_of,
    list_at,
    object_at,
    only_engines,
    text_at,
    without_nulls,
)

_READ = frozenset((
    "input", "instructions", "tools", "tool_choice", "max_output_tokens", "reasoning", "text",
    "top_logprobs", "stream", "stream_options", "include",
))  # fmt: skip
# They steer OpenAI's own service and change nothing about the question.
_DROPPED = frozenset((
    "store", "truncation", "max_tool_calls", "background", "access_programs", "moderation",
    "prompt_cache_options", "prompt_cache_retention", "context_management", "service_tier",
    "safety_identifier", "metadata", "n",
))  # fmt: skip
_KEPT_THERE = ("previous_response_id", "conversation", "prompt")
_OUTPUT_LOGPROBS = "message.output_text.logprobs"


def chat_of_responses(value: Mapping[str, Any]) -> Json:
    """The same question as a chat completion's body. Raises InputError that names the field."""
    for name in _KEPT_THERE:
        if value.get(name) is not None:
            raise InputError(
                f"{name}: nothing is kept between requests here, and this model's engine has no "
                "/v1/responses of its own; send the whole conversation as input"
            )
    if value.get("background"):
        raise InputError("background: an answer is given to who waits for it; leave it out")
    kept = {k: v for k, v in value.items() if k not in _READ and k not in _DROPPED}
    messages: list[Json] = []
    instructions = value.get("instructions")
    if instructions is not None:
        messages.append({"role": "system", "content": text_at(instructions, "instructions")})
    reader = _Items(messages)
    given = value.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    else:
        for at, item in enumerate(list_at(given, "input")):
            reader.add(object_at(item, f"input.{at}"), f"input.{at}")
    stream, reasoning = value.get("stream"), value.get("reasoning")
    return {
        **kept,
        "messages": messages,
        **without_nulls({
            "max_tokens": value.get("max_output_tokens"),
            "reasoning_effort": reasoning.get("effort") if isinstance(reasoning, Mapping) else None,
            "stream": stream,
            "stream_options": {"include_usage": True} if stream is True else None,
        }),
        **_logprobs(value),
        **_text(value.get("text")),
        **_tools(value),
    }  # fmt: skip


class _Items:
    """Puts items, which follow each other, together to turns."""

    def __init__(self, messages: list[Json]) -> None:
        self._messages = messages
        self._thoughts = ""

    def add(self, item: Mapping[str, Any], where: str) -> None:
        match item.get("type") or "message":
            case "message":
                self._message(item, where)
            case "function_call":
                self._call(item, where)
            case "function_call_output":
                self._output(item, where)
            case "reasoning":
                self._thoughts += _thoughts(item)
            case "item_reference":
                raise InputError(f"{where}: nothing is kept between requests here: send the item")
            case kind:
                raise only_engines(f"an item of type {kind}", where)

    def _message(self, item: Mapping[str, Any], where: str) -> None:
        role, content = item.get("role"), item.get("content")
        if role not in ("user", "assistant", "system", "developer"):
            raise InputError(f"{where}.role must be user, assistant, system or developer")
        if not isinstance(content, str):
            parts = list_at(content, f"{where}.content")
            content = content_of([_part(object_at(part, where), where) for part in parts])
        if role == "assistant":
            self._messages.append(self._with_thoughts({"role": role, "content": content}))
        else:
            self._messages.append({"role": role, "content": content})

    def _call(self, item: Mapping[str, Any], where: str) -> None:
        arguments = item.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments or {}, ensure_ascii=False)
        function = {"name": text_at(item.get("name"), f"{where}.name"), "arguments": arguments}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        last = self._messages[-1] if self._messages else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self._messages.append(last)
        if self._thoughts:
            last["reasoning_content"] = last.get("reasoning_content", "") + self._thoughts
            self._thoughts = ""
        last.setdefault("tool_calls", []).append(call)

    def _output(self, item: Mapping[str, Any], where: str) -> None:
        output = item.get("output")
        pictures: list[Json] = []
        if not isinstance(output, str):
            parts = [
                _part(object_at(part, where), where) for part in list_at(output, f"{where}.output")
            ]
            output = "\n".join(part["text"] for part in parts if part["type"] == "text")
            pictures = [part for part in parts if part["type"] != "text"]
        call = text_at(item.get("call_id"), f"{where}.call_id")
        self._messages.append({"role": "tool", "tool_call_id": call, "content": output})
        if pictures:
            self._messages.append({"role": "user", "content": pictures})

    def _with_thoughts(self, turn: Json) -> Json:
        thoughts, self._thoughts = self._thoughts, ""
        return {**turn, "reasoning_content": thoughts} if thoughts else turn


def _thoughts(item: Mapping[str, Any]) -> str:
    """What a reasoning item says in the clear: its text, else its summary."""
    for name in ("content", "summary"):
        parts = [part for part in item.get(name) or () if isinstance(part, Mapping)]
        text = "".join(str(part.get("text") or "") for part in parts)
        if text:
            return text
    return ""


def _part(part: Mapping[str, Any], where: str) -> Json:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": text_at(part.get("text"), f"{where}.text")}
        case "refusal":
            return {"type": "text", "text": text_at(part.get("refusal"), f"{where}.refusal")}
        case "input_image":
            if part.get("image_url") is None:
                raise only_engines("an uploaded file", f"{where}.file_id")
            image = {"url": part["image_url"], "detail": part.get("detail")}
            return {"type": "image_url", "image_url": without_nulls(image)}
        case "input_file":
            if part.get("file_data") is None:
                raise only_engines("an uploaded or linked file", where)
            file = {"filename": part.get("filename"), "file_data": part["file_data"]}
            return {"type": "file", "file": without_nulls(file)}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
        case kind:
            raise InputError(f"{where}: an engine cannot read a part of type {kind!r}")


def _logprobs(value: Mapping[str, Any]) -> Json:
    top, include = value.get("top_logprobs"), value.get("include")
    wanted = isinstance(include, list) and _OUTPUT_LOGPROBS in include
    if not wanted and not top:
        return {}
    return {"logprobs": True, **without_nulls({"top_logprobs": top})}


def _text(config: Any) -> Json:
    if config is None:
        return {}
    config = object_at(config, "text")
    found = without_nulls({"verbosity": config.get("verbosity")})
    wanted = config.get("format")
    if not isinstance(wanted, Mapping):
        return found
    if wanted.get("type") == "json_schema":
        schema = {name: field for name, field in wanted.items() if name != "type"}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted.get("type") == "json_object":
        found["response_format"] = {"type": "json_object"}
    return found


def _tools(value: Mapping[str, Any]) -> Json:
    found: Json = {}
    tools = value.get("tools")
    if tools:
        found["tools"] = [
            _tool(object_at(tool, f"tools.{at}"), f"tools.{at}")
            for at, tool in enumerate(list_at(tools, "tools"))
        ]
    choice = value.get("tool_choice")
    if isinstance(choice, Mapping):
        if choice.get("type") != "function":
            raise only_engines(f"a choice of type {choice.get('type')}", "tool_choice")
        function = {"name": text_at(choice.get("name"), "tool_choice.name")}
        found["tool_choice"] = {"type": "function", "function": function}
    elif choice is not None and (found or choice != "auto"):
        found["tool_choice"] = choice
    return found


def _tool(tool: Mapping[str, Any], where: str) -> Json:
    if tool.get("type") != "function":
        raise only_engines(f"the tool {tool.get('type')}", where)
    text_at(tool.get("name"), f"{where}.name")
    function = {name: field for name, field in tool.items() if name != "type"}
    return {"type": "function", "function": without_nulls(function)}
