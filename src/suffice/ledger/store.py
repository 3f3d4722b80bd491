"""Writing the ledger: one batch is one transaction, and writing it again changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from suffice.core.errors import InputError
from suffice.ledger.database import Database, connect, migrate
from suffice.ledger.migrations import RETIRED, TRAFFIC
from suffice.ledger.records import (
    COLUMNS,
    SLICE,
    TABLES,
    Batch,
    FeedbackRow,
    RequestRow,
    SampleRow,
    TextRow,
    ToolCallRow,
    Totals,
    Used,
    Window,
    values_of,
)

KEYS_VERSION = "keys_version"
# Batches are remembered this long, so that one whose commit went unanswered is not counted twice.
BATCH_MEMORY_S = 3600.0
LONGEST_WINDOW_S = 32 * 86400
# Tables whose rows go with their request.
OF_A_REQUEST = ("samples", "tool_calls", "texts", "feedback", "audits")

_INSERT = {
    kind: f"INSERT INTO {table} ({', '.join(COLUMNS[kind])}) "
    f"VALUES ({', '.join('?' * len(COLUMNS[kind]))}) ON CONFLICT DO NOTHING"
    for kind, table in TABLES.items()
}
_TRAFFIC = (
    f"INSERT INTO traffic (bucket_s, arm, {', '.join(TRAFFIC + RETIRED)}) "
    f"VALUES (?, ?, {', '.join(['?'] * len(TRAFFIC) + ['0'] * len(RETIRED))}) "
    "ON CONFLICT (bucket_s, arm) DO UPDATE SET "
    + ", ".join(f"{name} = traffic.{name} + excluded.{name}" for name in TRAFFIC)
)
_LATENCY = (
    "INSERT INTO latency (bucket_s, phase, bin, count) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (bucket_s, phase, bin) DO UPDATE SET count = latency.count + excluded.count"
)
_USED = (
    "INSERT INTO used (key_id, kind, start_s, requests, tokens, usd) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key_id, kind, start_s) DO UPDATE SET requests = used.requests + "
    "excluded.requests, tokens = used.tokens + excluded.tokens, usd = used.usd + excluded.usd"
)
_SHARED = (
    "INSERT INTO shared (name, value) VALUES (?, CASE WHEN ? > 0 THEN ? ELSE 0 END) "
    "ON CONFLICT (name) DO UPDATE SET value = "
    "CASE WHEN shared.value + ? > 0 THEN shared.value + ? ELSE 0 END RETURNING value"
)
_MONITORS = (
    "INSERT INTO monitor_sums (certificate, cell, value) VALUES (?, ?, ?) "
    "ON CONFLICT (certificate, cell) DO UPDATE SET value = monitor_sums.value + excluded.value"
)
_ALARM = "INSERT INTO alarms (certificate, at_s, why) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_PROMISE = (
    "INSERT INTO promises (certificate, baseline, saved, low, high, confidence, unit) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_SURPLUS = (
    "DELETE FROM requests WHERE id IN (SELECT id FROM requests "
    "ORDER BY started_s DESC, id DESC LIMIT 1000000000 OFFSET ?) RETURNING id"
)
_PROCESS = (
    "INSERT INTO processes (name, seen_s, state) VALUES (?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET seen_s = excluded.seen_s, state = excluded.state"
)


class Store:
    """The ledger's tables in one database."""

    def __init__(self, url: str, *, keep_newest: int | None = None) -> None:
        """Open `url` and bring its schema up to date; a missing SQLite file is created.

        `keep_newest` bounds the ledger to that many requests: older ones are deleted in the same
        transaction that adds newer ones, so no reader ever sees more.
        """
        self.url = url
        self.keep_newest = keep_newest
        self.database: Database = connect(url)
        try:
            migrate(self.database)
        except BaseException:  # raised again; nobody else could close the connection
            self.database.close()
            raise

    def write(self, batch: Batch) -> Totals:
        """Write `batch`, durably, and hear the totals of the windows that it names.

        Raises LedgerAway if the database cannot be written now; nothing of the batch is then
        written, and it may be written again.
        """
        if not batch.changes:
            return self._totals(batch)
        with self.database.transaction():
            fresh = self.database.execute(
                "INSERT INTO batches (id, at_s) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING id",
                (batch.id, batch.at_s),
            )
            if fresh:
                self._write_rows(batch)
                self._write_sums(batch)
            return self._totals(batch)

    def _write_rows(self, batch: Batch) -> None:
        many = self.database.execute_many
        if batch.entries:
            many(_INSERT[RequestRow], [values_of(e.request) for e in batch.entries])
        samples = [values_of(row) for e in batch.entries for row in e.samples]
        if samples:
            many(_INSERT[SampleRow], samples)
        calls = [values_of(row) for e in batch.entries for row in e.tool_calls]
        if calls:
            many(_INSERT[ToolCallRow], calls)
        texts = [values_of(e.text) for e in batch.entries if e.text is not None]
        if texts:
            many(_INSERT[TextRow], texts)
        if batch.feedback:
            many(_INSERT[FeedbackRow], [values_of(row) for row in batch.feedback])
        if batch.entries and self.keep_newest is not None:
            gone = self.database.execute(_SURPLUS, (self.keep_newest,))
            for table in OF_A_REQUEST:
                many(f"DELETE FROM {table} WHERE request_id = ?", gone)

    def _write_sums(self, batch: Batch) -> None:
        # Every process updates rows in the same order, or two of them would wait for each other.
        many = self.database.execute_many
        if batch.traffic:
            many(_TRAFFIC, [(*at, *sums) for at, sums in sorted(batch.traffic.items())])
        if batch.latency:
            many(_LATENCY, [(*at, count) for at, count in sorted(batch.latency.items())])
        if batch.used:
            sums = [(*_at(w), u.requests, u.tokens, u.usd) for w, u in batch.used.items()]
            many(_USED, sorted(sums))
        for name, change in sorted(batch.moved.items()):
            self.database.execute(_SHARED, (name, change, change, change, change))
        moved = [(*at, value) for at, value in sorted(_cells(batch))]
        if moved:
            many(_MONITORS, moved)
        for certificate, why in sorted(batch.alarms.items()):
            self.database.execute(_ALARM, (certificate, batch.at_s, why))
        for certificate, said in sorted(batch.promises.items()):
            self.database.execute(_PROMISE, (certificate, *astuple(said)))
        if batch.process is not None:
            self.database.execute(_PROCESS, (batch.process[0], batch.at_s, batch.process[1]))

    def _totals(self, batch: Batch) -> Totals:
        used: dict[Window, Used] = {}
        for watched in batch.watched:
            budget = watched.budget
            rows = self.database.execute(
                "SELECT kind, start_s, requests, tokens, usd FROM used WHERE key_id = ? "
                "AND (kind = ? AND start_s >= ? OR kind = ? AND start_s = ?)",
                (budget.key_id, SLICE, watched.since_s, budget.kind, budget.start_s),
            )
            for kind, start_s, *sums in rows:
                used[Window(budget.key_id, kind, start_s)] = Used(*sums)
        shared = dict(self.database.execute("SELECT name, value FROM shared"))
        monitors = {
            name: dict(
                self.database.execute(
                    "SELECT cell, value FROM monitor_sums WHERE certificate = ?", (name,)
                )
            )
            for name in batch.monitors
        }
        alarms = self.database.execute("SELECT certificate, why FROM alarms") if monitors else []
        return Totals(
            used=used, shared=shared, keys_version=int(shared.pop(KEYS_VERSION, 0)),
            monitors=monitors, alarms=dict(alarms),
        )  # fmt: skip

    def used_lately(self, now_s: float) -> dict[Window, Used]:
        """Totals that may still bind a key: the last minutes' slices, every open budget window."""
        rows = self.database.execute(
            "SELECT key_id, kind, start_s, requests, tokens, usd FROM used "
            "WHERE kind = 'total' OR start_s >= ?",
            (int(now_s) - LONGEST_WINDOW_S,),
        )
        return {
            Window(key_id, kind, start_s): Used(*sums)
            for key_id, kind, start_s, *sums in rows
            if kind != SLICE or start_s >= now_s - 120
        }

    def begin_shared(self, name: str, value: float) -> None:
        """Give a shared number its first value, unless it has one."""
        self.database.execute(
            "INSERT INTO shared (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value)
        )

    def prune(
        self,
        *,
        before_s: float,
        texts_before_s: float | None = None,
        sums_before_s: float | None = None,
    ) -> int:
        """Delete requests that started before `before_s` (Unix time) with all that belongs to them.

        Returns the number of requests deleted. Texts may have to go sooner. Sums by time go with
        their requests unless told otherwise; keys and what they used are kept.
        """
        sums_s = before_s if sums_before_s is None else sums_before_s
        old = "SELECT id FROM requests WHERE started_s < ?"
        execute = self.database.execute
        with self.database.transaction():
            for table in OF_A_REQUEST:
                execute(f"DELETE FROM {table} WHERE request_id IN ({old})", (before_s,))
            # Labels that count are evidence, as shadows are; one that never did is not.
            early = f"DELETE FROM live_labels WHERE number IS NULL AND request_id IN ({old})"
            execute(early, (before_s,))
            gone = execute("DELETE FROM requests WHERE started_s < ? RETURNING 1", (before_s,))
            for table in ("traffic", "latency"):
                execute(f"DELETE FROM {table} WHERE bucket_s < ?", (int(sums_s),))
            if texts_before_s is not None:
                execute(f"DELETE FROM texts WHERE request_id IN ({old})", (texts_before_s,))
        return len(gone)

    def tidy(self, now_s: float | None = None) -> None:
        """Forget batches, minutes and processes that no longer matter."""
        now_s = time.time() if now_s is None else now_s
        execute = self.database.execute
        with self.database.transaction():
            execute("DELETE FROM batches WHERE at_s < ?", (now_s - BATCH_MEMORY_S,))
            execute("DELETE FROM used WHERE kind = 'slice' AND start_s < ?", (int(now_s) - 3600,))
            execute("DELETE FROM processes WHERE seen_s < ?", (now_s - 86400.0,))

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


def _cells(batch: Batch) -> Iterator[tuple[tuple[str, int], float]]:
    for certificate, cells in batch.monitors.items():
        for cell, change in cells.items():
            yield (certificate, cell), change


def _at(window: Window) -> tuple[str, str, int]:
    return window.key_id, window.kind, window.start_s


def open_existing(url: str) -> Store:
    """The ledger at `url`, which must be there already: a wrong path is not an empty ledger."""
    path = url.removeprefix("sqlite:")
    if "://" not in url and "password=" not in url and not Path(path).is_file():
        raise InputError(
            f"there is no ledger at {path!r}: `suffice serve` makes one, --ledger says where"
        )
    return Store(url)
