"""Whole and valid events of a stream that is passed on byte for byte; the rest waits.

Should the upstream die now, the client must not be left to parse half an event; and should it end
without having said so, the client must not take what came for all there is. How a stream says that
it is complete depends on the endpoint; `[DONE]` ends any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import orjson

from suffice.backends.sse import EventSplitter, SseOverflow, blocks, event_in
from suffice.core.completions import Usage
from suffice.core.errors import MalformedStream, UpstreamDisconnected
from suffice.gateway.answer_facts import model_of, said_tokens, told_usage
from suffice.gateway.endpoints import Kind

_DONE = b"data: [DONE]"


class Completeness(Protocol):
    """How the events of one endpoint tell that the answer is whole."""

    @property
    def over(self) -> bool:
        """Nothing of any meaning can follow."""
        ...

    @property
    def enough(self) -> bool:
        """The stream may end here."""
        ...

    def see(self, event: dict[str, Any]) -> None:
        """Another event. Raises AttributeError or TypeError if it has not the form of one."""
        ...


class _Chat:
    """Every choice that began has its finish reason; usage may still follow."""

    over = False

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._closed: set[int] = set()

    @property
    def enough(self) -> bool:
        return bool(self._closed) and self._closed == self._open

    def see(self, event: dict[str, Any]) -> None:
        for choice in event.get("choices") or ():
            index = choice.get("index", 0)
            self._open.add(index)
            if choice.get("finish_reason"):
                self._closed.add(index)


class _Typed:
    """An event of one of these types is the last."""

    def __init__(self, *last: str) -> None:
        self._last = last
        self.over = False

    @property
    def enough(self) -> bool:
        return self.over

    def see(self, event: dict[str, Any]) -> None:
        self.over = self.over or event.get("type") in self._last


class _Any:
    """Nothing is known of these events: the end of the answer is its end."""

    over = False
    enough = True

    def see(self, event: dict[str, Any]) -> None:
        del event


_OF_KIND: dict[Kind, Callable[[], Completeness]] = {
    "chat": _Chat,
    "completion": _Chat,
    "messages": lambda: _Typed("message_stop"),
    "responses": lambda: _Typed("response.completed", "response.incomplete", "response.failed"),
    "other": _Any,
}


class EventValidator:
    """Looks at what passes; `kind` is that of the endpoint.

    `hide_usage`: we asked for it, not the client, so an event that tells nothing else stays here.
    """

    def __init__(self, upstream: str, kind: Kind = "chat", *, hide_usage: bool = False) -> None:
        self._hide_usage = hide_usage
        self._hidden = False  # whether the event at hand is such a one
        self._upstream = upstream
        self._splitter = EventSplitter()
        self._complete = _OF_KIND[kind]()
        self.done = False  # the last event has come
        self.broken: MalformedStream | None = None  # what follows is no event of an answer
        self.error = False  # an error event of the upstream's own has come
        self.usage: Usage | None = None
        self.model: str | None = None  # who answers, by the first event that says so
        self.count = 0
        self.tokens = 0  # as far as what is said tells them
        self.usage_refused = False

    def feed(self, piece: bytes) -> bytes:
        """The events that `piece` completes; none will come any more once `broken` is set."""
        try:
            whole = self._splitter.feed(piece)
        except SseOverflow as error:
            self.broken = MalformedStream(f"{self._upstream}: {error}")
            return b""
        return self._checked(whole) if whole else whole

    def end(self) -> bytes:
        """What is left when the stream ends. Raises UpstreamDisconnected if it ended too early."""
        rest = self._splitter.rest().strip()
        if rest and not self.done:
            event = event_in(rest)
            if event is None or event.data.strip() != "[DONE]":
                raise self._too_early()
            self.done = True
            return rest + b"\n\n"
        if not (self.done or self._complete.enough or self.error):
            raise self._too_early()
        return b""

    def _checked(self, whole: bytes) -> bytes:
        at = 0
        hidden: list[tuple[int, int]] = []
        try:
            for block, end in blocks(whole):
                self._hidden = False
                if block.startswith(b"data: {") and b"\n" not in block and b"\r" not in block:
                    self._look(block[6:])
                elif block:
                    self._look_closely(block)
                if self._hidden:
                    hidden.append((at, end))
                at = end
                if self.done:  # nothing after it is of any meaning, but for the rest of its line
                    whole = whole[:at] + (b"\n" if whole[:at].endswith(b"\r\n\r") else b"")
                    break
        except MalformedStream as error:
            self.broken = error
            whole = whole[:at]  # what came before it is good
        for begin, end in reversed(hidden):
            whole = whole[:begin] + whole[end:]
        return whole

    def _look_closely(self, block: bytes) -> None:
        """An event written in an unusual way: comments, names, several lines of data."""
        if block == _DONE:
            self.done = True
            return
        event = event_in(block)
        if event is None:
            return
        data = event.data.strip()
        if data == "[DONE]":
            self.done = True
        elif data:
            self._look(data.encode())

    def _look(self, data: bytes) -> None:
        try:
            event = orjson.loads(data)
            if not isinstance(event, dict):
                raise self._malformed(data)
            self.count += 1
            if self.model is None:
                self.model = model_of(event)
            if event.get("error") or event.get("type") == "error":
                self.error = True
            self._complete.see(event)
            if "usage" in event or "response" in event or "message" in event:
                usage, refused = told_usage(event)
                self._hidden = self._hide_usage and event.get("choices") == []
                self.usage = _later(self.usage, usage)
                self.usage_refused = self.usage_refused or refused
            if self.usage is None:
                self.tokens += said_tokens(event)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            if isinstance(self._complete, _Any):
                return  # whatever it is, it is not ours to judge
            raise self._malformed(data) from None
        self.done = self.done or self._complete.over

    def _malformed(self, data: bytes) -> MalformedStream:
        return MalformedStream(
            f"{self._upstream} sent an event that is no chunk of an answer: {shown(data)}"
        )

    def _too_early(self) -> UpstreamDisconnected:
        return UpstreamDisconnected(
            f"{self._upstream} ended the stream before the answer was complete"
        )


def _later(before: Usage | None, told: Usage | None) -> Usage | None:
    """Usage that is told in parts: of the prompt at the beginning, of the answer at the end."""
    if before is None or told is None:
        return told or before
    return Usage(
        prompt_tokens=told.prompt_tokens or before.prompt_tokens,
        completion_tokens=told.completion_tokens or before.completion_tokens,
        cached_tokens=before.cached_tokens if told.cached_tokens is None else told.cached_tokens,
        reasoning_tokens=(
            before.reasoning_tokens if told.reasoning_tokens is None else told.reasoning_tokens
        ),
    )


def shown(data: bytes) -> str:
    """The beginning of what an upstream sent, for a message."""
    return repr(data[:80].decode(errors="replace"))
