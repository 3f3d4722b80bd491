"""`/admin/keys`: what `suffice keys` does, over HTTP, for admin keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from suffice.core.errors import InputError
from suffice.core.strict import Strict
from suffice.gateway.connection.cancellation import Shutdown
from suffice.gateway.connection.request_body import read_body
from suffice.gateway.observe.auth import Authenticator, credentials_of
from suffice.gateway.wire.openapi import Described, errors, get, reference, schemas_of
from suffice.ledger.api_keys import (
    Key,
    Limits,
    add_key,
    load_ring,
    make_key,
    revoke_key,
    rotate_key,
)
from suffice.ledger.quotas import Meter, shown
from suffice.ledger.store import Store

MOST_BYTES = 64 * 2**10
_STATUSES = ("400", "401", "403", "404", "408", "413", "503")
_NO_STORE = {"cache-control": "no-store"}  # a secret is in some of the answers
BODY_S = 20.0
Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


class NewKey(Strict):
    """The body of `POST /admin/keys`; what is left out is not limited."""

    name: str = Field(min_length=1, max_length=200)
    admin: bool = False
    audit: bool = False
    models: tuple[str, ...] = Field(default=(), max_length=100)
    expires_in_s: float | None = Field(default=None, gt=0)
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)
    parallel_requests: int | None = Field(default=None, gt=0)
    budget_tokens: int | None = Field(default=None, gt=0)
    budget_usd: float | None = Field(default=None, gt=0)
    budget_window: Literal["hour", "day", "month", "total"] = "month"

    def made(self, now_s: float) -> tuple[Key, str]:
        """The key and its text."""
        return make_key(
            self.name,
            admin=self.admin,
            audit=self.audit,
            models=self.models,
            expires_s=None if self.expires_in_s is None else now_s + self.expires_in_s,
            limits=Limits(
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                parallel_requests=self.parallel_requests,
                budget_tokens=self.budget_tokens,
                budget_usd=self.budget_usd,
                budget_window=self.budget_window,
            ),
        )


class Rotation(Strict):
    """The body of `POST /admin/keys/{key}/rotate`."""

    grace_s: float = Field(default=0.0, ge=0)  # the old secret is taken for so long


class KeyRoutes:
    """The handlers; each asks for an admin key, or for a loopback without keys."""

    def __init__(self, authenticator: Authenticator, reader: Store, meter: Meter) -> None:
        self._authenticator = authenticator
        self._reader = reader
        self._meter = meter

    async def keys(self, request: Request) -> Response:
        """`GET` lists all keys with what they used, `POST` makes one."""
        self._authenticate(request)
        if request.method == "GET":
            ring = await asyncio.to_thread(load_ring, self._reader)
            return _answer({"keys": [shown(key, self._meter) for key in ring.keys]})
        key, text = (await self._read(request, NewKey)).made(time.time())
        await self._write(lambda: add_key(self._reader, key))
        return _answer(shown(key, self._meter) | {"key": text}, status=201)

    async def revoke(self, request: Request) -> Response:
        """`DELETE /admin/keys/{key}`: it is refused from now on; what it used stays on record."""
        self._authenticate(request)
        named = request.path_params["key"]
        key = await self._write(lambda: revoke_key(self._reader, named))
        return _answer(shown(key, self._meter))

    async def rotate(self, request: Request) -> Response:
        """`POST /admin/keys/{key}/rotate`: a new secret for the same key."""
        self._authenticate(request)
        named, grace_s = request.path_params["key"], (await self._read(request, Rotation)).grace_s
        key, text = await self._write(lambda: rotate_key(self._reader, named, grace_s=grace_s))
        return _answer(shown(key, self._meter) | {"key": text})

    def _authenticate(self, request: Request) -> None:
        self._authenticator.authenticate_admin(credentials_of(request.scope["headers"]))

    async def _write(self, change: Callable[[], Result]) -> Result:
        """Write, and know it here at once; other processes do within a second."""
        done = await asyncio.to_thread(change)
        self._authenticator.ring = await asyncio.to_thread(load_ring, self._reader)
        return done

    @staticmethod
    async def _read(request: Request, kind: type[Body]) -> Body:
        ending = cast(Shutdown, request.app.state.gateway.ending)
        body = await read_body(
            request.receive, request.scope, most_bytes=MOST_BYTES, limit_s=BODY_S, ending=ending
        )
        try:
            return kind.model_validate_json(body or b"{}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise InputError(f"{where}: {first['msg'].lower()}") from None


def _answer(value: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(value, status_code=status, headers=_NO_STORE)


def described() -> Described:
    """These routes, for `/openapi.json`."""
    named = {
        "name": "key", "in": "path", "required": True, "schema": {"type": "string"},
        "description": "its id, or its name if only one has it",
    }  # fmt: skip

    def posted(summary: str, body: str, status: str) -> dict[str, Any]:
        content = {"application/json": {"schema": reference(body)}}
        good = {"description": summary, "content": {"application/json": {"schema": _OBJECT}}}
        return {
            "summary": summary,
            "requestBody": {"required": body == "NewKey", "content": content},
            "responses": {status: good, **errors(*_STATUSES)},
        }

    revoked = get(None, "the key, revoked", *_STATUSES) | {"parameters": [named]}
    rotated = posted("the key with its new secret", "Rotation", "200") | {"parameters": [named]}
    return Described(
        paths={
            "/admin/keys": {
                "get": get(None, "all keys, with what they used", *_STATUSES),
                "post": posted("the new key with its secret, shown once", "NewKey", "201"),
            },
            "/admin/keys/{key}": {"delete": revoked},
            "/admin/keys/{key}/rotate": {"post": rotated},
        },
        schemas=schemas_of(NewKey) | schemas_of(Rotation),
    )


_OBJECT = {"type": "object"}
