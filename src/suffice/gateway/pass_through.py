"""Passing through: the client's bytes to the upstream, the upstream's bytes back, nothing changed.

`n`, tools, images, log-probabilities and fields that neither side of us has heard of work because
nobody here changes them. What comes back is checked for being whole and JSON: an answer that was
cut short, or is something else than an answer, becomes an error, never half an answer. On endpoints
whose answers are not known here (audio, say) any type passes, and only its wholeness is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from suffice.backends.fair_turns import TURNS
from suffice.backends.http_connection import HttpResponse
from suffice.backends.openai import DRAIN_S, OpenAIBackend
from suffice.backends.placement import Placement
from suffice.backends.protocol import Backend
from suffice.backends.reached import hearing
from suffice.backends.rejection import rejection
from suffice.backends.retry import Attempts
from suffice.backends.router import Lease
from suffice.backends.sse import EventClock
from suffice.core.errors import (
    BackendError,
    MalformedStream,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.gateway.answer_facts import model_of, said_tokens, told_usage
from suffice.gateway.connection.client import JSON, Client, ours
from suffice.gateway.endpoints import Kind
from suffice.gateway.wire.errors import retry_after
from suffice.gateway.wire.event_validator import EventValidator, shown
from suffice.gateway.wire.headers import HeaderLists
from suffice.gateway.wire.json_body import unambiguous
from suffice.gateway.wire.receipt import header_text

_NOT_ALLOWED = (401, 403)
# Of a flood so much is checked and passed on at a time, before others have their turn.
FAIR_BYTES = 32 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What is sent on for a call."""

    path: str
    kind: Kind
    body: bytes
    content_type: str = "application/json"
    query: str = ""
    headers: Mapping[str, str]
    lists: HeaderLists
    most_bytes: int  # of the answer
    counted: bytes | None = None  # the body that asks for usage too, where the client did not


class UpstreamErrorResponse(UpstreamRejected):
    """An upstream's answer with an error status, kept to be passed on as it is."""

    def __init__(
        self, error: UpstreamRejected, body: bytes, content_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(str(error), status=error.status, retry_after_s=error.retry_after_s)
        self.body = body
        self.content_type = content_type
        self.headers = headers  # those that pass

    @property
    def is_for_the_client(self) -> bool:
        """Whether it is about the request, in a form that clients understand.

        Its verdict on our key is not: the client has no such key.
        """
        if self.status in _NOT_ALLOWED or not 400 <= self.status <= 599:
            return False
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return False
        return isinstance(value, dict) and "error" in value


def outgoing(body: bytes, value: dict[str, Any]) -> bytes:
    """The body to send on: the very bytes, unless our own field has to be taken out.

    Raises InputError if servers could read different things in them.
    """
    if "suffice" not in value:
        return unambiguous(body, value)
    return orjson.dumps({name: field for name, field in value.items() if name != "suffice"})


async def pass_error(client: Client, error: UpstreamErrorResponse) -> None:
    """Give an upstream's error to the client, if it is for him; else raise it."""
    if client.began or not error.is_for_the_client:
        raise error
    client.call.error = "upstream_rejected"
    headers = {**error.headers, **retry_after(error), **ours(arm="bypass")}
    await client.answer(error.status, error.body, error.content_type, headers)


async def forward(
    client: Client, placed: Placement, backends: Sequence[OpenAIBackend], sent: Outgoing
) -> None:
    """Forward a call to the first of `backends` that answers it, and its answer to the client.

    Raises UpstreamErrorResponse if that is an error.
    """
    call, pool = client.call, placed.pool
    ordered: list[Backend] = placed.order(call.target, backends)
    attempts: Attempts[Backend] | None = None  # made when one has failed
    backend = ordered[0]
    while True:
        assert isinstance(backend, OpenAIBackend)
        lease = placed.begin(backend, ordered)
        try:
            await _forward(client, backend, sent, lease)
        except BackendError as error:
            pool.failed(backend, error)
            if client.began:
                raise
            attempts = attempts or Attempts(ordered, pool.retry, streamed=call.stream)
            wait_s = attempts.failed(error)
            call.retries, backend = attempts.retries, attempts.upstream
        else:
            return
        finally:
            lease.end()
        if wait_s:
            await asyncio.sleep(wait_s)


async def _forward(client: Client, backend: OpenAIBackend, sent: Outgoing, lease: Lease) -> None:
    call, limits = client.call, backend.timeouts
    call.upstream = backend.name
    until_s = time.monotonic() + limits.answer_s
    counted = False
    if sent.counted is None:  # as good as always
        with hearing(call.heard):
            response = await _ask(client, backend, sent, sent.body)
    else:
        response, counted = await _send(client, backend, sent, sent.counted)
    try:
        lease.first_byte()
        headers = sent.lists.client(response.headers, call.request_id)
        if not 200 <= response.status < 300:
            data = await _whole(response, backend, sent.most_bytes, until_s)
            error = rejection(backend.name, response.status, data, response.headers)
            kind = response.content_type or "application/octet-stream"
            raise UpstreamErrorResponse(error, data, kind, headers)
        headers |= ours(arm="bypass", upstream=header_text(backend.name))
        media = response.content_type.split(";", 1)[0].strip().lower()
        if call.stream or (sent.kind == "other" and media == "text/event-stream"):
            await _pass_stream(client, backend, response, headers, sent, hide_usage=counted)
        elif sent.kind == "other" and not media.endswith("json"):
            await _pass_bytes(client, backend, response, headers, sent)
        else:
            data = await _whole(response, backend, sent.most_bytes, until_s)
            value = _object_in(data, backend.name, response.content_type, sent.kind)
            call.usage, call.usage_refused = told_usage(value)
            if call.usage is None:
                call.pieces = said_tokens(value)
            call.answered_by = model_of(value) or call.target
            kind = JSON if media == "text/event-stream" else response.content_type
            await client.answer(response.status, data, kind, headers)
    finally:
        response.close()


async def _send(
    client: Client, backend: OpenAIBackend, sent: Outgoing, asking: bytes
) -> tuple[HttpResponse, bool]:
    """The answer to a body that asks for usage on our behalf, unread, and whether it was asked so.

    A server that may not know how to be asked gets the client's own body if it refuses ours.
    """
    call = client.call
    ours_first = backend.takes_stream_options is not False
    for counted in (True, False) if ours_first else (False,):
        with hearing(call.heard):
            body = asking if counted else sent.body
            response = await _ask(client, backend, sent, body)
        well = 200 <= response.status < 300
        unsure = backend.takes_stream_options is None
        if ours_first and well and unsure:
            backend.takes_stream_options = counted
        if well or not (counted and unsure and response.status in (400, 422)):
            return response, counted
        response.close()
    raise AssertionError("the last body is always answered for")


def _ask(
    client: Client, backend: OpenAIBackend, sent: Outgoing, body: bytes
) -> Awaitable[HttpResponse]:
    limits = backend.timeouts
    return backend.send(
        sent.path,
        body,
        query=sent.query,
        first_byte_s=limits.first_byte_s if client.call.stream else limits.answer_s,
        headers=sent.headers,
        content_type=sent.content_type,
    )


async def _whole(
    response: HttpResponse, backend: OpenAIBackend, most_bytes: int, until_s: float
) -> bytes:
    """A whole body, by the time at which the answer is due."""
    data = await _read(response, backend, until_s)
    if len(data) == response.length:
        return data  # as good as always: it came in one piece
    pieces, size = [data], len(data)
    while data and size <= most_bytes:
        data = await _read(response, backend, until_s)
        pieces.append(data)
        size += len(data)
    if size > most_bytes:
        raise _too_large(backend.name, most_bytes)
    return b"".join(pieces)


async def _read(response: HttpResponse, backend: OpenAIBackend, until_s: float) -> bytes:
    left_s = until_s - time.monotonic()
    try:
        return await response.read(max(0.001, left_s))
    except UpstreamTimeout:
        limit_s = backend.timeouts.answer_s
        raise UpstreamTimeout(
            f"{backend.name} did not give its whole answer within {limit_s:g} s (answer_s)"
        ) from None


def _object_in(data: bytes, upstream: str, content_type: str, kind: Kind) -> dict[str, Any]:
    """A whole answer. Raises MalformedStream if it is none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        return value
    if kind == "other" and value is not None:
        return {}  # a list of numbers, say: not ours to judge
    raise MalformedStream(
        f"{upstream} answered 200 with {content_type or 'no content type'} that is no JSON "
        f"object: {shown(data)}"
    )


async def _pass_bytes(
    client: Client,
    backend: OpenAIBackend,
    response: HttpResponse,
    headers: Mapping[str, str],
    sent: Outgoing,
) -> None:
    """An answer of any other type, piece by piece."""
    length = {} if response.length is None else {"content-length": str(response.length)}
    silence_s = backend.timeouts.answer_s
    kind = response.content_type or "application/octet-stream"
    while piece := await response.read(silence_s):
        if not client.began:
            await client.start(response.status, kind, {**length, **headers})
        silence_s = backend.timeouts.silence_s
        await client.write(piece)
        if client.call.sent_bytes > sent.most_bytes:
            raise _too_large(backend.name, sent.most_bytes)
    if not client.began:
        await client.start(response.status, kind, {**length, **headers})
    await client.end()


async def _pass_stream(
    client: Client,
    backend: OpenAIBackend,
    response: HttpResponse,
    headers: Mapping[str, str],
    sent: Outgoing,
    *,
    hide_usage: bool = False,
) -> None:
    call, timeouts = client.call, backend.timeouts
    if "event-stream" not in response.content_type.lower():
        data = await response.read(timeouts.first_byte_s)
        raise MalformedStream(
            f"{backend.name} answered with {response.content_type or 'no content type'} where "
            f"server-sent events were asked for: {shown(data)}"
        )
    events = EventValidator(backend.name, sent.kind, hide_usage=hide_usage)
    clock = EventClock(backend.name, timeouts.answer_s)
    silence_s, before = timeouts.first_byte_s, 0
    last = rest = b""
    try:
        while pieces := rest or await response.read(silence_s):
            piece, rest = await _fair(pieces)
            whole = events.feed(piece)
            clock.saw(events.count - before)
            before = events.count
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
            if call.sent_bytes > sent.most_bytes:
                raise _too_large(backend.name, sent.most_bytes)
        last += events.end()
    finally:
        call.usage, call.pieces = events.usage, events.tokens
        call.usage_refused = events.usage_refused
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


async def _fair(data: bytes) -> tuple[bytes, bytes]:
    """The beginning of what came, and the rest, which is for the next turn."""
    if len(data) <= FAIR_BYTES:
        await TURNS.take(len(data))
        return data, b""
    await asyncio.sleep(0)
    await TURNS.take(FAIR_BYTES)
    return data[:FAIR_BYTES], data[FAIR_BYTES:]


def _too_large(upstream: str, most_bytes: int) -> MalformedStream:
    return MalformedStream(
        f"{upstream} sent more than {most_bytes} bytes, the gateway's limit of one answer"
    )
