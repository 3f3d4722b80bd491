"""A client that speaks another protocol than chat: its errors always, its answers if translated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from suffice.backends.sse import SseOverflow, SseParser
from suffice.core.errors import MalformedStream, SufficeError
from suffice.gateway.connection.client import FAIL_S, JSON, Client
from suffice.gateway.endpoints import Kind
from suffice.gateway.translate.messages_answer import Messages
from suffice.gateway.translate.messages_request import chat_of_messages
from suffice.gateway.translate.parts import Json
from suffice.gateway.translate.responses_answer import Responses
from suffice.gateway.translate.responses_request import chat_of_responses
from suffice.gateway.wire.errors import describe, retry_after

_FAILED = 502


class Answer(Protocol):
    """One call's answer in its protocol."""

    def answer(self, whole: Mapping[str, Any]) -> Json:
        """A whole answer."""
        ...

    def events(self, chunk: Mapping[str, Any]) -> list[Json]:
        """Events for one chunk of chat."""
        ...

    def end(self) -> list[Json]:
        """The last events."""
        ...

    def error(self, status: int, message: str, code: str | None) -> Json:
        """An error as an answer of its own."""
        ...

    def error_event(self, status: int, message: str, code: str | None) -> Json:
        """An error as the last event."""
        ...


_ANSWERS: dict[Kind, Callable[[Mapping[str, Any]], Answer]] = {
    "messages": Messages, "responses": Responses,
}  # fmt: skip
_REQUESTS: dict[Kind, Callable[[Mapping[str, Any]], Json]] = {
    "messages": chat_of_messages, "responses": chat_of_responses,
}  # fmt: skip


def speaks_chat(kind: Kind) -> bool:
    """Whether an endpoint's requests need no translation."""
    return kind not in _ANSWERS


class TranslatedClient(Client):
    """Its answers come in as chat once `translate` was called, and leave in the client's form."""

    __slots__ = ("_answer", "_failed", "_kind", "_parser", "translating")

    def __init__(self, kind: Kind, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._kind = kind
        self._answer = _ANSWERS[kind]({})
        self._parser = SseParser()
        self._failed = False  # the upstream told an error inside its stream: nothing follows that
        self.translating = False

    def translate(self, request: Mapping[str, Any]) -> Json:
        """The request as chat; from now on answers are translated. Raises InputError."""
        chat = _REQUESTS[self._kind](request)
        self._answer = _ANSWERS[self._kind](request)
        self._parser = SseParser()
        self.translating = True
        return chat

    async def answer(
        self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        if self.translating and 200 <= status < 300:
            try:
                body = orjson.dumps(self._answer.answer(orjson.loads(body)))
            except (orjson.JSONDecodeError, TypeError, AttributeError) as error:
                raise self._malformed(error) from None
        elif self.translating and status >= 400:
            body, content_type = self._error_of(status, body), JSON
        await super().answer(status, body, content_type, headers)

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer."""
        if self.translating:
            data = self._translated(data)
        if data:
            await super().write(data)

    async def end(self, last: bytes = b"") -> None:
        """The answer is complete with these bytes."""
        if self.translating:
            last = self._translated(last)
            if not self._failed:
                last += b"".join(map(_event, self._answer.end()))
            self.translating = False
        await super().end(last)

    async def fail(self, error: SufficeError) -> None:
        """Send an error in the client's form."""
        status, envelope = describe(error)
        code, message = envelope["error"]["code"], envelope["error"]["message"]
        self.call.error = code
        self.translating = False
        if not self.began:
            headers = dict(retry_after(error))
            if status in (408, 413):
                headers["connection"] = "close"  # the rest of the body may still be on its way
            body = orjson.dumps(self._answer.error(status, message, code))
            await super().answer(status, body, JSON, headers)
            return
        if not self.is_stream:
            await self.break_off(error)
            return
        try:
            async with asyncio.timeout(FAIL_S):
                told = self._answer.error_event(status, message, code)
                await super().end(b"" if self._failed else _event(told))
        except TimeoutError:
            self.cut()

    def _translated(self, data: bytes) -> bytes:
        """Events of chat as the client's."""
        try:
            events = self._parser.feed(data)
            found: list[Json] = []
            for event in events:
                if not self._failed and event.data.strip() != "[DONE]":
                    found += self._of_chunk(orjson.loads(event.data))
        except (SseOverflow, orjson.JSONDecodeError, TypeError, AttributeError) as error:
            raise self._malformed(error) from None
        return b"".join(map(_event, found))

    def _of_chunk(self, chunk: Any) -> list[Json]:
        if not isinstance(chunk, dict):
            raise TypeError(f"a chunk is a {type(chunk).__name__}")
        error = chunk.get("error")
        if not error:
            return self._answer.events(chunk)
        self._failed = True
        message, code = str(error), None
        if isinstance(error, dict):
            message, code = str(error.get("message")), error.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else _FAILED
        return [self._answer.error_event(status, message, None if code is None else str(code))]

    def _error_of(self, status: int, body: bytes) -> bytes:
        """An upstream's own error in the client's form."""
        try:
            error = orjson.loads(body).get("error")
        except (orjson.JSONDecodeError, AttributeError):
            error = None
        message = error.get("message") if isinstance(error, dict) else error
        code = error.get("code") if isinstance(error, dict) else None
        known = None if code is None else str(code)
        said = self._answer.error(status, str(message or "no reason given"), known)
        return orjson.dumps(said)

    def _malformed(self, error: Exception) -> MalformedStream:
        return MalformedStream(f"{self.call.upstream}: no chat completion to translate: {error}")


def _event(event: Json) -> bytes:
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
