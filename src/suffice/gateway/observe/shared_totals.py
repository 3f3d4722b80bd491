"""Exchange of one process with the ledger: its sums go out, the totals of all processes come in.

Called by the ledger's thread: `fill` before a batch is written, `confirm` after it.
"""

from __future__ import annotations

import json
import time
from collections import Counter

from suffice.executors.engine_time import ENGINES
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.observe.auth import Authenticator
from suffice.gateway.observe.counters import Counters
from suffice.gateway.observe.process_state import ProcessState
from suffice.ledger.api_keys import load_ring
from suffice.ledger.quotas import Meter
from suffice.ledger.records import Batch, Totals
from suffice.ledger.shared_numbers import SharedNumbers
from suffice.ledger.store import Store

# How often a process with nothing new says that it lives.
PUBLISH_S = 1.0


class SharedTotals:
    """Counters, quotas, shared numbers, monitors and the keyring of one process."""

    def __init__(
        self,
        store: Store,
        *,
        counters: Counters,
        meter: Meter,
        numbers: SharedNumbers,
        authenticator: Authenticator,
        process: ProcessState | None,
    ) -> None:
        """`process` is published for other processes; None where the ledger is in memory."""
        self._store = store
        self._counters = counters
        self._meter = meter
        self._numbers = numbers
        self._authenticator = authenticator
        self._process = process
        self.monitors = Monitors()
        self._keys_version: int | None = None
        self._published: tuple[float, str] = (0.0, "")
        self._promised: set[str] = set()  # certificates whose promise was handed to the ledger
        self._heard_s = 0.0
        self._shown_busy = False  # what was published last had calls in it

    def load(self) -> None:
        """Read the keys and the totals, as a request that comes at once needs them."""
        self.confirm(self._store.write(Batch(id="", at_s=0.0)))

    def watch(self, monitors: Monitors) -> None:
        """Exchange these monitors too, and read at once what the ledger holds of them."""
        self.monitors = monitors
        wanted: dict[str, dict[int, float]] = {each.certificate: {} for each in monitors}
        self.confirm(self._store.write(Batch(id="", at_s=0.0, monitors=wanted)))

    def fill(self, batch: Batch) -> None:
        """Put the sums that are due into `batch`."""
        self._counters.fill(batch)
        batch.used, batch.watched = self._meter.take()
        batch.moved = self._numbers.take()
        for monitor in self.monitors:
            batch.monitors[monitor.certificate], alarm = monitor.take()
            if alarm is not None:
                batch.alarms[monitor.certificate] = alarm
            if monitor.promise is not None and monitor.certificate not in self._promised:
                batch.promises[monitor.certificate] = monitor.promise
                self._promised.add(monitor.certificate)
        if self._process is not None:
            self._publish(self._process, batch)

    def _publish(self, process: ProcessState, batch: Batch) -> None:
        # Nobody should go on showing calls that are over, not even for the usual second.
        over = self._shown_busy and not process.live
        if batch.at_s - self._published[0] < PUBLISH_S and not over:
            return
        shown = process.shown() | {"engines": ENGINES.take()}
        self._shown_busy = shown["running"] > 0
        state = json.dumps(shown)  # in ASCII: a model's name may hold anything
        if state != self._published[1] or process.live:
            self._published = (batch.at_s, state)
            batch.process = (process.name, state)

    def _hear(self, process: ProcessState) -> None:
        """What other processes run on the engines, once a second."""
        now_s = time.time()
        if now_s - self._heard_s < PUBLISH_S:
            return
        self._heard_s = now_s
        rows = self._store.database.execute(
            "SELECT state FROM processes WHERE name <> ? AND seen_s >= ?",
            (process.name, now_s - 3.0 * PUBLISH_S),
        )
        others: Counter[str] = Counter()
        for (state,) in rows:
            others.update(json.loads(state).get("engines") or {})
        ENGINES.hear(others)

    def confirm(self, totals: Totals) -> None:
        """Take the totals over all processes over: the last batch is written."""
        self._meter.confirm(totals.used)
        self._numbers.confirm(totals.shared)
        self.monitors.confirm(totals)
        for live in list(self.monitors.live.values()):
            live.pull(self._store)
        if self.monitors.live and self._process is not None:
            self._hear(self._process)
        if totals.keys_version != self._keys_version:
            self._authenticator.ring = load_ring(self._store)
            self._keys_version = totals.keys_version
