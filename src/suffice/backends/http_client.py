"""HTTP/1.1 to one upstream: connections in a pool, deadlines per phase.

Written for many short exchanges and long streams at once. Proxies are taken from the environment.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from suffice.backends.http_connection import MOST_BYTES, Connection, HttpResponse, said
from suffice.backends.http_proxy import authorization, connect_through, header_lines, proxy_of
from suffice.backends.reached import tell_reached
from suffice.core.errors import (
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamUnreachable,
)
from suffice.core.urls import checked_url

logger = logging.getLogger("suffice.backends")

# uvicorn, and with it vLLM, closes idle connections after 5 s; using one at that moment fails.
IDLE_S = 4.0
MOST_IDLE = 512
# Connections to one upstream at once, unless it is told otherwise.
MOST_OPEN = 2048
# An aborted socket is closed in the next turn of the event loop; this is for one that hangs.
CLOSE_S = 2.0


class HttpClient:
    """Connections to the server at `url`; paths are appended to it."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        headers: Mapping[str, str] | None = None,
        connect_s: float,
        tls: ssl.SSLContext | None = None,
        most_open: int = MOST_OPEN,
        most_bytes: int = MOST_BYTES,
        refused: Callable[[], None] | None = None,
    ) -> None:
        """At most `most_open` connections at once, and `most_bytes` of one answer; `refused` is
        called when the server takes no connection.
        """
        parts = urlsplit(checked_url(url))
        assert parts.hostname is not None
        self.name = name
        self._connect_s = connect_s
        self._refused = refused
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._proxy = proxy_of(parts)
        # A proxy wants the whole address of what it is to fetch, unless it only tunnels.
        through = self._proxy is not None and self._tls is None
        self._prefix = (f"http://{parts.netloc}" if through else "") + parts.path.rstrip("/")
        fixed = {"host": parts.netloc.rpartition("@")[2], "accept-encoding": "identity"}
        if through and self._proxy is not None:
            fixed |= authorization(self._proxy)
        self._fixed = header_lines({**fixed, **(headers or {})})
        self.most_bytes = most_bytes
        self._most_open = most_open
        self._idle: deque[Connection] = deque()
        self._trimmer: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()
        self._places = 0  # connections that are open or being opened
        self._turns: deque[asyncio.Future[None]] = deque()  # of requests that wait for a place
        self._closed = False

    async def send(
        self,
        path: str,
        body: bytes | None,
        *,
        first_byte_s: float,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> HttpResponse:
        """Status and headers of a POST of `body` (None: a GET); the rest is read from it.

        Raises UpstreamRefused, UpstreamTimeout, UpstreamDisconnected or MalformedStream.
        """
        verb = "GET" if body is None else "POST"
        lines = f"{verb} {self._prefix}{path} HTTP/1.1\r\n{self._fixed}"
        if headers:
            lines += header_lines(headers)
        if body is not None:
            lines += f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        data = f"{lines}\r\n".encode("latin-1") + (body or b"")
        if self._turns or (not self._idle and self._places >= self._most_open):
            idle = await self._turn(first_byte_s)
        else:
            idle = self._take_idle()
        if idle is not None:
            tell_reached()
            try:
                return await idle.exchange(data, first_byte_s)
            except UpstreamDisconnected:
                if idle.answered:
                    raise
                # It was closed while it lay idle: nothing was answered, nothing was begun.
                tell_reached(False)
        connection = await self._connect()
        tell_reached()
        return await connection.exchange(data, first_byte_s)

    async def aclose(self) -> None:
        """Close every connection, and wait until they are; none is opened any more."""
        self._closed = True
        self._stop_trimming()
        ends = [connection.lost for connection in self._open]
        for connection in tuple(self._open):
            connection.abort()
        while self._turns:
            self._wake_one()
        if ends:
            _, left = await asyncio.wait(ends, timeout=CLOSE_S)
            if left:
                logger.warning(
                    "%d connections to %s are not closed %g s after they were cut",
                    len(left), self.name, CLOSE_S,
                )  # fmt: skip

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer is complete for the next request, for IDLE_S."""
        self._idle.append(connection)
        while len(self._idle) > MOST_IDLE:
            self._idle.popleft().abort()
        if self._turns:
            self._wake_one()
        elif self._trimmer is None:
            self._trimmer = connection.loop.call_later(IDLE_S, self._trim, connection.loop)

    def _trim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what has lain idle for too long, and look again when the next one will have."""
        self._trimmer = None
        oldest_s = loop.time() - IDLE_S
        while self._idle and self._idle[0].idle_since_s <= oldest_s:
            self._idle.popleft().abort()
        if self._idle:
            wait_s = self._idle[0].idle_since_s - oldest_s
            self._trimmer = loop.call_later(wait_s, self._trim, loop)

    def _stop_trimming(self) -> None:
        if self._trimmer is not None:
            self._trimmer.cancel()
            self._trimmer = None

    def opened(self, connection: Connection) -> None:
        """Count a connection."""
        self._open.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        if connection in self._open:
            self._open.discard(connection)
            self._leave()
        if connection.idle_since_s and connection in self._idle:
            self._idle.remove(connection)

    def _leave(self) -> None:
        self._places -= 1
        if self._turns:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _take_idle(self) -> Connection | None:
        if not self._idle:
            return None
        newest = self._idle.pop()
        loop = asyncio.get_running_loop()
        if newest.loop is loop and newest.idle_since_s >= loop.time() - IDLE_S:
            return newest
        for stale in (newest, *self._idle):
            stale.abort()
        self._idle.clear()
        self._stop_trimming()
        return None

    async def _turn(self, limit_s: float) -> Connection | None:
        """An idle connection, or None when there is room for a new one; the first come first."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._turns.append(turn)
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    await turn
                    idle = self._take_idle()
                    if idle is not None or self._places < self._most_open or self._closed:
                        return idle
                    turn = loop.create_future()  # another one was faster
                    self._turns.appendleft(turn)
        except TimeoutError:
            raise UpstreamUnreachable(
                f"{self.name}: all {self._most_open} connections to it were busy for {limit_s:g} s"
            ) from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake_one()  # what became free is for the next one
            raise

    async def _connect(self) -> Connection:
        if self._closed:
            raise self._refusal("is not asked any more: its client is closed")
        loop = asyncio.get_running_loop()
        connection = Connection(self, loop)
        self._places += 1
        try:
            async with asyncio.timeout(self._connect_s):
                await self._open_socket(connection, loop)
        except TimeoutError:
            self._drop(connection)
            limit_s = self._connect_s
            raise UpstreamUnreachable(
                f"{self.name} did not accept a connection within {limit_s:g} s"
            ) from None
        except ssl.SSLError as error:
            self._drop(connection)
            raise self._refusal(f"gives no TLS connection: {said(error)}") from None
        except OSError as error:
            self._drop(connection)
            raise self._refusal(
                f"refuses the connection: is the server running? ({said(error)})"
            ) from None
        except BaseException:  # cancellation: raised again, nothing is left behind
            self._drop(connection)
            raise
        return connection

    def _refusal(self, what: str) -> UpstreamRefused:
        if self._refused is not None:
            self._refused()
        return UpstreamRefused(f"{self.name} {what}")

    async def _open_socket(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        if self._proxy is not None:
            await connect_through(
                self._proxy, connection, host=self._host, port=self._port, tls=self._tls
            )
        else:
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls)

    def _drop(self, connection: Connection) -> None:
        """Forget a connection that will not be used, however far it has come."""
        was_open = connection in self._open
        connection.discard()
        if not was_open:
            self._leave()
