"""Passing through: the client's bytes to the upstream, the upstream's bytes back, nothing changed.

`n`, tools, images, log-probabilities and fields that neither side of us has heard of work because
nobody here changes them. What comes back is checked for being whole and JSON: an answer that was
cut short, or is something else than an answer, becomes an error, never half an answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from suffice.backends.http_connection import HttpResponse
from suffice.backends.openai import DRAIN_S, OpenAIBackend, rejection
from suffice.backends.pool import Placement
from suffice.backends.protocol import Backend
from suffice.backends.retry import Attempts
from suffice.backends.router import Lease
from suffice.backends.sse import LARGEST_EVENT_BYTES
from suffice.backends.wire import usage_of
from suffice.core.completions import Usage
from suffice.core.errors import (
    BackendError,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRejected,
)
from suffice.gateway.errors import retry_after
from suffice.gateway.receipt import header_text
from suffice.gateway.stream import Client, ours

_END = re.compile(rb"^data: ?\[DONE\][ \r]*$", re.MULTILINE)
_GAP = re.compile(rb"\n\n|\r\n\r\n")
_GAPS = (b"\n\n", b"\r\n\r\n")
_NOT_ALLOWED = (401, 403)


class Verdict(UpstreamRejected):
    """An upstream's answer with an error status, kept to be passed on as it is."""

    def __init__(self, error: UpstreamRejected, body: bytes, content_type: str) -> None:
        super().__init__(str(error), status=error.status, retry_after_s=error.retry_after_s)
        self.body = body
        self.content_type = content_type

    @property
    def is_for_the_client(self) -> bool:
        """Whether it is about the request, in a form that clients understand.

        Its verdict on our key is not: the client has no such key.
        """
        if self.status in _NOT_ALLOWED:
            return False
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return False
        return isinstance(value, dict) and "error" in value


def outgoing(body: bytes, value: dict[str, Any]) -> bytes:
    """The body to send on: the very bytes, unless our own field has to be taken out."""
    if "suffice" not in value:
        return body
    return orjson.dumps({name: field for name, field in value.items() if name != "suffice"})


async def pass_through(
    client: Client,
    placed: Placement,
    backends: Sequence[OpenAIBackend],
    body: bytes,
    *,
    most_bytes: int,
) -> None:
    """Forward a call to the first of `backends` that answers it, and its answer to the client."""
    call, pool = client.call, placed.pool
    ordered: list[Backend] = placed.order(call.target, backends)
    attempts = Attempts(ordered, pool.retry)
    try:
        while True:
            backend = attempts.upstream
            assert isinstance(backend, OpenAIBackend)
            lease = placed.begin(backend, ordered)
            try:
                await _forward(client, backend, body, most_bytes, lease)
            except BackendError as error:
                pool.failed(backend, error)
                if client.began:
                    raise
                wait_s = attempts.failed(error)
                call.retries = attempts.retries
            else:
                return
            finally:
                lease.end()
            if wait_s:
                await asyncio.sleep(wait_s)
    except Verdict as verdict:
        if client.began or not verdict.is_for_the_client:
            raise
        call.error = "upstream_rejected"
        headers = {**retry_after(verdict), **ours(arm="bypass")}
        await client.answer(verdict.status, verdict.body, verdict.content_type, headers)


async def _forward(
    client: Client, backend: OpenAIBackend, body: bytes, most_bytes: int, lease: Lease
) -> None:
    call = client.call
    call.upstream = backend.name
    response = await backend.send(call.path, body)
    try:
        lease.first_byte()
        if response.status != 200:
            data = await _whole(response, backend, most_bytes)
            error = rejection(backend.name, response.status, data, response.headers)
            raise Verdict(error, data, response.content_type or "application/octet-stream")
        headers = ours(arm="bypass", upstream=header_text(backend.name))
        if call.stream:
            await _pass_stream(client, backend, response, headers, most_bytes)
        else:
            data = await _whole(response, backend, most_bytes)
            value = _object_in(data, backend.name, response.content_type)
            call.usage = usage_of(value.get("usage"))
            call.answered_by = model_of(value) or call.target
            await client.answer(200, data, response.content_type, headers)
    finally:
        response.close()


async def _whole(response: HttpResponse, backend: OpenAIBackend, most_bytes: int) -> bytes:
    data = await response.read(backend.timeouts.first_byte_s)
    if len(data) == response.length:
        return data  # as good as always: it came in one piece
    pieces, size = [data], len(data)
    while data and size <= most_bytes:
        data = await response.read(backend.timeouts.silence_s)
        pieces.append(data)
        size += len(data)
    if size > most_bytes:
        raise _too_large(backend.name, most_bytes)
    return b"".join(pieces)


def model_of(value: Mapping[str, Any]) -> str | None:
    """The model that an upstream says has answered."""
    model = value.get("model")
    return model if isinstance(model, str) and model else None


def _object_in(data: bytes, upstream: str, content_type: str) -> dict[str, Any]:
    """A whole answer. Raises MalformedStream if it is none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise MalformedStream(
            f"{upstream} answered 200 with {content_type or 'no content type'} that is no JSON "
            f"object: {_shown(data)}"
        )
    return value


async def _pass_stream(
    client: Client,
    backend: OpenAIBackend,
    response: HttpResponse,
    headers: Mapping[str, str],
    most_bytes: int,
) -> None:
    call, timeouts = client.call, backend.timeouts
    if "event-stream" not in response.content_type.lower():
        data = await _whole(response, backend, most_bytes)
        raise MalformedStream(
            f"{backend.name} answered with {response.content_type or 'no content type'} where "
            f"server-sent events were asked for: {_shown(data)}"
        )
    events = WholeEvents(backend.name)
    silence_s = timeouts.first_byte_s
    last = b""
    try:
        while piece := await response.read(silence_s):
            whole = events.feed(piece)
            if events.done and events.broken is None:
                last = whole  # it leaves together with the end of the answer
                break
            if whole:
                silence_s = timeouts.silence_s
                if not client.began:
                    await client.start(200, response.content_type, headers)
                await client.write(whole)
            if events.broken is not None:
                raise events.broken
            if call.sent_bytes > most_bytes:
                raise _too_large(backend.name, most_bytes)
        last += events.end()
    finally:
        call.usage, call.pieces = events.usage, events.count
        if events.count:
            call.answered_by = events.model or call.target
        if events.error:
            call.error = "upstream_error"
    if not client.began:
        await client.start(200, response.content_type, headers)
    await client.end(last)
    with suppress(TimeoutError, BackendError):  # so that the connection can be used again
        async with asyncio.timeout(DRAIN_S):
            while await response.read(DRAIN_S):
                pass


class WholeEvents:
    """Whole and valid events of a stream that is passed on byte for byte; the rest waits.

    Should the upstream die now, the client must not be left to parse half an event; and should it
    end without having said so, the client must not take what came for all there is.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._rest = b""
        self._open: set[int] = set()
        self._closed: set[int] = set()
        self.done = False  # [DONE] has come
        self.broken: MalformedStream | None = None  # what follows is no event of an answer
        self.error = False  # an error event of the upstream's own has come
        self.usage: Usage | None = None
        self.model: str | None = None  # who answers, by the first event that says so
        self.count = 0

    def feed(self, piece: bytes) -> bytes:
        """The events that `piece` completes; none will come any more once `broken` is set."""
        data = self._rest + piece if self._rest else piece
        ends = [at + len(gap) for gap in _GAPS if (at := data.rfind(gap)) >= 0]
        cut = max(ends, default=0)
        whole, self._rest = data[:cut], data[cut:]
        if len(self._rest) > LARGEST_EVENT_BYTES:
            self.broken = MalformedStream(
                f"{self._upstream} sent an event larger than {LARGEST_EVENT_BYTES} bytes"
            )
        return self._checked(whole) if whole else whole

    def end(self) -> bytes:
        """What is left when the stream ends. Raises UpstreamDisconnected if it ended too early."""
        rest, self._rest = self._rest, b""
        if rest.strip() and not self.done:
            if _END.match(rest.strip()):
                self.done = True
                return rest.rstrip() + b"\n\n"
            raise self._too_early()
        finished = self._closed and self._closed == self._open
        if not (self.done or finished or self.error):
            raise self._too_early()
        return b""

    def _checked(self, whole: bytes) -> bytes:
        last = _END.search(whole) if b"[DONE]" in whole else None
        if last is not None:  # nothing after it is of any meaning
            self.done = True
            ends = b"\r\n\r\n" if b"\r" in whole else b"\n\n"
            whole = whole[: last.end()].rstrip() + ends
        at = 0
        for gap in _GAP.finditer(whole):
            block = whole[at : gap.start()]
            try:
                if block.startswith(b"data: {") and b"\n" not in block:
                    self._look(block[6:])
                elif block:
                    self._look_closely(block)
            except MalformedStream as error:
                self.broken = error
                return whole[:at]  # what came before it is good
            at = gap.end()
        return whole

    def _look_closely(self, block: bytes) -> None:
        """An event written in an unusual way: comments, names, several lines of data."""
        found = [line[5:] for line in block.splitlines() if line.startswith(b"data:")]
        data = b"\n".join(found).strip()
        if data and data != b"[DONE]":
            self._look(data)

    def _look(self, data: bytes) -> None:
        try:
            event = orjson.loads(data)
            if not isinstance(event, dict):
                raise self._malformed(data)
            self.count += 1
            if self.model is None:
                self.model = model_of(event)
            if event.get("error"):
                self.error = True
            for choice in event.get("choices") or ():
                index = choice.get("index", 0)
                self._open.add(index)
                if choice.get("finish_reason"):
                    self._closed.add(index)
            usage = event.get("usage")
            if usage:
                self.usage = usage_of(usage) or self.usage
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            raise self._malformed(data) from None

    def _malformed(self, data: bytes) -> MalformedStream:
        return MalformedStream(
            f"{self._upstream} sent an event that is no chunk of an answer: {_shown(data)}"
        )

    def _too_early(self) -> UpstreamDisconnected:
        return UpstreamDisconnected(
            f"{self._upstream} ended the stream before the answer was complete"
        )


def _too_large(upstream: str, most_bytes: int) -> MalformedStream:
    return MalformedStream(
        f"{upstream} sent more than {most_bytes} bytes, the gateway's limit of one answer"
    )


def _shown(data: bytes) -> str:
    return repr(data[:80].decode(errors="replace"))
