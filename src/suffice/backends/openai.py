"""Any server with OpenAI's API (vLLM, SGLang, llama.cpp, Ollama, hosted): one stream per sample.

Samples of one request are separate streams that share a prompt, and so the engine's prefix cache.
Closing a stream closes its socket, which is how every one of these engines is told to stop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from suffice.backends.probe import probe
from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.sse import SseOverflow, SseParser
from suffice.backends.wire import (
    ChunkReader,
    Dialect,
    Json,
    chat_body,
    completion_body,
    error_message,
)
from suffice.core.errors import (
    BackendError,
    InputError,
    MalformedStream,
    MissingExtra,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Request, Sampling
from suffice.core.thinking import Thinking

try:
    import httpx2
except ImportError as error:  # the core install is light
    raise MissingExtra.of("httpx2", "serve", "talking to a server") from error


# After its last event a stream has only its end to send; no server is waited for longer than this.
DRAIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds of silence after which an upstream counts as hanging."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0  # queueing and prefill happen before anything is sent
    silence_s: float = 60.0  # between two pieces of a running stream

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "silence_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"timeout {name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """An upstream's own answer, for passing on untouched."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]


class OpenAIBackend:
    """One upstream. `base_url` may end in /v1 or not."""

    def __init__(
        self,
        base_url: str,
        *,
        name: str | None = None,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        declared: Capabilities | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`declared` capabilities are believed without a probe; `transport` is for tests."""
        url = base_url.rstrip("/").removesuffix("/v1")
        if not url.startswith(("http://", "https://")):
            raise InputError(f"upstream {base_url!r} is not a URL: write http://localhost:8000/v1")
        self._name = name or url.split("://", 1)[1]
        self._timeouts = timeouts or Timeouts()
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(None, connect=self._timeouts.connect_s),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            transport=transport,
            trust_env=httpx2.URL(url).host not in ("localhost", "127.0.0.1", "::1"),  # proxies
        )
        self._found: tuple[Capabilities, Dialect] | None = None
        if declared is not None:
            dialect = Dialect(prefill="continue_final_message" if declared.prefill else None)
            self._found = (declared, dialect)
        self._probing = asyncio.Lock()

    @property
    def name(self) -> str:
        """Host and port, or the name it was given."""
        return self._name

    async def capabilities(self) -> Capabilities:
        """What the server was found to support; a handful of one-token requests, once."""
        return (await self._probed())[0]

    async def stream(
        self,
        request: Request,
        sampling: Sampling,
        *,
        model: str,
        thinking: Thinking | None = None,
        prefill: str = "",
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample; closing the generator closes the socket."""
        capabilities, dialect = await self._probed()
        if request.completion_only:
            path = "/v1/completions"
            body = completion_body(
                request, sampling, model=model, prefill=prefill, dialect=dialect
            )  # fmt: skip
        else:
            path = "/v1/chat/completions"
            body = chat_body(
                request,
                sampling,
                model=model,
                thinking=thinking,
                prefill=prefill,
                capabilities=capabilities,
                dialect=dialect,
            )
        reader, parser = ChunkReader(self._name), SseParser()
        async with self.open(path, json.dumps(body, ensure_ascii=False).encode()) as response:
            await self._check_stream(response)
            async for piece in response.body:
                try:
                    events = parser.feed(piece)
                except SseOverflow as error:
                    raise MalformedStream(f"{self._name}: {error}") from None
                for event in events:
                    chunk = reader.read(event.data)
                    if chunk is not None:
                        yield chunk
                if reader.done:
                    break
            for event in parser.flush():
                chunk = reader.read(event.data)
                if chunk is not None:
                    yield chunk
            yield reader.last()
            await _drain(response)

    @asynccontextmanager
    async def open(
        self, path: str, content: bytes | None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[RawResponse]:
        """The answer to a POST of `content` (None: a GET), its body unread; leaving closes it.

        Raises UpstreamRefused, UpstreamTimeout or UpstreamDisconnected; an error status is the
        caller's business.
        """
        method = "GET" if content is None else "POST"
        sent = {"content-type": "application/json", **(headers or {})}
        outgoing = self._client.build_request(method, path, content=content, headers=sent)
        try:
            async with asyncio.timeout(self._timeouts.first_byte_s):
                response = await self._client.send(outgoing, stream=True)
        except (TimeoutError, httpx2.HTTPError) as error:
            raise self._mapped(error, self._timeouts.first_byte_s) from error
        body = self._pieces(response)
        try:
            yield RawResponse(
                status=response.status_code,
                content_type=response.headers.get("content-type", ""),
                body=body,
            )
        finally:
            await _finish(_close(body, response))

    async def post(self, path: str, body: Json | None) -> tuple[int, Json]:
        """Status and parsed JSON of a plain request (None: a GET); {} where it is not an object."""
        content = None if body is None else json.dumps(body).encode()
        async with self.open(path, content) as response:
            data = b"".join([piece async for piece in response.body])
        try:
            value = json.loads(data)
        except (json.JSONDecodeError, UnicodeDecodeError):
            value = {}
        return response.status, value if isinstance(value, dict) else {}

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

    async def _probed(self) -> tuple[Capabilities, Dialect]:
        async with self._probing:
            if self._found is None:
                self._found = await probe(self)
        return self._found

    async def _pieces(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        silence_s = self._timeouts.first_byte_s
        async with aclosing(response.aiter_bytes()) as pieces:
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except (TimeoutError, httpx2.HTTPError, httpx2.StreamError) as error:
                    raise self._mapped(error, silence_s) from error
                silence_s = self._timeouts.silence_s
                yield piece

    async def _check_stream(self, response: RawResponse) -> None:
        if response.status == 200 and "event-stream" in response.content_type:
            return
        data = b"".join([piece async for piece in response.body])
        if response.status == 200:
            raise MalformedStream(
                f"{self._name} answered with {response.content_type or 'no content type'} "
                "where server-sent events were asked for"
            )
        raise rejection(self._name, response.status, data)

    def _mapped(self, error: Exception, waited_s: float) -> BackendError:
        if isinstance(error, httpx2.ConnectError):
            return UpstreamRefused(f"{self._name} refuses the connection: is the server running?")
        if isinstance(error, httpx2.ConnectTimeout):
            limit_s = self._timeouts.connect_s
            return UpstreamTimeout(f"{self._name} did not accept a connection within {limit_s:g} s")
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            return UpstreamTimeout(f"{self._name} sent nothing for {waited_s:g} s")
        if isinstance(error, httpx2.DecodingError):
            return MalformedStream(f"{self._name} sent a body that cannot be decoded: {error}")
        return UpstreamDisconnected(f"{self._name} closed the connection: {error}")


async def _drain(response: RawResponse) -> None:
    """Read what follows the last event, so that the connection can be used again."""
    with suppress(TimeoutError, BackendError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in response.body:
                pass


async def _close(body: AsyncGenerator[bytes, None], response: httpx2.Response) -> None:
    try:
        await body.aclose()
    finally:
        await response.aclose()


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work` even if cancelled meanwhile: half a closing would leave the socket open."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def rejection(upstream: str, status: int, data: bytes) -> UpstreamRejected:
    """The error behind an answer with an error status."""
    try:
        said = error_message(json.loads(data))
    except (json.JSONDecodeError, UnicodeDecodeError):
        said = data[:200].decode(errors="replace") or "no reason given"
    return UpstreamRejected(f"{upstream} answered {status}: {said}", status=status)
