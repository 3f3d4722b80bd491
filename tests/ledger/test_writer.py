from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from suffice.ledger import queries
from suffice.ledger.database import LedgerAway
from suffice.ledger.records import (
    Batch,
    Entry,
    FeedbackRow,
    RequestRow,
    SampleRow,
    Totals,
    Used,
    Watched,
    Window,
)
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer


def entry(number: int) -> Entry:
    return Entry(
        request=RequestRow(id=f"req-{number:06d}", started_s=float(number), endpoint="/v1/x")
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.005)


class Flaky:
    """A store that can be away."""

    keep_newest = None

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.attempts = 0

    def write(self, batch: Batch) -> Totals:
        self.attempts += 1
        if self.away:
            raise LedgerAway("disk full")
        return self._store.write(batch)

    def tidy(self, now_s: float) -> None:
        self._store.tidy(now_s)


@pytest.fixture
def flaky(tmp_path: Path) -> Flaky:
    return Flaky(Store(str(tmp_path / "l.db")))


def count_in(flaky: Flaky) -> int:
    return int(queries.counts(flaky._store)["requests"])


def writer_of(store: Any, **how: Any) -> Writer:
    writer = Writer(store, **{"flush_s": 0.01, **how})
    writer.start()
    return writer


def test_rows_are_acknowledged_when_they_are_on_disk(flaky: Flaky) -> None:
    writer = writer_of(flaky)
    for number in range(50):
        writer.put(lambda n=number: entry(n))
    wait_for(lambda: writer.health.acknowledged == 50)
    assert count_in(flaky) == 50
    writer.close()
    flaky._store.close()


def test_while_the_database_is_away_rows_wait_and_then_are_written(flaky: Flaky) -> None:
    flaky.away = True
    writer = writer_of(flaky)
    for number in range(30):
        writer.put(lambda n=number: entry(n))
    wait_for(lambda: writer.away)
    assert writer.health.error == "disk full"
    assert (writer.health.acknowledged, writer.health.dropped) == (0, 0)
    flaky.away = False
    wait_for(lambda: writer.health.acknowledged == 30)
    assert not writer.away
    assert count_in(flaky) == 30
    writer.close()
    flaky._store.close()


def test_a_full_queue_drops_and_counts(flaky: Flaky) -> None:
    flaky.away = True
    writer = writer_of(flaky, queue_rows=10)
    for number in range(25):
        writer.put(lambda n=number: entry(n))
    wait_for(lambda: writer.away)
    assert writer.full
    assert writer.health.dropped == 15
    flaky.away = False
    wait_for(lambda: writer.health.acknowledged == 10)
    assert not writer.full
    writer.close()
    flaky._store.close()


def test_a_row_that_cannot_be_made_does_not_end_the_ledger(flaky: Flaky) -> None:
    writer = writer_of(flaky)

    def broken() -> Entry:
        raise ValueError("a bug")

    failed = writer.put_now(broken)
    done = writer.put_now(lambda: entry(1))
    done.result(5)
    assert failed.exception(5) is not None
    assert count_in(flaky) == 1
    writer.close()
    flaky._store.close()


def test_a_batch_that_can_never_be_written_does_not_stop_the_ledger(flaky: Flaky) -> None:
    writer = writer_of(flaky, flush_s=0.2)
    odd = Entry(
        request=RequestRow(id="odd", started_s=0.0, endpoint="x", status=2**80)  # no column's size
    )
    for one in (entry(1), odd, entry(2)):
        writer.put(lambda one=one: one)
    wait_for(lambda: writer.health.acknowledged == 2)
    assert writer.health.dropped == 1
    writer.put(lambda: entry(3))
    wait_for(lambda: writer.health.acknowledged == 3)
    assert count_in(flaky) == 3
    writer.close()
    flaky._store.close()


def test_closing_writes_what_is_waiting(flaky: Flaky) -> None:
    writer = writer_of(flaky, flush_s=5.0)
    for number in range(3000):  # more than one batch
        writer.put(lambda n=number: entry(n))
    writer.close()
    assert count_in(flaky) == 3000
    flaky._store.close()


def test_a_bounded_ledger_keeps_the_newest_at_every_moment() -> None:
    """Checked after every transaction, whatever the clock says: no wait for a tidy."""
    store = Store(":memory:", keep_newest=100)

    def with_sample(number: int) -> Entry:
        row = entry(number)
        sample = SampleRow(
            request_id=row.request.id, choice=0, sample=0, model="m", purpose="sample",
            status="done", prompt_tokens=1, completion_tokens=1,
        )  # fmt: skip
        return replace(row, samples=(sample,))

    for first in range(0, 500, 40):
        rows = [with_sample(number) for number in range(first, first + 40)]
        store.write(Batch(id=f"batch {first}", at_s=1.0, entries=rows))
        counts = queries.counts(store)
        assert counts["requests"] == counts["samples"] == min(first + 40, 100)
    kept = {row[0] for row in store.database.execute("SELECT id FROM requests")}
    assert kept == {entry(number).request.id for number in range(420, 520)}
    store.close()


@pytest.mark.parametrize("booted_s_ago", [0.0, 60.0, 1e6])
def test_old_rows_go_whenever_the_machine_was_booted(booted_s_ago: float) -> None:
    """A monotonic clock starts near zero on a machine that has just booted."""
    store = Store(":memory:")
    writer = Writer(store, flush_s=0.01, retention_days=1.0, clock=lambda: booted_s_ago)
    writer.put(lambda: entry(1))  # of long ago
    writer.start()
    wait_for(lambda: writer.health.acknowledged > 0 and queries.counts(store)["requests"] == 0)
    writer.close()
    store.close()


def test_an_unknown_error_does_not_end_the_thread_unheard(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Exception):
        pass

    def broken(now_s: float) -> None:
        raise Odd("never seen before")

    monkeypatch.setattr(flaky, "tidy", broken)
    writer = Writer(flaky, flush_s=0.01)  # type: ignore[arg-type]
    writer.start()
    wait_for(lambda: "never seen before" in caplog.text)
    writer.put(lambda: entry(1))
    wait_for(lambda: count_in(flaky) == 1)
    wait_for(lambda: writer.health.error is None)  # it writes again, and says so
    writer.close()


KILLED = """
import sys, time
from suffice.ledger.records import Entry, RequestRow
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer
store = Store(sys.argv[1])
writer = Writer(store, flush_s=0.01)
writer.start()
first = int(sys.argv[2])
for number in range(first, first + 10**9):
    row = RequestRow(id=f"req-{number}", started_s=1.0, endpoint="x")
    writer.put(lambda row=row: Entry(request=row))
    if number % 50 == 0:
        print(writer.health.acknowledged, flush=True)
        time.sleep(0.001)
"""


def test_acknowledged_rows_survive_kill_9(tmp_path: Path) -> None:
    """What the writer said is on disk is there after kill -9, five times on one file."""
    path = tmp_path / "l.db"
    program = textwrap.dedent(KILLED)
    known = 0
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(attempt * 10**6)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        acknowledged = 0
        while acknowledged < 300 * (attempt + 1):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:  # what it said before it died
            if line.endswith("\n"):
                acknowledged = int(line)
        process.stdout.close()
        process.wait()
        store = Store(str(path))  # opens clean
        assert store.database.execute("PRAGMA integrity_check") == [("ok",)]
        found = queries.counts(store)["requests"]
        store.close()
        assert found - known >= acknowledged
        known = found


def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """SQLite's own page limit stands for a disk without room: the same error, the same way back."""
    store = Store(str(tmp_path / "l.db"))
    pages = int(store.database.execute("PRAGMA page_count")[0][0])
    store.database.execute(f"PRAGMA max_page_count = {pages + 2}")
    writer = writer_of(store)
    for number in range(2000):
        writer.put(lambda n=number: entry(n))
    wait_for(lambda: writer.away)
    assert "full" in (writer.health.error or "")
    store.database.execute("PRAGMA max_page_count = 100000")
    wait_for(lambda: writer.health.acknowledged == 2000, 10)
    writer.close()
    assert queries.counts(store)["requests"] == 2000
    store.close()


def test_a_read_only_database_is_survived(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "l.db"))
    store.database.execute("PRAGMA query_only = ON")
    writer = writer_of(store)
    writer.put(lambda: entry(1))
    wait_for(lambda: writer.away)
    assert "readonly" in (writer.health.error or "")
    store.database.execute("PRAGMA query_only = OFF")
    wait_for(lambda: writer.health.acknowledged == 1)
    writer.close()
    store.close()


def test_what_is_good_in_a_batch_is_kept_with_its_sums_and_told(tmp_path: Path) -> None:
    """One row that no database takes costs neither its neighbours nor the sums beside them."""
    store = Store(str(tmp_path / "l.db"))
    bad = Entry(request=RequestRow(id="bad", started_s=1.0, endpoint=object()))  # type: ignore[arg-type]
    key = Window("k", "total", 0)

    class Sums:
        heard: ClassVar[list[Totals]] = []
        due: ClassVar[list[int]] = [1]

        def fill(self, batch: Batch) -> None:
            if self.due:
                self.due.clear()
                batch.used = {key: Used(requests=2, tokens=30)}
            batch.watched = [Watched(key, 0)]

        def confirm(self, totals: Totals) -> None:
            self.heard.append(totals)

    sums = Sums()
    writer = Writer(store, sums, flush_s=0.05)
    writer.put(lambda: bad)
    writer.put(lambda: entry(1))
    judgement = FeedbackRow(id="f", request_id="req-000001", at_s=1.0, score=1.0)
    done = writer.put_now(lambda: judgement)
    writer.start()
    assert done.result(5) is None  # it is on disk, whatever became of the others
    wait_for(lambda: any(told.used.get(key) is not None for told in sums.heard))
    writer.close()
    assert sums.heard[-1].used[key] == Used(requests=2, tokens=30)
    assert queries.counts(store)["requests"] == 1
    assert writer.health.dropped == 1
    store.close()
