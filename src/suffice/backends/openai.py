"""Any server with OpenAI's API (vLLM, SGLang, llama.cpp, Ollama, hosted): one stream per sample.

Samples of one request are separate streams that share a prompt, and so the engine's prefix cache.
Closing a stream closes its socket, which is how every one of these engines is told to stop.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import orjson

from suffice.backends.address import Address
from suffice.backends.chunk_reader import ChunkReader
from suffice.backends.held_bytes import HeldBytes
from suffice.backends.http_client import MOST_OPEN, HttpClient
from suffice.backends.http_connection import MOST_BYTES, HttpResponse
from suffice.backends.probe import listed_models, probe
from suffice.backends.protocol import Capabilities, Chunk, ModelCard
from suffice.backends.reached import hearing
from suffice.backends.sse import EventClock, SseOverflow, SseParser
from suffice.backends.think_block import check_thinking
from suffice.backends.wire import (
    Dialect,
    Json,
    chat_body,
    completion_body,
    error_message,
    fixed_fields,
)
from suffice.core.draw import Draw
from suffice.core.errors import (
    BackendError,
    InputError,
    LacksCapability,
    MalformedStream,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Request
from suffice.core.thinking import ModeTokens, Thinking, mode_bias

# After its last event a stream has only its end to send; no server is waited for longer than this.
DRAIN_S = 0.1
# Thousands of events come in one piece from a server that floods; so much is read at a time, before
# others have their turn.
FAIR_BYTES = 32 * 2**10
# Of a list of models, or of the answer to a probe.
MOST_PLAIN_BYTES = 16 * 2**20
# Nobody means a longer Retry-After than this; inf and nan are no times either.
LONGEST_RETRY_AFTER_S = 7 * 86400.0
# Telling what it serves takes a server no time; one that hangs must not hold a question up.
LIST_S = 10.0
# A server that lacked an endpoint may be a newer one after so long.
LACKS_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds of silence after which an upstream counts as hanging."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0  # queueing and prefill happen before anything is sent
    silence_s: float = 60.0  # between two pieces of a running stream
    answer_s: float = 600.0  # a whole answer that is not streamed: nothing comes before its end

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "silence_s", "answer_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"timeout {name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """An upstream's own answer, for passing on untouched."""

    status: int
    content_type: str
    headers: Mapping[str, str]  # names in lower case
    body: AsyncIterator[bytes]


class OpenAIBackend:
    """One upstream; how its paths follow from `base_url`: `suffice.backends.address`."""

    def __init__(
        self,
        base_url: str,
        *,
        name: str | None = None,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        declared: Capabilities | None = None,
        mode_tokens: ModeTokens | None = None,
        tls: ssl.SSLContext | None = None,
        most_connections: int = MOST_OPEN,
        most_bytes: int = MOST_BYTES,
        base_path: str | None = None,
        api_key_header: str | None = None,
        serves: Sequence[str] = (),
    ) -> None:
        """`declared` capabilities are believed without a probe; `mode_tokens` say that the served
        model chooses by them whether it thinks, which no probe can find; `tls` is what certificates
        are checked by, the system's by default. `base_path` stands for /v1 as it is; the key goes
        into `api_key_header` instead of `Authorization: Bearer`; a server that lists no models
        `serves` these. At most `most_connections` are open at once, and an answer has at most
        `most_bytes`.
        """  # fmt: skip
        self.address = Address.of(base_url, base_path=base_path)
        self._name = name or self.address.name
        self.timeouts = timeouts or Timeouts()
        self._client = HttpClient(
            self.address.origin,
            name=self._name,
            headers=_key_headers(api_key, api_key_header),
            connect_s=self.timeouts.connect_s,
            tls=tls,
            most_open=most_connections,
            most_bytes=most_bytes,
        )
        self._mode_tokens = mode_tokens
        self._serves = tuple(serves)
        self._declared: tuple[Capabilities, Dialect] | None = None
        if declared is not None:
            dialect = Dialect(prefill="continue_final_message" if declared.prefill else None)
            self._declared = (declared, dialect)
        self._found: dict[str, tuple[Capabilities, Dialect]] = {}
        self._probing: dict[str, asyncio.Lock] = {}
        self.takes_stream_options: bool | None = None  # None: no stream has shown it yet
        self._lacking: dict[str, float] = {}  # paths that it does not have, until when that holds

    @property
    def name(self) -> str:
        """Host and port, or the name it was given."""
        return self._name

    async def models(self) -> tuple[ModelCard, ...]:
        """What the server lists. Raises a BackendError, UpstreamRejected if it lists nothing."""
        if self._declared is not None and self._declared[0].models:
            return tuple(ModelCard(id=name) for name in self._declared[0].models)
        if self._serves:
            return tuple(ModelCard(id=name) for name in self._serves)
        try:
            async with asyncio.timeout(LIST_S):
                status, listed = await self.post("/v1/models", None)
        except TimeoutError:
            raise UpstreamTimeout(
                f"{self._name} did not list its models within {LIST_S:g} s"
            ) from None
        return listed_models(self._name, status, listed)

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """What the server was found to support for `model`: a few one-token requests, once."""
        return (await self._probed(model))[0]

    async def stream(
        self,
        draw: Draw,
        *,
        headers: Mapping[str, str] | None = None,
        held: HeldBytes | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample; closing the generator closes the socket. They count for `held`."""
        path, body, nats = await self._asked(draw, stream=True)
        reader, parser = ChunkReader(self._name, mode_bias_nats=nats), SseParser()
        clock = EventClock(self._name, self.timeouts.answer_s)
        async with self._opened_stream(path, body, headers) as response:
            async for piece in response.body:
                try:
                    events = parser.feed_data(piece)
                except SseOverflow as error:
                    raise MalformedStream(f"{self._name}: {error}") from None
                clock.saw(len(events))
                came: list[Chunk] = []
                for chunk in reader.read_all(events):
                    came.append(chunk)
                    yield chunk
                if held is not None:
                    held.take_chunks(came, len(piece), self._name)
                if reader.done:
                    break
            for chunk in reader.read_all(event.data for event in parser.flush()):
                yield chunk
            yield reader.last()
            await _drain(response)

    async def draw(
        self,
        draw: Draw,
        *,
        headers: Mapping[str, str] | None = None,
        held: HeldBytes | None = None,
    ) -> Chunk:
        """One sample, asked for without a stream; cancelling closes the socket."""
        path, body, nats = await self._asked(draw, stream=False)
        limit_s = self.timeouts.answer_s
        until_s = time.monotonic() + limit_s
        response = await self.send(path, orjson.dumps(body), first_byte_s=limit_s, headers=headers)
        try:
            data = await response.read(limit_s)
            if held is not None:
                held.take(len(data), self._name)
            if len(data) != response.length:  # as good as never: it came in several pieces
                pieces = [data]
                while piece := await response.read(max(0.001, until_s - time.monotonic())):
                    if held is not None:
                        held.take(len(piece), self._name)
                    pieces.append(piece)
                data = b"".join(pieces)
        finally:
            response.close()
        if response.status != 200:
            raise rejection(self._name, response.status, data, response.headers)
        try:
            answer = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise MalformedStream(
                f"{self._name} answered with {response.content_type or 'no content type'} "
                f"where JSON was asked for ({error})"
            ) from None
        return ChunkReader(self._name, mode_bias_nats=nats).whole(answer)

    async def _asked(self, draw: Draw, *, stream: bool) -> tuple[str, Json, float | None]:
        """Path and body of a sample's request, and the bias that its effort became."""
        thinking = draw.thinking
        capabilities, dialect = await self._probed(draw.model)
        if draw.request.completion_only:
            if thinking not in (None, Thinking()):
                raise LacksCapability(
                    "effort: /v1/completions has no think block; ask /v1/chat/completions"
                )
            body = completion_body(draw, dialect=dialect, stream=stream)
            return "/v1/completions", body, None
        most = draw.sampling.max_tokens
        check_thinking(thinking, capabilities, upstream=self._name, max_tokens=most)
        body = chat_body(
            draw,
            capabilities=capabilities,
            dialect=dialect,
            fixed=encoded_fields(draw.request),
            stream=stream,
        )
        nats = mode_bias(thinking) if capabilities.mode_tokens is not None else None
        return "/v1/chat/completions", body, nats

    @asynccontextmanager
    async def _opened_stream(
        self, path: str, body: Json, headers: Mapping[str, str] | None
    ) -> AsyncIterator[RawResponse]:
        """A stream that has begun; asked for again without `stream_options` if it is refused.

        Servers that do not know the field refuse it in words of their own. Whether this one does is
        known after the first stream.
        """
        if self.takes_stream_options is False:
            body.pop("stream_options", None)
        unsure = self.takes_stream_options is None and "stream_options" in body
        async with self.open(path, orjson.dumps(body), headers=headers) as response:
            try:
                await self._check_stream(response)
            except UpstreamRejected as error:
                if not unsure or error.status not in (400, 422):
                    raise
                refusal = error
            else:
                if unsure:
                    self.takes_stream_options = True
                yield response
                return
        del body["stream_options"]
        async with self.open(path, orjson.dumps(body), headers=headers) as response:
            try:
                await self._check_stream(response)
            except UpstreamRejected:
                raise refusal from None  # it was something else
            self.takes_stream_options = False
            yield response

    @asynccontextmanager
    async def open(
        self, path: str, content: bytes | None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[RawResponse]:
        """The answer to a POST of `content` (None: a GET), its body unread; leaving closes it.

        Raises UpstreamRefused, UpstreamTimeout or UpstreamDisconnected; an error status is the
        caller's business.
        """
        response = await self.send(path, content, headers=headers)
        body = self._pieces(response)
        try:
            yield RawResponse(
                status=response.status,
                content_type=response.content_type,
                headers=response.headers,
                body=body,
            )
        finally:
            response.close()

    async def send(
        self,
        path: str,
        content: bytes | None,
        *,
        query: str = "",
        first_byte_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> HttpResponse:
        """Like `open`, for a caller who reads piece by piece and closes the answer himself."""
        limit_s = self.timeouts.first_byte_s if first_byte_s is None else first_byte_s
        asked = self.address.path(path, query)
        try:
            return await self._client.send(
                asked, content,
                first_byte_s=limit_s, headers=headers, content_type=content_type,
            )  # fmt: skip
        except UpstreamRefused:
            self._found.clear()  # what answers there next may be another engine
            self.takes_stream_options = None
            self._lacking.clear()
            raise

    async def post(self, path: str, body: Json | None) -> tuple[int, Json]:
        """Status and parsed JSON of a plain request (None: a GET); {} where it is not an object."""
        content = None if body is None else json.dumps(body).encode()
        with hearing(_nobody):  # a probe is no part of the request that had to wait for it
            async with self.open(path, content) as response:
                pieces, size = [], 0
                async for piece in response.body:
                    pieces.append(piece)
                    size += len(piece)
                    if size > MOST_PLAIN_BYTES:
                        raise MalformedStream(
                            f"{self._name} sent more than {MOST_PLAIN_BYTES} bytes for {path}"
                        )
        try:
            value = json.loads(b"".join(pieces))
        except (ValueError, RecursionError):
            value = {}
        return response.status, value if isinstance(value, dict) else {}

    def lacks(self, path: str) -> bool:
        """Whether it has lately shown that it does not have an endpoint."""
        return time.monotonic() < self._lacking.get(path, 0.0)

    def lacked(self, path: str) -> None:
        """It has just shown that."""
        self._lacking[path] = time.monotonic() + LACKS_S

    async def metrics(self, *, most_bytes: int) -> str | None:
        """The page at /metrics, None if there is none or it is larger than `most_bytes`."""
        async with self.open("/metrics", None) as response:
            if response.status != 200 or "text" not in response.content_type.lower():
                return None
            data = b""
            async for piece in response.body:
                data += piece
                if len(data) > most_bytes:
                    return None
        return data.decode(errors="replace")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _probed(self, model: str | None) -> tuple[Capabilities, Dialect]:
        if self._declared is not None:
            return self._declared
        known = self._found.get(model or "")
        if known is not None:
            return known
        async with self._probing.setdefault(model or "", asyncio.Lock()):
            known = self._found.get(model or "")
            if known is None:
                found, dialect = await probe(self, model)
                known = replace(found, mode_tokens=self._mode_tokens), dialect
                self._found[model or ""] = known
        self._probing.pop(model or "", None)
        return known

    async def _pieces(self, response: HttpResponse) -> AsyncGenerator[bytes, None]:
        silence_s = self.timeouts.first_byte_s
        while piece := await response.read(silence_s):
            silence_s = self.timeouts.silence_s
            yield piece[:FAIR_BYTES]
            for start in range(FAIR_BYTES, len(piece), FAIR_BYTES):
                await asyncio.sleep(0)
                yield piece[start : start + FAIR_BYTES]

    async def _check_stream(self, response: RawResponse) -> None:
        if response.status == 200 and "event-stream" in response.content_type.lower():
            return
        if response.status == 200:
            raise MalformedStream(
                f"{self._name} answered with {response.content_type or 'no content type'} "
                "where server-sent events were asked for"
            )
        data = b"".join([piece async for piece in response.body])
        raise rejection(self._name, response.status, data, response.headers)


def _key_headers(api_key: str | None, header: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    return {header.lower(): api_key} if header else {"authorization": f"Bearer {api_key}"}


# Fields of a client's own that a sample may add to.
_ADDED_TO = ("chat_template_kwargs", "custom_params", "logit_bias", "stream_options")


def encoded_fields(request: Request) -> Json:
    """What every sample of a request is sent alike, in JSON already; made once for a request."""
    found: Json | None = getattr(request, "encoded", None)
    if found is None:
        found = {
            name: value if name in _ADDED_TO else orjson.Fragment(orjson.dumps(value))
            for name, value in fixed_fields(request).items()
        }
        request.remember(found)
    return found


async def _drain(response: RawResponse) -> None:
    """Read what follows the last event, so that the connection can be used again."""
    with suppress(TimeoutError, BackendError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in response.body:
                pass


def rejection(
    upstream: str, status: int, data: bytes, headers: Mapping[str, str]
) -> UpstreamRejected:
    """The error behind an answer with an error status."""
    try:
        said = error_message(json.loads(data))
    except (ValueError, RecursionError):
        said = data[:200].decode(errors="replace") or "no reason given"
    return UpstreamRejected(
        f"{upstream} answered {status}: {said}",
        status=status,
        retry_after_s=_seconds(headers.get("retry-after")),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which may also be a date; None if it makes no sense."""
    if retry_after is None:
        return None
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):
            return None
    return max(0.0, wait_s) if wait_s <= LONGEST_RETRY_AFTER_S else None


def _nobody(reached: bool) -> None:
    del reached
