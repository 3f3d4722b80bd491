"""The thread that writes the ledger: in batches, off the response path, bounded, with retries.

A row is **acknowledged** when the transaction that holds it has been committed and synced to disk;
`Writer.acknowledged` counts them, and killing the process cannot lose them. What is still waiting
can be lost: at most what arrived in the last `flush_s`, or since the database went away.

While the database is away (disk full, read-only, server gone, locked), rows wait in memory, up to
`queue_rows`; then new ones are dropped and counted. Writing is tried again with growing pauses, and
what waited is written when the database is back.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Protocol

from suffice.ledger.database import LedgerAway, LedgerError
from suffice.ledger.records import Batch, Entry, FeedbackRow, Totals
from suffice.ledger.store import Store

log = logging.getLogger("suffice.ledger")

BATCH_ENTRIES = 2000
IDLE_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
TIDY_S = 600.0
DAY_S = 86400.0
SUMS_IN_MEMORY_S = 3600.0

# What is waiting to be turned into a row: making it is the thread's work, not the event loop's.
Make = Callable[[], Entry | FeedbackRow | None]


class Sums(Protocol):
    """What is added up beside the rows and goes into the same transaction."""

    def fill(self, batch: Batch) -> None:
        """Put what is due into `batch`."""
        ...

    def confirm(self, totals: Totals) -> None:
        """`batch` is written; these are the totals over all processes."""
        ...


@dataclass(slots=True)
class Health:
    """How the writing goes."""

    acknowledged: int = 0  # rows that are on disk
    dropped: int = 0  # requests that will never be
    waiting: int = 0  # rows in memory
    away_since_s: float | None = None
    error: str | None = None
    flush_s: float = 0.0  # how long the last transaction took


@dataclass(slots=True)
class _Pending:
    entries: list[Entry] = field(default_factory=list)
    feedback: list[FeedbackRow] = field(default_factory=list)
    waiters: list[Future[None]] = field(default_factory=list)
    rows: int = 0


class Writer:
    """Writes what it is given, in the order it came, from a thread of its own."""

    def __init__(
        self,
        store: Store,
        sums: Sums | None = None,
        *,
        flush_s: float = 0.2,
        queue_rows: int = 50_000,
        retention_days: float | None = None,
        text_retention_days: float | None = None,
        health: Health | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` counts seconds from any start; only its differences are used."""
        self._store = store
        self._sums = sums
        self._flush_s = flush_s
        self._queue_rows = queue_rows
        self._retention_days = retention_days
        self._text_retention_days = text_retention_days
        self._inbox: deque[tuple[Make, Future[None] | None]] = deque()
        self._pending = _Pending()
        self._batch: tuple[Batch, list[Future[None]]] | None = None
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stop = threading.Event()
        self._clock = clock
        self._tidied_s = -math.inf  # never yet
        self._pause_s = FIRST_PAUSE_S
        self._turning = False  # rows are being made or written
        self.health = Health() if health is None else health
        self._thread = threading.Thread(target=self._run, name="suffice-ledger", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether a new request's rows would be dropped."""
        return len(self._inbox) + self.health.waiting >= self._queue_rows

    @property
    def away(self) -> bool:
        """Whether the last attempt to write failed."""
        return self.health.away_since_s is not None

    def put(self, make: Make) -> None:
        """Write what `make` gives, when there is time; `make` runs in the writer's thread."""
        if self.full:
            self._drop()
            return
        self._inbox.append((make, None))
        if not self._wake.is_set():
            self._wake.set()

    def put_now(self, make: Make) -> Future[None]:
        """As `put`, at once; the future is done when the row is acknowledged."""
        done: Future[None] = Future()
        if self.full:
            self._drop()
            done.set_exception(LedgerError("the ledger's queue is full"))
            return done
        self._inbox.append((make, done))
        self._wake.set()
        self._hurry.set()
        return done

    def caught_up(self) -> Future[None] | None:
        """Done when all that was put before is written; None where nothing waits, or must wait.

        The database may go away meanwhile: whoever waits needs a limit.
        """
        idle = not (self._inbox or self._turning or self.health.waiting)
        if idle or self.away or self.full:
            return None
        return self.put_now(lambda: None)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is waiting, if the database lets us, and end the thread."""
        self._stop.set()
        self._hurry.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self.health.waiting or self._inbox:
            log.error("ledger closed with %d rows unwritten", self.health.waiting)

    def _drop(self) -> None:
        self.health.dropped += 1
        if self.health.dropped & (self.health.dropped - 1) == 0:  # 1, 2, 4, 8 …
            log.error(
                "ledger queue is full: %d requests dropped so far (%s)",
                self.health.dropped, self.health.error or "the database is too slow",
            )  # fmt: skip

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(IDLE_S)
            self._wake.clear()
            self._hurry.wait(self._pause_s if self.away else self._flush_s)
            self._hurry.clear()
            self._turn()
        self._turn()
        while (self._pending.rows or self._batch) and not self.away:
            self._turn()

    def _turn(self) -> None:
        """Write what has come in; no error ends the thread unheard."""
        self._turning = True
        try:
            self._drain()
            self._write()
            if not self.away and self._clock() - self._tidied_s > TIDY_S:
                self._tidy()
        except Exception as error:  # a bug of ours: logged, shown in `health`, and tried again
            log.exception("the ledger's thread met an error that it does not know")
            self._failed(LedgerError(f"unexpected {type(error).__name__}: {error}"))
        finally:
            self._turning = False

    def _drain(self) -> None:
        """Turn what came in into rows."""
        inbox, pending = self._inbox, self._pending
        while inbox:
            make, done = inbox.popleft()
            try:
                row = make()
            except Exception:  # a bug of ours in one row: logged, counted, and the ledger goes on
                log.exception("a ledger row could not be made")
                self.health.dropped += 1
                if done is not None:
                    done.set_exception(LedgerError("the row could not be made"))
                continue
            if isinstance(row, Entry):
                pending.entries.append(row)
                pending.rows += 1 + len(row.samples) + len(row.tool_calls)
            elif row is not None:
                pending.feedback.append(row)
                pending.rows += 1
            if done is not None:
                pending.waiters.append(done)
        self.health.waiting = pending.rows + (self._batch[0].rows if self._batch else 0)

    def _next_batch(self) -> tuple[Batch, list[Future[None]]]:
        pending = self._pending
        batch = Batch(id=secrets.token_hex(12), at_s=time.time())
        batch.entries, pending.entries = (
            pending.entries[:BATCH_ENTRIES], pending.entries[BATCH_ENTRIES:],
        )  # fmt: skip
        waiters: list[Future[None]] = []
        if not pending.entries:  # the last part: whoever waits is served by it at the latest
            batch.feedback, pending.feedback = pending.feedback, []
            waiters, pending.waiters = pending.waiters, []
        pending.rows -= batch.rows
        pending.rows = max(0, pending.rows)
        if self._sums is not None:
            self._sums.fill(batch)
        return batch, waiters

    def _write(self) -> bool:
        """Write one batch; whether it worked."""
        if self._batch is None:
            self._batch = self._next_batch()
        batch, waiters = self._batch
        began_s = time.perf_counter()
        try:
            totals = self._store.write(batch)
        except LedgerAway as error:
            self._failed(error)
            return False
        except Exception:
            # Any error but LedgerAway would come again: it is logged, what can be written of the
            # batch is, the rest is counted as dropped, and the thread lives on.
            log.exception("a batch of %d rows cannot be written as it is", batch.rows)
            self._batch = None
            self._salvage(batch, waiters)
            return True
        self._batch = None
        self._recovered()
        self.health.flush_s = time.perf_counter() - began_s
        self.health.acknowledged += batch.rows
        self.health.waiting = self._pending.rows
        for waiter in waiters:
            waiter.set_result(None)
        if self._sums is not None:
            self._sums.confirm(totals)
        if self._pending.rows:
            self._wake.set()
            self._hurry.set()
        return True

    def _salvage(self, batch: Batch, waiters: list[Future[None]]) -> None:
        """Write the rows of a batch one by one; drop and count those that cannot be."""
        alone = [
            Batch(id=secrets.token_hex(12), at_s=batch.at_s, entries=[e]) for e in batch.entries
        ]
        alone += [
            Batch(id=secrets.token_hex(12), at_s=batch.at_s, feedback=[f]) for f in batch.feedback
        ]
        judged = len(batch.feedback)  # whose judgements are waited for
        for one in alone:
            try:
                self._store.write(one)
            except LedgerAway as error:
                self._failed(error)  # the database left in the middle: wait with the rest
                self._pending.entries.extend(one.entries)
                self._pending.feedback.extend(one.feedback)
                self._pending.rows += one.rows
            except Exception:  # one row's own fault: logged with its trace, and counted
                log.exception("a row cannot be written and is dropped")
                self.health.dropped += 1
            else:
                self.health.acknowledged += one.rows
                judged -= len(one.feedback)
        for waiter in waiters:
            if judged:
                waiter.set_exception(LedgerError("the row could not be written"))
            else:
                waiter.set_result(None)
        if alone:  # sums are nobody's fault: budgets and limits count on them
            sums = replace(batch, id=secrets.token_hex(12), entries=[], feedback=[])
            self._batch = (sums, [])

    def _failed(self, error: LedgerError) -> None:
        self.health.error = str(error)  # first: whoever sees that it is away may ask why
        if not self.away:
            self.health.away_since_s = time.time()
            log.error("ledger cannot be written, rows wait in memory: %s", error)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._wake.set()

    def _recovered(self) -> None:
        if self.health.away_since_s is not None:
            log.warning(
                "ledger is written again after %.1f s, %d requests were dropped",
                time.time() - self.health.away_since_s, self.health.dropped,
            )  # fmt: skip
        self.health.away_since_s = None
        self.health.error = None
        self._pause_s = FIRST_PAUSE_S

    def _tidy(self) -> None:
        """Forget what is older than it may be."""
        self._tidied_s = self._clock()
        now_s = time.time()
        try:
            self._store.tidy(now_s)
            days, texts = self._retention_days, self._text_retention_days
            bounded = self._store.keep_newest is not None
            if bounded or days is not None or texts is not None:
                self._store.prune(
                    before_s=0.0 if days is None else now_s - days * DAY_S,
                    texts_before_s=None if texts is None else now_s - texts * DAY_S,
                    sums_before_s=now_s - SUMS_IN_MEMORY_S if bounded else None,
                )
        except LedgerError as error:
            log.warning("ledger could not be tidied: %s", error)
