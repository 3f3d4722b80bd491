from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.ledger import database, queries
from suffice.ledger.database import (
    LedgerAway,
    LedgerError,
    connect,
    holds_password,
    shown,
    version_of,
)
from suffice.ledger.export import records
from suffice.ledger.migrations import MIGRATIONS, TRAFFIC, VERSION
from suffice.ledger.records import (
    Batch,
    Entry,
    FeedbackRow,
    RequestRow,
    SampleRow,
    TextRow,
    Used,
    Watched,
    Window,
)
from suffice.ledger.store import Store, open_existing

Opened = Callable[[str], Store]


def entry(number: int, *, at_s: float = 1000.0, **told: object) -> Entry:
    name = f"req-{number}"
    return Entry(
        request=RequestRow(
            id=name, started_s=at_s, endpoint="/v1/chat/completions", arm="esc",
            completion_tokens=7, **told,  # type: ignore[arg-type]
        ),
        samples=(
            SampleRow(
                request_id=name, choice=0, sample=0, model="m", purpose="answer",
                status="finished", prompt_tokens=3, completion_tokens=7,
            ),
        ),
        text=TextRow(request_id=name, prompt="asked", output="answered"),
    )  # fmt: skip


def batch(name: str, *entries: Entry, at_s: float = 1000.0) -> Batch:
    return Batch(id=name, at_s=at_s, entries=list(entries))


def test_what_is_written_is_read(url: str, opened: Opened) -> None:
    store = opened(url)
    store.write(batch("a", entry(1, usd=0.25, model="é\N{SNOWMAN}")))
    again = opened(url)
    (found,) = queries.recent(again, 10)
    assert (found["id"], found["usd"], found["model"]) == ("req-1", 0.25, "é\N{SNOWMAN}")
    assert found["sample_rows"][0]["completion_tokens"] == 7
    assert queries.counts(again)["texts"] == 1


def test_text_that_no_database_takes_is_taken(url: str, opened: Opened) -> None:
    store = opened(url)
    store.write(batch("a", entry(1, model="a\x00b\ud800c\N{SNOWMAN}")))
    (found,) = queries.recent(store, 1)
    assert found["model"] == "a\N{REPLACEMENT CHARACTER}b?c\N{SNOWMAN}"


def test_a_batch_written_twice_counts_once(url: str, opened: Opened) -> None:
    store = opened(url)
    one = batch("a", entry(1))
    window = Window("k", "day", 0)
    one.used[window] = Used(1, 10, 0.5)
    one.watched = [Watched(window, 0)]
    one.traffic[1000, "esc"] = (1.0,) * len(TRAFFIC)
    one.moved["lambda"] = 0.25
    for _ in range(3):
        told = store.write(one)
    assert told.used[window] == Used(1, 10, 0.5)
    assert told.shared == {"lambda": 0.25}
    assert queries.arms_since(store, 0)[0]["requests"] == 1


def test_sums_of_two_processes_add_up(url: str, opened: Opened) -> None:
    first, second = opened(url), opened(url)
    window = Window("k", "day", 0)
    for number, store in enumerate((first, second, first)):
        one = batch(f"b{number}")
        one.used[window] = Used(1, 100, 0.0)
        one.moved["lambda"] = 0.5 if number else -3.0  # never below 0
        one.watched = [Watched(window, 0)]
        told = store.write(one)
    assert told.used[window].tokens == 300
    assert told.shared["lambda"] == pytest.approx(1.0)


def test_prune_takes_what_belongs_to_a_request(url: str, opened: Opened) -> None:
    store = opened(url)
    one = batch("a", entry(1, at_s=10.0), entry(2, at_s=20.0), entry(3, at_s=30.0))
    one.feedback = [FeedbackRow(id="f", request_id="req-1", at_s=11.0, score=1.0)]
    store.write(one)
    assert store.prune(before_s=20.0, texts_before_s=30.0) == 1
    found = queries.counts(store)
    assert (found["requests"], found["samples"]) == (2, 2)
    assert (found["texts"], found["feedback"]) == (1, 0)


def test_the_last_judgement_counts(url: str, opened: Opened) -> None:
    store = opened(url)
    one = batch("a", entry(1))
    one.traffic[1000, "esc"] = (1.0,) * len(TRAFFIC)
    one.feedback = [
        FeedbackRow(id="f1", request_id="req-1", at_s=1.0, score=0.0),
        FeedbackRow(id="f2", request_id="req-1", at_s=2.0, score=1.0),
    ]
    store.write(one)
    (arm,) = queries.arms_since(store, 0)
    assert (arm["judged"], arm["score"]) == (1, 1.0)


def test_a_failed_batch_leaves_nothing(url: str, opened: Opened) -> None:
    store = opened(url)
    broken = batch("a", entry(1))
    broken.moved = {"lambda": "much"}  # type: ignore[dict-item]
    broken.traffic[0, "esc"] = (None,) * len(TRAFFIC)  # type: ignore[assignment]
    with pytest.raises(LedgerError):
        store.write(broken)
    assert queries.counts(store)["requests"] == 0
    store.write(batch("b", entry(1)))
    assert queries.counts(store)["requests"] == 1


def test_a_later_schema_is_refused(url: str, opened: Opened) -> None:
    store = opened(url)
    store.database.execute("UPDATE version SET number = ?", (VERSION + 1,))
    with pytest.raises(LedgerError, match=f"version {VERSION + 1}.*upgrade"):
        Store(url)


def test_series_have_no_holes(url: str, opened: Opened) -> None:
    store = opened(url)
    one = batch("a")
    one.traffic[1000, "esc"] = (2.0,) * len(TRAFFIC)
    one.latency[1000, "total", 12] = 4
    store.write(one)
    found = queries.series(store, 980, 1020, 10)
    assert [step["requests"] for step in found] == [0, 0, 2, 0, 0]
    assert found[2]["arms"] == {"esc": 2.0}
    assert 0.0 < found[2]["total_p50_s"] <= 0.01


def test_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is not a database, it is a text of some length" * 40)
    with pytest.raises(LedgerError, match=r"not a database.*--ledger"):
        Store(str(path))


def test_a_wrong_path_is_not_an_empty_ledger(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ledger at"):
        open_existing(str(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(InputError, match="postgresql://"):
        connect("mysql://x/y")


def test_a_locked_file_is_away_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suffice.ledger.database.BUSY_S", 0.05)
    path = tmp_path / "l.db"
    store = Store(str(path))
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerAway, match="locked"):
        store.write(batch("a", entry(1)))
    other.rollback()
    other.close()
    store.write(batch("a", entry(1)))
    assert queries.counts(store)["requests"] == 1
    store.write(Batch(id="e", at_s=4.0, entries=[entry(2)]))
    assert queries.counts(store)["requests"] == 2
    store.close()


def test_a_new_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    """Prompts may be in it; the log beside it and new folders are as private."""
    old = os.umask(0o022)
    try:
        path = tmp_path / "state" / "suffice" / "ledger.db"
        store = Store(str(path))
        store.write(Batch(id="x", at_s=1.0))
        files = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert files
        assert set(files.values()) == {0o600}, files
        assert {f.stat().st_mode & 0o777 for f in (path.parent, path.parent.parent)} == {0o700}
        store.close()
        path.chmod(0o640)  # someone wants it so
        Store(str(path)).close()
        assert path.stat().st_mode & 0o777 == 0o640
        assert tmp_path.stat().st_mode & 0o777 != 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://me:hunter2@db/x?sslmode=require", "postgresql://me@db/x"),
        ("postgresql://me:hun/hunter2@db/x", "postgresql://me@db/x"),
        ("postgresql://me:a@hunter2@db/x", "postgresql://me@db/x"),
        ("mysql://me:hunter2@db/x", "mysql://me@db/x"),
        ("postgresql://me:hunter2@[::1]:port/x", "postgresql://me@[::1]:port/x"),
        ("postgresql://db/x?password=hunter2", "…"),
        ("host=db password=hunter2", "…"),
        ("/a/ledger@home.db", "/a/ledger@home.db"),
        (":memory:", ":memory:"),
    ],
)
def test_whatever_a_url_looks_like_its_password_is_not_shown(url: str, seen: str) -> None:
    assert shown(url) == seen
    assert holds_password(url) == ("hunter2" in url)
    if "hunter2" in url:
        with pytest.raises((LedgerError, InputError)) as caught:
            connect(url)
        assert "hunter2" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@db:5432/x") == "postgresql://me@db:5432/x"
    with pytest.raises(LedgerAway) as caught:
        Store("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_a_ledger_of_the_first_version_is_brought_up_to_date(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(database, "MIGRATIONS", MIGRATIONS[:1])
        before.setattr(database, "VERSION", 1)
        old = Store(url)
        old.write(Batch(id="a", at_s=1.0, moved={"lambda": 0.5}))
        old.database.execute(
            "INSERT INTO requests (id, started_s, endpoint, ending, stream, choices, elapsed_s) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            ("old", 1.0, "/v1/chat/completions", "answered", 0, 1, 0.5),
        )
        with pytest.raises(LedgerError):
            old.database.execute("SELECT * FROM monitors")
        old.close()
    store = Store(url)
    assert version_of(store.database) == VERSION
    batch = Batch(id="b", at_s=2.0, monitors={"c": {0: 1.5, 3: -2.0}}, alarms={"c": "drift"})
    assert store.write(batch).monitors == {"c": {0: 1.5, 3: -2.0}}
    again = Batch(id="d", at_s=3.0, monitors={"c": {0: -0.5}}, alarms={"c": "another reason"})
    told = store.write(again)
    assert (told.monitors, told.alarms) == ({"c": {0: 1.0, 3: -2.0}}, {"c": "drift"})
    assert told.shared["lambda"] == 0.5
    assert queries.counts(store)["requests"] == 1
    store.close()


def test_a_process_of_an_earlier_version_can_go_on_writing(url: str) -> None:
    """An upgrade runs both for a while: what the earlier one writes neither fails nor is shown."""
    store = Store(url)
    execute = store.database.execute
    execute(
        "INSERT INTO requests (id, started_s, endpoint, ending, stream, choices, elapsed_s, "
        "completion_tokens, baseline_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ("old", 1.0, "/v1/chat/completions", "answered", 0, 1, 0.5, 5, 200.0),
    )
    sums = ("requests, failed, left_early, prompt_tokens, completion_tokens, baseline_tokens, "
            "baselined_tokens, samples, samples_cancelled, usd, elapsed_s")  # fmt: skip
    execute(
        f"INSERT INTO traffic (bucket_s, arm, {sums}) VALUES (0, 'vote', 1, 0, 0, 9, 5, 200, 5, "
        "1, 0, 0, 0.5)"
    )
    # Logs of bets of other sizes: they are no part of this version's sums.
    execute("INSERT INTO monitors (certificate, cell, value) VALUES ('c', 0, 7.0)")
    new = (2, 0, 0, 20, 10, 2, 0, 0.1, 0.2, 1, 0, 0.04, 0.01, 0.0, 0.0)
    told = store.write(
        Batch(id="a", at_s=2.0, traffic={(0, "vote"): new}, monitors={"c": {0: 0.25}})
    )
    assert told.monitors == {"c": {0: 0.25}}
    (arm,) = queries.arms_since(store, 0)
    assert (arm["requests"], arm["completion_tokens"]) == (3, 15)
    assert arm["saved"] == pytest.approx(-3.0)  # of the new one's alone: 200 is no baseline
    assert next(records(store))["saved"] is None
    store.close()
