"""Several upstreams as one backend: each request goes to an upstream that serves its model.

Samples of one request share a prompt, so they go to the same upstream, where its prefix cache is
warm: upstreams are ranked by a hash of model and conversation (rendezvous hashing). One that
refuses the connection is passed over for the next, as long as nothing has been streamed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from suffice.backends.protocol import Backend, Capabilities, Chunk
from suffice.core.errors import BackendError, InputError, UnknownName, UpstreamRefused
from suffice.core.requests import Request, Sampling
from suffice.core.thinking import Thinking


class BackendPool:
    """Upstreams by the models they serve. A single one may serve under any name."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        if not backends:
            raise InputError("a pool needs at least one upstream")
        names = [backend.name for backend in backends]
        if len(set(names)) != len(names):
            raise InputError(f"upstream names must differ, got {', '.join(names)}")
        self.backends = tuple(backends)

    @property
    def name(self) -> str:
        """The upstreams' names."""
        return ", ".join(backend.name for backend in self.backends)

    async def capabilities(self) -> Capabilities:
        """What every reachable upstream supports, and the models of all.

        Raises the first upstream's error if none can be reached.
        """
        found = await asyncio.gather(*map(_capabilities, self.backends))
        able = [item for item in found if isinstance(item, Capabilities)]
        if not able:
            raise next(item for item in found if isinstance(item, BackendError))
        if len(able) == 1:
            return able[0]
        switches = {item.thinking_switch for item in able}
        contexts = [item.max_context_tokens for item in able if item.max_context_tokens is not None]
        return Capabilities(
            models=tuple(dict.fromkeys(model for item in able for model in item.models)),
            logprobs=all(item.logprobs for item in able),
            max_top_logprobs=min(item.max_top_logprobs for item in able),
            thinking_switch=switches.pop() if len(switches) == 1 else None,
            thinking_budget=all(item.thinking_budget for item in able),
            prefill=all(item.prefill for item in able),
            priority=all(item.priority for item in able),
            tools=all(item.tools for item in able),
            max_context_tokens=min(contexts, default=None),
        )

    async def serving(self, model: str) -> tuple[Backend, ...]:
        """Upstreams that serve `model`. Raises UnknownName, or why none could be asked."""
        found = await asyncio.gather(*map(_capabilities, self.backends))
        pairs = list(zip(self.backends, found, strict=True))
        able = [(b, item) for b, item in pairs if isinstance(item, Capabilities)]
        chosen = tuple(backend for backend, item in able if model in item.models)
        if chosen:
            return chosen
        errors = [item for item in found if isinstance(item, BackendError)]
        if errors:
            raise errors[0]  # an upstream that is down may be the one that serves it
        known = [name for _, item in able for name in item.models]
        raise UnknownName.of("model", model, known, "— GET /v1/models lists what is served")

    async def stream(
        self,
        request: Request,
        sampling: Sampling,
        *,
        model: str,
        thinking: Thinking | None = None,
        prefill: str = "",
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample from the first upstream in rank that takes it."""
        ranked = ranking(await self.serving(model), model, request)
        for position, backend in enumerate(ranked):
            began = False
            chunks = backend.stream(
                request, sampling, model=model, thinking=thinking, prefill=prefill
            )
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        began = True
                        yield chunk
            except UpstreamRefused:
                if began or position == len(ranked) - 1:
                    raise
            else:
                return

    async def aclose(self) -> None:
        """Close every upstream."""
        await asyncio.gather(*(backend.aclose() for backend in self.backends))


def ranking(backends: Sequence[Backend], model: str, request: Request) -> list[Backend]:
    """Upstreams in the order to try for this conversation; the same for equal conversations."""
    prompt = "\x00".join([model, *(message.text for message in request.messages)])

    def weight(backend: Backend) -> bytes:
        return hashlib.blake2b(f"{backend.name}\x00{prompt}".encode(), digest_size=8).digest()

    return sorted(backends, key=weight, reverse=True)


async def _capabilities(backend: Backend) -> Capabilities | BackendError:
    try:
        return await backend.capabilities()
    except BackendError as error:
        return error
