"""An OpenAI-compatible engine on a real loopback socket that plays scripts and commits faults.

It writes HTTP by hand, so that it can do what no web framework lets one do: cut a response in the
middle, send half an event, fall silent. It counts what runs and notices when a client leaves, as
vLLM's `/metrics` would show it. Standard library only; runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from suffice.backends.probe import THINKING_TOKENS
from suffice.core.thinking import EFFORTS
from suffice.testing.fake_replies import (
    EngineSeen,
    Json,
    OtherRequest,
    Reply,
    Script,
    ServedReply,
    Talents,
)
from suffice.testing.fake_wire import (
    _call_fragments,
    _chunk,
    _ClientLeft,
    _error,
    _event,
    _logprob,
    _malformed,
    _misbehave,
    _pause,
    _send,
    _send_json,
    _write,
)
from suffice.testing.threaded_server import ThreadedServer

# What is answered to it: status, type and body; None for a path that it does not have.
Others = Callable[[OtherRequest], tuple[int, str, bytes] | None]


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
        self.seen = EngineSeen()
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
            other = OtherRequest(path=path, headers=headers, body=body)
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

    def _begun(self, asked: Json) -> ServedReply:
        """The request's prompt is read, as far as it is not in the cache."""
        prompt = self._prompt_tokens(asked)
        served = ServedReply(asked["model"], prompt_tokens=prompt)
        key = json.dumps([asked["model"], asked.get("messages"), asked.get("prompt")])
        if self.talents.caches_prompts and key in self._cached:
            served.cached_tokens = prompt
        self._cached.add(key)
        self.seen.served.append(served)
        return served

    def _drew(self, served: ServedReply) -> None:
        self.seen.tokens += 1
        served.completion_tokens += 1

    def _usage(self, served: ServedReply, asked: Json, reply: Reply, *, end: bool) -> Any:
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
        served: ServedReply,
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

    def _whole(self, asked: Json, reply: Reply, served: ServedReply | None = None) -> Json:
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
            served = ServedReply(
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
