"""What a client's connection may do, as bytes on a socket to the product's own server."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from suffice.gateway import server
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import KeysConfig, LedgerConfig
from suffice.gateway.connection import http_limits
from suffice.gateway.connection.cancellation import left_at_once
from suffice.gateway.connection.connections import most_connections
from suffice.gateway.connection.http_transport import Gathered
from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.servers.tools import config_for, running, serving_bounded, wait_for

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
ASK = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "2+2"}]}).encode()
LENGTH = b"Content-Length: %d\r\n" % len(ASK)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
SOON = TrafficConfig(header_s=0.4, body_s=0.4, stall_s=0.5)


@contextmanager
def gateway(
    traffic: TrafficConfig = SOON, *, keys: bool | None = None
) -> Iterator[tuple[str, int]]:
    with FakeEngine(Reply()) as engine, before(engine, traffic, keys=keys) as address:
        yield address


@contextmanager
def before(
    engine: FakeEngine, traffic: TrafficConfig, *, keys: bool | None = None
) -> Iterator[tuple[str, int]]:
    config = config_for(
        engine.url, traffic=traffic, patience_s=20.0,
        keys=KeysConfig(required=keys), ledger=LedgerConfig(url="none"),
    )  # fmt: skip
    with serving_bounded(config, hooks=serving_hooks) as url:
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def talk(
    address: tuple[str, int], data: bytes, *, drip: bytes = b"", every_s: float = 0.05,
    end: bool = False,
) -> bytes:  # fmt: skip
    """All that the server says until it closes, while `drip` is sent again and again."""
    said = b""
    with socket.create_connection(address) as client:
        with suppress(ConnectionError):
            client.sendall(data)
        client.settimeout(every_s if drip else 20.0)
        until = time.monotonic() + 20.0
        while time.monotonic() < until:
            try:
                piece = client.recv(65536)
            except TimeoutError:
                if not drip:
                    raise AssertionError(f"nothing more after {said!r}, and no end") from None
            except ConnectionError:
                return said
            else:
                if not piece:
                    return said
                said += piece
            if drip:
                try:
                    client.sendall(drip)
                except ConnectionError:
                    drip = b""
    raise AssertionError(f"the connection has no end; it said {said!r}")


def status_and_code(said: bytes) -> tuple[int, str | None]:
    head, _, body = said.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    return status, json.loads(body)["error"]["code"] if status >= 400 else None


# --- time


@pytest.mark.parametrize(
    ("data", "drip"),
    [
        (CHAT, b""),
        (CHAT, b"x"),
        (b"\r\n", b"\r\n"),
        (CHAT + b"Content-Length: 100\r\n\r\n", b""),
        (CHAT + b"Content-Length: 100\r\n\r\n{", b""),
        (CHAT + b"Content-Length: 10000\r\n\r\n{", b"x"),
        (CHAT + CHUNKED + b"\r\n", b""),
        (CHAT + CHUNKED + b"\r\n5", b""),
        (CHAT + CHUNKED + b"\r\n1\r\n{\r\n", b"1\r\nx\r\n"),
        (CHAT + CHUNKED + b"\r\n1;a=", b"x"),
        (CHAT + CHUNKED + b"\r\n1\r\n{\r\n0\r\nx: ", b"x"),
        (b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", b""),
        (b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{", b" "),
    ],
)
def test_whoever_is_slow_is_told_and_cut_off(data: bytes, drip: bytes) -> None:
    with gateway() as address:
        said = talk(address, data, drip=drip)
    assert status_and_code(said) == (408, "request_timeout")


def test_whoever_says_nothing_is_cut_off() -> None:
    with gateway() as address:
        assert talk(address, b"") == b""


@pytest.mark.parametrize("drip", [b"\r\n", b"\r", b"\n", b""])
def test_blank_lines_do_not_keep_an_idle_connection(
    drip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.3)
    with gateway() as address:
        said = talk(address, HEALTH, drip=drip)
    assert said.count(b"HTTP/1.1") == 1
    assert status_and_code(said) == (200, None)


def test_a_blank_line_before_a_request_is_forgiven() -> None:
    with gateway() as address, socket.create_connection(address) as client:
        for before in (b"", b"\r\n", b"\r\n\r\n"):
            client.sendall(before + HEALTH)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("drip", [b"x", b""])
@pytest.mark.parametrize(
    "data",
    [
        CHAT + b"Content-Length: 1000000\r\n\r\n",
        CHAT + CHUNKED + b"\r\n2\r\n{}\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    ],
)
def test_an_answer_before_the_body_came_ends_the_connection(
    data: bytes, drip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "LINGER_S", 0.3)
    # Neither of the client's own times has passed when it ends.
    with gateway(TrafficConfig(), keys=True) as address:
        said = talk(address, data, drip=drip)
    status, code = status_and_code(said)
    assert (status, code) in {(401, "invalid_api_key"), (200, None), (404, "not_found")}
    assert b"connection: close" in said.lower()


def test_an_early_answer_arrives_although_more_was_sent() -> None:
    """Closing at once would reset the connection under the answer."""
    with gateway(TrafficConfig(), keys=True) as address:
        said = talk(address, CHAT + b"Content-Length: 30000000\r\n\r\n" + b"x" * 10_000_000)
    assert status_and_code(said) == (401, "invalid_api_key")


def test_a_client_that_takes_nothing_is_cut_off_when_its_answer_is_written() -> None:
    """Three megabytes are on their way to a client that reads none of them and never leaves."""
    found: list[Any] = []

    def server_for(config: GatewayConfig) -> Any:
        found.append(server.server_of(config, quiet=True))
        return found[0]

    with FakeEngine(Reply(tokens=("x" * 100_000,) * 100)) as engine:
        config = config_for(engine.url, traffic=SOON, patience_s=20.0)
        with running(lambda: server_for(config)) as url, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = url.removeprefix("http://").split(":")
            client.connect((host, int(port)))
            client.sendall(CHAT + LENGTH + b"Connection: close\r\n\r\n" + ASK)
            wait_for(lambda: found[0].connections.open == 1)
            wait_for(lambda: found[0].connections.open == 0, 20.0)


# --- bytes


def flood(address: tuple[str, int], start: bytes, piece: bytes, times: int) -> bytes:
    """Send until the server wants no more; what it says."""
    said = b""
    with socket.create_connection(address) as client:
        client.settimeout(20.0)

        def listen() -> None:
            nonlocal said
            try:
                while data := client.recv(65536):
                    said += data
            except OSError:
                pass

        client.sendall(start)
        listener = threading.Thread(target=listen)
        listener.start()
        sent = 0
        try:
            for _ in range(times):
                client.sendall(piece)
                sent += 1
        except OSError:
            pass
        else:
            raise AssertionError("the server took it all")
        listener.join()
    return said


LINES = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 40) for number in range(1000))


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"2\r\n{}\r\n0\r\n", LINES),
        (b"2\r\n{}\r\n0\r\nx: ", b"a" * 65536),
        (b"2\r\n{}\r\n0\r\n", b"a" * 65536),
        (b"2;a=", b"a" * 65536),
        (b"", b"0" * 65536),
    ],
    ids=["trailers", "one trailer", "a trailer's name", "a chunk's extension", "a chunk's size"],
)
def test_what_is_no_part_of_a_body_is_bounded(
    start: bytes, piece: bytes, *, keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "LINGER_S", 0.3)
    with gateway(TrafficConfig(), keys=keys) as address:
        said = flood(address, CHAT + CHUNKED + b"\r\n" + start, piece, 4000)
    if said:  # else the reset was faster than the answer
        assert status_and_code(said)[1] in {
            "headers_too_large", "invalid_api_key", "invalid_http", "invalid_value",
        }  # fmt: skip


def test_trailers_are_no_headers() -> None:
    trailers = b"0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n"
    body = b"%x\r\n" % len(ASK) + ASK + b"\r\n" + trailers
    with gateway(TrafficConfig()) as address:
        said = talk(address, CHAT + CHUNKED + b"Connection: close\r\n\r\n" + body)
    assert status_and_code(said) == (200, None)


def test_requests_ahead_of_their_answers_are_bounded() -> None:
    with gateway(TrafficConfig()) as address:
        last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        said = talk(address, HEALTH * 20 + last)
        assert said.count(b"HTTP/1.1 200") == 21
        said = talk(address, HEALTH * 100_000, drip=b"x")
        assert said.count(b"HTTP/1.1 200") <= http_limits.MOST_AHEAD + 1


# --- how many


def test_connections_have_a_limit_and_the_log_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    once = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with gateway(TrafficConfig(max_connections=8)) as address, ExitStack() as stack:

        def begin() -> socket.socket:
            slow = stack.enter_context(socket.create_connection(address))
            slow.sendall(CHAT + b"Content-Length: 1000000\r\n\r\n{")
            return slow

        oldest, *_ = (begin() for _ in range(7))
        # What was sent before this is read before it is answered.
        assert status_and_code(talk(address, once)) == (200, None)
        for _ in range(33):
            begin()
        # They are all within their times: who comes now takes the place of the oldest.
        for _ in range(5):
            assert status_and_code(talk(address, once)) == (200, None)
        assert status_and_code(oldest.recv(65536)) == (503, "too_many_connections")
    assert capfd.readouterr().err.count("8 connections are open, as many as may be") == 1


def test_connections_that_are_being_answered_keep_their_place() -> None:
    traffic = TrafficConfig(max_connections=2)
    with (
        FakeEngine(Reply(tokens=("4",) * 40, delay_s=0.05)) as engine,
        before(engine, traffic) as address,
    ):
        found: list[bytes] = []
        request = CHAT + LENGTH + b"Connection: close\r\n\r\n" + ASK
        calls = [
            threading.Thread(target=lambda: found.append(talk(address, request))) for _ in range(2)
        ]
        for call in calls:
            call.start()
        wait_for(lambda: engine.seen.running == 2, 20.0)
        said = talk(address, HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for call in calls:
            call.join()
    assert status_and_code(said) == (503, "too_many_connections")
    assert [status_and_code(each)[0] for each in found] == [200, 200]


def test_the_limit_of_open_files_bounds_connections() -> None:
    limits = TrafficConfig(max_connections=1000)
    assert most_connections(limits, 65_536) == 1000
    assert most_connections(limits, 1024) == 448
    assert most_connections(limits, 64) == 8


# --- the protocol


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAAB\r\n"


@pytest.mark.parametrize("cut", [0, 1, 30, 100, 200, 210])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_wish_for_another_protocol_is_not_heard(cut: int, *, chunked: bool) -> None:
    head = CHAT + UPGRADE + (CHUNKED if chunked else LENGTH) + b"\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ASK), ASK) if chunked else ASK
    data = head + body
    with gateway(TrafficConfig()) as address, socket.create_connection(address) as client:
        client.sendall(data[:cut])
        time.sleep(0.02)
        client.sendall(data[cut:])
        said = client.recv(65536)
        assert said.startswith(b"HTTP/1.1 200")
        assert b'"choices"' in said
        client.sendall(HEALTH)  # the connection goes on
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_web_socket_is_an_ordinary_request_here() -> None:
    wish = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    with gateway(TrafficConfig()) as address:
        said = talk(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + wish)
        assert status_and_code(said)[0] == 200
        said = talk(address, b"CONNECT evil.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_and_code(said) == (400, "invalid_http")


MALFORMED = [
    b"FFFFFFFFFFFFFFFFFF\r\n",
    b"-1\r\n",
    b"0x3b\r\n" + ASK,
    b"zz\r\n",
    b"2\r\n{}x",
    b"2\r\n{}\r\n\r\n",
    b"5\n{}\n0\n\n",
    b"2;\n\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n",
    b"2\r\n{}\r\n0\r\nx\x00y: z\r\n\r\n",
]


@pytest.mark.parametrize("body", MALFORMED)
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/feedback"])
def test_a_malformed_body_is_a_400_like_a_malformed_head(path: bytes, body: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + CHUNKED + b"\r\n"
    with gateway(TrafficConfig()) as address:
        assert status_and_code(talk(address, head + body)) == (400, "invalid_http")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        CHAT + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    ],
)
def test_a_malformed_head_is_a_400(head: bytes) -> None:
    with gateway(TrafficConfig()) as address:
        assert status_and_code(talk(address, head)) == (400, "invalid_http")


@pytest.mark.parametrize(
    ("url", "host", "status"),
    [
        (b"http://localhost/v1/models", b"localhost", 200),
        (b"http://localhost/v1/models", b"evil.com", 200),
        (b"http://evil.com/v1/models", b"localhost", 403),
        (b"http://evil.com:80/v1/models", b"localhost", 403),
        (b"/v1/models", b"evil.com", 403),
    ],
)
def test_the_host_of_the_request_line_comes_first(url: bytes, host: bytes, status: int) -> None:
    """As RFC 9112 has it; which hosts are refused is for whoever guards against rebinding."""
    request = b"GET " + url + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    with gateway(TrafficConfig(), keys=False) as address:
        assert int(talk(address, request).split(b" ")[1]) == status


def test_http_1_0_gets_no_chunks() -> None:
    asked = json.loads(ASK) | {"stream": True}
    with gateway(TrafficConfig()) as address:
        for body, end in ((ASK, b"}"), (json.dumps(asked).encode(), b"data: [DONE]\n\n")):
            request = b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\n"
            said = talk(address, request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            head, _, answer = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"transfer-encoding" not in head.lower()
            assert b"connection: close" in head.lower()
            assert answer.endswith(end)
            assert answer[:1] in (b"{", b"d")
        said = talk(address, b"GET /health HTTP/1.0\r\n\r\n")
        assert status_and_code(said) == (200, None)


def test_garbage_behind_a_request_does_not_take_its_answer() -> None:
    with gateway(TrafficConfig()) as address:
        said = talk(address, CHAT + LENGTH + b"\r\n" + ASK + b"\x00\x01garbage\r\n\r\n")
    assert status_and_code(said) == (200, None)
    assert b'"choices"' in said


# --- what it leans on


def test_what_is_used_of_uvicorn_is_still_there() -> None:
    """The connection's class leans on these of uvicorn's own; a new version may move them."""
    import inspect

    from uvicorn.protocols.http import httptools_impl

    protocol = inspect.getsource(httptools_impl.HttpToolsProtocol)
    cycle = inspect.getsource(httptools_impl.RequestResponseCycle)
    for name in (
        "self.parser", "self.pipeline", "self.cycle", "self.headers", "self.url", "self.scope",
        "self.flow", "self.transport", "self.loop", "def _unset_keepalive_if_required",
        "set_dangerous_leniencies(lenient_data_after_close=True)",
        "keep_alive=http_version != ", "on_response=self.on_response_complete",
    ):  # fmt: skip
        assert name in protocol, name
    for name in (
        "self.keep_alive", "self.response_started", "self.response_complete", "self.disconnected",
        "self.message_event", "self.chunked_encoding", "self.expected_content_length",
        "self.default_headers", "self.body = bytearray()", "self.more_body", "self.flow",
        "self.transport", "self.on_response", "self.waiting_for_100_continue",
        "await app(  # type: ignore[func-returns-value]\n                self.scope, self.receive, "
        "self.send",
    ):  # fmt: skip
        assert name in cycle, name


class Closed:
    """uvloop's transport after its end."""

    def __init__(self) -> None:
        self.closing = False
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.closing:
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closing = True

    abort = write_eof = close


class Later:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_soon(self, call: Any) -> None:
        self.calls.append(call)


@pytest.mark.parametrize("way", ["lost", "closed", "aborted", "ended"])
def test_what_is_written_to_a_closed_connection_is_dropped(way: str) -> None:
    transport, loop = Closed(), Later()
    owner: Any = type("Owner", (), {"lingers": lambda self: False})()
    gathered = Gathered(transport, loop, stall_s=1.0, owner=owner)  # type: ignore[arg-type]
    gathered.write(b"a")
    gathered.write(b"b")
    if way == "lost":
        transport.closing = True
        gathered.lost()
    else:
        {"closed": gathered.close, "aborted": gathered.abort, "ended": gathered.end_writing}[way]()
    gathered.write(b"c")
    for call in loop.calls:
        call()
    assert transport.written == ([] if way == "lost" else [b"ab"])


class Seen:
    """A connection as a call sees it."""

    is_whole, fault, when_lost = True, None, None

    def __init__(self, *, others_leave: bool) -> None:
        self.others_leave, self.is_lost = others_leave, False

    def cut(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("others_leave", [False, True])
def test_whoever_left_at_once_is_seen_while_others_leave(*, others_leave: bool) -> None:
    """It costs a turn of the event loop to see it, which is not spent while nobody leaves."""

    async def main() -> bool:
        connection = Seen(others_leave=others_leave)
        asyncio.get_running_loop().call_soon(setattr, connection, "is_lost", True)
        return await left_at_once(connection)

    assert asyncio.run(main()) is others_leave


def test_whoever_closes_its_sending_side_has_left() -> None:
    with (
        FakeEngine(Reply(tokens=("4",) * 4000, delay_s=0.05)) as engine,
        before(engine, TrafficConfig()) as address,
        socket.create_connection(address) as client,
    ):
        client.sendall(CHAT + LENGTH + b"\r\n" + ASK)
        wait_for(lambda: engine.seen.running == 1, 20.0)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(20.0)
        assert client.recv(65536) == b""
        wait_for(lambda: engine.seen.running == 0, 20.0)
        assert engine.seen.finished == 0


def test_a_client_that_leaves_is_a_sign_that_others_may() -> None:
    found: list[Any] = []

    def server_for(config: GatewayConfig) -> Any:
        found.append(server.server_of(config, quiet=True))
        return found[0]

    with FakeEngine(Reply(tokens=("4",) * 40, delay_s=0.05)) as engine:
        config = config_for(engine.url, traffic=TrafficConfig(), patience_s=20.0)
        with running(lambda: server_for(config)) as url:
            host, port = url.removeprefix("http://").split(":")
            connections = found[0].connections
            talk((host, int(port)), HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert connections.left_s == -math.inf
            with socket.create_connection((host, int(port))) as client:
                client.sendall(CHAT + LENGTH + b"\r\n" + ASK)
                wait_for(lambda: engine.seen.running == 1, 20.0)
            wait_for(lambda: connections.left_s > 0, 20.0)
