"""What is written to a client: gathered in one turn of the event loop, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Owner(Protocol):
    """The connection that writes."""

    def lingers(self) -> bool:
        """Whether it stays for a moment although it was told to close."""
        ...


class Gathered:
    """A transport that hands over what was written in one turn of the event loop together.

    An answer's head and body, and all events that one read from the upstream brought, become one
    call of the system instead of one each; those calls are what a gateway's time goes into.
    Whoever knows that nothing follows calls `flush`. A connection that is closed while its client
    takes nothing for `stall_s` is cut.
    """

    __slots__ = (
        "_ended",
        "_loop",
        "_lost",
        "_owner",
        "_pieces",
        "_stall_s",
        "_transport",
        "_watch",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        stall_s: float,
        owner: Owner,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._stall_s = stall_s
        self._owner = owner
        self._pieces: list[bytes] = []
        self._lost = False
        self._ended = False  # the client has seen the end: nothing more can be said
        self._watch: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Write at the end of this turn; what comes after the end of writing is dropped."""
        if self._ended:
            return
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)

    def write_now(self, data: bytes) -> None:
        """Write what nothing follows, after what has been gathered."""
        if self._pieces:
            self.write(data)
            self.flush()
        elif not (self._ended or self._lost or self._transport.is_closing()):
            self._transport.write(data)

    def flush(self) -> None:
        """Write what has been gathered."""
        pieces, self._pieces = self._pieces, []
        # A transport that is being closed takes nothing any more; uvloop's raises then.
        if pieces and not self._lost and not self._transport.is_closing():
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def close(self) -> None:
        """Close when all is written, or when nothing is taken any more."""
        self.flush()
        if self._owner.lingers():
            self.end_writing()
            return
        self._transport.close()
        if not self._lost and self._watch is None and self._unsent():
            self._watch = self._loop.call_later(self._stall_s, self._look, self._unsent())

    def end_writing(self) -> None:
        """Nothing more will be written; the client sees the end, and may still send."""
        self.flush()
        if not (self._lost or self._ended or self._transport.is_closing()):
            self._ended = True
            self._transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        if not self._lost:
            self.flush()
            self._transport.abort()

    def lost(self) -> None:
        """The connection is gone."""
        self._lost = True
        self._pieces.clear()
        if self._watch is not None:
            self._watch.cancel()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._lost or self._transport.is_closing()

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _look(self, before: int) -> None:
        self._watch = None
        if self._lost:
            return
        unsent = self._unsent()
        if unsent >= before:
            self._transport.abort()
        else:
            self._watch = self._loop.call_later(self._stall_s, self._look, unsent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Unchunked:
    """Answers to HTTP/1.0, which knows no chunks: the end of the connection ends them."""

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._send = cycle.send

    async def send(self, message: Any) -> None:
        """As the cycle's own, which would frame chunks where it knows no length."""
        cycle = self._cycle
        if message["type"] == "http.response.start":
            names = [name.lower() for name, _ in message.get("headers", ())]
            if b"content-length" not in names:
                cycle.chunked_encoding = False
        elif cycle.chunked_encoding is False and not cycle.expected_content_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
