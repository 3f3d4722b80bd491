"""Keys, ledger rows, counters and the live view of one process, as a hook of every call.

On the response path it looks a key up, adds to a few dictionaries and appends to a queue; rows,
sums, log lines and spans are made by the ledger's thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.routing import BaseRoute

from suffice.backends.address import Address
from suffice.core.completions import (
    Budget,
    Cost,
    Usage,
    count_tokens_only,
    total_cost,
    total_usage,
)
from suffice.core.prices import Prices
from suffice.executors.live import Event
from suffice.gateway.calls import Call, Hook
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_sections import NO_LEDGER
from suffice.gateway.observe.auth import (
    LOOPBACK,
    Authenticator,
    admit,
    check_models,
    origins_of,
    rate_headers,
    visitor_of,
)
from suffice.gateway.observe.counters import Counters
from suffice.gateway.observe.live_samples import Race
from suffice.gateway.observe.logs import log_request
from suffice.gateway.observe.records import (
    Spent,
    entry_of,
    output_text,
    prompt_text,
    spent_of,
    usage_was_refused,
)
from suffice.gateway.observe.tracing import OtelSpans, Spans, new_trace_id, parse_parent
from suffice.gateway.spend_control import NAME as LAMBDA
from suffice.gateway.spend_control import LambdaPrice
from suffice.gateway.wire.errors import Refusal
from suffice.gateway.wire.openapi import Described
from suffice.ledger import audits
from suffice.ledger.api_keys import Key, load_ring
from suffice.ledger.quotas import Meter
from suffice.ledger.records import AuditRow, Batch, Entry, TextRow, Totals, UsageSource
from suffice.ledger.redact import Redactor
from suffice.ledger.shared_numbers import SharedNumbers
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer
from suffice.throughput.pricing import OwnModel, cost_model

logger = logging.getLogger("suffice.gateway")

NO_PRICES = Prices()
# Requests that a ledger in memory keeps.
NEWEST = 1000
# Live calls that one process shows to others.
SHOWN_LIVE = 50
PUBLISH_S = 1.0
FULL_RETRY_S = 5.0
# The workers of one gateway share this name; whoever starts several sets it before.
GROUP = "SUFFICE_GROUP"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Over:
    """A call that is over, with what was settled on the response path."""

    call: Call
    usage: Usage | None
    source: UsageSource
    cost: Cost
    price: float | None
    value: dict[str, Any] | None
    body_bytes: int


# Settings that a reload does not change.
AT_START = (
    "host", "port", "workers", "ledger", "log", "traces", "allowed_hosts", "comparison",
)  # fmt: skip


class Recorder(Hook):
    """Keys, ledger, metrics and live view of one process."""

    def __init__(self, config: GatewayConfig, *, spans: Spans | None = None) -> None:
        """Open the ledger; raises LedgerError if it cannot be used."""
        ledger = config.ledger
        self.config = config
        in_memory = ledger.url in (None, NO_LEDGER)
        self.store = Store(":memory:", keep_newest=NEWEST) if in_memory else Store(str(ledger.url))
        # Reading must not wait for a write; in memory there is only the one connection.
        self.reader = self.store if in_memory else Store(str(ledger.url))
        self.in_memory = in_memory
        self.tally = Counters()
        self.meter = Meter()
        self.numbers = SharedNumbers()
        self.price_of_auto = LambdaPrice(config.auto, self.numbers)
        self.monitors = Monitors()
        self.doors = Authenticator(
            required=config.keys.required,
            local=config.host in LOOPBACK,
            allowed_hosts=config.allowed_hosts,
            origins=config.cors.origins,
        )
        self.live: dict[str, Call] = {}
        self.name = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}"
        self.group = os.environ.get(GROUP) or self.name
        self.began_s = time.time()
        self._spans = spans
        if spans is None and config.traces.endpoint is not None:
            self._spans = OtelSpans(config.traces)
        self._keep_prompts = ledger.texts in ("prompts", "all")
        self.keep_outputs = ledger.texts in ("outputs", "all")
        self._redact = Redactor(ledger.redact)
        self._costs = _costs(config)
        self._keys_version: int | None = None
        self._published: tuple[float, str] = (0.0, "")
        self._promised: set[str] = set()  # certificates whose promise was handed to the ledger
        self._shown_busy = False  # what was published last had calls in it
        self.writer = Writer(
            self.store,
            self,
            flush_s=ledger.flush_s,
            queue_rows=ledger.queue_rows,
            retention_days=None if in_memory else ledger.retention_days,
            text_retention_days=None if in_memory else ledger.text_retention_days,
        )
        self._load()

    def _load(self) -> None:
        """What a request that comes at once has to find."""
        if self.price_of_auto.steered:
            self.store.begin_shared(LAMBDA, self.config.auto.price)
        self.meter.told(self.store.used_lately(time.time()))
        self.told(self.store.write(Batch(id="", at_s=0.0)))

    # --- the hook's own life

    async def start(self) -> None:
        """Begin to write."""
        self.writer.start()

    async def stop(self) -> None:
        """Write what is waiting and let go of the ledger."""
        await asyncio.to_thread(self.writer.close)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        self.store.close()
        if self.reader is not self.store:
            self.reader.close()

    def routes(self) -> Sequence[BaseRoute]:
        """Metrics, feedback and the dashboard."""
        from suffice.gateway.observe.admin import routes  # noqa: PLC0415 - it needs the desk's type

        return routes(self)

    def described(self) -> Described:
        """Those routes for `/openapi.json`."""
        from suffice.gateway.observe.admin import described  # noqa: PLC0415 - it needs the desk's type

        return described()

    def share(self, monitors: Monitors) -> None:
        """Exchange what certificates have seen with other processes, and hear it at once."""
        self.monitors = monitors
        wanted: dict[str, dict[int, float]] = {each.certificate: {} for each in monitors}
        self.told(self.store.write(Batch(id="", at_s=0.0, monitors=wanted)))

    def not_ready(self) -> str | None:
        """A full ledger that must not lose anything."""
        if self.config.ledger.when_full == "refuse" and self.writer.full:
            return "the ledger cannot be written and its queue is full"
        return None

    def price(self) -> float | None:
        """Lambda of `auto`."""
        return self.price_of_auto.value()

    def apply(self, config: GatewayConfig) -> None:
        """Take over prices, `[auto]` and whether keys are asked for; the rest waits for a restart.

        Keys themselves need no reload: the ledger is watched.
        """
        for name in (
            "host",
            "port",
            "workers",
            "ledger",
            "log",
            "traces",
            "allowed_hosts",
            "comparison",
        ):
            if getattr(config, name) != getattr(self.config, name):
                logger.warning("%s has changed: it takes effect after a restart", name)
        self.config = replace(
            self.config, upstreams=config.upstreams, auto=config.auto, keys=config.keys,
            prices=config.prices,
        )  # fmt: skip
        self._costs = _costs(config)
        self.price_of_auto = LambdaPrice(config.auto, self.numbers)
        self.doors.required = config.keys.required
        self.doors.origins = origins_of(config.cors.origins)

    # --- a call, from its first byte to its last

    async def admit(self, call: Call) -> None:
        """Let the call in, or raise Refusal."""
        visitor = visitor_of(call.headers)
        key = self.doors.enter(visitor)
        if key is not None and key.models:
            call.may_ask = key.may_ask
        if call.endpoint is None:
            return
        if self.config.ledger.when_full == "refuse" and self.writer.full:
            raise Refusal(
                "the ledger cannot be written, and this gateway answers nothing unrecorded",
                status=503, code="ledger_unavailable", kind="server_error",
                retry_after_s=FULL_RETRY_S,
            )  # fmt: skip
        if key is not None:
            call.principal = key.id
            call.rates = rate_headers(self.meter, key)  # those of a refusal too
            admit(self.meter, key)
            call.rates = rate_headers(self.meter, key)
            call.notes["key"] = key
        if self._spans is not None or visitor.traceparent is not None:
            parent = parse_parent(visitor.traceparent)
            call.notes["parent"] = parent
            call.notes["trace_id"] = parent[0] if parent else new_trace_id()
        if self.keep_outputs:
            call.kept = bytearray()
        call.notes["entered"] = True
        self.live[call.id] = call

    async def authorize(self, call: Call) -> None:
        """A key asks for its models; a policy may spend what is left of its budget, no more."""
        key: Key | None = call.notes.get("key")
        if key is None:
            return
        check_models(key, call.named or (call.target,))
        tokens, usd = self.meter.left(key)
        if tokens is not None or usd is not None:
            call.budget = Budget(completion_tokens=tokens, usd=usd)

    def happened(self, call: Call, choice: int, event: Event) -> None:
        """Follow the samples."""
        race: Race | None = call.notes.get("race")
        if race is None:
            race = call.notes["race"] = Race()
        race.see(choice, event)

    async def audited(self, row: AuditRow) -> bool:
        """Keep an audit, with its cost; no key pays for it."""
        result = "failed" if row.differs is None else "differ" if row.differs else "same"
        self.tally.add(("audits", "result", result))
        self.tally.add(("audit_tokens", "kind", "prompt"), row.prompt_tokens)
        self.tally.add(("audit_tokens", "kind", "completion"), row.completion_tokens)
        if row.usd:
            self.tally.add(("audit_usd",), row.usd)
        return await asyncio.to_thread(audits.compare, self.reader, row)

    def ended(self, call: Call) -> None:
        """Settle with the key and queue the rows."""
        if call.endpoint is None:
            return
        notes = call.notes
        if "entered" not in notes:
            # Counted, not written: whoever has no key must not be able to fill the disk.
            self.tally.refuse(call.status, call.error)
            return
        self.live.pop(call.id, None)
        body_bytes = len(call.body)
        spent, source = spent_of(call, notes.get("race"), body_bytes)
        usage = total_usage(usage for _, usage in spent) if spent else None
        cost = self._cost(call, spent)
        key: Key | None = notes.get("key")
        if key is not None:
            tokens = usage.total_tokens if usage is not None else 0
            self.meter.settle(key, tokens=tokens, usd=cost.usd or 0.0)
        price = self.price_of_auto.value() if call.arm == "auto" else None
        self.price_of_auto.learn(call.outcomes)
        over = _Over(
            call=call,
            usage=usage,
            source=source,
            cost=cost,
            price=price,
            value=call.value if self._keep_prompts else None,
            body_bytes=body_bytes,
        )
        call.body, call.value = b"", {}  # the queue must not hold megabytes
        self.writer.put(partial(self._entry, over))

    def _cost(self, call: Call, spent: Spent) -> Cost:
        complete = len(spent) == sum(outcome.samples_run for outcome in call.outcomes)
        if call.outcomes and complete:
            return total_cost(outcome.cost for outcome in call.outcomes)
        # A policy whose client left has no upstream on the call; with one there is no choice.
        if not self._costs and self.config.prices == NO_PRICES:
            return total_cost(
                count_tokens_only(m, usage) for m, usage in spent if usage.total_tokens
            )
        upstreams = self.config.upstreams
        name = call.upstream or (name_of(upstreams[0]) if len(upstreams) == 1 else "")
        own = self._costs.get(name)
        known = {} if own is None else {model: own for model, _ in spent}
        cost = cost_model(known, self.config.prices)
        return total_cost(cost(model, usage) for model, usage in spent if usage.total_tokens)

    # --- in the ledger's thread

    def _entry(self, over: _Over) -> Entry:
        call = over.call
        entry = entry_of(
            call,
            usage=over.usage,
            source=over.source,
            cost=over.cost,
            price=over.price,
            text=self._text(call, over.value),
            answers=self.keep_outputs,
            body_bytes=over.body_bytes,
        )
        if usage_was_refused(call):
            self.tally.add(("upstream_errors", "code", "bad_usage"))
        self.tally.count(
            entry,
            call.queued_s,
            model=(call.answered_by or call.model) if call.upstream else None,
            upstream=call.upstream,
            sampled_by=call.sampled_by,
        )
        self.tally.count_notes(call.outcomes)
        log_request(entry.request)
        if self._spans is not None:
            self._spans.send(entry, call.notes.get("parent"))
        return entry

    def _text(self, call: Call, value: dict[str, Any] | None) -> TextRow | None:
        asked = prompt_text(value) if value else None
        said = output_text(call) if self.keep_outputs else None
        if asked is None and said is None:
            return None
        return TextRow(
            request_id=call.id,
            prompt=None if asked is None else self._redact(asked),
            output=None if said is None else self._redact(said),
        )

    def redacted(self, text: str) -> str:
        """Text as it may be kept."""
        return self._redact(text)

    def fill(self, batch: Batch) -> None:
        """Sums that are due."""
        self.tally.fill(batch)
        batch.used, batch.watched = self.meter.take()
        batch.moved = self.numbers.take()
        for monitor in self.monitors:
            batch.monitors[monitor.certificate], alarm = monitor.take()
            if alarm is not None:
                batch.alarms[monitor.certificate] = alarm
            if monitor.promise is not None and monitor.certificate not in self._promised:
                batch.promises[monitor.certificate] = monitor.promise
                self._promised.add(monitor.certificate)
        # Nobody should go on showing calls that are over, not even for the usual second.
        over = self._shown_busy and not self.live
        if self.in_memory or (batch.at_s - self._published[0] < PUBLISH_S and not over):
            return
        shown = self.state()
        self._shown_busy = shown["running"] > 0
        state = json.dumps(shown)  # in ASCII: a model's name may hold anything
        if state != self._published[1] or self.live:
            self._published = (batch.at_s, state)
            batch.process = (self.name, state)

    def told(self, told: Totals) -> None:
        """Totals over all processes."""
        self.meter.told(told.used)
        self.numbers.told(told.shared)
        self.monitors.told(told)
        if told.keys_version != self._keys_version:
            self.doors.ring = load_ring(self.store)
            self._keys_version = told.keys_version

    # --- what is shown

    def state(self) -> dict[str, Any]:
        """This process as other processes and the dashboard see it."""
        health = self.writer.health
        return {
            "name": self.name,
            "group": self.group,
            "began_s": self.began_s,
            "tally": self.tally.shown(),
            "running": len(self.live),
            "live": [self._shown(call) for call in list(self.live.values())[-SHOWN_LIVE:]],
            "ledger": {
                "acknowledged": health.acknowledged,
                "dropped": health.dropped,
                "away": health.away_since_s is not None,
            },
        }

    def _shown(self, call: Call) -> dict[str, Any]:
        race: Race | None = call.notes.get("race")
        return {
            "id": call.id,
            "began_s": call.began_unix_s,
            "arm": call.arm,
            "model": call.target or call.model,
            "stream": call.stream,
            "pieces": call.pieces,
            "samples": [] if race is None else race.shown(answers=self.keep_outputs),
        }


def _costs(config: GatewayConfig) -> dict[str, OwnModel]:
    """The models of one's own, by the name that their upstream has in a call."""
    return {name_of(each): each.cost for each in config.upstreams if each.cost is not None}


def name_of(upstream: UpstreamConfig) -> str:
    """The upstream's name in calls and metrics."""
    return upstream.name or Address.of(upstream.url, base_path=upstream.base_path).name


def desk_of(config: GatewayConfig) -> tuple[Hook, ...]:
    """The hooks that `suffice serve` gives to its gateway; call it in the process that serves."""
    return (Recorder(config),)
