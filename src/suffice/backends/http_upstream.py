"""One server over HTTP: its address and key, its connections, plain requests to it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from suffice.backends.address import Address
from suffice.backends.fair_turns import TURNS
from suffice.backends.http_client import HttpClient
from suffice.backends.http_connection import HttpResponse
from suffice.backends.reached import hearing
from suffice.backends.wire import Json
from suffice.core.errors import InputError, MalformedStream

# Thousands of events come in one piece from a server that floods; so much is read at a time, before
# others have their turn.
FAIR_BYTES = 32 * 2**10
# Of a list of models, or of the answer to a probe.
MOST_PLAIN_BYTES = 16 * 2**20
# A server that lacked an endpoint may be a newer one after so long.
LACKS_S = 600.0
# Clients may make queries up: so many paths are kept as they are asked for.
MOST_PATHS = 256


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


class HttpUpstream:
    """A server that is asked over HTTP, with time limits for every phase."""

    def __init__(
        self,
        base_url: str,
        *,
        name: str | None,
        api_key: str | None,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
        most_connections: int,
        most_bytes: int,
        base_path: str | None,
        api_key_header: str | None,
    ) -> None:
        self.address = Address.of(base_url, base_path=base_path)
        self._name = name or self.address.name
        self.timeouts = timeouts
        self._client = HttpClient(
            self.address.origin,
            name=self._name,
            headers=_key_headers(api_key, api_key_header),
            connect_s=timeouts.connect_s,
            tls=tls,
            most_open=most_connections,
            most_bytes=most_bytes,
            refused=self.forget,
        )
        self._paths: dict[tuple[str, str], str] = {}  # as they are asked for there
        self._lacking: dict[str, float] = {}  # paths that it does not have, until when that holds

    @property
    def name(self) -> str:
        """Host and port, or the name it was given."""
        return self._name

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

    def send(
        self,
        path: str,
        content: bytes | None,
        *,
        query: str = "",
        first_byte_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Coroutine[Any, Any, HttpResponse]:
        """Like `open`, for a caller who reads piece by piece and closes the answer himself."""
        limit_s = self.timeouts.first_byte_s if first_byte_s is None else first_byte_s
        asked = self._paths.get((path, query))
        if asked is None:
            asked = self.address.path(path, query)
            if len(self._paths) < MOST_PATHS:
                self._paths[path, query] = asked
        return self._client.send(
            asked, content, first_byte_s=limit_s, headers=headers, content_type=content_type
        )

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

    def forget(self) -> None:
        """What answers there next may be another server."""
        self._lacking.clear()

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

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _pieces(self, response: HttpResponse) -> AsyncGenerator[bytes, None]:
        silence_s = self.timeouts.first_byte_s
        while piece := await response.read(silence_s):
            silence_s = self.timeouts.silence_s
            for start in range(0, len(piece), FAIR_BYTES):
                if start:
                    await asyncio.sleep(0)
                part = piece[start : start + FAIR_BYTES]
                await TURNS.take(len(part))
                yield part


def _key_headers(api_key: str | None, header: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    return {header.lower(): api_key} if header else {"authorization": f"Bearer {api_key}"}


def _nobody(reached: bool) -> None:
    del reached
