"""Any server with OpenAI's API (vLLM, SGLang, llama.cpp, Ollama, hosted): one stream per sample.

Samples of one request are separate streams that share a prompt, and so the engine's prefix cache.
Closing a stream closes its socket, which is how every one of these engines is told to stop.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import orjson

from suffice.backends.chunk_reader import ChunkReader
from suffice.backends.held_bytes import HeldBytes
from suffice.backends.http_client import MOST_OPEN
from suffice.backends.http_connection import MOST_BYTES
from suffice.backends.http_upstream import HttpUpstream, RawResponse, Timeouts
from suffice.backends.probe import listed_models, probe
from suffice.backends.protocol import Capabilities, Chunk, ModelCard
from suffice.backends.rejection import rejection
from suffice.backends.sse import EventClock, SseOverflow, SseParser
from suffice.backends.think_block import check_thinking
from suffice.backends.wire import (
    Dialect,
    Json,
    chat_body,
    completion_body,
    fixed_fields,
)
from suffice.core.draw import Draw
from suffice.core.errors import (
    BackendError,
    LacksCapability,
    MalformedStream,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Request
from suffice.core.thinking import ModeTokens, Thinking, mode_bias

# After its last event a stream has only its end to send; no server is waited for longer than this.
DRAIN_S = 0.1
# Telling what it serves takes a server no time; one that hangs must not hold a question up.
LIST_S = 10.0


class OpenAIBackend(HttpUpstream):
    """Samples from one server; how its paths follow from `base_url`: `suffice.backends.address`."""

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
        super().__init__(
            base_url,
            name=name,
            api_key=api_key,
            timeouts=timeouts or Timeouts(),
            tls=tls,
            most_connections=most_connections,
            most_bytes=most_bytes,
            base_path=base_path,
            api_key_header=api_key_header,
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

    def forget(self) -> None:
        """What answers there next may be another engine."""
        super().forget()
        self._found.clear()
        self.takes_stream_options = None

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
