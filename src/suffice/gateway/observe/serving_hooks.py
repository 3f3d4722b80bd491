"""The hooks of a serving process: access control, recording, administration, on one ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass

from suffice.gateway.calls import Hook
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import NO_LEDGER
from suffice.gateway.observe.access_control import AccessControl
from suffice.gateway.observe.admin import Administration
from suffice.gateway.observe.auth import LOOPBACK, Authenticator
from suffice.gateway.observe.counters import Counters
from suffice.gateway.observe.process_state import ProcessState
from suffice.gateway.observe.recorder import Recorder
from suffice.gateway.observe.shared_totals import SharedTotals
from suffice.gateway.observe.tracing import OtelSpans, Spans
from suffice.gateway.spend_control import NAME as LAMBDA
from suffice.gateway.spend_control import LambdaPrice
from suffice.ledger.quotas import Meter
from suffice.ledger.redact import Redactor
from suffice.ledger.shared_numbers import SharedNumbers
from suffice.ledger.store import Store
from suffice.ledger.writer import Health, Writer

# Requests that a ledger in memory keeps.
NEWEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingHooks:
    """The three hooks, and the parts that they share."""

    access: AccessControl
    recorder: Recorder
    administration: Administration
    store: Store
    reader: Store
    writer: Writer
    authenticator: Authenticator
    meter: Meter
    totals: SharedTotals
    process: ProcessState

    @property
    def in_order(self) -> tuple[Hook, ...]:
        """Who is asked first comes first: nothing is recorded of a call before it is admitted."""
        return self.access, self.recorder, self.administration


def open_hooks(config: GatewayConfig, *, spans: Spans | None = None) -> ServingHooks:
    """Open the ledger and make the hooks on it; raises LedgerError if it cannot be used."""
    ledger = config.ledger
    in_memory = ledger.url in (None, NO_LEDGER)
    store = Store(":memory:", keep_newest=NEWEST) if in_memory else Store(str(ledger.url))
    # Reading must not wait for a write; in memory there is only the one connection.
    reader = store if in_memory else Store(str(ledger.url))
    counters, meter, numbers, health = Counters(), Meter(), SharedNumbers(), Health()
    redact = Redactor(ledger.redact)
    authenticator = Authenticator(
        required=config.keys.required,
        local=config.host in LOOPBACK,
        allowed_hosts=config.allowed_hosts,
        origins=config.cors.origins,
    )
    process = ProcessState(counters, health, show_answers=ledger.keeps_outputs)
    totals = SharedTotals(
        store,
        counters=counters,
        meter=meter,
        numbers=numbers,
        authenticator=authenticator,
        process=None if in_memory else process,
    )
    writer = Writer(
        store,
        totals,
        health=health,
        flush_s=ledger.flush_s,
        queue_rows=ledger.queue_rows,
        retention_days=None if in_memory else ledger.retention_days,
        text_retention_days=None if in_memory else ledger.text_retention_days,
    )
    price_of_auto = LambdaPrice(config.auto, numbers)
    if price_of_auto.steered:
        store.begin_shared(LAMBDA, config.auto.price)
    meter.confirm(store.used_lately(time.time()))
    totals.load()
    if spans is None and config.traces.endpoint is not None:
        spans = OtelSpans(config.traces)

    def close() -> None:
        store.close()
        if reader is not store:
            reader.close()

    access = AccessControl(
        authenticator, meter, writer, refuse_when_full=ledger.when_full == "refuse"
    )
    recorder = Recorder(
        config,
        writer=writer,
        reader=reader,
        close=close,
        counters=counters,
        meter=meter,
        totals=totals,
        process=process,
        price_of_auto=price_of_auto,
        redact=redact,
        spans=spans,
    )
    administration = Administration(
        config,
        authenticator=authenticator,
        reader=reader,
        writer=writer,
        counters=counters,
        meter=meter,
        totals=totals,
        process=process,
        price_of_auto=price_of_auto,
        redact=redact,
    )
    return ServingHooks(
        access=access,
        recorder=recorder,
        administration=administration,
        store=store,
        reader=reader,
        writer=writer,
        authenticator=authenticator,
        meter=meter,
        totals=totals,
        process=process,
    )


def serving_hooks(config: GatewayConfig) -> tuple[Hook, ...]:
    """The hooks that `suffice serve` gives to its gateway; call it in the process that serves."""
    return open_hooks(config).in_order
