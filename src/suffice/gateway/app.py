"""The ASGI application: its routes, what it says of its own state, its beginning and end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from suffice.backends.discovery import cards_of
from suffice.backends.http_upstream import Timeouts
from suffice.backends.openai import OpenAIBackend
from suffice.backends.pool import BackendPool
from suffice.backends.protocol import Backend, ModelCard
from suffice.core.errors import BackendError, SufficeError, UnknownName
from suffice.evals.comparison_pool import ComparisonPool
from suffice.gateway.calls import Call, Hook
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.completions import Completions
from suffice.gateway.config import GatewayConfig
from suffice.gateway.connection.cancellation import Shutdown
from suffice.gateway.paths import SERVED, Paths, no_such_path
from suffice.gateway.service import Service
from suffice.gateway.tools import ServerTools
from suffice.gateway.wire.errors import error_response
from suffice.gateway.wire.openapi import description

logger = logging.getLogger("suffice.gateway")

# A health check that waits for a hanging upstream is no health check.
HEALTH_TIMEOUT_S = 2.0
# Upstreams are asked this often at most, however often we are.
STATE_S = 1.0
# To close every upstream, and to write what the ledger waits for, when the process ends.
CLOSE_S = 4.0
# Between two looks whether upstreams that a reload has replaced are still used.
UNUSED_S = 0.5
STOP_S = 12.0


def create_app(
    config: GatewayConfig,
    *,
    backends: Sequence[Backend] | None = None,
    hooks: Sequence[Hook] = (),
) -> Starlette:
    """The gateway of `config`; `backends` take the place of its upstreams (in-process models).

    `app.state.gateway` is the Gateway behind it.
    """
    gateway = Gateway(config, backends, hooks)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        for hook in hooks:
            await hook.start()
        try:
            yield
        finally:
            await ended(gateway.aclose(), CLOSE_S, "the upstreams' connections")
            for hook in reversed(hooks):
                await ended(hook.stop(), STOP_S, "the ledger")

    app = Paths(
        gateway,
        routes=[
            *(Route(path, gateway.completions, methods=["POST"]) for path in SERVED),
            Route("/v1/models", gateway.models, methods=["GET"]),
            Route("/v1/models/{id:path}", gateway.model, methods=["GET"]),
            Route("/live", gateway.live, methods=["GET"]),
            Route("/health", gateway.health, methods=["GET"]),
            Route("/ready", gateway.ready, methods=["GET"]),
            Route("/openapi.json", gateway.openapi, methods=["GET"]),
            *(route for hook in hooks for route in hook.routes()),
        ],
        exception_handlers={404: no_such_path, 405: no_such_path, Exception: _crashed},
        lifespan=lifespan,
    )
    app.state.gateway = gateway
    return app


async def ended(work: Awaitable[None], limit_s: float, what: str) -> None:
    """Wait for an end, but not for ever: what comes after it has to have its turn."""
    try:
        async with asyncio.timeout(limit_s):
            await work
    except TimeoutError:
        logger.error("%s did not end within %g s", what, limit_s)
    except Exception:  # a bug of ours: the log has it, and the end goes on
        logger.exception("%s did not end as it should", what)


class Gateway:
    """The routes' handlers, and the handles by which a server ends or reloads the gateway."""

    def __init__(
        self, config: GatewayConfig, backends: Sequence[Backend] | None, hooks: Sequence[Hook]
    ) -> None:
        self.ending = Shutdown()
        self._hooks = tuple(hooks)
        self._own_backends = backends
        self._started = int(time.time())
        self._old: list[Service] = []  # replaced by a reload, with calls that still run on them
        self._closing: set[asyncio.Task[None]] = set()
        self._states: tuple[float, dict[str, str]] = (0.0, {})
        self._asking = asyncio.Lock()
        self._monitors = Monitors()
        self._comparisons = ComparisonPool(**asdict(config.comparison))
        service = Service(
            config, self._pool(config), self._monitors, self._comparisons, ServerTools(config.tools)
        )
        self.completions = Completions(service, hooks, self.ending)
        for hook in self._hooks:
            hook.share(self._monitors)

    @property
    def service(self) -> Service:
        """What the next call will be answered with."""
        return self.completions.service

    def apply(self, config: GatewayConfig) -> None:
        """Answer further calls by `config`; those in flight end as they began.

        Raises ConfigError, and then nothing has changed. Address and workers stay as they are.
        """
        before = self.service.config
        tools = self.service.tools
        if config.tools != before.tools:
            tools = ServerTools(config.tools)  # first: it may complain
        same = _of_pool(config) == _of_pool(before)
        pool = self.service.pool if same else self._pool(config)
        old, self.completions.service = (
            self.service,
            Service(config, pool, self._monitors, self._comparisons, tools),
        )
        if not same or tools is not old.tools:
            self._retire(old)
        for hook in self._hooks:
            hook.apply(config)

    def _retire(self, old: Service) -> None:
        """Close upstreams that no further call will use, when the last one has ended."""
        self._old.append(old)
        try:
            task = asyncio.get_running_loop().create_task(self._close_unused())
        except RuntimeError:
            return  # nothing is being served: they are closed at the end
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_unused(self) -> None:
        while self._old:
            for service in [each for each in self._old if not each.calls]:
                self._old.remove(service)
                await self._close(service)
            await asyncio.sleep(UNUSED_S)

    async def aclose(self) -> None:
        """Break off audits, close every upstream, end every process that compares."""
        await self.completions.auditor.aclose()
        await self.completions.shadower.aclose()
        await self._comparisons.aclose()
        for task in tuple(self._closing):
            task.cancel()
        for service in self._old:
            await self._close(service)
        await self.service.tools.aclose()
        await self.service.pool.aclose()

    async def _close(self, old: Service) -> None:
        """Close what a replaced service had for itself."""
        others = [self.service, *self._old]
        if all(old.tools is not other.tools for other in others if other is not old):
            await old.tools.aclose()
        if all(old.pool is not other.pool for other in others if other is not old):
            await old.pool.aclose()

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`: the upstreams' models, then what suffice makes of them."""
        try:
            call = await self._admit(request)
            cards = await self.service.pool.cards(newer_than_s=STATE_S)
        except SufficeError as error:
            return error_response(error)
        found = [self._card(card) for card in cards]
        found += [self._own_card(name) for name in self.service.arms.model_names()]
        if call.may_ask is not None:
            found = [card for card in found if call.may_ask(card["id"])]
        return JSONResponse({"object": "list", "data": found})

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/{id}`: one of them."""
        wanted = request.path_params["id"]
        try:
            call = await self._admit(request)
            cards = await self.service.pool.cards(newer_than_s=STATE_S)
            shown = {card.id: self._card(card) for card in cards}
            shown |= {name: self._own_card(name) for name in self.service.arms.model_names()}
            if call.may_ask is not None:
                shown = {name: card for name, card in shown.items() if call.may_ask(name)}
            if wanted not in shown:
                raise UnknownName.of("model", wanted, shown, "— GET /v1/models lists all")
        except SufficeError as error:
            return error_response(error)
        return JSONResponse(shown[wanted])

    async def _admit(self, request: Request) -> Call:
        call = Call(path="/v1/models", headers=request.scope["headers"])
        for hook in self._hooks:
            await hook.admit(call)
        return call

    def _card(self, card: ModelCard) -> dict[str, Any]:
        """A card as its upstream has it; what OpenAI's clients insist on is added if it lacks."""
        least = {"object": "model", "created": self._started, "owned_by": "upstream"}
        return {**least, **orjson.loads(card.card_json), "id": card.id}

    def _own_card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "suffice"}

    async def live(self, request: Request) -> Response:
        """`GET /live`: 200 while this process answers at all; no upstream is asked."""
        del request
        return JSONResponse({"live": True})

    async def health(self, request: Request) -> Response:
        """`GET /health`: 200 while at least one upstream answers."""
        del request
        states = await self.upstream_states()
        alive = any(state == "ok" for state in states.values())
        status = "ok" if all(state == "ok" for state in states.values()) else "degraded"
        return JSONResponse(
            {"status": status if alive else "down", "upstreams": states},
            status_code=200 if alive else 503,
        )

    async def ready(self, request: Request) -> Response:
        """`GET /ready`: 200 if a call that came now would be taken up, and by whom."""
        del request
        reasons = [reason for hook in self._hooks if (reason := hook.not_ready()) is not None]
        places = self.service.places
        if self.ending.draining:
            reasons.append("shutting down")
        elif not reasons and not any(
            state == "ok" for state in (await self.upstream_states()).values()
        ):
            reasons.append("no upstream answers")
        if places.waiting >= max(1, places.config.max_waiting):
            reasons.append("the queue is full")
        return JSONResponse(
            {"ready": not reasons, "why": "; ".join(reasons) or None,
             "running": places.running, "waiting": places.waiting},
            status_code=503 if reasons else 200,
        )  # fmt: skip

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`."""
        del request
        more = [found for hook in self._hooks if (found := hook.described()) is not None]
        return Response(orjson.dumps(description(more)), media_type="application/json")

    def _pool(self, config: GatewayConfig) -> BackendPool:
        backends = self._own_backends
        if backends is None:
            backends = backends_of(config)
        weights = {b.name: u.weight for b, u in zip(backends, config.upstreams, strict=False)}
        return BackendPool(
            backends, retry=config.traffic.retry, routing=config.routing, weights=weights
        )

    async def upstream_states(self) -> dict[str, str]:
        """What every upstream answers to a health check, at most a second old."""
        async with self._asking:
            asked_s, states = self._states
            backends = self.service.pool.backends
            fresh = time.monotonic() - asked_s < STATE_S
            if not fresh or set(states) != {backend.name for backend in backends}:
                found = await asyncio.gather(*map(_state_of, backends))
                states = {b.name: state for b, state in zip(backends, found, strict=True)}
                self._states = (time.monotonic(), states)
            return states


def _of_pool(config: GatewayConfig) -> tuple[Any, ...]:
    """What a pool is made of: while it is the same, so is the pool."""
    traffic = config.traffic
    return config.upstreams, config.routing, traffic.retry, traffic.max_response_bytes


def backends_of(config: GatewayConfig) -> list[Backend]:
    """A client for every upstream; nothing is connected yet."""
    return [_backend(config, number) for number in range(len(config.upstreams))]


def _backend(config: GatewayConfig, number: int) -> Backend:
    upstream = config.upstreams[number]
    return OpenAIBackend(
        upstream.url,
        name=upstream.name,
        api_key=upstream.api_key,
        mode_tokens=upstream.mode_tokens,
        most_connections=upstream.max_connections,
        most_bytes=config.traffic.max_response_bytes,
        timeouts=Timeouts(
            connect_s=upstream.connect_s,
            first_byte_s=upstream.first_byte_s,
            silence_s=upstream.silence_s,
            answer_s=upstream.answer_s,
        ),
        base_path=upstream.base_path,
        api_key_header=upstream.api_key_header,
        serves=upstream.models,
    )


async def _state_of(backend: Backend) -> str:
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            if isinstance(backend, OpenAIBackend):
                status, _ = await backend.post("/v1/models", None)
                return "ok" if status == 200 else f"answers {status}"
            return "ok" if await cards_of(backend) else "serves no model"
    except TimeoutError:
        return f"silent for {HEALTH_TIMEOUT_S:g} s"
    except BackendError as error:
        return str(error)


async def _crashed(request: Request, error: Exception) -> Response:
    """A bug of ours: the log has it, the client learns no more than that."""
    del request, error
    return error_response(SufficeError("internal error, see the gateway's log"))
