"""One HTTP/1.1 connection to an upstream, and the answer that is read from it.

The parser is C. Bytes that arrived together are handed over together; a reader that is slow stops
the socket instead of filling memory; an answer that was cut short is never taken for a whole one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from suffice.core.errors import (
    BackendError,
    MalformedStream,
    MissingExtra,
    UpstreamDisconnected,
    UpstreamTimeout,
)

try:
    import httptools
except ImportError as error:  # the core install is light
    raise MissingExtra.of("httptools", "serve", "talking to a server") from error

# Above this many unread bytes the socket is not read any further.
HIGH_WATER_BYTES = 256 * 2**10
LARGEST_HEAD_BYTES = 64 * 2**10
# Of an answer's body, unless the client is told otherwise; of one with an error status.
MOST_BYTES = 256 * 2**20
MOST_ERROR_BYTES = 2**20


class ConnectionOwner(Protocol):
    """Whoever keeps connections: told when one opens, is free again, or closes."""

    @property
    def name(self) -> str:
        """The upstream's, in messages."""
        ...

    @property
    def most_bytes(self) -> int:
        """Of one answer's body."""
        ...

    def opened(self, connection: Connection) -> None:
        """It is open."""
        ...

    def give_back(self, connection: Connection) -> None:
        """Its answer is complete: it may carry another request."""
        ...

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        ...


class HttpResponse:
    """An answer whose headers have come; `close` it, whether read to its end or not."""

    __slots__ = ("_connection", "content_type", "headers", "length", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self._connection: Connection | None = connection
        self.status = status
        self.headers = headers
        self.content_type = headers.get("content-type", "")
        length = headers.get("content-length", "")
        self.length = int(length) if length.isdigit() else None  # of the body as it is sent
        encoding = headers.get("content-encoding", "").lower()
        if encoding not in ("identity", ""):
            self.close()
            raise MalformedStream(
                f"{connection.client.name} encodes its answer as {encoding}, "
                "which was not asked for"
            )

    async def read(self, silence_s: float) -> bytes:
        """The bytes that came since, at least one; empty at the end.

        Raises UpstreamTimeout after `silence_s` without any, UpstreamDisconnected if the answer
        was cut short.
        """
        connection = self._connection
        if connection is None:
            return b""
        return await connection.read(silence_s)

    def close(self) -> None:
        """Hand the connection back if the answer is complete, else close its socket."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()


class Connection(asyncio.Protocol):
    """One socket; also what the parser calls back."""

    def __init__(self, client: ConnectionOwner, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self.loop = loop
        self.idle_since_s = 0.0  # on the loop's clock; 0 while in use
        self.lost: asyncio.Future[None] = loop.create_future()
        self.answered = False  # whether any byte of this exchange's answer has come
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._deadline_s = 0.0
        self._waited_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._clean_end = False
        self._discarded = False
        self._reset()

    def _reset(self) -> None:
        self.answered = False
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._status = 0
        self._has_head = False
        self._until_close = False
        self._complete = False
        self._keeps_alive = True
        self._other_size = 0  # bytes since the last piece of the body
        self._body_size = 0
        self._most_bytes = MOST_BYTES
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: BackendError | None = None

    # What the client does with it.

    async def exchange(self, data: bytes, first_byte_s: float) -> HttpResponse:
        """Send a request and wait for the answer's head."""
        assert self._transport is not None
        self._reset()
        self.idle_since_s = 0.0
        try:
            self._transport.write(data)
            while not self._has_head:
                if self._error is not None:
                    raise self._error
                await self._wait(first_byte_s)
        except BaseException:  # cancellation too: half an exchange leaves nothing to go on with
            self.abort()
            raise
        return HttpResponse(self, self._status, self._headers)

    async def read(self, silence_s: float) -> bytes:
        """Body bytes; empty at the end."""
        while not self._pieces:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait(silence_s)
        if self._error is not None and self._body_size > self._most_bytes:
            raise self._error  # what came before is not worth having
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._size = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def end(self) -> None:
        """The answer is no longer wanted."""
        transport = self._transport
        alive = transport is not None and not transport.is_closing()
        whole = self._complete and not self._until_close and not self._size
        if alive and whole and self._keeps_alive and self._error is None:
            self.idle_since_s = self.loop.time()
            self.client.give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the socket now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, limit_s: float) -> None:
        self._waited_s = limit_s
        self._deadline_s = self.loop.time() + limit_s
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline_s, self._check)
        elif self._timer.when() > self._deadline_s:
            self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline_s, self._check)
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _check(self) -> None:
        """The timer is set once and looks again, which is cheaper than setting it at every read."""
        self._timer = None
        if self._waiter is None:
            return
        if self.loop.time() < self._deadline_s:
            self._timer = self.loop.call_at(self._deadline_s, self._check)
            return
        self._fail(UpstreamTimeout(f"{self.client.name} sent nothing for {self._waited_s:g} s"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: BackendError) -> None:
        if self._error is None and (not self._complete or self._body_size > self._most_bytes):
            self._error = error
        self.abort()
        self._wake()

    # What the event loop tells it.

    def discard(self) -> None:
        """Close it, and be done with it: uvloop ends a cancelled connect without a word."""
        self._discarded = True
        self.abort()
        self._gone()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        if self._discarded:
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.client.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed: an answer that is not complete by now never will be."""
        self._transport = None
        if self._until_close and self._clean_end and self._has_head:
            self._complete = True
        elif not self._complete:
            why = f": {said(exc)}" if exc else " before the answer was complete"
            self._fail(UpstreamDisconnected(f"{self.client.name} closed the connection{why}"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        self._gone()

    def _gone(self) -> None:
        self._transport = None
        self.client.forget(self)
        if not self.lost.done():
            self.lost.set_result(None)

    def eof_received(self) -> bool:
        """A proper goodbye: over TLS a cut connection is merely lost, and does not come here."""
        self._clean_end = True
        return False

    def data_received(self, data: bytes) -> None:
        """Bytes for the parser."""
        if self.idle_since_s:
            self.abort()  # an answer to nothing
            return
        if self._error is not None:
            return
        if self._complete:
            self._keeps_alive = False  # more than the answer: nobody knows to what
            return
        self.answered = True
        self._other_size += len(data)
        if not self._has_head:
            self._head_size += len(data)
        wrong = self._parse(data)
        if wrong is not None:
            self._fail(MalformedStream(f"{self.client.name} {wrong}"))
            return
        if self._size > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _parse(self, data: bytes) -> str | None:
        """What is wrong with the answer, None if nothing is."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return "wants to change the protocol"
        except httptools.HttpParserError as error:
            return f"does not speak HTTP: {said(error)}"
        if self._body_size > self._most_bytes:
            kind = "answer" if self._status < 300 else "error"
            return f"sent more than {self._most_bytes} bytes, the limit of one {kind}"
        if not self._has_head and self._head_size > LARGEST_HEAD_BYTES:
            return f"sent more than {LARGEST_HEAD_BYTES} bytes of headers"
        if self._has_head and self._other_size > LARGEST_HEAD_BYTES and not self._complete:
            return (
                f"sent more than {LARGEST_HEAD_BYTES} bytes that are no part of its answer "
                "(trailers, chunk extensions)"
            )
        return None

    # What the parser tells it.

    def on_message_begin(self) -> None:
        """An answer begins, or one that precedes it (100 Continue)."""
        if self._complete:
            self._keeps_alive = False
        else:
            self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if not (self._has_head or self._complete):  # trailers are of no use to anyone here
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._complete:
            return  # of a second answer, to nothing
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return  # 100 Continue and early hints: the answer is still to come
        self._has_head = True
        most_bytes = self.client.most_bytes
        self._most_bytes = most_bytes if self._status < 300 else min(most_bytes, MOST_ERROR_BYTES)
        self._keeps_alive = self._parser.should_keep_alive()
        bounded = "content-length" in self._headers or "transfer-encoding" in self._headers
        self._until_close = not bounded and self._status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, out of its chunked form."""
        if self._complete:
            return
        self._other_size = 0
        self._body_size += len(body)
        if self._body_size <= self._most_bytes:
            self._pieces.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._has_head:
            self._complete = True


def said(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
