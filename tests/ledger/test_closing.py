"""A connection that is closed while another thread uses it: nothing is freed under that thread."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from suffice.ledger.database import LedgerAway, Sqlite
from suffice.ledger.records import Entry, RequestRow
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer

# Without waiting for the other thread this ends in a segmentation fault within a few rounds.
UNDER_LOAD = """
import sys, threading, time
from suffice.ledger.database import LedgerAway, Sqlite

def work(database):
    try:
        while True:
            with database.transaction():
                database.execute_many("INSERT INTO t VALUES (?)", [(n,) for n in range(300)])
            database.execute("SELECT count(*) FROM t")
    except LedgerAway:
        return

for number in range(12):
    database = Sqlite(f"{sys.argv[1]}/{number}.db")
    database.execute("CREATE TABLE t (n INTEGER)")
    threads = [threading.Thread(target=work, args=(database,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.003)
    database.close()
    for thread in threads:
        thread.join()
"""


def test_closing_waits_for_the_transaction_that_another_thread_is_in(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    database = Sqlite(path)
    database.execute("CREATE TABLE t (n INTEGER)")
    inside, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with database.transaction():
            inside.set()
            go_on.wait()
            database.execute("INSERT INTO t VALUES (1)")

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    inside.wait()
    closing = threading.Thread(target=database.close, daemon=True)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()  # it waits
    go_on.set()
    writing.join()
    closing.join()
    again = Sqlite(path)
    assert again.execute("SELECT n FROM t") == [(1,)]  # and what was begun is whole
    again.close()


def test_a_closed_connection_says_so_and_closes_again(tmp_path: Path) -> None:
    database = Sqlite(str(tmp_path / "ledger.db"))
    database.close()
    database.close()
    with pytest.raises(LedgerAway, match="closed"):
        database.execute("SELECT 1")
    with pytest.raises(LedgerAway, match="closed"):
        database.execute_many("SELECT ?", [(1,)])


def test_a_writer_that_outlives_its_ledger_ends_by_itself(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "ledger.db"))
    writer = Writer(store, flush_s=0.0)
    released = threading.Event()

    def make() -> Entry:
        released.wait()
        return Entry(request=RequestRow(id="req-1", started_s=0.0, endpoint="/v1/x"))

    writer.start()
    writer.put(make)
    writer.close(timeout_s=0.05)  # it is not done by then
    store.close()
    released.set()
    writer.close()
    assert not any(thread.name == "suffice-ledger" for thread in threading.enumerate())
    assert writer.away


def test_closing_under_load_does_not_end_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", UNDER_LOAD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
