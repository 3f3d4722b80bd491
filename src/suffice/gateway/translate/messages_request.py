"""`/v1/messages` (Anthropic) to a chat completion's request.

| there | here |
|---|---|
| `system`, text blocks | system message, text |
| image blocks (base64, url) | `image_url` parts |
| document blocks | text, or a `file` part for PDF |
| `tool_use`, `tool_result` | `tool_calls`, messages of role tool; pictures in a result follow it |
| thinking blocks of earlier turns | `reasoning_content` |
| `tools`, `tool_choice` | functions, the same choices |
| `stop_sequences`, `metadata.user_id` | `stop`, `user` |
| `output_config.effort`, `.format` | `reasoning_effort`, `response_format` |

`thinking` is not translated: how long a model thinks is its engine's business, or `suffice.effort`.
What runs at Anthropic only (server tools, containers) is refused; fields that nobody here knows go
to the engine as they are.
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
    "messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata",
    "output_config", "stream", "thinking",
))  # fmt: skip
# They steer Anthropic's own service and change nothing about the question.
_DROPPED = frozenset((
    "cache_control", "service_tier", "inference_geo", "speed", "diagnostics", "workspace_id",
    "user_profile_id", "context_management", "betas", "n",
))  # fmt: skip
_REFUSED = ("container", "mcp_servers")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_of_messages(value: Mapping[str, Any]) -> Json:
    """The same question as a chat completion's body. Raises InputError that names the field."""
    for name in _REFUSED:
        if value.get(name):
            raise only_engines(name, name)
    messages: list[Json] = []
    system = value.get("system")
    if system is not None:
        messages.append({"role": "system", "content": _system(system)})
    for at, turn in enumerate(list_at(value.get("messages"), "messages")):
        _add_turn(messages, object_at(turn, f"messages.{at}"), f"messages.{at}")
    kept = {k: v for k, v in value.items() if k not in _READ and k not in _DROPPED}
    metadata = value.get("metadata")
    stream = value.get("stream")
    return {
        **kept,
        "messages": messages,
        **without_nulls({
            "max_tokens": value.get("max_tokens"),
            "stop": value.get("stop_sequences"),
            "user": metadata.get("user_id") if isinstance(metadata, Mapping) else None,
            "stream": stream,
            "stream_options": {"include_usage": True} if stream is True else None,
        }),
        **_tools(value),
        **_output(value.get("output_config")),
    }  # fmt: skip


def _system(system: Any) -> str:
    if isinstance(system, str):
        return system
    blocks = [object_at(block, "system") for block in list_at(system, "system")]
    return "\n\n".join(text_at(block.get("text"), "system.text") for block in blocks)


def _add_turn(messages: list[Json], turn: Mapping[str, Any], where: str) -> None:
    role, content = turn.get("role"), turn.get("content")
    if role not in ("user", "assistant", "system"):
        raise InputError(f"{where}.role must be user or assistant, got {role!r}")
    if isinstance(content, str):
        messages.append({"role": role, "content": content})
        return
    blocks = [
        object_at(block, f"{where}.content") for block in list_at(content, f"{where}.content")
    ]
    if role == "assistant":
        messages.append(_assistant(blocks, where))
    else:
        _add_user(messages, role, blocks, where)


def _add_user(messages: list[Json], role: str, blocks: list[Mapping[str, Any]], where: str) -> None:
    """A user's turn: results of tools are messages of their own, before what is said with them."""
    parts: list[Json] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            parts.append(_part(block, where))
            continue
        if parts:
            messages.append({"role": role, "content": content_of(parts)})
            parts = []
        text, pictures = _result(block, where)
        call = text_at(block.get("tool_use_id"), f"{where}.tool_use_id")
        messages.append({"role": "tool", "tool_call_id": call, "content": text})
        if pictures:
            messages.append({"role": "user", "content": pictures})
    if parts or not blocks:
        messages.append({"role": role, "content": content_of(parts)})


def _result(block: Mapping[str, Any], where: str) -> tuple[str, list[Json]]:
    """The text of a tool's result, and what of it a message of role tool cannot hold."""
    content = block.get("content")
    if content is None or isinstance(content, str):
        return content or "", []
    inner = list_at(content, f"{where}.tool_result.content")
    parts = [_part(object_at(each, where), where) for each in inner]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _assistant(blocks: list[Mapping[str, Any]], where: str) -> Json:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for block in blocks:
        match block.get("type"):
            case "text":
                texts.append(text_at(block.get("text"), f"{where}.text"))
            case "thinking":
                thoughts.append(text_at(block.get("thinking"), f"{where}.thinking"))
            case "tool_use":
                arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
                function = {
                    "name": text_at(block.get("name"), f"{where}.name"), "arguments": arguments,
                }  # fmt: skip
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "redacted_thinking":
                pass  # nobody but its maker can read it
            case kind:
                raise InputError(f"{where}: an engine cannot read a block of type {kind!r}")
    turn: Json = {"role": "assistant", "content": "".join(texts) or (None if calls else "")}
    if thoughts:
        turn["reasoning_content"] = "".join(thoughts)
    if calls:
        turn["tool_calls"] = calls
    return turn


def _part(block: Mapping[str, Any], where: str) -> Json:
    match block.get("type"):
        case "text":
            return {"type": "text", "text": text_at(block.get("text"), f"{where}.text")}
        case "image":
            source = object_at(block.get("source"), f"{where}.source")
            return {"type": "image_url", "image_url": {"url": _url(source, where)}}
        case "document":
            return _document(block, where)
        case "search_result":
            inner = list_at(block.get("content"), f"{where}.content")
            texts = [text_at(each.get("text"), where) for each in inner]
            heads = [str(block[name]) for name in ("title", "source") if block.get(name)]
            return {"type": "text", "text": "\n".join([*heads, *texts])}
        case kind:
            raise InputError(f"{where}: an engine cannot read a block of type {kind!r}")


def _document(block: Mapping[str, Any], where: str) -> Json:
    source = object_at(block.get("source"), f"{where}.source")
    match source.get("type"):
        case "text":
            return {"type": "text", "text": text_at(source.get("data"), f"{where}.source.data")}
        case "content":
            inner = source.get("content")
            if isinstance(inner, str):
                return {"type": "text", "text": inner}
            parts = [_part(object_at(each, where), where) for each in list_at(inner, where)]
            return {"type": "text", "text": "\n".join(part.get("text", "") for part in parts)}
        case "base64":
            name = block.get("title") or "document.pdf"
            return {"type": "file", "file": {"filename": name, "file_data": _url(source, where)}}
        case kind:
            raise InputError(f"{where}: a document by {kind!r} has to be fetched: send its data")


def _url(source: Mapping[str, Any], where: str) -> str:
    match source.get("type"):
        case "base64":
            kind = text_at(source.get("media_type"), f"{where}.source.media_type")
            return f"data:{kind};base64,{text_at(source.get('data'), f'{where}.source.data')}"
        case "url":
            return text_at(source.get("url"), f"{where}.source.url")
        case kind:
            raise only_engines(f"a source of type {kind!r}", where)


def _tools(value: Mapping[str, Any]) -> Json:
    found: Json = {}
    tools = value.get("tools")
    if tools:
        found["tools"] = [
            _tool(object_at(tool, f"tools.{at}"), f"tools.{at}")
            for at, tool in enumerate(list_at(tools, "tools"))
        ]
    choice = value.get("tool_choice")
    if choice is None:
        return found
    choice = object_at(choice, "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        name = text_at(choice.get("name"), "tool_choice.name")
        found["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif kind in _CHOICES:
        found["tool_choice"] = _CHOICES[kind]
    else:
        raise InputError(f"tool_choice.type must be auto, any, tool or none, got {kind!r}")
    if choice.get("disable_parallel_tool_use") is True:
        found["parallel_tool_calls"] = False
    return found


def _tool(tool: Mapping[str, Any], where: str) -> Json:
    kind = tool.get("type") or "custom"
    if kind != "custom":
        raise only_engines(f"the tool {kind}", where)
    function = {
        "name": text_at(tool.get("name"), f"{where}.name"),
        "description": tool.get("description"),
        "parameters": tool.get("input_schema"),
        "strict": tool.get("strict"),
    }
    return {"type": "function", "function": without_nulls(function)}


def _output(config: Any) -> Json:
    if config is None:
        return {}
    config = object_at(config, "output_config")
    found: Json = {}
    if config.get("effort") is not None:
        effort = config["effort"]
        found["reasoning_effort"] = "xhigh" if effort == "max" else effort
    wanted = config.get("format")
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        schema = {"name": "answer", "schema": wanted.get("schema")}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    return found
