"""Answers that last: server-sent events with keep-alives, and work that ends when its client goes.

An answer's headers wait for its first event, so that an error before it still gets its own status.
If nothing has come after the keep-alive interval, the headers go out and comments follow.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from suffice.backends.sse import DONE, KEEP_ALIVE, encode_event
from suffice.core.errors import SufficeError
from suffice.gateway.errors import describe, error_response

T = TypeVar("T")


def event_of(value: Mapping[str, Any]) -> bytes:
    """One JSON object as an event."""
    return encode_event(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Result of `work`, which is cancelled if the client leaves. Raises ClientDisconnect then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        # Cancelling is not enough: upstream sockets are closed when the task has really ended.
        await _end(task, gone)


class EventStream(Response):
    """Streams the events of `frames`; closing the connection closes the generator at once."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        keep_alive_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", **(headers or {})})
        del self.headers["content-length"]
        self._frames = frames
        self._keep_alive_s = keep_alive_s
        self._began = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop when the client leaves."""
        try:
            await while_connected(receive, self._send_all(send))
        except ClientDisconnect:
            return
        except SufficeError as error:
            await error_response(error)(scope, receive, send)

    async def _send_all(self, send: Send) -> None:
        try:
            while (frame := await self._next(send)) is not None:
                await self._write(send, frame)
            await self._write(send, DONE)
        except SufficeError as error:
            if not self._began:
                raise
            await self._write(send, event_of(describe(error)[1]))
        finally:
            await self._frames.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self, send: Send) -> bytes | None:
        """The next frame, None at the end; keep-alives go out while it takes its time."""
        upcoming = asyncio.ensure_future(anext(self._frames, None))
        try:
            while not (await asyncio.wait({upcoming}, timeout=self._keep_alive_s))[0]:
                await self._write(send, KEEP_ALIVE)
            return upcoming.result()
        finally:
            await _end(upcoming)

    async def _write(self, send: Send, body: bytes) -> None:
        if not self._began:
            self._began = True
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # the caller has it already, or no longer wants it
