"""Several upstreams as one backend: each request goes to an upstream that serves its model.

Which one is the router's business (`suffice.backends.router`), what they serve that of a listing
per upstream (`suffice.backends.discovery`). One that fails before it has streamed anything is
passed over for the next.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from suffice.backends.discovery import Listing
from suffice.backends.engine_metrics import EngineMetrics
from suffice.backends.held_bytes import HeldBytes
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Backend, Capabilities, Chunk, ModelCard
from suffice.backends.retry import Attempts, RetryConfig
from suffice.backends.router import Affinity, Lease, Router, RoutingConfig
from suffice.core.errors import (
    BackendError,
    InputError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Request, Sampling
from suffice.core.thinking import Thinking

# Where one upstream is known, others that are slow to tell what they serve get so long.
PATIENCE_S = 2.0
# A request whose model is known to be served somewhere waits so long for others to be found.
OTHERS_S = 0.2


class BackendPool:
    """Upstreams by the models they serve."""

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        retry: RetryConfig | None = None,
        routing: RoutingConfig | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """`weights` by name, 1 where none is given: a share of equal models' requests."""
        if not backends:
            raise InputError("a pool needs at least one upstream")
        names = [backend.name for backend in backends]
        if len(set(names)) != len(names):
            raise InputError(f"upstream names must differ, got {', '.join(names)}")
        self.backends = tuple(backends)
        self.retry = retry or RetryConfig()
        routing = routing or RoutingConfig()
        self.router = Router({name: (weights or {}).get(name, 1.0) for name in names}, routing)
        self._by_name = {backend.name: backend for backend in backends}
        self._listings = {b.name: Listing(b, refresh_s=routing.models_s) for b in backends}
        self._metrics = EngineMetrics(self.router) if routing.engine_metrics else None

    @property
    def name(self) -> str:
        """The upstreams' names."""
        return ", ".join(backend.name for backend in self.backends)

    # --- what is served

    async def cards(
        self, *, newer_than_s: float = 0.0, of_before: bool = False
    ) -> tuple[ModelCard, ...]:
        """Every model that can be asked for, once, in the order of the upstreams.

        Lists that are older than `newer_than_s` are asked for again; who is slow with it is shown
        as he was. If none can be reached: what they served before (`of_before`), or the first
        upstream's error.
        """
        listings = self._listings.values()
        asking = {
            task
            for each in listings
            if (newer_than_s or not each.is_sure) and (task := each.ask(newer_than_s=newer_than_s))
        }
        while asking and not any(each.is_sure for each in listings):
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        if asking:
            await asyncio.wait(asking, timeout=PATIENCE_S)
        known = [each for each in listings if each.is_sure]
        if not known and of_before:
            known = [each for each in listings if each.is_known]
        if not known:
            raise next(each.error for each in listings if each.error is not None)
        found: dict[str, ModelCard] = {}
        for each in known:
            for card in each.cards.values():
                found.setdefault(card.id, card)
        return tuple(found.values())

    def served_by(self, name: str) -> tuple[str, ...]:
        """Models of one upstream as far as they are known; nothing is asked."""
        return tuple(self._listings[name].cards)

    async def default_model(self, *, chats: bool = True) -> str:
        """The first upstream's first model; with `chats`, the first that is able to."""
        cards = await self.cards(of_before=True)
        if chats:
            for card in cards:
                if (await self._capabilities_of(card.id)).chat:
                    return card.id
        if not cards:
            raise UnknownName(f"{self.name}: no model is served")
        return cards[0].id

    async def _capabilities_of(self, model: str) -> Capabilities:
        return await self.placed(Affinity(key=model.encode())).capabilities(model)

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """What every reachable upstream (that serves `model`) supports, and the models of all.

        Raises the first upstream's error if none can be reached.
        """
        if model is None:
            await self.cards()
        backends = self.backends if model is None else await self.serving(model)
        tasks = [asyncio.create_task(_able(backend, model)) for backend in backends]
        try:
            await _some(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        found = [task.result() for task in tasks if not task.cancelled()]
        able = [each for each in found if isinstance(each, Capabilities)]
        if not able:
            raise next(each for each in found if isinstance(each, BackendError))
        return able[0] if len(able) == 1 else _common(able)

    async def serving(self, model: str) -> tuple[Backend, ...]:
        """Upstreams that serve `model`. Raises UnknownName, or why none could be asked.

        Waits for upstreams to be asked only if none is known to serve it.
        """
        chosen = self._serving(model)
        if chosen:
            for each in self._listings.values():
                if each.is_sure:
                    each.refresh()
                else:
                    each.ask()
        else:
            chosen = await self._looked_up(model)
        if len(chosen) > 1 and self._metrics is not None:
            self._metrics.look(chosen)
        return chosen

    def _serving(self, model: str) -> tuple[Backend, ...]:
        return tuple(each.backend for each in self._listings.values() if each.serves(model))

    async def _looked_up(self, model: str) -> tuple[Backend, ...]:
        """The same, after every upstream was asked anew, or soon after one was found to serve it.

        Equal upstreams that begin together are then all known to the first request.
        """
        listings = self._listings.values()
        asking = {task for each in listings if (task := each.ask())}
        while asking and not self._serving(model):
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        if asking:
            await asyncio.wait(asking, timeout=OTHERS_S)
        if chosen := self._serving(model):
            return chosen
        # One that served it and refuses connections now may come back while we try.
        chosen = tuple(each.backend for each in listings if model in each.cards)
        if chosen:
            return chosen
        errors = [each.error for each in listings if each.error is not None]
        if errors:
            raise errors[0]  # an upstream that is down may be the one that serves it
        known = [name for each in listings for name in each.cards]
        raise UnknownName.of("model", model, known, "— GET /v1/models lists what is served")

    # --- asking

    def placed(
        self,
        affinity: Affinity,
        *,
        headers: Mapping[str, str] | None = None,
        most_bytes: int | None = None,
    ) -> Placement:
        """The pool as one call sees it: all its samples go where its conversation is.

        They hold `most_bytes` together.
        """
        held = None if most_bytes is None else HeldBytes(most_bytes)
        return Placement(self, affinity, headers or {}, held)

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
        placed = self.placed(affinity_of(request, model))
        chunks = placed.stream(request, sampling, model=model, thinking=thinking, prefill=prefill)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def failed(self, backend: Backend, error: BackendError) -> None:
        """Remember that an upstream broke down, or does not serve what it was said to."""
        if isinstance(error, UpstreamRefused | UpstreamDisconnected | UpstreamTimeout):
            self.router.failed(backend.name)
        if isinstance(error, UpstreamRefused):
            self._listings[backend.name].doubt(error)
        elif isinstance(error, UpstreamRejected) and error.status == 404:
            self._listings[backend.name].doubt()

    async def aclose(self) -> None:
        """Close every upstream."""
        if self._metrics is not None:
            await self._metrics.aclose()
        await asyncio.gather(*(listing.aclose() for listing in self._listings.values()))
        await asyncio.gather(*(backend.aclose() for backend in self.backends))


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
        backends = self.order(model, await self.pool.serving(model))
        attempts = Attempts(backends, self.pool.retry)
        headers = self._headers_of_sample()
        while True:
            backend = attempts.upstream
            began = False
            more: dict[str, Any] = {}
            if isinstance(backend, OpenAIBackend):
                more = {"headers": headers, "held": self._held}
            lease = self.begin(backend, backends)
            try:
                chunks = backend.stream(
                    request, sampling, model=model, thinking=thinking, prefill=prefill, **more
                )
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

    async def draw(
        self,
        request: Request,
        sampling: Sampling,
        *,
        model: str,
        thinking: Thinking | None = None,
        prefill: str = "",
    ) -> Chunk:
        """One sample as one chunk, from the first upstream in rank that takes it."""
        backends = self.order(model, await self.pool.serving(model))
        attempts = Attempts(backends, self.pool.retry, streamed=False)
        headers = self._headers_of_sample()
        while True:
            backend = attempts.upstream
            lease = self.begin(backend, backends, streamed=False)
            try:
                if isinstance(backend, OpenAIBackend):
                    return await backend.draw(
                        request, sampling,
                        model=model, thinking=thinking, prefill=prefill, headers=headers,
                        held=self._held,
                    )  # fmt: skip
                chunks = backend.stream(
                    request, sampling, model=model, thinking=thinking, prefill=prefill
                )
                async with aclosing(chunks):
                    return one_chunk([chunk async for chunk in chunks])
            except BackendError as error:
                self.pool.failed(backend, error)
                wait_s = attempts.failed(error)
            finally:
                lease.first_byte()
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


def affinity_of(request: Request, model: str) -> Affinity:
    """By the system prompt and the first turn of a conversation."""
    turns = request.messages
    system = [turn.text for turn in turns if turn.role in ("system", "developer")]
    asked = [turn.text for turn in turns if turn.role == "user"]
    text = "\x00".join([model, *system, *asked[:1]])
    return Affinity(
        key=hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest(),
        later=any(turn.role == "assistant" for turn in turns),
        size_bytes=sum(len(turn.text) for turn in turns),
    )


async def _able(backend: Backend, model: str | None) -> Capabilities | BackendError:
    try:
        return await backend.capabilities(model)
    except BackendError as error:
        return error


async def _some(tasks: Sequence[asyncio.Task[Capabilities | BackendError]]) -> None:
    """Wait until one upstream has told, then `PATIENCE_S` at most for the others."""
    left = set(tasks)
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        if any(isinstance(task.result(), Capabilities) for task in done):
            break
    if left:
        await asyncio.wait(left, timeout=PATIENCE_S)


def _common(able: Sequence[Capabilities]) -> Capabilities:
    switches = {item.thinking_switch for item in able}
    tokens = {item.mode_tokens for item in able}
    contexts = [item.max_context_tokens for item in able if item.max_context_tokens is not None]
    return Capabilities(
        models=tuple(dict.fromkeys(model for item in able for model in item.models)),
        chat=all(item.chat for item in able),
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
