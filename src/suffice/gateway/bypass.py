"""Passing through: the client's bytes to the upstream, the upstream's bytes back, nothing changed.

`n`, tools, images, log-probabilities and fields that neither side of us has heard of work because
nobody here looks at them.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from suffice.backends.openai import OpenAIBackend, RawResponse
from suffice.core.errors import SufficeError
from suffice.gateway.errors import describe, error_response
from suffice.gateway.receipt import PREFIX, header_text
from suffice.gateway.stream import event_of, while_connected


def outgoing(body: bytes, value: dict[str, Any]) -> bytes:
    """The body to send on: the very bytes, unless our own field has to be taken out."""
    if "suffice" not in value:
        return body
    kept = {name: field for name, field in value.items() if name != "suffice"}
    return json.dumps(kept, ensure_ascii=False).encode()


def whole_events(stream: bytes) -> tuple[bytes, bytes]:
    """A part of an event stream, split after its last whole event."""
    ends = [stream.rfind(end) + len(end) for end in (b"\n\n", b"\r\n\r\n") if end in stream]
    cut = max(ends, default=0)
    return stream[:cut], stream[cut:]


class PassThrough(Response):
    """Forwards one request, streams the answer; the client leaving closes the upstream's socket."""

    def __init__(self, backend: OpenAIBackend, path: str, body: bytes) -> None:
        super().__init__()
        self._backend = backend
        self._path = path
        self._outgoing = body
        self._began = False
        self._is_stream = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward, or stop when the client leaves."""
        try:
            await while_connected(receive, self._forward(send))
        except ClientDisconnect:
            return
        except SufficeError as error:
            if self._began and self._is_stream:
                await self._send(send, event_of(describe(error)[1]), more=False)
            elif self._began:
                raise  # nothing valid can follow half a JSON body: the connection is cut
            else:
                await error_response(error)(scope, receive, send)

    async def _forward(self, send: Send) -> None:
        async with self._backend.open(self._path, self._outgoing) as answer:
            self._is_stream = "event-stream" in answer.content_type
            rest = b""
            async for piece in answer.body:
                await self._start(send, answer)
                # Half an event stays here until it is whole: should the upstream die now, the
                # client must not be left to parse it.
                whole, rest = whole_events(rest + piece) if self._is_stream else (piece, b"")
                if whole:
                    await self._send(send, whole, more=True)
            await self._start(send, answer)  # an empty body
        await self._send(send, rest, more=False)

    async def _start(self, send: Send, answer: RawResponse) -> None:
        if self._began:
            return
        self._began = True
        headers = {
            "content-type": answer.content_type or "application/octet-stream",
            PREFIX + "arm": "bypass",
            PREFIX + "upstream": header_text(self._backend.name),
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})
