"""The ASGI application: routes a request to a policy, or past all of them to its upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from suffice.backends.openai import OpenAIBackend, Timeouts
from suffice.backends.pool import BackendPool
from suffice.backends.protocol import Backend, Capabilities
from suffice.core.completions import CostModel
from suffice.core.errors import BackendError, InputError, SufficeError
from suffice.gateway.answer import Job, frames, outcomes, tighter
from suffice.gateway.arms import Arm, Arms
from suffice.gateway.bypass import PassThrough, outgoing
from suffice.gateway.calls import Hook
from suffice.gateway.config import GatewayConfig
from suffice.gateway.errors import BodyTooLarge, error_response
from suffice.gateway.protocol import Ask, parse_chat, parse_completion, parse_json, wishes_of
from suffice.gateway.receipt import PREFIX, header_text, headers
from suffice.gateway.render import Renderer
from suffice.gateway.stream import EventStream, while_connected
from suffice.throughput.pricing import OwnModel, Price, cost_model

# A health check that waits for a hanging upstream is no health check.
HEALTH_TIMEOUT_S = 2.0


def create_app(
    config: GatewayConfig,
    *,
    backends: Sequence[Backend] | None = None,
    hooks: Sequence[Hook] = (),
) -> Starlette:
    """The gateway of `config`; `backends` take the place of its upstreams (in-process models)."""
    gateway = _Gateway(config, backends)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        for hook in hooks:
            await hook.start()
        yield
        await gateway.pool.aclose()
        for hook in reversed(hooks):
            await hook.stop()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", gateway.chat, methods=["POST"]),
            Route("/v1/completions", gateway.completions, methods=["POST"]),
            Route("/v1/models", gateway.models, methods=["GET"]),
            Route("/health", gateway.health, methods=["GET"]),
            *(route for hook in hooks for route in hook.routes()),
        ],
        exception_handlers={404: _no_such_path, 405: _no_such_path, Exception: _crashed},
        lifespan=lifespan,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request's body, read and routed."""

    body: bytes
    value: dict[str, Any]
    arm: Arm


class _Gateway:
    def __init__(self, config: GatewayConfig, backends: Sequence[Backend] | None) -> None:
        self._config = config
        if backends is None:
            backends = [_backend(config, number) for number in range(len(config.upstreams))]
        self.pool = BackendPool(backends)
        self._arms = Arms(config)
        self._started = int(time.time())

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        return await self._serve(request, "/v1/chat/completions")

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        return await self._serve(request, "/v1/completions")

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`: the upstreams' models, then what suffice makes of them."""
        del request
        try:
            served = (await self.pool.capabilities()).models
        except SufficeError as error:
            return error_response(error)
        names = [(name, "upstream") for name in served]
        names += [(name, "suffice") for name in self._arms.model_names()]
        cards = [
            {"id": name, "object": "model", "created": self._started, "owned_by": owner}
            for name, owner in names
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def health(self, request: Request) -> Response:
        """`GET /health`: 200 while at least one upstream answers."""
        del request
        states = await asyncio.gather(*map(_state_of, self.pool.backends))
        upstreams = {b.name: state for b, state in zip(self.pool.backends, states, strict=True)}
        alive = any(state == "ok" for state in states)
        status = "ok" if all(state == "ok" for state in states) else "degraded"
        return JSONResponse(
            {"status": status if alive else "down", "upstreams": upstreams},
            status_code=200 if alive else 503,
        )

    async def _serve(self, request: Request, path: str) -> Response:
        try:
            asked = await self._read(request)
            if asked.arm.policy is None:
                forwarded = await self._pass_through(asked, path)
                if forwarded is not None:
                    return forwarded
            return await self._answer(request, asked, path)
        except SufficeError as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; the log does

    async def _read(self, request: Request) -> _Asked:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._config.max_body_bytes:
                raise BodyTooLarge(
                    f"the body exceeds {self._config.max_body_bytes} bytes, the gateway's limit"
                )
        value = parse_json(bytes(body))
        model = value.get("model")
        if not isinstance(model, str) or not model:
            raise InputError("model: name an upstream's model, suffice/auto or suffice/<policy>")
        arm = self._arms.choose(model, wishes_of(value))
        if arm.model is None:
            arm = replace(arm, model=(await self.pool.capabilities()).models[0])
        return _Asked(body=bytes(body), value=value, arm=arm)

    async def _pass_through(self, asked: _Asked, path: str) -> Response | None:
        """The upstream's own answer; None if the model runs in this process."""
        assert asked.arm.model is not None
        for backend in await self.pool.serving(asked.arm.model):
            if isinstance(backend, OpenAIBackend):
                value = asked.value
                if value["model"] == asked.arm.model:
                    return PassThrough(backend, path, outgoing(asked.body, value))
                renamed = {**value, "model": asked.arm.model, "suffice": None}
                return PassThrough(backend, path, outgoing(b"", renamed))
        return None

    async def _answer(self, request: Request, asked: _Asked, path: str) -> Response:
        ask = parse_chat(asked.value) if "chat" in path else parse_completion(asked.value)
        if ask.n > self._config.max_choices:
            raise InputError(f"n: at most {self._config.max_choices} choices, got {ask.n}")
        renderer = Renderer.of(ask)
        job = await self._job(ask, asked.arm)
        if ask.stream:
            known = {PREFIX + "arm": job.policy.name, PREFIX + "model": header_text(job.model)}
            return EventStream(
                frames(job, renderer), keep_alive_s=self._config.keep_alive_s, headers=known
            )
        found = await while_connected(request.receive, outcomes(job))
        return JSONResponse(renderer.whole(found), headers=headers(found))

    async def _job(self, ask: Ask, arm: Arm) -> Job:
        assert arm.model is not None
        await self.pool.serving(arm.model)  # an unknown model is an answer of its own
        wanted = ask.request.answer_format or self._config.answer_format
        # "text" says that answers are free-form although the operator's default is not.
        answer_format = None if wanted == "text" else wanted
        question = replace(ask.request, model=arm.model, answer_format=answer_format)
        return Job(
            policy=arm.policy or self._arms.plain,
            request=question,
            backend=self.pool,
            budget=tighter(ask.budget, self._config.budget),
            extract=self._arms.extractor(question),
            cost_model=await self._cost_model(),
            choices=ask.n,
        )

    async def _cost_model(self) -> CostModel:
        known: dict[str, Price | OwnModel] = {}
        for backend, upstream in zip(self.pool.backends, self._config.upstreams, strict=False):
            if upstream.cost is not None:
                try:
                    models = (await backend.capabilities()).models
                except BackendError:
                    continue  # it is down, so it will not cost anything either
                known |= dict.fromkeys(models, upstream.cost)
        return cost_model(known)


def _backend(config: GatewayConfig, number: int) -> Backend:
    upstream = config.upstreams[number]
    return OpenAIBackend(
        upstream.url,
        name=upstream.name,
        api_key=upstream.api_key,
        timeouts=Timeouts(
            connect_s=upstream.connect_s,
            first_byte_s=upstream.first_byte_s,
            silence_s=upstream.silence_s,
        ),
    )


async def _state_of(backend: Backend) -> str:
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            if isinstance(backend, OpenAIBackend):
                status, _ = await backend.post("/v1/models", None)
                return "ok" if status == 200 else f"answers {status}"
            found: Capabilities = await backend.capabilities()
            return "ok" if found.models else "serves no model"
    except TimeoutError:
        return f"silent for {HEALTH_TIMEOUT_S:g} s"
    except BackendError as error:
        return str(error)


async def _crashed(request: Request, error: Exception) -> Response:
    """A bug of ours: the log has it, the client learns no more than that."""
    del request, error
    return error_response(SufficeError("internal error, see the gateway's log"))


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = (
        f"{request.method} {request.url.path} is not served: "
        "POST /v1/chat/completions, POST /v1/completions, GET /v1/models, GET /health are"
    )
    return JSONResponse(
        {"error": {"message": message, "type": "invalid_request_error", "param": None,
                   "code": "not_found"}},
        status_code=status,
    )  # fmt: skip
