"""Server-sent events from bytes as they arrive, however the network cuts them.

A push parser: `feed` takes any piece of the stream and returns the events that it completed,
`flush` ends the stream. The events depend on the concatenated bytes only, never on the cuts.
The format is the WHATWG HTML standard, section 9.2 (event stream interpretation).
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from suffice.core.errors import SufficeError

# A chunk of a chat completion is a few kB; with 20 top log-probabilities for a few tokens, tens.
LARGEST_EVENT_BYTES = 8 * 2**20


class SseOverflow(SufficeError, ValueError):
    """One event is larger than any honest server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One dispatched event; `data` joins its data lines with newlines."""

    data: str
    event: str = "message"


class SseParser:
    """Turns a byte stream into events. Not reusable after `flush`."""

    def __init__(self, *, largest_event_bytes: int = LARGEST_EVENT_BYTES) -> None:
        self._largest = largest_event_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._line: list[str] = []
        self._line_size = 0
        self._ended_with_cr = False
        self._data: list[str] = []
        self._data_size = 0
        self._event = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Events that `chunk` completes, in order. Raises SseOverflow."""
        return self._take(self._decode(chunk))

    def flush(self) -> list[ServerSentEvent]:
        """The event that the end of the stream cut short, if it has data.

        The standard drops it; servers that end with `data: [DONE]` and no blank line exist, and a
        caller that parses the data sees for itself whether it is whole.
        """
        events = self._take(self._decode(b"", final=True))
        if self._line:
            self._end_line(events)
        self._dispatch(events)
        return events

    def _take(self, text: str) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        if self._ended_with_cr and text:
            text = text.removeprefix("\n")
            self._ended_with_cr = False
        self._ended_with_cr = self._ended_with_cr or text.endswith("\r")
        # Splitting on these three only: str.splitlines also cuts at U+2028 and others, which JSON
        # strings may hold.
        pieces = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for number, piece in enumerate(pieces):
            if number:
                self._end_line(events)
            if piece:
                self._line.append(piece)
                self._line_size += len(piece)
                self._check_size()
        return events

    def _end_line(self, events: list[ServerSentEvent]) -> None:
        line = "".join(self._line)
        self._line, self._line_size = [], 0
        if not line:
            self._dispatch(events)
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._data_size += len(value)
            self._check_size()
        elif field == "event":
            self._event = value
        # A leading colon is a comment (keep-alive); id and retry serve reconnection, which a
        # generation cannot use.

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            event = ServerSentEvent(data="\n".join(self._data), event=self._event or "message")
            events.append(event)
        self._data, self._data_size, self._event = [], 0, ""

    def _check_size(self) -> None:
        if self._line_size + self._data_size > self._largest:
            raise SseOverflow(
                f"an event of the stream exceeds {self._largest} characters; "
                "the server is not sending server-sent events"
            )


def encode_event(data: str) -> bytes:
    """Bytes of one event whose data has no newline, as the gateway sends it."""
    return f"data: {data}\n\n".encode()


# A comment line: keeps proxies and clients from timing out and is invisible to every parser.
KEEP_ALIVE = b": keep-alive\n\n"
DONE = encode_event("[DONE]")
