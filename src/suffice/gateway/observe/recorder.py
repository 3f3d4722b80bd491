"""Recording of every call as a hook: ledger rows, counters, log lines, spans, the live view.

On the response path it adds to a few dictionaries and appends to a queue; rows, sums, log lines
and spans are made by the ledger's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from suffice.core.completions import Cost, Usage, total_usage
from suffice.executors.live import Event
from suffice.gateway.calls import Call, Hook
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.config import GatewayConfig
from suffice.gateway.observe.call_cost import CallCosts
from suffice.gateway.observe.counters import Counters
from suffice.gateway.observe.live_samples import LiveSamples
from suffice.gateway.observe.logs import log_request
from suffice.gateway.observe.process_state import ProcessState
from suffice.gateway.observe.records import (
    entry_of,
    output_text,
    prompt_text,
    spent_of,
    usage_was_refused,
)
from suffice.gateway.observe.shared_totals import SharedTotals
from suffice.gateway.observe.tracing import Spans, new_trace_id, parse_parent
from suffice.gateway.spend_control import LambdaPrice
from suffice.ledger import audits, shadows
from suffice.ledger.quotas import Meter
from suffice.ledger.records import AuditRow, Entry, TextRow, UsageSource
from suffice.ledger.shadows import ShadowRow
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer

logger = logging.getLogger("suffice.gateway")

# Settings that a reload does not change.
AT_START = (
    "host", "port", "workers", "ledger", "log", "traces", "allowed_hosts", "comparison",
)  # fmt: skip


Settled = tuple[Usage | None, UsageSource, Cost]  # what a call took, who said so, its cost


class Recorder(Hook):
    """Records the calls of one process."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        writer: Writer,
        reader: Store,
        close: Callable[[], None],
        counters: Counters,
        meter: Meter,
        totals: SharedTotals,
        process: ProcessState,
        price_of_auto: LambdaPrice,
        redact: Callable[[str], str],
        spans: Spans | None = None,
    ) -> None:
        """`close` lets go of the ledger when nothing is written any more."""
        self.config = config
        self._writer = writer
        self._reader = reader
        self._close = close
        self._counters = counters
        self._meter = meter
        self._totals = totals
        self._process = process
        self._price_of_auto = price_of_auto
        self._redact = redact
        self._spans = spans
        self._keep_prompts = config.ledger.keeps_prompts
        self._keep_outputs = config.ledger.keeps_outputs
        self._costs = CallCosts(config)

    async def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    async def stop(self) -> None:
        """Write what is waiting and let go of the ledger."""
        await asyncio.to_thread(self._writer.close)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        await asyncio.to_thread(self._close)  # it waits for whoever reads or writes

    def share(self, monitors: Monitors) -> None:
        """Exchange what certificates have seen with other processes, and hear it at once."""
        self._totals.watch(monitors)

    def price(self) -> float | None:
        """Lambda of `auto`."""
        return self._price_of_auto.value()

    def apply(self, config: GatewayConfig) -> None:
        """Take over prices and `[auto]`; the rest waits for a restart."""
        for name in AT_START:
            if getattr(config, name) != getattr(self.config, name):
                logger.warning("%s has changed: it takes effect after a restart", name)
        self.config = replace(
            self.config, upstreams=config.upstreams, auto=config.auto, keys=config.keys,
            prices=config.prices,
        )  # fmt: skip
        self._costs = CallCosts(self.config)
        self._price_of_auto.apply(config.auto)

    async def admit(self, call: Call) -> None:
        """Prepare to record a call that was let in."""
        if not call.admitted:
            return
        if self._spans is not None or call.traceparent is not None:
            call.parent_span = parse_parent(call.traceparent)
            call.trace_id = call.parent_span[0] if call.parent_span else new_trace_id()
        if self._keep_outputs:
            call.kept = bytearray()
        self._process.live[call.id] = call

    def happened(self, call: Call, choice: int, event: Event) -> None:
        """Follow the samples."""
        if call.samples is None:
            call.samples = LiveSamples()
        call.samples.see(choice, event)

    async def audited(self, row: AuditRow) -> bool:
        """Keep an audit, with its cost; no key pays for it."""
        self._count_audit("audits", row)
        return await asyncio.to_thread(audits.compare, self._reader, row)

    async def shadowed(self, control: LiveControl, spent: AuditRow, row: ShadowRow | None) -> None:
        """Keep a shadow run, with its cost, and take in what all processes have seen."""
        self._count_audit("shadows", spent)

        def keep() -> None:
            shadows.record(self._reader, spent, row)
            control.pull(self._reader)

        await asyncio.to_thread(keep)

    def _count_audit(self, name: str, row: AuditRow) -> None:
        result = "failed" if row.differs is None else "differ" if row.differs else "same"
        self._counters.add((name, "result", result))
        self._counters.add(("audit_tokens", "kind", "prompt"), row.prompt_tokens)
        self._counters.add(("audit_tokens", "kind", "completion"), row.completion_tokens)
        if row.usd:
            self._counters.add(("audit_usd",), row.usd)

    def ended(self, call: Call) -> None:
        """Settle with the key and queue the rows."""
        if call.endpoint is None:
            return
        if not call.admitted:
            # Counted, not written: whoever has no key must not be able to fill the disk.
            self._counters.refuse(call.status, call.error)
            return
        self._process.live.pop(call.id, None)
        body_bytes = len(call.body)
        settled: Settled | None = None
        if call.key is not None or call.samples is not None:
            # A key's next call may be refused for this one; a sample's pace goes by the clock.
            settled = usage, _, cost = self._settled(call, body_bytes)
            if call.key is not None:
                tokens = usage.total_tokens if usage is not None else 0
                self._meter.settle(call.key, tokens=tokens, usd=cost.usd or 0.0)
        price = self._price_of_auto.value() if call.arm == "auto" else None
        self._price_of_auto.learn(call.outcomes)
        value = call.value if self._keep_prompts else None
        call.body, call.value = b"", {}  # the queue must not hold megabytes
        self._writer.put(partial(self._entry, call, settled, price, value, body_bytes))

    # --- in the ledger's thread, if it can wait

    def _settled(self, call: Call, body_bytes: int) -> Settled:
        spent, source = spent_of(call, body_bytes)
        usage = total_usage([usage for _, usage in spent]) if spent else None
        return usage, source, self._costs.of(call, spent)

    def _entry(
        self,
        call: Call,
        settled: Settled | None,
        price: float | None,
        value: dict[str, Any] | None,
        body_bytes: int,
    ) -> Entry:
        usage, source, cost = settled or self._settled(call, body_bytes)
        entry = entry_of(
            call,
            usage=usage,
            source=source,
            cost=cost,
            price=price,
            text=self._text(call, value),
            answers=self._keep_outputs,
            body_bytes=body_bytes,
        )
        if usage_was_refused(call):
            self._counters.add(("upstream_errors", "code", "bad_usage"))
        self._counters.count(
            entry,
            call.queued_s,
            model=(call.answered_by or call.model) if call.upstream else None,
            upstream=call.upstream,
            sampled_by=call.sampled_by,
        )
        self._counters.count_notes(call.outcomes)
        log_request(entry.request)
        if self._spans is not None:
            self._spans.send(entry, call.parent_span)
        return entry

    def _text(self, call: Call, value: dict[str, Any] | None) -> TextRow | None:
        prompt = prompt_text(value) if value else None
        output = output_text(call) if self._keep_outputs else None
        if prompt is None and output is None:
            return None
        return TextRow(
            request_id=call.id,
            prompt=None if prompt is None else self._redact(prompt),
            output=None if output is None else self._redact(output),
        )
