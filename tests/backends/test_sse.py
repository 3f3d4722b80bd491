from __future__ import annotations

import pytest

from suffice.backends.sse import (
    DONE,
    KEEP_ALIVE,
    LARGEST_EVENT_BYTES,
    LARGEST_READ_BYTES,
    EventSplitter,
    SseOverflow,
    SseParser,
)


def test_data_lines_join_and_comments_vanish() -> None:
    parser = SseParser()
    assert parser.feed(KEEP_ALIVE) == []
    (event,) = parser.feed(b"event: delta\ndata: a\ndata: b\n\n")
    assert (event.event, event.data) == ("delta", "a\nb")


def test_an_event_without_data_is_not_dispatched() -> None:
    assert SseParser().feed(b"event: ping\n\nid: 7\n\n") == []


def test_a_byte_order_mark_is_dropped() -> None:
    (event,) = SseParser().feed(b"\xef\xbb\xbfdata: x\n\n")
    assert event.data == "x"


def test_the_last_event_may_lack_its_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(DONE.rstrip(b"\n")) == []
    assert [event.data for event in parser.flush()] == ["[DONE]"]


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_an_endless_event_is_refused(cut: int) -> None:
    parser = SseParser(largest_event_bytes=100)
    stream = b"data: " + b"x" * 200
    with pytest.raises(SseOverflow, match="100"):
        for start in range(0, len(stream), cut):
            parser.feed(stream[start : start + cut])


def test_many_small_data_lines_count_together() -> None:
    parser = SseParser(largest_event_bytes=100)
    with pytest.raises(SseOverflow):
        parser.feed(b"data: 0123456789\n" * 20)


def test_a_sample_may_hold_less_of_one_event_than_what_passes_through() -> None:
    """Sixteen samples whose engines never end an event must not take sixteen times as much."""
    assert 16 * LARGEST_READ_BYTES <= 4 * LARGEST_EVENT_BYTES
    with pytest.raises(SseOverflow):
        SseParser().feed(b"data: " + b"x" * LARGEST_READ_BYTES)
    assert EventSplitter().feed(b"data: " + b"x" * LARGEST_READ_BYTES) == b""
