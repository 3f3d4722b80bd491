"""The HTTP backend against an engine on a real socket, faults included."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest

from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Capabilities, Chunk
from suffice.core.draw import Draw
from suffice.core.errors import (
    BackendError,
    InputError,
    LacksCapability,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Message, Request, Sampling
from suffice.core.thinking import Thinking
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Misdeed, Reply, Talents

T = TypeVar("T")
QUESTION = Request(messages=(Message(role="user", content="what is 2+2"),), model="fake")
# Long enough that a busy machine does not look like a hanging engine.
QUICK = Timeouts(connect_s=10.0, first_byte_s=1.5, silence_s=1.5)


@asynccontextmanager
async def backend_of(engine: FakeEngine, **options: Any) -> AsyncIterator[OpenAIBackend]:
    async with OpenAIBackend(engine.url + "/v1", timeouts=QUICK, **options) as backend:
        yield backend


def using(engine: FakeEngine, work: Callable[[OpenAIBackend], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with backend_of(engine) as backend:
            return await work(backend)

    return asyncio.run(main())


async def collect(
    backend: OpenAIBackend,
    sampling: Sampling | None = None,
    *,
    question: Request = QUESTION,
    thinking: Thinking | None = None,
) -> list[Chunk]:
    sampling = sampling or Sampling()
    stream = backend.stream(Draw(question, sampling, model="fake", thinking=thinking))
    async with aclosing(stream) as chunks:
        return [chunk async for chunk in chunks]


def wait_for(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.005)


def test_a_stream_end_to_end() -> None:
    with FakeEngine(Reply.saying("the answer is 4")) as engine:
        chunks = using(engine, lambda b: collect(b, Sampling(top_logprobs=3)))
    assert "".join(chunk.text for chunk in chunks) == "the answer is 4"
    assert sum(chunk.token_count or 0 for chunk in chunks) == 4
    assert [len(chunk.logprobs[0].top) for chunk in chunks[:-1]] == [3] * 4
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


def test_a_finished_streams_connection_is_used_again() -> None:
    with FakeEngine(Reply(tokens=("4",))) as engine:

        async def one_after_the_other(backend: OpenAIBackend) -> None:
            for _ in range(5):
                await collect(backend)

        using(engine, one_after_the_other)
        assert len(engine.seen.bodies) == 5
        assert engine.seen.connections < 5 + 8  # the probes opened a few at once, the rest share


@pytest.mark.parametrize("moment_s", [0.0, 0.005, 0.01, 0.015, 0.02, 0.03])
def test_no_moment_of_cancelling_leaks_a_socket(moment_s: float) -> None:
    # An unclosed socket is a ResourceWarning, and warnings are errors.
    with FakeEngine(Reply(tokens=("a", "b"), delay_s=0.004)) as engine:

        async def cancel_in_the_middle(backend: OpenAIBackend) -> None:
            await backend.capabilities()
            tasks = [asyncio.create_task(collect(backend)) for _ in range(8)]
            await asyncio.sleep(moment_s)
            for task in tasks:
                task.cancel()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        using(engine, cancel_in_the_middle)
        wait_for(lambda: engine.seen.running == 0)
        gc.collect()


@pytest.mark.parametrize(
    ("talents", "expected"),
    [
        (
            Talents(),
            Capabilities(
                models=("fake",), logprobs=True, max_top_logprobs=20, prefill=True, priority=True,
                max_context_tokens=4096,
            ),
        ),
        (
            Talents(
                models=("a", "b"), logprobs=False, prefill=None, version=False, known_fields=(),
                thinking_switch=True, context_tokens=99,
            ),
            Capabilities(
                models=("a", "b"), thinking_switch="enable_thinking", max_context_tokens=99
            ),
        ),
        (
            Talents(prefill="native", known_fields=("thinking_token_budget",)),
            Capabilities(
                models=("fake",), logprobs=True, max_top_logprobs=20, prefill=True,
                thinking_budget=True, max_context_tokens=4096,
            ),
        ),
        (
            Talents(known_fields=(), thinks=500, thinking_budget="thinking_budget_tokens"),
            Capabilities(
                models=("fake",), logprobs=True, max_top_logprobs=20, prefill=True,
                thinking_budget=True, max_context_tokens=4096,
            ),
        ),
        (
            Talents(known_fields=(), thinks=500),  # thinks, and nothing stops it
            Capabilities(
                models=("fake",), logprobs=True, max_top_logprobs=20, prefill=True,
                max_context_tokens=4096,
            ),
        ),
        (
            Talents(known_fields=(), thinks=500, efforts=True),
            Capabilities(
                models=("fake",), logprobs=True, max_top_logprobs=20, prefill=True,
                thinking_switch="reasoning_effort", max_context_tokens=4096,
            ),
        ),
        (
            # Too short a thought to tell by.
            Talents(known_fields=(), thinks=3, thinking_budget="custom_params"),
            Capabilities(
                models=("fake",), logprobs=True, max_top_logprobs=20, prefill=True,
                max_context_tokens=4096,
            ),
        ),
    ],
)  # fmt: skip
def test_probing_finds_what_the_engine_can_do(talents: Talents, expected: Capabilities) -> None:
    with FakeEngine(Reply(), talents=talents) as engine:
        assert using(engine, lambda b: b.capabilities()) == expected
        assert engine.seen.bodies == []  # probes draw one token and are no traffic


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("thinking_budget_tokens", {"thinking_budget_tokens": 1024}),  # llama.cpp
        ("custom_params", {"custom_params": {"thinking_budget": 1024}}),  # SGLang
    ],
)
def test_a_budget_is_asked_for_as_the_engine_was_found_to_heed_it(
    field: Any, expected: dict[str, Any]
) -> None:
    talents = Talents(known_fields=(), thinks=500, thinking_budget=field)
    with FakeEngine(Reply(), talents=talents) as engine:
        low = Thinking.of_effort("low")
        using(engine, lambda b: collect(b, thinking=low))
        assert expected.items() <= engine.seen.bodies[0].items()


def test_an_effort_that_the_engine_would_ignore_is_never_sent() -> None:
    with FakeEngine(Reply(), talents=Talents(thinking_switch=True)) as engine:
        for question, effort in (
            (QUESTION, "high"),
            (replace(QUESTION, completion_only=True), "none"),
        ):
            asked = partial(collect, question=question, thinking=Thinking.of_effort(effort))
            with pytest.raises(LacksCapability, match="effort"):
                using(engine, asked)
        assert engine.seen.bodies == []


def test_declared_capabilities_are_believed() -> None:
    async def main() -> Capabilities:
        async with OpenAIBackend(
            "http://127.0.0.1:9", declared=Capabilities(models=("x",))
        ) as backend:
            return await backend.capabilities()

    assert asyncio.run(main()).models == ("x",)


def test_closing_a_stream_reaches_the_engine() -> None:
    with FakeEngine(Reply(tokens=("a",) * 1000, delay_s=0.01)) as engine:

        async def leave_early(backend: OpenAIBackend) -> None:
            async with aclosing(backend.stream(Draw(QUESTION, Sampling(), model="fake"))) as chunks:
                async for _ in chunks:
                    break

        using(engine, leave_early)
        wait_for(lambda: engine.seen.aborted == 1)
        assert engine.seen.running == 0
        assert engine.seen.tokens < 100


def test_cancelling_one_of_many_leaves_the_others() -> None:
    with FakeEngine(Reply(tokens=("a",) * 20, delay_s=0.02)) as engine:

        async def race(backend: OpenAIBackend) -> list[str]:
            await backend.capabilities()
            tasks = [asyncio.create_task(collect(backend)) for _ in range(8)]
            while engine.seen.running < 8:  # they are with the engine, however slow the machine
                await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            return ["".join(c.text for c in got) for got in done if isinstance(got, list)]

        assert using(engine, race) == ["a" * 20] * 4
        wait_for(lambda: engine.seen.running == 0)
        assert (engine.seen.finished, engine.seen.aborted) == (4, 4)


@pytest.mark.parametrize(
    ("misdeed", "expected", "said"),
    [
        ("cut", UpstreamDisconnected, "closed the connection"),
        ("malformed", MalformedStream, "not JSON"),
        ("hang", UpstreamTimeout, "sent nothing for 1.5 s"),
        ("no_finish", UpstreamDisconnected, "before the answer was complete"),
        ("error_event", UpstreamRejected, "overloaded"),
        ("not_a_stream", MalformedStream, "application/json"),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
def test_faults_have_names(
    misdeed: Misdeed, expected: type[BackendError], said: str, after: int
) -> None:
    reply = Reply(tokens=("a", "b", "c"), misdeed=misdeed, misdeed_after=after)
    with FakeEngine(reply) as engine, pytest.raises(expected, match=said):
        using(engine, collect)


def test_a_rejection_keeps_its_status_and_reason() -> None:
    with (
        FakeEngine(Reply(status=429, error="slow down")) as engine,
        pytest.raises(UpstreamRejected, match="429: slow down") as caught,
    ):
        using(engine, collect)
    assert caught.value.status == 429


def test_nobody_listening_is_refused() -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else can take the port
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        async def main() -> None:
            async with OpenAIBackend(f"http://127.0.0.1:{port}") as backend:
                await collect(backend)

        with pytest.raises(UpstreamRefused, match="is the server running"):
            asyncio.run(main())


def test_a_failed_probe_is_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = FakeEngine(Reply(tokens=("4",)), port=port)

    async def main() -> list[Chunk]:
        async with OpenAIBackend(engine.url) as backend:
            with pytest.raises(UpstreamRefused):
                await backend.capabilities()
            with engine:
                return await collect(backend)

    assert asyncio.run(main())[0].text == "4"


def test_something_else_than_an_engine() -> None:
    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, OpenAIBackend(f"http://127.0.0.1:{port}") as backend:
            with pytest.raises(UpstreamRejected, match="OpenAI-compatible"):
                await backend.capabilities()

    asyncio.run(main())


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match="not a URL"):
        OpenAIBackend("localhost:8000")
    with pytest.raises(InputError, match="silence_s"):
        Timeouts(silence_s=0)


def test_the_key_is_sent() -> None:
    with FakeEngine(Reply()) as engine:

        async def main() -> None:
            async with backend_of(engine, api_key="k") as backend:
                await collect(backend)

        asyncio.run(main())
        assert engine.seen.headers[0]["authorization"] == "Bearer k"
