"""Several upstreams as one backend: each request goes to an upstream that serves its model.

Samples of one request share a prompt, so they go to the same upstream, where its prefix cache is
warm: upstreams are ranked by a hash of model and conversation (rendezvous hashing). One that fails
before it has streamed anything is passed over for the next; one that failed lately comes last.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from suffice.backends.protocol import Backend, Capabilities, Chunk
from suffice.backends.retry import Attempts, RetryConfig
from suffice.core.errors import (
    BackendError,
    InputError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamTimeout,
)
from suffice.core.requests import Request, Sampling
from suffice.core.thinking import Thinking

# An upstream that could not be asked what it serves is not asked again for so long.
ASK_AGAIN_S = 1.0
# One that broke down in the middle of its work comes last for so long.
AVOID_S = 5.0
# Where one upstream is known, others that are slow to tell what they serve get so long.
PATIENCE_S = 2.0


class _Member:
    """An upstream, and what is known of it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.found: Capabilities | None = None
        self.asked_at_s = 0.0
        self.error: BackendError | None = None
        self.avoid_until_s = 0.0
        self._ask_again_at_s = 0.0
        self._asking: asyncio.Task[None] | None = None

    def ask(self) -> asyncio.Task[None] | None:
        """The task that asks it, shared by all who wait; None while its last error is fresh."""
        if self._asking is not None and not self._asking.done():
            return self._asking
        if self.error is not None and time.monotonic() < self._ask_again_at_s:
            return None
        self.asked_at_s = time.monotonic()
        self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def _ask(self) -> None:
        try:
            self.found = await self.backend.capabilities()
            self.error = None
        except BackendError as error:
            self.error = error
            self._ask_again_at_s = time.monotonic() + ASK_AGAIN_S

    async def aclose(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))
        await self.backend.aclose()


class BackendPool:
    """Upstreams by the models they serve. A single one may serve under any name."""

    def __init__(self, backends: Sequence[Backend], *, retry: RetryConfig | None = None) -> None:
        if not backends:
            raise InputError("a pool needs at least one upstream")
        names = [backend.name for backend in backends]
        if len(set(names)) != len(names):
            raise InputError(f"upstream names must differ, got {', '.join(names)}")
        self.backends = tuple(backends)
        self.retry = retry or RetryConfig()
        self._members = {backend.name: _Member(backend) for backend in backends}

    @property
    def name(self) -> str:
        """The upstreams' names."""
        return ", ".join(backend.name for backend in self.backends)

    async def capabilities(self) -> Capabilities:
        """What every reachable upstream supports, and the models of all.

        Raises the first upstream's error if none can be reached.
        """
        members = tuple(self._members.values())
        able = [member.found for member in members if member.found is not None]
        if len(able) < len(members):
            able = await self._asked(members, able)
        return able[0] if len(able) == 1 else _common(able)

    async def _asked(
        self, members: Sequence[_Member], able: list[Capabilities]
    ) -> list[Capabilities]:
        """What the upstreams support, asking those that have not been."""
        asking = {task for member in members if member.found is None and (task := member.ask())}
        while asking and not able:
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            able = [member.found for member in members if member.found is not None]
        until_s = max((m.asked_at_s for m in members if m.found is None), default=0.0) + PATIENCE_S
        if asking and until_s > time.monotonic():
            await asyncio.wait(asking, timeout=until_s - time.monotonic())
        able = [member.found for member in members if member.found is not None]
        if not able:
            raise next(member.error for member in members if member.error is not None)
        return able

    async def serving(self, model: str) -> tuple[Backend, ...]:
        """Upstreams that serve `model`. Raises UnknownName, or why none could be asked.

        Waits for upstreams that have not been asked yet only if no other serves it.
        """
        chosen = self._known(model)
        members = self._members.values()
        asking = {task for each in members if each.found is None and (task := each.ask())}
        while asking and not chosen:
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            chosen = self._known(model)
        if chosen:
            return chosen
        errors = [each.error for each in members if each.found is None and each.error is not None]
        if errors:
            raise errors[0]  # an upstream that is down may be the one that serves it
        known = [name for each in members if each.found for name in each.found.models]
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
        attempts = Attempts(self.ranked(await self.serving(model), model, request), self.retry)
        while True:
            backend = attempts.upstream
            began = False
            chunks = backend.stream(
                request, sampling, model=model, thinking=thinking, prefill=prefill
            )
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        began = True
                        yield chunk
            except BackendError as error:
                self.failed(backend, error)
                if began:
                    raise
                wait_s = attempts.failed(error)
            else:
                return
            await asyncio.sleep(wait_s)

    def ranked(self, backends: Sequence[Backend], model: str, request: Request) -> list[Backend]:
        """Upstreams in the order to try, those that failed lately last."""
        if len(backends) == 1:
            return list(backends)
        return self.sound_first(ranking(backends, model, request))

    def sound_first(self, backends: Sequence[Backend]) -> list[Backend]:
        """The same order, but those that failed lately come last."""
        now_s = time.monotonic()
        return sorted(backends, key=lambda b: self._members[b.name].avoid_until_s > now_s)

    def failed(self, backend: Backend, error: BackendError) -> None:
        """Remember that an upstream broke down."""
        if isinstance(error, UpstreamRefused | UpstreamDisconnected | UpstreamTimeout):
            self._members[backend.name].avoid_until_s = time.monotonic() + AVOID_S

    async def aclose(self) -> None:
        """Close every upstream."""
        await asyncio.gather(*(member.aclose() for member in self._members.values()))

    def _known(self, model: str) -> tuple[Backend, ...]:
        return tuple(
            member.backend
            for member in self._members.values()
            if member.found is not None and model in member.found.models
        )


def ranking(backends: Sequence[Backend], model: str, request: Request) -> list[Backend]:
    """Upstreams in the order to try for this conversation; the same for equal conversations."""
    prompt = "\x00".join([model, *(message.text for message in request.messages)])
    return ranking_by(backends, prompt.encode(errors="replace"))


def ranking_by(backends: Sequence[Backend], key: bytes) -> list[Backend]:
    """Upstreams in the order to try for whatever `key` stands for."""

    def weight(backend: Backend) -> bytes:
        return hashlib.blake2b(backend.name.encode() + b"\x00" + key, digest_size=8).digest()

    return sorted(backends, key=weight, reverse=True)


def _common(able: Sequence[Capabilities]) -> Capabilities:
    switches = {item.thinking_switch for item in able}
    tokens = {item.mode_tokens for item in able}
    contexts = [item.max_context_tokens for item in able if item.max_context_tokens is not None]
    return Capabilities(
        models=tuple(dict.fromkeys(model for item in able for model in item.models)),
        logprobs=all(item.logprobs for item in able),
        max_top_logprobs=min(item.max_top_logprobs for item in able),
        thinking_switch=switches.pop() if len(switches) == 1 else None,
        mode_tokens=tokens.pop() if len(tokens) == 1 else None,
        thinking_budget=all(item.thinking_budget for item in able),
        prefill=all(item.prefill for item in able),
        priority=all(item.priority for item in able),
        tools=all(item.tools for item in able),
        max_context_tokens=min(contexts, default=None),
    )
