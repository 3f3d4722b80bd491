"""Which part of the gateway answers a request: its own routes, or an engine's endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from suffice.gateway.cors import with_cors
from suffice.gateway.endpoints import (
    AT_ROOT,
    CHAT,
    MESSAGES,
    PASSED_ON,
    RESPONSES,
    TEXT,
    endpoint_of,
)
from suffice.gateway.wire.safe_headers import without_sniffing

if TYPE_CHECKING:
    from suffice.gateway.app import Gateway

# Endpoints of engines that are described; others under /v1 are passed on too.
SERVED = (CHAT, TEXT, RESPONSES, MESSAGES, *PASSED_ON, *AT_ROOT)
_ENGINES = frozenset(SERVED)
_WITHOUT_V1 = ("/models",)


class Paths(Starlette):
    """Starlette, past which calls to engines' endpoints go straight to where they are answered."""

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(**options)
        self._gateway = gateway
        self._cors = gateway.service.config.cors
        self._outer = with_cors(self._answer, self._cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        cors = self._gateway.service.config.cors
        if cors is not self._cors:  # read anew
            self._cors, self._outer = cors, with_cors(self._answer, cors)
        if cors.origins:
            await self._outer(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        path = scope["path"]
        endpoint = endpoint_of(path)
        if endpoint is not None and scope["method"] == "POST":
            if endpoint.path in _ENGINES or not self._is_own(scope):
                await self._gateway.completions(scope, receive, send)
                return
            endpoint = None
        if path.endswith("/") and path != "/":
            path = scope["path"] = path.rstrip("/") or "/"
        if endpoint is not None and not self._is_own(scope):
            scope["path"] = endpoint.path
        elif path in _WITHOUT_V1:
            scope["path"] = f"/v1{path}"
        if scope["method"] == "OPTIONS":
            await self._options(scope)(scope, receive, without_sniffing(send))
            return
        await super().__call__(scope, receive, without_sniffing(send))

    def _is_own(self, scope: Scope) -> bool:
        """Whether a path is one of the gateway's, such as /v1/feedback."""
        return any(route.matches(scope)[0] is not Match.NONE for route in self.routes)

    def _options(self, scope: Scope) -> Response:
        """What may be done with a path; pages of other origins are `with_cors`'s business."""
        methods: set[str] = set()
        for route in self.routes:
            match, _ = route.matches({**scope, "method": "GET"})
            if match is not Match.NONE and isinstance(route, Route):
                methods |= route.methods or set()
        if endpoint_of(scope["path"]) is not None:
            methods.add("POST")
        if not methods:
            return not_found(scope["method"], scope["path"])
        return Response(
            status_code=204, headers={"allow": ", ".join(sorted({*methods, "OPTIONS"}))}
        )


async def no_such_path(request: Request, error: Exception) -> Response:
    """The answer to a path, or a method of one, that nobody serves."""
    status = getattr(error, "status_code", 404)
    return not_found(request.method, request.url.path, status, getattr(error, "headers", None))


def not_found(
    method: str, path: str, status: int = 404, headers: Mapping[str, str] | None = None
) -> Response:
    """An error that names what is served."""
    message = (
        f"{method} {path} is not served: POST {CHAT}, {TEXT}, {RESPONSES}, {MESSAGES} and "
        "engines' other endpoints are, GET /v1/models, /health, /ready too"
    )
    return JSONResponse(
        {"error": {"message": message, "type": "invalid_request_error", "param": None,
                   "code": "not_found"}},
        status_code=status,
        headers=headers,
    )  # fmt: skip
