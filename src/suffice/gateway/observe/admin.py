"""Routes beside the API: feedback, metrics, and the dashboard with the state that feeds it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from suffice.core.errors import InputError, SufficeError
from suffice.core.version import __version__
from suffice.gateway.calls import Hook
from suffice.gateway.config import GatewayConfig
from suffice.gateway.observe import key_routes
from suffice.gateway.observe.auth import Authenticator, credentials_of
from suffice.gateway.observe.catch_up import caught_up
from suffice.gateway.observe.counters import Counters, merged
from suffice.gateway.observe.feedback import Feedback, Judgement
from suffice.gateway.observe.key_routes import KeyRoutes
from suffice.gateway.observe.process_state import ProcessState
from suffice.gateway.observe.prometheus import CONTENT_TYPE, exposition
from suffice.gateway.observe.shared_totals import SharedTotals
from suffice.gateway.spend_control import LambdaPrice
from suffice.gateway.wire.errors import error_response
from suffice.gateway.wire.openapi import Described, errors, get, get_text, reference, schemas_of
from suffice.ledger import audits, queries
from suffice.ledger.breakdown import failures_since, medians_since, models_since
from suffice.ledger.database import LedgerError
from suffice.ledger.live_engine import engine_saving
from suffice.ledger.quotas import Meter
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer

# Processes that said nothing for this long are not live any more; their counters still count.
LIVE_S = 5.0
RECENT = 40
# Spans that the dashboard offers (seconds) and the step of its curves.
SPANS: dict[str, tuple[int, int]] = {
    "15m": (900, 10),
    "1h": (3600, 60),
    "24h": (86400, 900),
    "7d": (7 * 86400, 7200),
}
# The page runs its own script and nothing else, and no other page may frame it.
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_PAGES = {
    "/": ("index.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
}

Handler = Callable[[Request], Awaitable[Response]]


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except SufficeError as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    return guarded


def _page(name: str, media_type: str) -> Handler:
    async def page(request: Request) -> Response:
        del request
        data = files("suffice.gateway").joinpath("dashboard", name).read_bytes()
        return Response(data, media_type=f"{media_type}; charset=utf-8", headers=PAGE_HEADERS)

    return page


class Administration(Hook):
    """Adds feedback, metrics, keys and the dashboard to the gateway."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        authenticator: Authenticator,
        reader: Store,
        writer: Writer,
        counters: Counters,
        meter: Meter,
        totals: SharedTotals,
        process: ProcessState,
        price_of_auto: LambdaPrice,
        redact: Callable[[str], str],
    ) -> None:
        self._config = config
        self._authenticator = authenticator
        self._reader = reader
        self._in_memory = reader.keep_newest is not None
        self._writer = writer
        self._totals = totals
        self._process = process
        self._price_of_auto = price_of_auto
        self._keys = KeyRoutes(authenticator, reader, meter)
        self._feedback = Feedback(
            authenticator=authenticator,
            meter=meter,
            reader=reader,
            writer=writer,
            counters=counters,
            totals=totals,
            redact=redact,
            flush_s=config.ledger.flush_s,
        )

    def apply(self, config: GatewayConfig) -> None:
        """Show the new prices and the new target; the ledger stays as it was opened."""
        self._config = replace(self._config, auto=config.auto, prices=config.prices)

    def routes(self) -> Sequence[BaseRoute]:
        """Every route that is not of the API."""
        keys = self._keys
        return (
            Route("/v1/feedback", _guarded(self._feedback), methods=["POST"]),
            Route("/metrics", _guarded(self.metrics), methods=["GET"]),
            Route("/admin/state", _guarded(self.state), methods=["GET"]),
            Route("/admin/keys", _guarded(keys.keys), methods=["GET", "POST"]),
            Route("/admin/keys/{key}", _guarded(keys.revoke), methods=["DELETE"]),
            Route("/admin/keys/{key}/rotate", _guarded(keys.rotate), methods=["POST"]),
            *(Route(path, _page(*page), methods=["GET"]) for path, page in _PAGES.items()),
        )

    def described(self) -> Described:
        """Those routes for `/openapi.json`."""
        return _described()

    # --- metrics

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`: the sum over all workers of this gateway, as Prometheus reads it."""
        self._authenticator.authenticate_admin(credentials_of(request.scope["headers"]))
        await caught_up(self._writer)
        states = [s for s in await self._states() if s["group"] == self._process.group]
        gauges = self._gauges(states) | await _gateway_gauges(request)
        with suppress(LedgerError):  # away: all other figures are still told
            gauges |= await asyncio.to_thread(self._engine_gauges)
        text = exposition(merged([state["counters"] for state in states]), gauges)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    def _gauges(self, states: Sequence[dict[str, Any]]) -> dict[Any, float]:
        return (
            {
                "lambda": self._price_of_auto.value() or 0.0,
                "running": sum(state["running"] for state in states if state["fresh"]),
                "processes": len([state for state in states if state["fresh"]]),
                "ledger_up": 0.0 if any(s["ledger"]["away"] for s in states) else 1.0,
                "ledger_waiting_rows": self._writer.health.waiting,
                "ledger_acknowledged_rows": sum(s["ledger"]["acknowledged"] for s in states),
                "ledger_dropped_requests": sum(s["ledger"]["dropped"] for s in states),
                "ledger_flush_seconds": self._writer.health.flush_s,
            }
            | {
                ("certificate_switched_off", "certificate", each.certificate): float(
                    each.alarm is not None
                )
                for each in self._totals.monitors
            }
            | {
                ("promised_saved", "certificate", each.certificate): each.promise.saved
                for each in self._totals.monitors
                if each.promise is not None
            }
            | self._live_gauges()
        )

    def _live_gauges(self) -> dict[Any, float]:
        found: dict[Any, float] = {}
        for live in self._totals.monitors.live.values():
            for name, value in live.gauges().items():
                found[name, "certificate", live.certificate] = value
        return found

    def _engine_gauges(self) -> dict[Any, float]:
        found: dict[Any, float] = {}
        for name in list(self._totals.monitors.live):
            saving = engine_saving(self._reader, name)
            found["live_shadow_engine_seconds", "certificate", name] = saving.shadow_s
            if saving.saved_s is not None:
                found["live_saved_engine_seconds", "certificate", name] = saving.saved_s
        return found

    async def _states(self) -> list[dict[str, Any]]:
        """States of all processes on the ledger, this one's as it is now."""
        own = self._process.shown() | {"fresh": True}
        if self._in_memory:
            return [own]
        now_s = time.time()
        try:
            rows = await asyncio.to_thread(
                self._reader.database.execute, "SELECT name, seen_s, state FROM processes"
            )
        except LedgerError:
            return [own]
        others = [
            json.loads(state) | {"fresh": now_s - seen_s < LIVE_S}
            for name, seen_s, state in rows
            if name != self._process.name
        ]
        return [own, *others]

    # --- the dashboard

    async def state(self, request: Request) -> Response:
        """`GET /admin/state?span=15m`: everything that the dashboard shows."""
        self._authenticator.authenticate_admin(credentials_of(request.scope["headers"]))
        name = request.query_params.get("span", "15m")
        if name not in SPANS:
            raise InputError(f"span: {name!r} is none of {', '.join(SPANS)}")
        await caught_up(self._writer)
        states = [state for state in await self._states() if state["fresh"]]
        health = self._writer.health
        shown: dict[str, Any] = {
            "version": __version__,
            "now_s": time.time(),
            "span": name,
            "spans": list(SPANS),
            "locked": self._authenticator.locked,
            "processes": len(states),
            "running": sum(state["running"] for state in states),
            "lambda": self._price_of_auto.value(),
            "lambda_steered": self._price_of_auto.steered,
            "spend_target": self._config.auto.spend_target,
            "live": sorted(
                (call for state in states for call in state["live"]), key=lambda c: c["began_s"]
            ),
            "upstreams": await _upstreams(request),
            "ledger": {
                "kept": not self._in_memory,
                "away": self._writer.away,
                "waiting": health.waiting,
                "dropped": health.dropped,
                "texts": self._config.ledger.texts,
            },
        }
        try:
            shown |= await asyncio.to_thread(self._history, name)
        except LedgerError as error:
            shown["ledger"]["error"] = str(error)
        seen = {each["certificate"]: each for each in shown.get("certificates", ())}
        audited = {each["certificate"]: each for each in shown.get("audits", ())}
        shown["certificates"] = [
            monitor.shown()
            | {"promised": None, "seen": None}
            | seen.get(monitor.certificate, {})
            | {"audits": audited.get(monitor.certificate)}
            for monitor in self._totals.monitors
        ]
        engines = shown.pop("engines", {})
        shown["live_certificates"] = [
            live.shown()
            | {"spent": audited.get(live.certificate), "engine": engines.get(live.certificate)}
            for live in self._totals.monitors.live.values()
        ]
        return JSONResponse(shown, headers={"cache-control": "no-store"})

    def _history(self, span: str) -> dict[str, Any]:
        reader = self._reader
        length_s, step_s = SPANS[span]
        now_s = time.time()
        arms = queries.arms_since(reader, now_s - length_s)
        medians = medians_since(reader, now_s - length_s)
        return {
            "arms": [arm | {"median_s": medians.get(arm["arm"])} for arm in arms],
            "total": queries.total_of(arms),
            "series": queries.series(reader, now_s - length_s, now_s, step_s),
            "latency": queries.latency_since(reader, now_s - length_s),
            "certificates": queries.certificates_since(reader, now_s - length_s),
            "keys": queries.keys_since(reader, now_s - length_s)
            if self._authenticator.ring
            else [],
            "recent": queries.recent(reader, RECENT),
            "models": models_since(reader, now_s - length_s, self._config.prices),
            "failures": failures_since(reader, now_s - length_s),
            "audits": audits.audits_since(reader, now_s - length_s),
            "engines": {
                name: engine_saving(reader, name, now_s - length_s).shown()
                for name in list(self._totals.monitors.live)
            },
        }


def _described() -> Described:
    """The routes of `Administration`, for `/openapi.json`."""
    span = {
        "name": "span", "in": "query", "required": False,
        "schema": {"type": "string", "enum": list(SPANS), "default": "15m"},
    }  # fmt: skip
    judged = {
        "summary": "attach a judgement to a request; answered when it is on disk",
        "requestBody": {
            "required": True, "content": {"application/json": {"schema": reference("Judgement")}}
        },
        "responses": {
            "200": {
                "description": "written",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **errors("400", "401", "403", "404", "408", "409", "413", "429", "503"),
        },
    }  # fmt: skip
    state = get(None, "what the dashboard shows", "400", "401", "403") | {"parameters": [span]}
    return Described(
        paths={
            "/v1/feedback": {"post": judged},
            "/metrics": {"get": get_text("text/plain", "for Prometheus", "401", "403")},
            "/admin/state": {"get": state},
            **key_routes.described().paths,
            **{
                path: {"get": get_text(kind, "the dashboard")} for path, (_, kind) in _PAGES.items()
            },
        },
        schemas=schemas_of(Judgement) | key_routes.described().schemas,
    )


async def _upstreams(request: Request) -> dict[str, str]:
    """What each upstream's health check said last."""
    gateway = getattr(request.app.state, "gateway", None)
    if gateway is None:
        return {}
    states: dict[str, str] = await gateway.upstream_states()
    return states


async def _gateway_gauges(request: Request) -> dict[Any, float]:
    """Gauges that the traffic path knows."""
    states = await _upstreams(request)
    found: dict[Any, float] = {
        ("upstream_up", "upstream", name): float(state == "ok") for name, state in states.items()
    }
    gateway = getattr(request.app.state, "gateway", None)
    if gateway is not None:
        found["waiting"] = float(gateway.service.places.waiting)
    return found
