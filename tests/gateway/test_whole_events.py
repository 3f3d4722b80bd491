"""What passes through a stream byte for byte: whole, valid events, and nothing after the end."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from suffice.core.errors import BackendError, MalformedStream, UpstreamDisconnected
from suffice.gateway.wire.event_validator import EventValidator

CHUNK = {"choices": [{"index": 0, "delta": {"content": "a\n\nb"}, "finish_reason": None}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
END = b"data: [DONE]\n\n"


def event(value: object, gap: str = "\n") -> bytes:
    return f"data: {json.dumps(value)}{gap}{gap}".encode()


def fed(stream: bytes, cuts: list[int]) -> tuple[bytes, EventValidator]:
    events = EventValidator("up")
    at, found = 0, b""
    for cut in [*sorted(cuts), len(stream)]:
        found += events.feed(stream[at:cut]) if cut > at else b""
        at = max(at, cut)
        if events.broken is not None:
            raise events.broken
    return found + events.end(), events


@given(
    values=st.lists(st.sampled_from([CHUNK, USAGE, LAST, None]), max_size=6),
    gap=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 700), max_size=12),
)
@example(values=[], gap="\r\n", cuts=[15])  # between the last CR and its LF
def test_the_same_bytes_come_out_however_they_are_cut(
    values: list[object], gap: str, cuts: list[int]
) -> None:
    keep_alive = f": still here{gap}{gap}".encode()
    stream = b"".join(keep_alive if value is None else event(value, gap) for value in values)
    stream += f"data: [DONE]{gap}{gap}".encode()
    found, events = fed(stream, cuts)
    assert found == stream
    assert events.done
    assert events.count == sum(value is not None for value in values)
    assert (events.usage is not None) == (USAGE in values)


@given(stream=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_noise_is_an_error_and_never_a_complete_answer(stream: bytes, cuts: list[int]) -> None:
    with pytest.raises(BackendError):
        fed(stream, cuts)


@given(cut=st.integers(0, 10_000))
def test_no_cut_of_an_answer_passes_for_a_whole_one(cut: int) -> None:
    stream = event(CHUNK) * 3 + event(LAST) + END
    safe = len(event(CHUNK) * 3 + event(LAST))
    part = stream[: cut % safe]
    with pytest.raises(UpstreamDisconnected):
        fed(part, [])


def test_a_finish_reason_for_every_choice_is_an_end_too() -> None:
    second = {"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]}
    fed(event(CHUNK) + event(LAST), [])
    with pytest.raises(UpstreamDisconnected):
        fed(event(second) + event(CHUNK) + event(LAST), [])


def test_a_missing_last_blank_line_is_added() -> None:
    assert fed(event(LAST) + b"data: [DONE]", [])[0] == event(LAST) + END


def test_nothing_follows_the_end() -> None:
    found, events = fed(event(CHUNK) + END + event(CHUNK) + END, [])
    assert found == event(CHUNK) + END
    assert events.done


def test_text_that_looks_like_an_end_is_none() -> None:
    said = {"choices": [{"index": 0, "delta": {"content": "data: [DONE]"}}]}
    found, _ = fed(event(said) + event(LAST) + END, [])
    assert found == event(said) + event(LAST) + END


@pytest.mark.parametrize(
    "data", [b"{this is not JSON}", b"[1]", b'{"choices": [3]}', b'{"choices": 7}', b"\xff\xfe"]
)
def test_what_is_no_chunk_is_malformed(data: bytes) -> None:
    events = EventValidator("up")
    good = event(CHUNK)
    assert events.feed(good + b"data: " + data + b"\n\n" + good) == good
    assert isinstance(events.broken, MalformedStream)


def test_an_event_without_end_is_too_large() -> None:
    events = EventValidator("up")
    fed_bytes = 0
    while events.broken is None:
        fed_bytes += 100_000
        assert events.feed(b"data: " + b"x" * 100_000) == b""
        assert fed_bytes < 10_000_000
    assert "exceeds 8388608 bytes" in str(events.broken)
