"""The HTTP client's own life: every connection ends, whatever is cancelled, whoever is hostile."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from suffice.backends import http_client
from suffice.backends.held_bytes import HeldBytes
from suffice.backends.http_client import HttpClient
from suffice.backends.http_connection import LARGEST_HEAD_BYTES, MOST_ERROR_BYTES
from suffice.backends.openai import OpenAIBackend
from suffice.backends.placement import Placement
from suffice.backends.pool import BackendPool
from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.retry import Attempts, RetryConfig
from suffice.backends.router import Affinity
from suffice.core.completions import TokenLogprob
from suffice.core.draw import Draw
from suffice.core.errors import MalformedStream, UpstreamRefused, UpstreamTimeout
from suffice.core.requests import Message, Request, Sampling
from tests.scripted_server import ScriptedServer, Step, framed, plain

Work = Coroutine[Any, Any, Any]
LOOPS: dict[str, Callable[[Work], Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Work], Any]:
    return LOOPS[request.param]


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that takes connections and says nothing."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


class LeavesInTheMiddle(HttpClient):
    """Whoever asked leaves in the very turn in which the connection opens."""

    asking: asyncio.Task[Any] | None = None

    def opened(self, connection: Any) -> None:
        super().opened(connection)
        assert self.asking is not None
        self.asking.cancel()


def test_a_connection_that_opens_as_its_caller_leaves_is_not_lost(
    run: Callable[[Work], Any],
) -> None:
    async def main() -> tuple[int, int]:
        async with silent() as url:
            client = LeavesInTheMiddle(url, name="u", connect_s=5)
            for _ in range(3):
                client.asking = asyncio.create_task(client.send("/x", b"{}", first_byte_s=5))
                with pytest.raises(asyncio.CancelledError):
                    await client.asking
                await asyncio.sleep(0.01)
            left = len(client._open), client._places
            async with asyncio.timeout(10):
                await client.aclose()
            return left

    assert run(main()) == (0, 0)


def test_wherever_a_request_is_cancelled_nothing_is_left(run: Callable[[Work], Any]) -> None:
    """Cancelled after any number of turns of the event loop, among requests that go on."""
    rng = random.Random(3)

    async def main(url: str) -> list[int]:
        client = HttpClient(url, name="u", connect_s=5, most_open=6)

        async def ask() -> None:
            response = await client.send("/x", b"{}", first_byte_s=5)
            while await response.read(5):
                pass
            response.close()

        async def cancelled(turns: int) -> None:
            task = asyncio.create_task(ask())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))

        for _ in range(10):
            await asyncio.gather(
                *(cancelled(rng.randrange(30)) for _ in range(20)), *(ask() for _ in range(4))
            )
        await ask()  # there is a place for this one
        busy = client._places - len(client._idle), len(client._open) - len(client._idle)
        async with asyncio.timeout(10):
            await client.aclose()
        return [*busy, len(client._open), client._places, len(client._turns)]

    with ScriptedServer(lambda body: [plain(b"{}")]) as server:
        assert run(main(server.url)) == [0, 0, 0, 0, 0]


def test_the_end_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_client, "CLOSE_S", 0.01)

    async def main() -> None:
        async with silent() as url:
            client = HttpClient(url, name="u", connect_s=5)
            connection = await client._connect()
            connection.abort = lambda: None  # type: ignore[method-assign]
            with caplog.at_level(logging.WARNING, "suffice.backends"):
                await client.aclose()
            with pytest.raises(UpstreamRefused, match="client is closed"):
                await client.send("/x", None, first_byte_s=1)
            del connection.abort
            connection.abort()
            await connection.lost

    asyncio.run(main())
    assert "not closed" in caplog.text


def test_idle_connections_are_closed_by_time(
    run: Callable[[Work], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "IDLE_S", 0.05)

    async def main(url: str) -> tuple[int, int]:
        client = HttpClient(url, name="u", connect_s=5)
        answers = [await client.send("/x", b"{}", first_byte_s=5) for _ in range(4)]
        for answer in answers:
            await answer.read(5)
            answer.close()
        idle = len(client._idle)
        async with asyncio.timeout(10):
            while client._open:  # nobody asks for anything any more
                await asyncio.sleep(0.01)
        return idle, client._places

    with ScriptedServer(lambda body: [plain(b"{}")]) as server:
        assert run(main(server.url)) == (4, 0)


def test_connections_to_one_upstream_are_bounded_and_first_come_first_served() -> None:
    async def main(url: str) -> tuple[list[int], int, str]:
        client = HttpClient(url, name="u", connect_s=5, most_open=2)
        order: list[int] = []
        most = 0

        async def ask(number: int) -> None:
            nonlocal most
            response = await client.send("/x", b"{}", first_byte_s=5)
            order.append(number)
            most = max(most, len(client._open))
            await response.read(5)
            response.close()

        await asyncio.gather(*map(ask, range(8)))
        held = [await client.send("/x", b"{}", first_byte_s=5) for _ in range(2)]
        with pytest.raises(UpstreamTimeout) as caught:
            await client.send("/x", b"{}", first_byte_s=0.05)
        for each in held:
            each.close()
        await ask(8)
        await client.aclose()
        return order, most, str(caught.value)

    with ScriptedServer(lambda body: [0.01, plain(b"{}")]) as server:
        order, most, said = asyncio.run(main(server.url))
    assert most == 2
    assert set(order[:2]) == {0, 1}
    assert sorted(order) == list(range(9))
    assert said == "u: all 2 connections to it were busy for 0.05 s"


def answer_of(*steps: Step, most_bytes: int = 10**6) -> bytes:
    """What the client makes of an answer."""

    async def main(url: str) -> bytes:
        client = HttpClient(url, name="u", connect_s=5, most_bytes=most_bytes)
        try:
            response = await client.send("/x", b"{}", first_byte_s=5)
            found = b""
            while piece := await response.read(5):
                found += piece
            response.close()
            return found
        finally:
            await client.aclose()

    with ScriptedServer(lambda body: steps) as server:
        answer: bytes = asyncio.run(main(server.url))
        return answer


TRAILERS = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 40) for number in range(100))
A_LOT = 10_000  # pieces that never end


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([HEAD, framed(b"{}"), b"0\r\n", *[TRAILERS] * A_LOT], "no part of its answer"),
        ([HEAD, framed(b"{}"), b"0\r\nx: ", *[b"a" * 65536] * A_LOT], "no part of its answer"),
        ([HEAD, b"1;a=", *[b"a" * 65536] * A_LOT], "no part of its answer"),
        ([HEAD, *[framed(b" " * 65536)] * A_LOT], "the limit of one answer"),
        ([plain(b"", length=10**12), *[b" " * 65536] * A_LOT], "the limit of one answer"),
        ([*[b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n"] * A_LOT], "of headers"),
        (
            [HEAD.replace(b"200", b"500"), *[framed(b" " * 65536)] * A_LOT],
            f"{MOST_ERROR_BYTES} bytes, the limit of one error",
        ),
    ],
)
def test_an_answer_without_end_has_one_here(steps: list[Step], said: str) -> None:
    with pytest.raises(MalformedStream, match=said):
        answer_of(*steps, most_bytes=2 * 10**6)


@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_not_wanted_is_not_read(monkeypatch: pytest.MonkeyPatch, *, streamed: bool) -> None:
    """JSON instead of a stream, and what a probe gets without end, end soon."""
    monkeypatch.setattr("suffice.backends.http_upstream.MOST_PLAIN_BYTES", 10**6)

    async def main(url: str) -> None:
        question = Request(messages=(Message(role="user", content="x"),), model="fake")
        declared = Capabilities(models=("fake",)) if streamed else None
        async with OpenAIBackend(url, declared=declared) as backend:
            if streamed:
                async for _ in backend.stream(Draw(question, Sampling(), model="fake")):
                    pass
            else:
                await backend.post("/v1/chat/completions", {})

    said = "where server-sent events were asked for" if streamed else "1000000 bytes for /v1/chat"
    with (
        ScriptedServer(lambda body: [HEAD, *[framed(b" " * 65536)] * A_LOT]) as server,
        pytest.raises(MalformedStream, match=said),
    ):
        asyncio.run(main(server.url))


def test_an_error_that_is_kept_keeps_nothing_else() -> None:
    class Held:
        pass

    def fails() -> weakref.ref[Held]:
        held = Held()
        kept = weakref.ref(held)
        try:
            raise ValueError(kept)
        except ValueError as error:
            raise MalformedStream("no JSON") from error

    with pytest.raises(MalformedStream) as found:
        fails()
    cause = found.value.__cause__
    assert cause is not None
    kept = cause.args[0]
    assert kept() is not None
    attempts = Attempts(["a", "b"], RetryConfig())
    assert attempts.failed(found.value) == 0
    found.value.__traceback__ = None  # pytest's own
    del found
    gc.collect()
    assert kept() is None


def test_what_is_within_the_limits_is_read() -> None:
    small = b"".join(framed(b"x") for _ in range(50_000))  # more frame than body
    assert answer_of(HEAD, small, b"0\r\nx: y\r\n\r\n") == b"x" * 50_000
    extension = b"1;a=" + b"b" * (LARGEST_HEAD_BYTES - 1000) + b"\r\nx\r\n"
    assert answer_of(HEAD, *[extension] * 5, b"0\r\n\r\n") == b"x" * 5
    assert answer_of(plain(b"x" * 10**6)) == b"x" * 10**6


@pytest.mark.parametrize("later", [True, False])
def test_a_second_answer_belongs_to_nobody(*, later: bool) -> None:
    second = plain(b'{"x":1}')
    steps = [plain(b"{}"), 0.05, second] if later else [plain(b"{}") + second]

    async def main(url: str) -> list[bytes]:
        client = HttpClient(url, name="u", connect_s=5)
        found = []
        for _ in range(3):
            response = await client.send("/x", b"{}", first_byte_s=5)
            found.append(b"".join([piece async for piece in pieces(response)]))
            if later:
                await asyncio.sleep(0.1)
            response.close()
        await client.aclose()
        return found

    async def pieces(response: Any) -> AsyncIterator[bytes]:
        while piece := await response.read(5):
            yield piece

    with ScriptedServer(lambda body: steps) as server:
        assert asyncio.run(main(server.url)) == [b"{}"] * 3


def test_the_samples_of_one_call_hold_so_much_together() -> None:
    """Streams and whole answers of a hostile engine end, whatever else is still on its way."""
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % (b"a" * 60_000)
    stream = [HEAD.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")]
    stream += [framed(chunk)] * 1000
    whole = [plain(b"[" + b" " * 900_000 + b"]")]

    async def main(url: str) -> list[str]:
        backend = OpenAIBackend(url, declared=Capabilities(models=("fake",)))
        pool = BackendPool([backend])
        question = Request(messages=(Message(role="user", content="x"),), model="fake")
        errors = []
        for way in ("stream", "draw"):
            placed = pool.placed(Affinity(), most_bytes=2 * 10**6)

            async def one(way: str = way, placed: Placement = placed) -> None:
                if way == "draw":
                    await placed.draw(Draw(question, Sampling(), model="fake"))
                    return
                async for _ in placed.stream(Draw(question, Sampling(), model="fake")):
                    pass

            found = await asyncio.gather(*(one() for _ in range(8)), return_exceptions=True)
            errors.append(str(next(each for each in found if "together" in str(each))))
        await pool.aclose()
        return errors

    with ScriptedServer(lambda body: stream if body.get("stream") else whole) as server:
        for error in asyncio.run(main(server.url)):
            assert "may hold 2000000 bytes together" in error


def test_honest_streams_hold_little() -> None:
    """16 samples of 32,000 tokens, with the best 20 of each, fit into the default."""
    held = HeldBytes(256 * 2**20)
    top = tuple((f" word{n}", -float(n)) for n in range(20))
    chunk = Chunk(text=" word", logprobs=(TokenLogprob(token=" word", logprob=-0.1, top=top),))
    for _ in range(16 * 32_000 // 100):
        held.take_chunks([chunk] * 100, 100 * 2500, "u")
    with pytest.raises(MalformedStream):
        for _ in range(100):
            held.take_chunks([chunk], 8 * 2**20, "u")  # an event of eight megabytes is not honest
