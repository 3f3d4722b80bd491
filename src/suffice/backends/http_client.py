"""HTTP/1.1 to one upstream: pooled connections, parsed in C, deadlines per phase.

Written for many short exchanges and long streams at once. Bytes that arrived together are handed
over together; a reader that is slow stops the socket instead of filling memory; an answer that was
cut short is never mistaken for a whole one. Proxies are taken from the environment.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from suffice.core.errors import (
    BackendError,
    InputError,
    MalformedStream,
    MissingExtra,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamTimeout,
)

try:
    import httptools
except ImportError as error:  # the core install is light
    raise MissingExtra.of("httptools", "serve", "talking to a server") from error

# Above this many unread bytes the socket is not read any further.
HIGH_WATER_BYTES = 256 * 2**10
LARGEST_HEAD_BYTES = 64 * 2**10
# uvicorn, and with it vLLM, closes idle connections after 5 s; using one at that moment fails.
IDLE_S = 4.0
MOST_IDLE = 512
_LOCAL = ("localhost", "127.0.0.1", "::1")


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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"upstream {url!r} is not a URL: write http://localhost:8000/v1")
        self.name = name
        self._connect_s = connect_s
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._proxy = _proxy_of(parts)
        # A proxy wants the whole address of what it is to fetch, unless it only tunnels.
        through = self._proxy is not None and self._tls is None
        self._prefix = (f"http://{parts.netloc}" if through else "") + parts.path.rstrip("/")
        fixed = {"host": parts.netloc.rpartition("@")[2], "accept-encoding": "identity"}
        if through and self._proxy is not None:
            fixed |= _proxy_authorization(self._proxy)
        self._fixed = _header_lines({**fixed, **(headers or {})})
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()

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
            lines += _header_lines(headers)
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

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer is complete for the next request."""
        self._idle.append(connection)
        oldest_s = connection.idle_since_s - IDLE_S
        while self._idle[0].idle_since_s < oldest_s or len(self._idle) > MOST_IDLE:
            self._idle.popleft().abort()

    def opened(self, connection: _Connection) -> None:
        """Count a connection."""
        self._open.add(connection)

    def forget(self, connection: _Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if connection.idle_since_s and connection in self._idle:
            self._idle.remove(connection)

    def _take_idle(self) -> _Connection | None:
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

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection(self, loop)
        try:
            async with asyncio.timeout(self._connect_s):
                if self._proxy is not None:
                    await self._connect_through(self._proxy, connection)
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
            raise UpstreamRefused(f"{self.name}: no TLS connection: {_said(error)}") from None
        except OSError as error:
            connection.abort()
            raise UpstreamRefused(
                f"{self.name} refuses the connection: is the server running? ({_said(error)})"
            ) from None
        return connection

    async def _connect_through(self, proxy: SplitResult, connection: _Connection) -> None:
        assert proxy.hostname is not None
        reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port or 8080)
        try:
            if self._tls is not None:
                target = f"{self._host}:{self._port}"
                asked = {"host": target, **_proxy_authorization(proxy)}
                head = f"CONNECT {target} HTTP/1.1\r\n{_header_lines(asked)}\r\n"
                writer.write(head.encode("latin-1"))
                answer = await reader.readuntil(b"\r\n\r\n")
                if b" 200 " not in answer.split(b"\r\n")[0] + b" ":
                    said = answer.split(b"\r\n")[0].decode("latin-1")
                    raise OSError(f"the proxy {proxy.hostname} answers {said!r}")
                await writer.start_tls(self._tls, server_hostname=self._host)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            writer.transport.abort()
            raise OSError(f"the proxy {proxy.hostname} does not answer: {error}") from None
        except BaseException:
            writer.transport.abort()
            raise
        writer.transport.set_protocol(connection)
        connection.connection_made(writer.transport)


class HttpResponse:
    """An answer whose headers have come; `close` it, whether read to its end or not."""

    __slots__ = ("_connection", "content_type", "headers", "length", "status")

    def __init__(self, connection: _Connection, status: int, headers: dict[str, str]) -> None:
        self._connection: _Connection | None = connection
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


class _Connection(asyncio.Protocol):
    """One socket; also what the parser calls back."""

    def __init__(self, client: HttpClient, loop: asyncio.AbstractEventLoop) -> None:
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
        self._reset()

    def _reset(self) -> None:
        self.answered = False
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._status = 0
        self._has_head = False
        self._until_close = False
        self._complete = False
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
        except BaseException:
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
        if alive and whole and self._keeps_alive:
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
        if self._error is None and not self._complete:
            self._error = error
        self.abort()
        self._wake()

    # What the event loop tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.client.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.client.forget(self)
        if self._until_close and self._clean_end and self._has_head:
            self._complete = True
        elif not self._complete:
            why = f": {_said(exc)}" if exc else " before the answer was complete"
            self._fail(UpstreamDisconnected(f"{self.client.name} closed the connection{why}"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        if not self.lost.done():
            self.lost.set_result(None)

    def eof_received(self) -> bool:
        # Over TLS only a proper goodbye comes here; a cut connection is merely lost.
        self._clean_end = True
        return False

    def data_received(self, data: bytes) -> None:
        if self.idle_since_s:
            self.abort()  # an answer to nothing
            return
        if self._error is not None:
            return
        self.answered = True
        if not self._has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(MalformedStream(f"{self.client.name} wants to change the protocol"))
            return
        except httptools.HttpParserError as error:
            self._fail(MalformedStream(f"{self.client.name} does not speak HTTP: {_said(error)}"))
            return
        if not self._has_head and self._head_size > LARGEST_HEAD_BYTES:
            self._fail(
                MalformedStream(
                    f"{self.client.name} sent more than {LARGEST_HEAD_BYTES} bytes of headers"
                )
            )
            return
        if self._size > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    # What the parser tells it.

    def on_message_begin(self) -> None:
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # trailers are of no use to anyone here
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return  # 100 Continue and early hints: the answer is still to come
        self._has_head = True
        self._keeps_alive = self._parser.should_keep_alive()
        bounded = "content-length" in self._headers or "transfer-encoding" in self._headers
        self._until_close = not bounded and self._status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._complete = True


def _proxy_of(parts: SplitResult) -> SplitResult | None:
    host = parts.hostname or ""
    if host in _LOCAL or proxy_bypass(host):
        return None
    found = getproxies_environment().get(parts.scheme)
    if not found:
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise InputError(f"proxy {proxy.scheme}://{proxy.hostname} is not supported: http:// is")
    return proxy


def _proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _header_lines(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise InputError(f"header {name} holds a line break")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
