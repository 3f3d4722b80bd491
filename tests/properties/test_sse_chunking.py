"""What a stream means does not depend on where the network cuts it."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from suffice.backends.sse import SseParser

lines = st.sampled_from(
    [
        "data: {}", "data:x", "data", ": comment", "event: ping", "id: 3", "retry: 10", "", "",
        "data: é\u2028ü 😀", "unknown: y", "data: a:b", " data: z", "data:  two spaces",
    ]
)  # fmt: skip
ends = st.sampled_from(["\n", "\r\n", "\r"])
streams = st.lists(st.tuples(lines, ends), max_size=20).map(
    lambda pairs: "".join(line + end for line, end in pairs).encode()
)


def events_of(pieces: list[bytes]) -> list[tuple[str, str]]:
    parser = SseParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    return [(event.event, event.data) for event in found + parser.flush()]


@given(stream=streams | st.binary(max_size=80), data=st.data())
def test_events_do_not_depend_on_chunking(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    bounds = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(bounds)]
    assert events_of(pieces) == events_of([stream])


@given(stream=streams)
def test_a_byte_at_a_time_is_the_same(stream: bytes) -> None:
    assert events_of([bytes([byte]) for byte in stream]) == events_of([stream])


@given(text=st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=40))
def test_any_one_line_text_survives(text: str) -> None:
    assert events_of([f"data: {text}\n\n".encode()]) == [("message", text)]


def by_the_letter(stream: bytes) -> list[tuple[str, str]]:
    """The standard's own steps, line by line; what lacks its empty line is not dispatched."""
    found, data, name = [], [], ""
    lines = re.split("\r\n|\n|\r", stream.decode(errors="replace").removeprefix("\ufeff"))
    for line in lines[:-1]:
        field, _, value = line.partition(":")
        if line == "":
            if data:
                found.append((name or "message", "\n".join(data)))
            data, name = [], ""
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
    return found


@given(stream=streams)
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    parser = SseParser()
    found = [(event.event, event.data) for event in parser.feed(stream)]
    assert found == by_the_letter(stream)
