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

from suffice.backends.discovery import ModelListing
from suffice.backends.engine_metrics import EngineMetrics
from suffice.backends.held_bytes import HeldBytes
from suffice.backends.placement import Placement
from suffice.backends.protocol import Backend, Capabilities, Chunk, ModelCard
from suffice.backends.retry import RetryConfig
from suffice.backends.router import Affinity, Router, RoutingConfig
from suffice.core.draw import Draw
from suffice.core.errors import (
    BackendError,
    InputError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Request

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
        self._listings = {b.name: ModelListing(b, refresh_s=routing.models_s) for b in backends}
        self._default: dict[bool, tuple[list[tuple[float, bool] | None], str]] = {}
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
        states = [each.state for each in self._listings.values()]
        known = self._default.get(chats)
        if known is not None and known[0] == states:
            return known[1]
        found = await self._first_model(chats=chats)
        if states == [each.state for each in self._listings.values()]:
            self._default[chats] = (states, found)
        return found

    async def _first_model(self, *, chats: bool) -> str:
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
                each.look_again()
        else:
            chosen = await self._looked_up(model)
        if len(chosen) > 1 and self._metrics is not None:
            self._metrics.look(chosen)
        return chosen

    def _serving(self, model: str) -> tuple[Backend, ...]:
        return tuple([each.backend for each in self._listings.values() if each.serves(model)])

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

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample from the first upstream in rank that takes it."""
        placed = self.placed(affinity_of(draw.request, draw.model))
        chunks = placed.stream(draw)
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
