from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from suffice.backends.fake import FakeBackend, Fault, FaultKind, Script
from suffice.backends.protocol import Backend, Chunk
from suffice.core.draw import Draw
from suffice.core.errors import (
    BackendError,
    InputError,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Message, Request, Sampling

QUESTION = Request(messages=(Message(role="user", content="q"),), model="fake")


def play(backend: Backend, sampling: Sampling | None = None) -> list[Chunk]:
    async def main() -> list[Chunk]:
        stream = backend.stream(Draw(QUESTION, sampling or Sampling(), model="fake"))
        async with aclosing(stream) as chunks:
            return [chunk async for chunk in chunks]

    return asyncio.run(main())


def test_scripts_play_in_order_and_the_last_repeats() -> None:
    backend = FakeBackend([Script.of("one two"), Script.of("three")])
    texts = ["".join(chunk.text for chunk in play(backend)) for _ in range(3)]
    assert texts == ["one two", "three", "three"]
    assert (backend.traffic.finished, backend.traffic.tokens) == (3, 4)


def test_the_limit_ends_a_script_as_an_engine_would() -> None:
    last = play(FakeBackend([Script.of("a b c d")]), Sampling(max_tokens=2))[-1]
    assert last.finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 2


def test_confidences_become_logprobs() -> None:
    script = Script.of("a b c", confidences=(3.0, 1.5))
    chunks = play(FakeBackend([script]), Sampling(top_logprobs=5))
    found = [entry.confidence() for chunk in chunks for entry in chunk.logprobs]
    assert found == pytest.approx([3.0, 1.5, 1.5])
    assert not any(chunk.logprobs for chunk in play(FakeBackend([script])))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("refused", UpstreamRefused),
        ("timeout", UpstreamTimeout),
        ("disconnected", UpstreamDisconnected),
        ("malformed", MalformedStream),
        ("rejected", UpstreamRejected),
    ],
)
def test_faults(kind: FaultKind, expected: type[BackendError]) -> None:
    backend = FakeBackend([Script.of("a b", fault=Fault(kind=kind, after_chunks=1))])
    with pytest.raises(expected):
        play(backend)
    assert (backend.traffic.failed, backend.traffic.tokens) == (1, 1)


def test_a_hang_ends_by_cancelling() -> None:
    backend = FakeBackend([Script.of("a", fault=Fault(kind="hang"))])

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async with aclosing(
                    backend.stream(Draw(QUESTION, Sampling(), model="x"))
                ) as chunks:
                    async for _ in chunks:
                        pass

    asyncio.run(main())
    assert (backend.traffic.cancelled, backend.traffic.running) == (1, 0)


def test_a_director_sees_the_call() -> None:
    backend = FakeBackend(lambda number, call: Script.of(f"{number} {call.model}"))
    play(backend)
    assert "".join(chunk.text for chunk in play(backend)) == "1 fake"


def test_no_script_is_refused() -> None:
    with pytest.raises(InputError, match="at least one script"):
        FakeBackend([])
