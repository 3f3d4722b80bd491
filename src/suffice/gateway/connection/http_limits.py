"""One client's connection: everything that it can send is bounded in bytes and in time.

uvicorn's protocol (llhttp inside) with limits around it. A connection is always either being
answered or waiting for its client, and whatever it waits for has an end:

    first byte, next request   `header_s`, KEEP_ALIVE_S       closed
    the request's headers      `header_s`, `max_header_bytes` 408, 431
    the request's body         `body_s`, `max_body_bytes`     408, 413 (by whoever reads the body)
    what is no part of a body  `max_header_bytes`             431 (trailers, chunk extensions)
    a body after the answer    LINGER_S                       dropped (LINGER_BYTES), then closed
    a client that reads slowly `stall_s` without a byte       closed
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from suffice.gateway.connection.connections import Connections
from suffice.gateway.connection.http_transport import Gathered, Unchunked

# Clients keep idle connections for seconds to minutes; closing first makes them fail.
KEEP_ALIVE_S = 75
# After an answer to a request that is not whole, so long is read and dropped: closing at once would
# reset the connection, and the client would see that instead of the answer.
LINGER_S = 5.0
LINGER_BYTES = 64 * 2**20
# What is dropped is read so much at a time, with pauses of so long.
SIP_BYTES = 2**15
SIP_S = 0.005
# Requests that one connection may send ahead of their answers.
MOST_AHEAD = 64
# A client that left its call is a sign for so long that others may.
LEFT_S = 1.0
# Connections beyond the limit that are told so; of more nobody hears anything.
SPARE = 32
_UPGRADE = (b"upgrade", b"http2-settings")


def protocol_of(connections: Connections) -> type[HttpConnection]:
    """The class of this process's connections."""
    return type("BoundedConnection", (HttpConnection,), {"room": connections})


class HttpConnection(HttpToolsProtocol):
    """A connection with limits; what calls see of it is `ClientConnection` in attended.py."""

    room: Connections

    is_lost = False
    when_lost: Callable[[], None] | None = None  # of the call that is being answered
    is_whole = True  # whether the last request that began has come to its end
    fault: tuple[int, str, str] | None = None  # status, code and message of a request cut short

    _in_head = True
    _is_call = False  # whether the request that comes in has become a call
    _head_size = 0
    _other_size = 0  # bytes since the last piece of a body
    _timer: asyncio.TimerHandle | None = None  # of headers, of lingering
    _idle_timer: asyncio.TimerHandle | None = None  # looks whether it has been idle for too long
    _idle_since_s: float | None = None  # on the loop's clock; None: it is at work
    _deaf = False  # nothing more is read
    _asked = False
    _ending = False
    _keeps_alive = True
    _upgrades = False
    _written: Gathered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Someone connects: he has to say something soon, and there has to be room."""
        self._written = Gathered(transport, self.loop, stall_s=self.room.limits.stall_s, owner=self)
        super().connection_made(cast("asyncio.Transport", self._written))
        if self.room.opened(self, self.loop.time()):
            self._timer = self.loop.call_later(self.room.limits.header_s, self._too_slow)
        elif self.room.open <= self.room.most + SPARE:
            self._refuse(503, "too_many_connections", "too many connections: try again later")
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was cut off."""
        self.is_lost = True
        self._cancel_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self.cycle is not None and not self.cycle.response_complete:
            self.room.left_s = self.loop.time()
        self.room.closed(self)
        self._written.lost()
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    @property
    def others_leave(self) -> bool:
        """Whether a client has left its call within the last second."""
        return self.loop.time() - self.room.left_s < LEFT_S

    def eof_received(self) -> None:
        """The client has closed its side: it has left, as far as anyone can tell."""
        self.is_lost = True

    def cut(self) -> None:
        """Close without another word."""
        self.transport.abort()

    def make_room(self) -> None:
        """Another connection needs the place of this one, which waits for its client."""
        self.room.answers(self)
        if self.is_whole:  # between two requests, or before the first
            self.transport.close()
            return
        self._refuse(503, "too_many_connections", "too slow while all connections are in use")
        self.transport.abort()

    def shutdown(self) -> None:
        """The process ends: no further request."""
        self._ending = True
        super().shutdown()

    # What arrives.

    def data_received(self, data: bytes) -> None:
        """Bytes for the parser, counted."""
        if self._deaf:
            self._drop(data)
            return
        if self._asked and self.is_whole:
            # Between two requests blank lines are no sign of life.
            data = data.lstrip(b"\r\n")
            if not data:
                return
        self._head_size = self._head_size + len(data) if self._in_head else len(data)
        self._other_size += len(data)
        self._idle_since_s = None
        if not self._feed(data):
            return
        if self._in_head and self._head_size > self.room.limits.max_header_bytes:
            self._refuse_headers()
        elif (
            not self._in_head
            and not self.is_whole
            and self._other_size > self.room.limits.max_header_bytes
        ):
            self._refuse_headers("trailers")
        elif self._in_head and self._timer is None and self._head_size:
            self._timer = self.loop.call_later(self.room.limits.header_s, self._too_slow)

    def _drop(self, data: bytes) -> None:
        """Bytes that nobody wants: at a pace that leaves time for others."""
        self._other_size += len(data)
        if self._other_size > LINGER_BYTES:
            self.cut()
        elif len(data) > SIP_BYTES:
            self.flow.pause_reading()
            self.loop.call_later(SIP_S, self._read_on)

    def _read_on(self) -> None:
        if not (self.is_lost or self.transport.is_closing()):
            self.flow.resume_reading()

    def _feed(self, data: bytes) -> bool:
        """Parse; whether more may come."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            self._without_upgrade(data[error.args[0] :])
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse(400, "invalid_http", "this is no valid HTTP/1.1 request")
        return not self._deaf

    def _without_upgrade(self, rest: bytes) -> None:
        """Read a request that asks for another protocol as if it did not; servers may ignore it.

        The parser leaves its body unread, so another one reads the same request without the wish.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400, "invalid_http", "CONNECT is for proxies")
            return
        version = self.parser.get_http_version().encode()
        lines = [
            name + b": " + value for name, value in self.headers if name not in _UPGRADE
        ]  # and "connection: upgrade" means nothing without the header it names
        head = b"\r\n".join([method + b" " + self.url + b" HTTP/" + version, *lines, b"", b""])
        self._upgrades = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head + rest)

    # What the parser says.

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if self._deaf:
            raise ValueError("nothing more is read")  # the parser stops
        if len(self.pipeline) >= MOST_AHEAD:
            self._refuse(400, "invalid_http", "too many requests ahead of their answers")
            raise ValueError("too many requests ahead")  # the parser stops
        self._in_head = self._asked = True
        self.is_whole = self._is_call = False
        super().on_message_begin()
        self.scope["suffice.connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after the body they are trailers, which are counted and dropped."""
        if self._in_head:
            super().on_header(name, value)
        elif (
            self._other_size > self.room.limits.max_header_bytes
        ):  # a trailer, of no use to anyone here
            self._refuse_headers("trailers")

    def on_headers_complete(self) -> None:
        """The head is whole: the call begins, its body may still be on its way."""
        if self.parser.should_upgrade():
            self._upgrades = True  # the parser will stop, and another one begin
            return
        self._in_head = False
        self._cancel_timer()
        if (
            self._head_size > self.room.limits.max_header_bytes
            and self._size_of_head() > self.room.limits.max_header_bytes
        ):
            self._refuse_headers()
            return
        if not self._has_one_host():
            self._refuse(400, "invalid_http", "exactly one Host header is needed")
            return
        super().on_headers_complete()
        self._is_call = True
        cycle = self.cycle
        self.scope["suffice.cycle"] = cycle  # type: ignore[typeddict-unknown-key]
        self._keeps_alive = cycle.keep_alive
        cycle.keep_alive = False  # unless the request is whole when the answer begins
        if self.scope["http_version"] == "1.0":
            cycle.send = Unchunked(cycle).send  # type: ignore[method-assign]

    def _has_one_host(self) -> bool:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if not self.url.startswith(b"/"):
            self._take_host_of_url()
        return hosts == 1 or (hosts == 0 and self.parser.get_http_version() == "1.0")

    def _take_host_of_url(self) -> None:
        """RFC 9112, 3.2.2: a host in the request line comes before the header."""
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            return  # it is refused in a moment
        if url.host is not None:
            host = url.host if url.port is None else url.host + b":%d" % url.port
            self.headers[:] = [
                (name, host if name == b"host" else value) for name, value in self.headers
            ]

    def _size_of_head(self) -> int:
        """Without the piece of the body that came with it."""
        return sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, out of its chunked form."""
        self._other_size = 0
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrades:
            return
        self._head_size = self._other_size = 0
        self.is_whole = True
        if self._deaf:
            return
        cycle = self.cycle
        if not cycle.response_started:
            cycle.keep_alive = self._keeps_alive and not self._ending
        if not cycle.response_complete:
            self.room.answers(self)
        super().on_message_complete()

    # What is sent.

    def on_response_complete(self) -> None:
        """The answer is whole."""
        # The answer leaves before anything is written down about it.
        self._written.flush()
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
            else:
                self._idle_since_s = self.loop.time()
                if self._idle_timer is None:
                    self._look_again_in(self.timeout_keep_alive)
        if not self._deaf and self.cycle.response_complete:
            self.room.waits(self)

    def _look_again_in(self, wait_s: float) -> None:
        self._idle_timer = self.loop.call_later(wait_s, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        """The timer is set once and looks again, which is cheaper than one for every call."""
        since_s, most_s = self._idle_since_s, self.timeout_keep_alive
        left_s = most_s if since_s is None else since_s + most_s - self.loop.time()
        if left_s <= 0:
            self._idle_timer = None
            self.timeout_keep_alive_handler()
        else:
            self._look_again_in(left_s)

    def lingers(self) -> bool:
        """Told when the connection is to be closed: whether it has to stay for a moment.

        It does where an answer is complete and its request is not.
        """
        if self.is_whole or self._deaf or self.cycle is None or not self.cycle.response_complete:
            return False
        self._become_deaf()
        return True

    def _become_deaf(self) -> None:
        self._deaf = True
        self._other_size = 0
        self._cancel_timer()
        self.flow.resume_reading()
        self._timer = self.loop.call_later(LINGER_S, self.cut)

    def send_400_response(self, msg: str) -> None:
        """What the parser does not understand."""
        self._refuse(400, "invalid_http", msg)

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_head and not self._deaf:
            if self._head_size:
                message = f"the headers did not come within {self.room.limits.header_s:g} s"
                self._refuse(408, "request_timeout", message)
            elif not self._asked:
                self.transport.close()  # it has never said anything

    def _refuse_headers(self, what: str = "headers") -> None:
        self._refuse(
            431, "headers_too_large", f"the {what} exceed {self.room.limits.max_header_bytes} bytes"
        )

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in the form that clients expect, without a request to answer."""
        if self._deaf or self.transport.is_closing():
            return
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        if self.pipeline:  # answers to requests before it are still to come: none fits here
            self._deaf = True
            self.transport.close()
            return
        if busy and (self.is_whole or not self._is_call):
            # What comes after a request that is being answered is wrong: the answer still goes out.
            self._deaf = True
            cycle.keep_alive = False
            return
        can_answer = not busy or not cycle.response_started
        self.fault = (status, code, message)
        self._become_deaf()
        if can_answer:
            body = (
                f'{{"error":{{"message":"{message}","type":"invalid_request_error",'
                f'"param":null,"code":"{code}"}}}}'
            ).encode()
            self.transport.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
                f"x-content-type-options: nosniff\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n".encode()
                + body
            )
        if busy:  # whoever answers it learns that it is over
            cycle.disconnected = True
            cycle.message_event.set()
        self._written.end_writing()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
