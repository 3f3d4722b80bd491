"""Server-sent events from bytes as they arrive, however the network cuts them.

`EventSplitter` cuts a stream into whole events and keeps every byte, for who passes them on;
`SseParser` reads what they say. Both see the same events: a line ends with LF, CR LF or CR, an
event with an empty line. What comes out depends on the concatenated bytes only, never on the cuts.
The format is the WHATWG HTML standard, section 9.2 (event stream interpretation).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from suffice.core.errors import SufficeError, UpstreamTimeout

# A chunk of a chat completion is a few kB; with 20 top log-probabilities for a few tokens, tens.
LARGEST_EVENT_BYTES = 8 * 2**20
# Of a policy's sample, which is read here: each of many samples may hold one that never ends. What
# passes through may be a picture in text.
LARGEST_READ_BYTES = 2 * 2**20

_END_OF_LINE = rb"(?:\r\n|\n|\r(?!\n))"
_EMPTY_LINE = re.compile(_END_OF_LINE * 2)
_LINES = re.compile(rb"\r\n|\n|\r")
# An empty line is four bytes at most; so many from before may be the beginning of one.
_OVERLAP = 3
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseOverflow(SufficeError, ValueError):
    """One event is larger than any honest server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One dispatched event; `data` joins its data lines with newlines."""

    data: str
    event: str = "message"


class EventSplitter:
    """Cuts a byte stream after the last event that is whole; the rest waits for more."""

    __slots__ = ("_pieces", "_size", "_tail", "largest")

    def __init__(self, *, largest_event_bytes: int = LARGEST_EVENT_BYTES) -> None:
        self.largest = largest_event_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, piece: bytes) -> bytes:
        """The bytes of all events that `piece` completes. Raises SseOverflow."""
        seen = self._tail + piece
        end = _last_end(seen)
        if end is None:
            self._pieces.append(piece)
            self._size += len(piece)
            self._tail = seen[-_OVERLAP:]
            whole = b""
        else:
            self._pieces.append(piece)
            data = b"".join(self._pieces) if len(self._pieces) > 1 else piece
            cut = len(data) - len(seen) + end
            whole, rest = data[:cut], data[cut:]
            self._pieces, self._size, self._tail = [rest], len(rest), rest[-_OVERLAP:]
        if self._size > self.largest:
            raise self._overflow()
        return whole

    def rest(self) -> bytes:
        """What the end of the stream left without its empty line."""
        rest = b"".join(self._pieces)
        self._pieces, self._size, self._tail = [], 0, b""
        return rest

    def check(self, block: bytes) -> None:
        """Raise SseOverflow if a whole event is too large."""
        if len(block) > self.largest:
            raise self._overflow()

    def _overflow(self) -> SseOverflow:
        return SseOverflow(
            f"an event of the stream exceeds {self.largest} bytes; "
            "the server is not sending server-sent events"
        )


def blocks(whole: bytes) -> Iterator[tuple[bytes, int]]:
    """The events in what `EventSplitter.feed` gave, each with where it ends in there."""
    at = 0
    if b"\r" not in whole:
        for block in whole.split(b"\n\n")[:-1]:
            at += len(block) + 2
            yield block, at
        return
    for gap in _EMPTY_LINE.finditer(whole):
        yield whole[at : gap.start()], gap.end()
        at = gap.end()


def event_in(block: bytes) -> ServerSentEvent | None:
    """What an event says; None if it has no data (comments, keep-alives)."""
    if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
        return ServerSentEvent(data=block[6:].decode(errors="replace"))
    data: list[bytes] = []
    event = b""
    for line in _LINES.split(block.removeprefix(_BYTE_ORDER_MARK)):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            event = value.removeprefix(b" ")
        # A leading colon is a comment; id and retry serve reconnection, which a generation cannot
        # use.
    if not data:
        return None
    return ServerSentEvent(
        data=b"\n".join(data).decode(errors="replace"),
        event=event.decode(errors="replace") or "message",
    )


class SseParser:
    """Turns a byte stream into events. Not reusable after `flush`."""

    def __init__(self, *, largest_event_bytes: int = LARGEST_READ_BYTES) -> None:
        self._splitter = EventSplitter(largest_event_bytes=largest_event_bytes)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Events that `chunk` completes, in order. Raises SseOverflow."""
        return self._events_in(self._splitter.feed(chunk))

    def _events_in(self, whole: bytes) -> list[ServerSentEvent]:
        found = []
        for block, _ in blocks(whole):
            self._splitter.check(block)
            event = event_in(block)
            if event is not None:
                found.append(event)
        return found

    def feed_data(self, chunk: bytes) -> list[bytes]:
        """The data alone of the events that `chunk` completes; a token is one event, or nearly.

        As the server sent it: not all of it has to be UTF-8. Raises SseOverflow.
        """
        whole = self._splitter.feed(chunk)
        if b"\r" in whole:
            return [event.data.encode() for event in self._events_in(whole)]
        parts = whole.split(b"\n\n")
        parts.pop()  # behind the last empty line is nothing
        if len(whole) > self._splitter.largest:
            for part in parts:
                self._splitter.check(part)
        found = []
        for part in parts:
            if part.startswith(b"data: ") and b"\n" not in part:
                found.append(part[6:])
            elif (event := event_in(part)) is not None:
                found.append(event.data.encode())
        return found

    def flush(self) -> list[ServerSentEvent]:
        """The event that the end of the stream cut short, if it has data.

        The standard drops it; servers that end with `data: [DONE]` and no blank line exist, and a
        caller that parses the data sees for itself whether it is whole.
        """
        event = event_in(self._splitter.rest())
        return [] if event is None else [event]


def _last_end(data: bytes) -> int | None:
    """Where the last empty line of `data` ends."""
    if b"\r" not in data:
        at = data.rfind(b"\n\n")
        return None if at < 0 else at + 2
    end = None
    for gap in _EMPTY_LINE.finditer(data):
        end = gap.end()
    return end


def encode_event(data: str) -> bytes:
    """Bytes of one event whose data has no newline, as the gateway sends it."""
    return f"data: {data}\n\n".encode()


# A comment line: keeps proxies and clients from timing out and is invisible to every parser.
KEEP_ALIVE = b": keep-alive\n\n"
DONE = encode_event("[DONE]")


class EventClock:
    """How long a stream may go on without an event.

    Comments are signs of life (a gateway that votes sends them until it can answer), but not for
    longer than a whole answer may take.
    """

    __slots__ = ("_last_s", "_limit_s", "_upstream")

    def __init__(self, upstream: str, limit_s: float) -> None:
        self._upstream = upstream
        self._limit_s = limit_s
        self._last_s = time.monotonic()

    def saw(self, events: int) -> None:
        """Bytes came, and so many events with them. Raises UpstreamTimeout."""
        now_s = time.monotonic()
        if events:
            self._last_s = now_s
        elif now_s - self._last_s > self._limit_s:
            raise UpstreamTimeout(
                f"{self._upstream} sent comments for {self._limit_s:g} s (answer_s), and no event"
            )
