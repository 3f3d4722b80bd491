"""One call's view of a pool of upstreams: where its samples go, and what goes with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from suffice.backends.held_bytes import HeldBytes
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Backend, Capabilities, Chunk
from suffice.backends.retry import Attempts
from suffice.backends.router import Affinity, Lease
from suffice.core.draw import Draw
from suffice.core.errors import BackendError, UpstreamDisconnected

if TYPE_CHECKING:
    from suffice.backends.pool import BackendPool


class Placement:
    """One call's view of a pool: a backend whose samples stay together."""

    def __init__(
        self,
        pool: BackendPool,
        affinity: Affinity,
        headers: Mapping[str, str],
        held: HeldBytes | None = None,
    ) -> None:
        """`headers` go with every request to an upstream; what comes back counts for `held`."""
        self.pool = pool
        self.affinity = affinity
        self._headers = headers
        self._held = held
        self._samples = 0
        self.went: dict[str, str] = {}  # upstream of the newest sample, by model
        self._chosen: dict[str, str] = {}  # by model

    @property
    def name(self) -> str:
        """The upstreams' names."""
        return self.pool.name

    def order(self, model: str, backends: Sequence[Backend]) -> list[Backend]:
        """Upstreams in the order to try; the one that this call began with is the first."""
        if len(backends) == 1:
            return list(backends)
        by_name = {backend.name: backend for backend in backends}
        names = self.pool.router.order(self.affinity, tuple(by_name))
        chosen = self._chosen.get(model)
        if chosen in by_name and not self.pool.router.avoided(chosen):
            names.remove(chosen)
            names.insert(0, chosen)
        self._chosen[model] = names[0]
        return [by_name[name] for name in names]

    def begin(
        self, backend: Backend, backends: Sequence[Backend], *, streamed: bool | None = None
    ) -> Lease:
        """A request goes to `backend`, one of `backends`, now; `streamed` if not as the call is."""
        if len(self.pool.backends) == 1:
            return self.pool.router.alone  # there is nothing to choose, so nothing to learn
        names = tuple([each.name for each in backends])
        affinity = self.affinity
        if streamed is not None and streamed != affinity.streamed:
            affinity = replace(affinity, streamed=streamed)
        return self.pool.router.begin(affinity, backend.name, names)

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """What the upstream that this call belongs to supports; the next one's if it is down."""
        if model is None:
            return await self.pool.capabilities()
        backends = self.order(model, await self.pool.serving(model))
        errors = []
        for backend in backends:
            try:
                return await backend.capabilities(model)
            except BackendError as error:
                self.pool.failed(backend, error)
                errors.append(error)
        raise errors[0]

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample from the first upstream in rank that takes it."""
        backends = self.order(draw.model, await self.pool.serving(draw.model))
        attempts = Attempts(backends, self.pool.retry)
        headers = self._headers_of_sample()
        while True:
            backend = attempts.upstream
            began = False
            more: dict[str, Any] = {}
            if isinstance(backend, OpenAIBackend):
                more = {"headers": headers, "held": self._held}
            self.went[draw.model] = backend.name
            lease = self.begin(backend, backends)
            try:
                chunks = backend.stream(draw, **more)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        if not began:
                            began = True
                            lease.first_byte()
                        yield chunk
            except BackendError as error:
                self.pool.failed(backend, error)
                if began:
                    raise
                wait_s = attempts.failed(error)
            else:
                return
            finally:
                lease.end()
            await asyncio.sleep(wait_s)

    async def draw(self, draw: Draw) -> Chunk:
        """One sample as one chunk, from the first upstream in rank that takes it."""
        backends = self.order(draw.model, await self.pool.serving(draw.model))
        attempts: Attempts[Backend] | None = None  # made when one has failed
        backend = backends[0]
        headers = self._headers_of_sample()
        while True:
            self.went[draw.model] = backend.name
            lease = self.begin(backend, backends, streamed=False)
            try:
                if isinstance(backend, OpenAIBackend):
                    drawn = await backend.draw(draw, headers=headers, held=self._held)
                else:
                    chunks = backend.stream(draw)
                    async with aclosing(chunks):
                        drawn = one_chunk([chunk async for chunk in chunks])
                lease.first_byte()
            except BackendError as error:
                self.pool.failed(backend, error)
                attempts = attempts or Attempts(backends, self.pool.retry, streamed=False)
                wait_s = attempts.failed(error)
                backend = attempts.upstream
            else:
                return drawn
            finally:
                lease.end()
            await asyncio.sleep(wait_s)

    async def aclose(self) -> None:
        """The pool goes on."""

    def _headers_of_sample(self) -> Mapping[str, str]:
        """The call's headers; engines want a request id of its own for every sample."""
        self._samples += 1
        found = self._headers.get("x-request-id")
        if found is None or self._samples == 1:
            return self._headers
        return {**self._headers, "x-request-id": f"{found}-{self._samples}"}


def one_chunk(chunks: Sequence[Chunk]) -> Chunk:
    """A whole stream as one chunk. Raises UpstreamDisconnected if it has no end."""
    last = chunks[-1] if chunks else Chunk()
    if last.finish_reason is None:
        raise UpstreamDisconnected("the stream ended without a finish reason")
    biases = [each.mode_bias_nats for each in chunks if each.mode_bias_nats is not None]
    usages = [each.usage for each in chunks if each.usage is not None]
    return replace(
        last,
        text="".join(chunk.text for chunk in chunks),
        reasoning_text="".join(chunk.reasoning_text for chunk in chunks),
        token_count=sum(1 if c.token_count is None else c.token_count for c in chunks[:-1]),
        usage=usages[-1] if usages else None,
        usage_refused=any(chunk.usage_refused for chunk in chunks),
        mode_bias_nats=biases[-1] if biases else None,
        confidences=tuple(value for chunk in chunks for value in chunk.confidences),
        logprobs=tuple(entry for chunk in chunks for entry in chunk.logprobs),
        tool_calls=tuple(call for chunk in chunks for call in chunk.tool_calls),
    )
