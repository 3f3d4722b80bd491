"""What the client sees when an upstream, or the client itself, misbehaves: docs/faults.md."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import trustme

from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Capabilities
from suffice.backends.retry import RetryConfig
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.config import GatewayConfig
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply
from tests.scripted_server import ScriptedServer, Steps, framed, plain
from tests.servers import faults
from tests.servers.faults import FAULTS, Fault
from tests.servers.tools import Tools

QUESTION = b'{"model": "fake", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
ABLE = Capabilities(models=("fake",))
QUICK = Timeouts(connect_s=2.0, first_byte_s=0.8, silence_s=0.8, answer_s=0.8)


def config(**traffic: Any) -> GatewayConfig:
    traffic.setdefault("retry", RetryConfig(attempts=2, base_s=0.01))
    traffic.setdefault("max_response_bytes", faults.LIMIT_BYTES)
    return GatewayConfig(traffic=TrafficConfig(**traffic), max_body_bytes=32 * 2**20)


def backend(
    url: str, tls: ssl.SSLContext | None = None, most_bytes: int = faults.LIMIT_BYTES
) -> OpenAIBackend:
    return OpenAIBackend(url, timeouts=QUICK, declared=ABLE, tls=tls, most_bytes=most_bytes)


@contextmanager
def behind(
    tools: type[Tools], steps: Steps, settings: GatewayConfig | None = None
) -> Iterator[tuple[str, ScriptedServer]]:
    settings = settings or config()
    most_bytes = settings.traffic.max_response_bytes
    with (
        ScriptedServer(steps) as server,
        tools.serving_bounded(settings, [backend(server.url, most_bytes=most_bytes)]) as url,
    ):
        yield url, server


def ask(url: str, *, model: str = "fake", stream: bool) -> str:
    """What a client sees, in the words of the page."""
    body = {"model": model, "messages": [{"role": "user", "content": "2+2"}], "stream": stream}
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=10.0)
    later = (
        f", Retry-After {answer.headers['retry-after']}" if "retry-after" in answer.headers else ""
    )
    if answer.status_code != 200:
        error = answer.json()["error"]
        if "code" in error and error.get("type"):
            return f"{answer.status_code} {error['code']}{later}"
        return f"{answer.status_code}, its own error{later}"
    if not stream:
        return f"200 “{answer.json()['choices'][0]['message']['content']}”"
    return read_stream(answer.text)


def read_stream(text: str) -> str:
    said, ending = "", "NOTHING SAYS THAT IT ENDED"
    for block in text.split("\n\n"):
        data = block.removeprefix("data: ")
        if not block or block.startswith(":"):
            continue
        assert ending == "NOTHING SAYS THAT IT ENDED", f"{data} follows {ending}"
        if data == "[DONE]":
            ending = "complete"
            continue
        event = json.loads(data)
        if "error" in event:
            code = event["error"]["code"]
            ending = f"then {code if isinstance(code, str) else 'its own error'}"
        for choice in event.get("choices", ()):
            said += choice["delta"].get("content") or ""
    shown = said if len(said) < 100 else f"{said[:2]}…"
    return f"“{shown}”, {ending}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_upstream_faults(tools: type[Tools], fault: Fault) -> None:
    def steps(body: dict[str, Any]) -> Any:
        return fault.stream if body.get("stream") else fault.whole

    with behind(tools, steps) as (url, server):
        assert ask(url, stream=False) == fault.seen_whole
        assert server.requests == fault.tries
        with ThreadPoolExecutor(3) as threads:  # each may take as long as its limit
            streamed = threads.submit(ask, url, stream=True)
            policy = threads.submit(ask, url, model="suffice/single", stream=True)
            whole = threads.submit(ask, url, model="suffice/single", stream=False)
        assert streamed.result() == fault.seen_stream
        assert policy.result() == (fault.policy_stream or fault.seen_stream)
        assert whole.result() == (fault.policy_whole or fault.seen_whole)


@pytest.mark.parametrize(
    "said", ["inf", "nan", "-inf", "1e308", "-1", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
@pytest.mark.parametrize("model", ["fake", "suffice/single"])
def test_a_retry_after_that_is_no_time_is_not_passed_on(
    tools: type[Tools], said: str, model: str
) -> None:
    steps = [plain(b'{"error":{"message":"no"}}', status=429, extra=f"retry-after: {said}\r\n")]
    with behind(tools, lambda body: steps) as (url, _):
        found = ask(url, model=model, stream=False)
    assert found.startswith("429")
    assert found.removeprefix("429, its own error").removeprefix("429 upstream_rejected") in (
        "", ", Retry-After 1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("text/html", "application/json"),
        ("application/xhtml+xml; charset=utf-8", "application/json"),
        ("image/svg+xml", "application/json"),
        ("application/json; charset=\xff", "application/json"),
        ("Application/JSON; charset=utf-8", "Application/JSON; charset=utf-8"),
        ("application/problem+json", "application/problem+json"),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_no_browser_runs_what_an_upstream_sends(
    tools: type[Tools], kind: str, seen: str, status: int
) -> None:
    body = faults.WHOLE if status == 200 else b'{"error":{"message":"<script>x</script>"}}'
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    with behind(tools, lambda _: [head.encode("latin-1") + body]) as (url, _):
        answer = httpx2.post(
            f"{url}/v1/chat/completions", json={"model": "fake", "messages": []}, timeout=10.0
        )
        others = [httpx2.get(f"{url}{path}") for path in ("/health", "/v1/models", "/nothing")]
    assert answer.status_code == status
    assert answer.headers["content-type"] == seen
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    for other in others:
        assert other.headers.get_list("x-content-type-options") == ["nosniff"]


def test_an_upstream_that_refuses(tools: type[Tools]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with tools.serving_bounded(config(), [backend(f"http://127.0.0.1:{port}")]) as url:
        for model in ("fake", "suffice/single"):
            for stream in (True, False):
                assert ask(url, model=model, stream=stream) == "502 upstream_refused"


def test_a_tls_connection_that_is_cut(tools: type[Tools]) -> None:
    authority = trustme.CA()
    serverside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    clientside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(serverside)
    authority.configure_trust(clientside)

    def steps(body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] == "whole":
            return [plain(faults.WHOLE)]
        return faults.CUT_TLS if body.get("stream") else [faults.HALF, 0.05, "cut"]

    with (
        ScriptedServer(steps, tls=serverside) as server,
        tools.serving_bounded(config(), [backend(server.url, clientside)]) as url,
    ):
        body = {"model": "fake", "messages": [{"role": "user", "content": "whole"}]}
        assert httpx2.post(f"{url}/v1/chat/completions", json=body).status_code == 200
        for model in ("fake", "suffice/single"):
            assert ask(url, model=model, stream=True) == "“it is”, then upstream_disconnected"
        assert ask(url, stream=False) == "502 upstream_disconnected"


def test_a_stranger_behind_the_certificate_is_refused(tools: type[Tools]) -> None:
    serverside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(serverside)
    with (
        ScriptedServer(lambda body: faults.STREAM, tls=serverside) as server,
        tools.serving_bounded(config(), [backend(server.url)]) as url,
    ):
        assert ask(url, stream=True) == "502 upstream_refused"


def test_another_upstream_answers_instead(tools: type[Tools]) -> None:
    with (
        ScriptedServer(lambda body: ["close"]) as dead,
        ScriptedServer(lambda body: faults.STREAM) as alive,
        tools.serving_bounded(config(), [backend(dead.url), backend(alive.url)]) as url,
    ):
        for model in ("fake", "suffice/single"):
            for _ in range(6):
                assert ask(url, model=model, stream=True) == "“it is 4”, complete"
        assert alive.requests == 12
        assert dead.requests <= 4  # it comes last for a while


def test_the_page_says_what_is_tested() -> None:
    page = faults.PAGE.read_text()
    assert page.split(faults.BEGIN)[1].split(faults.END)[0].strip() == faults.table()


# --- the client's own faults


def raw(url: str, *pieces: bytes | float) -> bytes:
    """What comes back for bytes sent by hand, until the connection is closed or 5 s have passed."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as connection:
        for piece in pieces:
            if isinstance(piece, float):
                time.sleep(piece)
                continue
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def posted(body: bytes, length: int | None = None, extra: str = "connection: close\r\n") -> bytes:
    size = len(body) if length is None else length
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n{extra}\r\n"
    return head.encode() + body


def seen(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"{int(head[9:12])} {json.loads(body)['error']['code']}" if answer else "closed"


def test_bodies_that_are_no_question(tools: type[Tools]) -> None:
    with behind(tools, lambda body: faults.STREAM) as (url, server):
        for body in (b"\xff\xfe{}", b'{"model": "fake\xff"}', b"{", b"", b"[]", b"[" * 100_000,
                     b'{"model": 1' + b"0" * 10_000 + b"}", b'{"a": "\\ud800"}'):  # fmt: skip
            assert seen(raw(url, posted(body))) == "400 invalid_value", body[:20]
        assert server.requests == 0


def test_fifty_megabytes(tools: type[Tools]) -> None:
    with behind(tools, lambda body: faults.STREAM) as (url, _):
        body = b'{"model": "fake", "messages": "' + b"x" * (50 * 10**6) + b'"}'
        assert httpx2.post(f"{url}/v1/chat/completions", content=body).status_code == 413
        pieces = (b"x" * 10**6 for _ in range(50))  # without a content-length
        answer = httpx2.post(f"{url}/v1/chat/completions", content=pieces)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_client_that_sends_slowly(tools: type[Tools]) -> None:
    settings = config(header_s=0.3, body_s=0.3)
    with behind(tools, lambda body: faults.STREAM, settings) as (url, _):
        assert seen(raw(url, posted(b'{"model":', length=50))) == "408 request_timeout"
        assert seen(raw(url, b"POST /v1/chat/comp")) == "408 request_timeout"
        assert seen(raw(url)) == "closed"
        assert ask(url, stream=True) == "“it is 4”, complete"


def test_headers_without_end(tools: type[Tools]) -> None:
    with behind(tools, lambda body: faults.STREAM) as (url, _):
        lines = b"".join(b"x-%d: " % n + b"y" * 1000 + b"\r\n" for n in range(100))
        assert (
            seen(raw(url, b"POST /v1/chat/completions HTTP/1.1\r\n", lines))
            == "431 headers_too_large"
        )
        assert (
            seen(raw(url, b"GET /health HTTP/1.1\r\n", lines + b"\r\n")) == "431 headers_too_large"
        )
        assert seen(raw(url, b"\x16\x03\x01 hello?\r\n\r\n")) == "400 invalid_http"


def test_a_client_that_leaves_ends_the_upstreams_work(tools: type[Tools]) -> None:
    steps = [*faults.TWO, "hang"]
    with behind(tools, lambda body: steps) as (url, server):
        for model in (b"fake", b"suffice/single"):
            body = (
                b'{"model": "'
                + model
                + b'", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
            )
            host, port = url.removeprefix("http://").split(":")
            left = server.left
            with socket.create_connection((host, int(port)), timeout=5.0) as connection:
                connection.sendall(posted(body))
                assert b"it" in connection.recv(65536)
            tools.wait_for(lambda before=left: server.left > before)


def test_a_client_that_does_not_read_is_cut_off(tools: type[Tools]) -> None:
    flood = [faults.HEAD, *faults.STREAM[1:2] * 20_000, "hang"]
    settings = config(stall_s=0.5, max_response_bytes=2**30)
    with behind(tools, lambda body: flood, settings) as (url, _):
        body = QUESTION
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5.0) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(posted(body))
            tools.wait_for(lambda: httpx2.get(f"{url}/ready").json()["running"] == 1)
            tools.wait_for(lambda: httpx2.get(f"{url}/ready").json()["running"] == 0, 10.0)


def test_a_hostile_pattern_does_not_stop_the_others(tools: type[Tools]) -> None:
    text = "a" * 5000 + "!"
    wishes = {"policy": "self_consistency:samples=3", "answer_format": "regex:(a+)+$"}
    with (
        FakeEngine(Reply(tokens=(text,))) as engine,
        tools.serving(tools.config_for(engine.url)) as url,
    ):
        body = {"model": "fake", "messages": [{"role": "user", "content": "x"}], "suffice": wishes}
        assert httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=20).status_code == 200
        for pattern in ("(?=a)b", r"(a)\1", "a" * 5000, "((a{1000}){1000}){1000}", "("):
            body["suffice"] = wishes | {"answer_format": f"regex:{pattern}"}
            refused = httpx2.post(f"{url}/v1/chat/completions", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")


def test_json_without_end_instead_of_a_stream_is_not_read(tools: type[Tools]) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with behind(tools, lambda body: [head, *[framed(b" " * 65536)] * 10_000]) as (url, _):
        for model in ("fake", "suffice/single"):
            body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True}
            answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=10.0)
            assert answer.status_code == 502
            assert "server-sent events were asked for" in answer.json()["error"]["message"]
