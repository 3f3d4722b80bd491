"""One client: read its request, write its answer, notice that it has left.

An answer's headers wait for its first byte, so that an error before it still gets its own status.
What goes wrong later becomes an error event in a stream; a stream that failed has no `[DONE]`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import orjson
from starlette.types import Receive, Scope, Send

from suffice.backends.sse import KEEP_ALIVE
from suffice.core.errors import SufficeError
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.calls import Call, Hook
from suffice.gateway.connection.cancellation import CancelScope, ClientConnection, Shutdown
from suffice.gateway.connection.request_body import read_body, whole_body
from suffice.gateway.connection.whole_answer import write_answer
from suffice.gateway.wire.errors import describe, retry_after
from suffice.gateway.wire.receipt import PREFIX, header_text
from suffice.gateway.wire.safe_headers import NOSNIFF, safe_status, safe_type

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
# An error that a client does not take within this is not told.
FAIL_S = 5.0


def event_of(value: Mapping[str, Any]) -> bytes:
    """One JSON object as an event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


class Client:
    """The other end of one call."""

    __slots__ = (
        "_connection", "_ending", "_hooks", "_keeping", "_limits", "_max_body_bytes", "_receive",
        "_scope", "_send", "_written_s", "began", "call", "ended", "is_stream", "sending_since_s",
        "when_whole",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        hooks: Sequence[Hook],
        limits: TrafficConfig,
        max_body_bytes: int,
        ending: Shutdown,
    ) -> None:
        """Without the server's connection, a client who stops reading cannot be cut off."""
        self.call = call
        self.sending_since_s: float | None = None  # a write that waits for the client
        self._scope = scope
        self._connection: ClientConnection | None = scope.get("suffice.connection")
        self.began = False
        self.ended = False  # all of it was sent: whoever goes now has left nothing behind
        self.is_stream = False
        self._receive = receive
        self._send = send
        self._hooks = hooks
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._ending = ending
        self._written_s = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self.when_whole: Callable[[], None] | None = None  # told before the last bytes leave

    # The question.

    def body_at_hand(self) -> bytes | None:
        """The whole body if it has come and is as it should be; None if `body` has to see to it."""
        return whole_body(self._receive, self._scope, most_bytes=self._max_body_bytes)

    async def body(self) -> bytes:
        """The whole body. Raises BodyTooLarge, Refusal or ClientDisconnect."""
        return await read_body(
            self._receive, self._scope, most_bytes=self._max_body_bytes,
            limit_s=self._limits.body_s,
            ending=self._ending,
        )  # fmt: skip

    # The answer.

    async def start(
        self, status: int, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send status and headers."""
        status, raw = self._head(status, content_type, headers)
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        for hook in self._hooks:
            hook.began(self.call)

    def _head(
        self, status: int, content_type: str, headers: Mapping[str, str] | None
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers as they are sent; from now on the answer has begun."""
        call = self.call
        self.began = True
        content_type, status = safe_type(content_type), safe_status(status)
        self.is_stream = content_type[:17].lower() == "text/event-stream"
        call.status = status
        call.first_byte_s = call.elapsed_s()
        raw = [
            (b"content-type", content_type.encode("latin-1")),
            (b"x-request-id", call.request_id.encode()),
            NOSNIFF,
        ]
        if call.own_id is not None:  # the gateway's own is unique: what the ledger has it under
            raw.append((b"x-suffice-id", call.id.encode()))
        if call.fallback is not None:
            raw.append((b"x-suffice-fallback", header_text(call.fallback).encode()))
        if self.is_stream:
            raw.append((b"cache-control", b"no-cache"))
        # A key's own limits stand in place of those that an engine set for the gateway.
        shown = {**(headers or {}), **call.rates} if call.rates else headers
        if shown:
            raw += [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.items()
            ]
        if self._ending.draining:
            raw.append((b"connection", b"close"))
        return status, raw

    async def begin_stream(self, headers: Mapping[str, str]) -> None:
        """Send the headers of an event stream unless a keep-alive has sent them already."""
        if self._keeping is not None:
            await self._keeping
        if not self.began:
            await self.start(200, EVENT_STREAM, headers)

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer; waits while the client is slower than we are."""
        if self._keeping is not None:
            await self._keeping
        call = self.call
        call.sent_bytes += len(data)
        if call.kept is not None:
            call.kept += data
        self._written_s = self.sending_since_s = time.perf_counter()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self.sending_since_s = None

    async def end(self, last: bytes = b"") -> None:
        """The answer is complete with these bytes.

        They leave in one piece with the end of the response: a client that closes as soon as it
        has read them finds nobody who takes it for one that left early.
        """
        if self._keeping is not None:
            await self._keeping
        call = self.call
        call.sent_bytes += len(last)
        if call.kept is not None:
            call.kept += last
        self._tell_whole()
        self.sending_since_s = time.perf_counter()
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
        self.sending_since_s = None
        self.ended = True
        call.complete = call.error is None

    async def answer(
        self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        call = self.call
        content_type = safe_type(content_type, body)
        status, raw = self._head(
            status, content_type, {"content-length": str(len(body)), **(headers or {})}
        )
        call.sent_bytes += len(body)
        if call.kept is not None:
            call.kept += body
        self._tell_whole()
        if write_answer(self._scope, self._send, status, raw, body):  # as good as always
            for hook in self._hooks:
                hook.began(call)
        else:
            await self._send({"type": "http.response.start", "status": status, "headers": raw})
            for hook in self._hooks:
                hook.began(call)
            self.sending_since_s = time.perf_counter()
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
            self.sending_since_s = None
        self.ended = True
        call.complete = call.error is None

    def _tell_whole(self) -> None:
        if self.when_whole is not None and self.call.error is None and self.call.status == 200:
            self.when_whole()

    async def fail(self, error: SufficeError) -> None:
        """Send an error: as an answer of its own, or as the last event of a stream."""
        status, envelope = describe(error)
        self.call.error = envelope["error"]["code"]
        if self.began:
            if not self.is_stream:
                await self.break_off(error)
                return
            try:
                async with asyncio.timeout(FAIL_S):
                    await self.end(event_of(envelope))
            except TimeoutError:
                self.cut()
            return
        headers = dict(retry_after(error))
        if status in (408, 413):
            headers["connection"] = "close"  # the rest of the body may still be on its way
        await self.answer(status, orjson.dumps(envelope), JSON, headers)

    def keep_alive(self, every_s: float, headers: Mapping[str, str]) -> KeepAlive:
        """While the block runs, a comment goes out whenever nothing else has for `every_s`."""
        return KeepAlive(self, every_s, headers)

    def attended(self) -> CancelScope:
        """The block ends early if the client leaves, time is up or the process ends."""
        return CancelScope(self, self._connection, self._receive, self._ending, self._limits)

    async def break_off(self, error: SufficeError) -> None:
        """Cut the connection: nothing valid can follow half a body.

        Raises `error` where the server gave no connection, for the server to do it.
        """
        if self._connection is None:
            raise error
        self.cut()
        await asyncio.sleep(0)  # the server sees that it is gone, and does not look for an answer

    def cut(self) -> None:
        """Close the connection without another word."""
        if self._connection is not None:
            self._connection.cut()

    async def send_keep_alive(self, headers: Mapping[str, str]) -> None:
        """Headers if they have not been sent, and a comment."""
        if not self.began:
            await self.start(200, EVENT_STREAM, headers)
        self._written_s = time.perf_counter()
        await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    @property
    def silent_s(self) -> float:
        """Seconds since something was written."""
        return time.perf_counter() - self._written_s

    def keep(self, task: asyncio.Task[None] | None) -> None:
        """A keep-alive is being written; what follows waits for it."""
        self._keeping = task


class KeepAlive:
    """Sends comments from a timer, so that the answer's own pieces cost nothing extra."""

    def __init__(self, client: Client, every_s: float, headers: Mapping[str, str]) -> None:
        self._client = client
        self._every_s = every_s
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(every_s, self._look)
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        silent_s = self._client.silent_s
        if silent_s >= self._every_s * 0.9:
            if self._task is None or self._task.done():
                self._task = self._loop.create_task(self._write())
                self._client.keep(self._task)
            silent_s = 0.0
        self._timer = self._loop.call_later(self._every_s - silent_s, self._look)

    async def _write(self) -> None:
        try:
            await self._client.send_keep_alive(self._headers)
        finally:
            self._client.keep(None)


def ours(**figures: str) -> dict[str, str]:
    """Headers of our own."""
    return {PREFIX + name: value for name, value in figures.items()}
