"""Noise for the parsers of what others write: an error of ours at worst, never a crash."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suffice.backends.chunk_reader import ChunkReader
from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Capabilities
from suffice.backends.sse import SseOverflow, SseParser
from suffice.core.completions import Completion, Usage
from suffice.core.draw import Draw
from suffice.core.errors import BackendError, ConfigError, InputError
from suffice.core.requests import Message, Request, Sampling
from suffice.gateway.config_file import config_from, load_config
from suffice.gateway.wire.safe_regex import linear_regex
from tests.scripted_server import ScriptedServer

LINES = st.sampled_from(
    ["data: ", "data:", "event: x", ": comment", "id: 1", "\n", "\r", "\r\n", "\ufeff", "[DONE]",
     '{"choices": [{"delta": {"content": "a"}}]}', '{"choices": [{}]}', '{"error": 1}', "null",
     '{"usage": {"completion_tokens": -3}}', '"', "{", "\u2028", "é"]
)  # fmt: skip
STREAMS = st.lists(LINES, max_size=20).map(lambda parts: "".join(parts).encode()) | st.binary(
    max_size=200
)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_the_event_parser_takes_anything(stream: bytes, cuts: list[int]) -> None:
    whole, pieces = SseParser(), SseParser(largest_event_bytes=10_000)
    expected = [event.data for event in [*whole.feed(stream), *whole.flush()]]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    found = []
    for start, end in pairwise(edges):
        found += pieces.feed(stream[start:end])
    found += pieces.flush()
    assert [event.data for event in found] == expected


@given(stream=STREAMS)
def test_the_chunk_reader_knows_only_chunks_and_errors(stream: bytes) -> None:
    parser, reader = SseParser(), ChunkReader("up")
    try:
        events = [*parser.feed(stream), *parser.flush()]
        for chunk in reader.read_all(event.data for event in events):
            assert isinstance(chunk.text, str)
        reader.last()
    except BackendError:
        pass


@given(size=st.integers(50, 300))
def test_an_event_without_end_is_refused(size: int) -> None:
    with pytest.raises(SseOverflow):
        SseParser(largest_event_bytes=40).feed(b"data: " + b"x" * size)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(head=st.binary(max_size=120), after=st.binary(max_size=60))
def test_the_client_takes_any_bytes_for_an_answer(
    anything: ScriptedServer, head: bytes, after: bytes
) -> None:
    answers = [head + after, b"HTTP/1.1 200 OK\r\n" + head, b"HTTP/1.1 200 OK\r\n\r\n" + after]
    for answer in answers:
        anything.answer = answer  # type: ignore[attr-defined]
        asyncio.run(ask(anything.url))


async def ask(url: str) -> None:
    able = Capabilities(models=("fake",))
    limits = Timeouts(connect_s=5.0, first_byte_s=2.0, silence_s=2.0)
    request = Request(messages=(Message(role="user", content="x"),), model="fake")
    async with OpenAIBackend(url, declared=able, timeouts=limits) as backend:
        with pytest.raises(BackendError):
            async for _ in backend.stream(Draw(request, Sampling(), model="fake")):
                pass


@pytest.fixture(scope="module")
def anything() -> Any:
    steps = lambda body: [server.answer, "close"]  # noqa: E731
    with ScriptedServer(steps) as server:  # type: ignore[arg-type]
        yield server


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["host", "port", "policy", "policies", "upstream", "budget", "traffic", "keep_alive_s",
     "ledger", "keys", "log", "auto", "workers", "answer_format", "traces", "allowed_hosts"]
)  # fmt: skip


TOML = st.lists(
    st.sampled_from(
        ["[[upstream]]", "[traffic]", "port", "=", "1", '"', "\n", "[", "{", "url", "'x'", "é"]
    ),
    max_size=14,
).map(lambda parts: "".join(parts).encode())


@given(tables=st.dictionaries(NAMES, VALUES, max_size=4))
def test_the_settings_are_read_or_refused(tables: dict[str, Any]) -> None:
    try:
        config_from(tables, source="x.toml")
    except InputError as error:  # ConfigError, or of a shape, a machine, a policy
        assert str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=120) | TOML)
def test_a_settings_file_is_read_or_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "suffice.toml"
    path.write_bytes(text)
    try:
        load_config(path)
    except ConfigError as error:
        assert "suffice.toml" in str(error)


@given(pattern=st.text("ab()[]{}|*+?.\\^$1-9=<!", max_size=12), text=st.text("ab\n", max_size=30))
def test_a_pattern_matches_or_is_refused(pattern: str, text: str) -> None:
    try:
        find = linear_regex(pattern)
    except InputError:
        return
    found = find(Completion(text=text, finish_reason="stop", usage=Usage(), model="m"))
    assert found is None or found in text.strip() or found
