"""How a fake engine puts a reply on the wire, well or badly."""

from __future__ import annotations

import asyncio
import json

from suffice.testing.fake_replies import Json, Reply


class _ClientLeft(ConnectionError):
    """Noticed by ourselves, while there was nothing to send."""


def _malformed(asked: Json) -> str | None:
    """What an engine's own parser would refuse."""
    turns = asked.get("messages")
    prompt = asked.get("prompt")
    alone = isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str)
    if "prompt" in asked and not isinstance(prompt, str) and not alone:
        return "prompt must be a string"
    if "prompt" not in asked and not (
        isinstance(turns, list)
        and turns
        and all(isinstance(t, dict) and "role" in t for t in turns)
    ):
        return "messages must be a list of messages"
    for name in ("n", "max_tokens", "max_completion_tokens", "top_logprobs"):
        value = asked.get(name)
        if value is not None and not (type(value) is int and 0 <= value < 2**31):
            return f"{name} must be a small integer"
    for name in ("stream", "logprobs"):
        if not isinstance(asked.get(name), bool | int | None):
            return f"{name} must be a boolean"
    switch = asked.get("chat_template_kwargs")
    return None if isinstance(switch, dict | None) else "chat_template_kwargs must be an object"


def _error(message: str, status: int) -> Json:
    """An error as vLLM words it."""
    return {"message": message, "type": "BadRequestError", "param": None, "code": status}


async def _pause(delay_s: float, gone: asyncio.Task[bytes]) -> None:
    await asyncio.wait({gone}, timeout=delay_s)
    if gone.done():
        raise _ClientLeft


async def _misbehave(
    reply: Reply, number: int, gone: asyncio.Task[bytes], writer: asyncio.StreamWriter
) -> bool:
    """Commit the fault if it is due; whether the stream is over."""
    if reply.misdeed is None or reply.misdeed_after != number:
        return False
    match reply.misdeed:
        case "cut":
            await _write(writer, b'data: {"choices": [{"ind')
            return True
        case "malformed":
            await _write(writer, b"data: {this is not JSON}\n\n")
            return True
        case "error_event":
            await _event(writer, {"error": {"message": "engine overloaded", "code": 503}})
            return True
        case "hang":
            await asyncio.wait({gone})
            raise _ClientLeft
        case _:
            return False


async def _send_json(
    writer: asyncio.StreamWriter, status: int, value: Json, headers: dict[str, str] | None = None
) -> bool:
    return await _send(writer, status, json.dumps(value).encode(), "application/json", headers)


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str,
    headers: dict[str, str] | None = None,
) -> bool:
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return True


async def _event(writer: asyncio.StreamWriter, value: Json) -> None:
    await _write(writer, f"data: {json.dumps(value)}\n\n".encode())


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


def _chunk(asked: Json, choices: list[Json], usage: Json | None = None) -> Json:
    head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "model": asked["model"]}
    return {**head, "created": 1, "choices": choices, "usage": usage}


def _logprob(token: str, reply: Reply, asked: Json) -> Json:
    top = [
        {"token": f"{token}{k}", "logprob": reply.logprob * (k + 1)}
        for k in range(asked.get("top_logprobs") or 0)
    ]
    return {"token": token, "logprob": reply.logprob, "top_logprobs": top}


def _call_fragments(call: tuple[str, str] | None) -> list[Json]:
    if call is None:
        return []
    name, arguments = call
    half = len(arguments) // 2
    return [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": name}},
        {"index": 0, "function": {"arguments": arguments[:half]}},
        {"index": 0, "function": {"arguments": arguments[half:]}},
    ]
