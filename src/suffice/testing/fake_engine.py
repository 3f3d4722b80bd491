"""An OpenAI-compatible engine on a real loopback socket that plays scripts and commits faults.

It writes HTTP by hand, so that it can do what no web framework lets one do: cut a response in the
middle, send half an event, fall silent. It counts what runs and notices when a client leaves, as
vLLM's `/metrics` would show it. Standard library only; runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from suffice.backends.probe import THINKING_TOKENS
from suffice.backends.think_block import BudgetField
from suffice.core.thinking import EFFORTS
from suffice.testing.threaded_server import ThreadedServer

Json = dict[str, Any]
Misdeed = Literal["cut", "malformed", "hang", "no_finish", "error_event", "not_a_stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the engine does with one request.

    `status` other than 200 is answered at once with `error`. `misdeed` happens after
    `misdeed_after` tokens. Tokens are also the log-probabilities' tokens, at `logprob` each.
    """

    tokens: tuple[str, ...] = ("4",)
    reasoning: tuple[str, ...] = ()
    tool_call: tuple[str, str] | None = None  # name and JSON arguments, sent in three fragments
    delay_s: float = 0.0
    held: threading.Event | None = None  # nothing is said before it is set
    end_delay_s: float = 0.0  # between a stream's [DONE] and the end of its body
    finish_reason: str = "stop"
    status: int = 200
    error: str = "no"
    misdeed: Misdeed | None = None
    misdeed_after: int = 0
    logprob: float = -0.5
    usage: Any = None  # told instead of the true one

    def within(self, limit: int | None) -> Reply:
        """The reply cut off after so many tokens, if it is longer."""
        if limit is None or len(self.reasoning) + len(self.tokens) <= limit:
            return self
        said = max(0, limit - len(self.reasoning))
        return replace(
            self,
            reasoning=self.reasoning[:limit],
            tokens=self.tokens[:said],
            finish_reason="length",
        )

    @classmethod
    def saying(cls, text: str, **how: Any) -> Reply:
        """A reply of one token per word."""
        words = text.split(" ")
        return cls(tokens=tuple(w if i == 0 else f" {w}" for i, w in enumerate(words)), **how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talents:
    """What this engine supports, so that probing has something to find."""

    models: tuple[str, ...] = ("fake",)
    logprobs: bool = True
    prefill: Literal["continue_final_message", "native"] | None = "continue_final_message"
    thinking_switch: bool = False
    thinks: int = 0  # tokens of thinking before every answer to a question that is not streamed
    thinking_budget: BudgetField | None = None  # bounds them
    efforts: bool = False  # reads `reasoning_effort`, and refuses what is none
    known_fields: tuple[str, ...] = ("priority",)
    version: bool = True  # answers /version, as vLLM does
    context_tokens: int = 4096
    no_chat: tuple[str, ...] = ()  # models that answer no chat completions
    metrics: str | None = None  # the page at /metrics, if it has one
    caches_prompts: bool = False  # and tells which prompt tokens it found in its cache
    # When a stream tells its usage: in every event, at its end, or only to who asks for it.
    tells_usage: Literal["always", "at_end", "if_asked"] = "always"


@dataclass(slots=True)
class Seen:
    """What the engine has been through."""

    bodies: list[Json] = field(default_factory=list)  # streamed and plain requests, no probes
    headers: list[dict[str, str]] = field(default_factory=list)
    probes: list[Json] = field(default_factory=list)  # one-token questions of a gateway
    gets: list[str] = field(default_factory=list)  # paths
    others: list[Asked] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  # of completions, as they were written
    connections: int = 0
    running: int = 0
    most_running: int = 0  # at a time
    finished: int = 0
    aborted: int = 0  # the client left before the end
    tokens: int = 0
    served: list[Served] = field(default_factory=list)  # requests that it worked for

    def took(self, model: str | None = None) -> Served:
        """Everything that was taken of `model`, or of all models."""
        of = [each for each in self.served if model in (None, each.model)]
        return Served(model or "", *(sum(getattr(each, name) for each in of) for name in _COUNTS))


@dataclass(slots=True)
class Served:
    """What one request took, by the engine's own count."""

    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")

Script = Callable[[int, Json], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to another path than those of completions."""

    path: str  # with its query
    headers: dict[str, str]
    body: bytes


# What is answered to it: status, type and body; None for a path that it does not have.
Others = Callable[[Asked], tuple[int, str, bytes] | None]


class _ClientLeft(ConnectionError):
    """Noticed by ourselves, while there was nothing to send."""


class FakeEngine(ThreadedServer):
    """`with FakeEngine(script) as engine:` serves at `engine.url` until the block ends.

    `script` gives the reply to the n-th request (probes of one token are answered and not counted).
    """

    def __init__(
        self,
        script: Script | Reply,
        *,
        talents: Talents | None = None,
        others: Others | None = None,
        headers: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        """`others` answers what is no completion; `headers` go with every whole answer."""
        super().__init__(port=port)
        self._others = others
        self._headers = headers or {}
        self._script: Script = script if callable(script) else lambda number, body: script
        self.talents = talents or Talents()
        self.seen = Seen()
        self._cached: set[str] = set()

    @property
    def url(self) -> str:
        """Base URL, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.connections += 1
        super()._connected(reader, writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        pairs = (line.split(":", 1) for line in head[1:] if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "GET":
            return await self._get(path, writer)
        if not path.partition("?")[0].endswith("/completions"):
            other = Asked(path=path, headers=headers, body=body)
            self.seen.others.append(other)
            found = self._others(other) if self._others is not None else None
            status, kind, data = found or (404, "application/json", b'{"detail":"Not Found"}')
            return await _send(writer, status, data, kind, self._headers)
        self.seen.paths.append(path)
        asked: Json = json.loads(body)
        fault = self._refusal(asked)
        if fault is not None:
            return await _send_json(writer, 400, {"error": _error(fault, 400)})
        if not asked.get("stream") and asked.get("max_tokens") in (1, THINKING_TOKENS):
            self.seen.probes.append(asked)
            return await _send_json(writer, 200, self._probed(asked))
        self.seen.bodies.append(asked)
        self.seen.headers.append(headers)
        reply = self._script(len(self.seen.bodies) - 1, asked)
        if reply.status != 200:
            error = _error(reply.error, reply.status)
            return await _send_json(writer, reply.status, {"error": error})
        return await self._generate(asked, reply, reader, writer)

    async def _get(self, path: str, writer: asyncio.StreamWriter) -> bool:
        self.seen.gets.append(path)
        if path == "/metrics" and self.talents.metrics is not None:
            return await _send(writer, 200, self.talents.metrics.encode(), "text/plain")
        if path.partition("?")[0].endswith("/models"):
            cards = [
                {"id": m, "object": "model", "owned_by": "fake",
                 "max_model_len": self.talents.context_tokens}
                for m in self.talents.models
            ]  # fmt: skip
            return await _send_json(writer, 200, {"object": "list", "data": cards})
        if path == "/version" and self.talents.version:
            return await _send_json(writer, 200, {"version": "0.0"})
        return await _send_json(writer, 404, {"detail": "Not Found"})

    def _refusal(self, asked: Json) -> str | None:
        for name in self.talents.known_fields:
            if not isinstance(asked.get(name, 0), int):
                return f"{name} must be an integer"
        fault = _malformed(asked)
        if self.talents.efforts and asked.get("reasoning_effort", "low") not in EFFORTS:
            fault = "reasoning_effort must be one of " + ", ".join(EFFORTS)
        elif asked.get("model") not in self.talents.models:
            fault = fault or f"The model `{asked.get('model')}` does not exist."
        elif asked["model"] in self.talents.no_chat and "messages" in asked:
            fault = fault or "The model does not support Chat Completions API"
        if fault is not None:
            return fault
        limit = asked.get("max_tokens") or 0
        if limit > self.talents.context_tokens:
            return f"max_tokens={limit} cannot be greater than {self.talents.context_tokens}"
        if asked.get("logprobs") and not self.talents.logprobs:
            return "logprobs are not supported"
        return None

    async def _generate(
        self,
        asked: Json,
        reply: Reply,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        gone = self._loop.create_task(reader.read(1))
        self.seen.running += 1
        self.seen.most_running = max(self.seen.most_running, self.seen.running)
        served = self._begun(asked)
        try:
            while reply.held is not None and not reply.held.is_set():
                await _pause(0.005, gone)
            if not asked.get("stream"):
                reply = reply.within(asked.get("max_tokens") or asked.get("max_completion_tokens"))
                drawn = len(reply.reasoning) + len(reply.tokens)
                for _ in range(drawn * (asked.get("n") or 1)):
                    await _pause(reply.delay_s, gone)
                    self._drew(served)
                await _send_json(writer, 200, self._whole(asked, reply, served), self._headers)
            else:
                await self._stream(asked, reply, gone, writer, served)
        except ConnectionError:
            self.seen.aborted += 1
            raise _ClientLeft from None
        else:
            self.seen.finished += 1
        finally:
            self.seen.running -= 1
            left = gone.done()
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone
        return not left and reply.misdeed is None

    def _begun(self, asked: Json) -> Served:
        """The request's prompt is read, as far as it is not in the cache."""
        prompt = self._prompt_tokens(asked)
        served = Served(asked["model"], prompt_tokens=prompt)
        key = json.dumps([asked["model"], asked.get("messages"), asked.get("prompt")])
        if self.talents.caches_prompts and key in self._cached:
            served.cached_tokens = prompt
        self._cached.add(key)
        self.seen.served.append(served)
        return served

    def _drew(self, served: Served) -> None:
        self.seen.tokens += 1
        served.completion_tokens += 1

    def _usage(self, served: Served, asked: Json, reply: Reply, *, end: bool) -> Any:
        """Usage as an event of a stream, or a whole answer, tells it."""
        options = asked.get("stream_options") or {}
        when = self.talents.tells_usage
        if asked.get("stream") and not (
            when == "always"
            or (end and (when == "at_end" or options.get("include_usage")))
            or options.get("continuous_usage_stats")
        ):
            return None
        if reply.usage is not None:
            return reply.usage
        told: Json = {
            "prompt_tokens": served.prompt_tokens, "completion_tokens": served.completion_tokens,
            "total_tokens": served.prompt_tokens + served.completion_tokens,
        }  # fmt: skip
        if self.talents.caches_prompts:
            told["prompt_tokens_details"] = {"cached_tokens": served.cached_tokens}
        return told

    async def _stream(
        self, asked: Json, reply: Reply, gone: asyncio.Task[bytes], writer: asyncio.StreamWriter,
        served: Served,
    ) -> None:  # fmt: skip
        kind = "application/json" if reply.misdeed == "not_a_stream" else "text/event-stream"
        more = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n\r\n"
        )
        writer.write(head.encode())
        pieces = [(t, True) for t in reply.reasoning] + [(t, False) for t in reply.tokens]
        limit = asked.get("max_tokens") or asked.get("max_completion_tokens") or len(pieces)
        for number, (token, thought) in enumerate(pieces[:limit]):
            if await _misbehave(reply, number, gone, writer):
                return
            await _pause(reply.delay_s, gone)
            self._drew(served)
            choice = self._choice(asked, token, thought, reply)
            await _event(
                writer, _chunk(asked, [choice], self._usage(served, asked, reply, end=False))
            )
        if await _misbehave(reply, len(pieces), gone, writer):
            return
        for fragment in _call_fragments(reply.tool_call):
            await _event(writer, _chunk(asked, [{"index": 0, "delta": {"tool_calls": [fragment]}}]))
        if reply.misdeed != "no_finish":
            reason = "length" if limit < len(pieces) else reply.finish_reason
            end = {"index": 0, "delta": {}, "finish_reason": reason}
            await _event(writer, _chunk(asked, [end | ({"text": ""} if "prompt" in asked else {})]))
        usage = self._usage(served, asked, reply, end=True)
        if usage is not None:
            await _event(writer, _chunk(asked, [], usage))
        await _write(writer, b"data: [DONE]\n\n")
        await _pause(reply.end_delay_s, gone)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _choice(self, asked: Json, token: str, thought: bool, reply: Reply) -> Json:
        choice: Json = {"index": 0, "finish_reason": None}
        if "prompt" in asked:
            choice["text"] = token
        else:
            choice["delta"] = {"reasoning" if thought else "content": token}
        if asked.get("logprobs") and self.talents.logprobs and "prompt" not in asked:
            choice["logprobs"] = {"content": [_logprob(token, reply, asked)]}
        return choice

    def _probed(self, asked: Json) -> Json:
        """The answer to a probe, which may be cut off in the middle of a thought."""
        budget = asked.get(self.talents.thinking_budget or "")
        if isinstance(budget, dict):
            budget = budget.get("thinking_budget")
        thinks = self.talents.thinks if budget is None else min(budget, self.talents.thinks)
        most = asked["max_tokens"]
        tokens = ("ok",) if thinks < most else ()
        return self._whole(asked, Reply(tokens=tokens, reasoning=("hm ",) * min(thinks, most)))

    def _whole(self, asked: Json, reply: Reply, served: Served | None = None) -> Json:
        choices = []
        for index in range(asked.get("n") or 1):
            choice: Json = {"index": index, "finish_reason": reply.finish_reason}
            message: Json = {"role": "assistant", "content": "".join(reply.tokens)}
            if reply.reasoning:
                message["reasoning_content"] = "".join(reply.reasoning)
            if reply.tool_call is not None:
                name, arguments = reply.tool_call
                function = {"name": name, "arguments": arguments}
                message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
            if asked.get("logprobs") and self.talents.logprobs:
                drawn_tokens = (*reply.reasoning, *reply.tokens)
                entries = [_logprob(token, reply, asked) for token in drawn_tokens]
                choice["logprobs"] = {"content": entries}
            if "prompt" in asked:
                choice["text"] = message["content"]
            else:
                choice["message"] = message
            choices.append(choice)
        if served is None:  # a probe
            served = Served(
                asked["model"], self._prompt_tokens(asked), len(reply.tokens) * len(choices)
            )
        return {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": choices,
            "usage": self._usage(served, asked, reply, end=True),
            "engine_extra": {"kept": True},
        }  # fmt: skip

    def _prompt_tokens(self, asked: Json) -> int:
        """A token per word; opening a turn takes 3, closing it 2, a thinking switch 4 more."""
        if "prompt" in asked:
            return len(str(asked["prompt"]).split())
        turns = asked["messages"]
        count = sum(5 + len(str(turn.get("content") or "").split()) for turn in turns) + 3
        begun = turns[-1]["role"] == "assistant" and (
            self.talents.prefill == "native"
            or (self.talents.prefill is not None and asked.get("continue_final_message"))
        )
        switch = asked.get("chat_template_kwargs") or {}
        if self.talents.thinking_switch and switch.get("enable_thinking") is False:
            count += 4
        return count - 5 if begun else count


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
