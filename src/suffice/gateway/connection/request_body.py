"""The body of a request: whole, within its limits of bytes and time, or an error that says why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from suffice.gateway.connection.cancellation import ClientConnection, Shutdown
from suffice.gateway.connection.whole_answer import body_at_hand
from suffice.gateway.wire.errors import BodyTooLarge, Refusal

# A server other than ours closes at once after an answer to half a request, which resets the
# connection: there, so much of a body that is too large is read and dropped before the answer.
DROP_BYTES = 64 * 2**20
DROP_S = 5.0


def whole_body(receive: Receive, scope: Scope, *, most_bytes: int) -> bytes | None:
    """A body that has come whole, as good as always; None where `read_body` has to see to it."""
    cycle: Any = scope.get("suffice.cycle")
    if cycle is None or cycle.more_body or len(cycle.body) > most_bytes:
        return None
    for name, value in scope["headers"]:
        if name == b"content-encoding" or (name == b"content-length" and len(value) > 12):
            return None
    return body_at_hand(scope, receive)


async def read_body(
    receive: Receive, scope: Scope, *, most_bytes: int, limit_s: float, ending: Shutdown
) -> bytes:
    """The body that comes from `receive`, at most `most_bytes` within `limit_s`.

    Raises BodyTooLarge, Refusal (408; 503 if the process ends; 400 if it is no valid HTTP) or
    ClientDisconnect.
    """
    announced = _announced(scope)
    connection: ClientConnection | None = scope.get("suffice.connection")
    body = _Body(receive, most_bytes, connection)
    if announced > most_bytes:
        raise await body.too_large()
    if connection is not None and connection.is_whole:
        return await body.read()
    try:
        async with asyncio.timeout(limit_s) as clock:
            waiting = _Waiting(clock)
            ending.tell(waiting)
            try:
                return await body.read()
            finally:
                ending.forget(waiting)
    except TimeoutError:
        raise waiting.reason or Refusal(
            f"the body did not come within {limit_s:g} s", status=408, code="request_timeout"
        ) from None


def _announced(scope: Scope) -> int:
    """Bytes that a body is said to have, 0 if nothing is said.

    Raises Refusal (415) where it is compressed: it would have to be bounded twice.
    """
    length = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = length or (int(value) if value.isdigit() else 0)
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            shown = value[:40].decode("latin-1")
            raise Refusal(
                f"Content-Encoding: {shown} is not supported; send the body as it is",
                status=415, code="unsupported_content_encoding",
            )  # fmt: skip
    return length


class _Body:
    def __init__(
        self, receive: Receive, most_bytes: int, connection: ClientConnection | None
    ) -> None:
        self._receive = receive
        self._most_bytes = most_bytes
        self._connection = connection

    async def read(self) -> bytes:
        message = await self._receive()
        if not message.get("more_body", False):
            piece: bytes = message.get("body", b"")
            if message["type"] == "http.request" and len(piece) <= self._most_bytes:
                return piece
            return await self._checked(message, b"")
        body = bytearray(await self._checked(message, b""))
        while message.get("more_body", False):
            message = await self._receive()
            body += await self._checked(message, body)
        return bytes(body)

    async def _checked(self, message: Mapping[str, Any], before: bytes | bytearray) -> bytes:
        if message["type"] == "http.disconnect":
            fault = None if self._connection is None else self._connection.fault
            if fault is not None:
                status, code, text = fault
                raise Refusal(text, status=status, code=code)
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        if len(before) + len(piece) > self._most_bytes:
            raise await self.too_large()
        return piece

    async def too_large(self) -> BodyTooLarge:
        if self._connection is None:
            await self._drop()
        return BodyTooLarge(f"the body exceeds {self._most_bytes} bytes, the gateway's limit")

    async def _drop(self) -> None:
        dropped = 0
        try:
            async with asyncio.timeout(DROP_S):
                while dropped < DROP_BYTES:
                    message = await self._receive()
                    dropped += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return
        except TimeoutError:
            return


class _Waiting:
    """What an ending process has to tell of a body that is still on its way."""

    def __init__(self, clock: asyncio.Timeout) -> None:
        self.reason: Exception | None = None
        self._clock = clock

    def end(self, reason: Exception) -> None:
        """The wait is over, for this reason."""
        self.reason = reason
        self._clock.reschedule(0.0)

    def look(self) -> None:
        """The clock looks by itself."""
