"""HTTP/1.1 to one upstream: connections in a pool, deadlines per phase.

Written for many short exchanges and long streams at once. Proxies are taken from the environment.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from suffice.backends.http_connection import Connection, HttpResponse, said
from suffice.backends.http_proxy import authorization, connect_through, header_lines, proxy_of
from suffice.backends.upstream_url import checked_url
from suffice.core.errors import UpstreamDisconnected, UpstreamRefused, UpstreamTimeout

# uvicorn, and with it vLLM, closes idle connections after 5 s; using one at that moment fails.
IDLE_S = 4.0
MOST_IDLE = 512


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
    ) -> None:
        parts = urlsplit(checked_url(url))
        assert parts.hostname is not None
        self.name = name
        self._connect_s = connect_s
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
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()

    async def send(
        self,
        path: str,
        body: bytes | None,
        *,
        first_byte_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """Status and headers of a POST of `body` (None: a GET); the rest is read from it.

        Raises UpstreamRefused, UpstreamTimeout, UpstreamDisconnected or MalformedStream.
        """
        verb = "GET" if body is None else "POST"
        lines = f"{verb} {self._prefix}{path} HTTP/1.1\r\n{self._fixed}"
        if headers:
            lines += header_lines(headers)
        if body is not None:
            lines += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        data = f"{lines}\r\n".encode("latin-1") + (body or b"")
        idle = self._take_idle()
        if idle is not None:
            try:
                return await idle.exchange(data, first_byte_s)
            except UpstreamDisconnected:
                if idle.answered:
                    raise
                # It was closed while it lay idle: nothing was answered, nothing was begun.
        connection = await self._connect()
        return await connection.exchange(data, first_byte_s)

    async def aclose(self) -> None:
        """Close every connection, and wait until they are."""
        ends = [connection.lost for connection in self._open]
        for connection in tuple(self._open):
            connection.abort()
        if ends:
            await asyncio.wait(ends)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer is complete for the next request."""
        self._idle.append(connection)
        oldest_s = connection.idle_since_s - IDLE_S
        while self._idle[0].idle_since_s < oldest_s or len(self._idle) > MOST_IDLE:
            self._idle.popleft().abort()

    def opened(self, connection: Connection) -> None:
        """Count a connection."""
        self._open.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if connection.idle_since_s and connection in self._idle:
            self._idle.remove(connection)

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
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(self, loop)
        try:
            async with asyncio.timeout(self._connect_s):
                if self._proxy is not None:
                    await connect_through(
                        self._proxy, connection,
                        host=self._host, port=self._port, tls=self._tls,
                    )  # fmt: skip
                else:
                    await loop.create_connection(
                        lambda: connection, self._host, self._port, ssl=self._tls
                    )
        except TimeoutError:
            connection.abort()
            limit_s = self._connect_s
            raise UpstreamTimeout(
                f"{self.name} did not accept a connection within {limit_s:g} s"
            ) from None
        except ssl.SSLError as error:
            connection.abort()
            raise UpstreamRefused(f"{self.name}: no TLS connection: {said(error)}") from None
        except OSError as error:
            connection.abort()
            raise UpstreamRefused(
                f"{self.name} refuses the connection: is the server running? ({said(error)})"
            ) from None
        return connection
