from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError
from suffice.ledger.migrations import TRAFFIC
from suffice.ledger.records import Batch, Entry, FeedbackRow, RequestRow
from suffice.ledger.store import Store

RUN = CliRunner()


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = str(tmp_path / "l.db")
    store = Store(path)
    rows = [
        RequestRow(
            id=f"r{n}", started_s=1000.0 + n, endpoint="/v1/x", arm="esc", completion_tokens=5
        )
        for n in range(3)
    ]  # fmt: skip
    batch = Batch(id="b", at_s=0.0, entries=[Entry(request=row) for row in rows])
    batch.traffic = {(1000, "esc"): (3.0,) * len(TRAFFIC)}
    batch.feedback = [FeedbackRow(id="f", request_id="r1", at_s=1.0, score=1.0)]
    store.write(batch)
    store.close()
    return path


def test_stats_and_export(url: str, tmp_path: Path) -> None:
    found = json.loads(RUN.invoke(app, ["ledger", "stats", "--ledger", url, "--json"]).output)
    assert found["rows"]["requests"] == found["total"]["requests"] == 3
    assert found["total"]["score"] == 1.0
    assert "esc" in RUN.invoke(app, ["ledger", "stats", "--ledger", url]).output
    out = tmp_path / "x.jsonl"
    assert (
        "3 requests"
        in RUN.invoke(app, ["ledger", "export", "--out", str(out), "--ledger", url]).output
    )
    assert [json.loads(line)["score"] for line in out.read_text().splitlines()] == [None, 1.0, None]
    printed = RUN.invoke(app, ["ledger", "export", "--ledger", url]).output
    assert printed == out.read_text()


def test_prune(url: str) -> None:
    said = RUN.invoke(app, ["ledger", "prune", "--older-than", "1d", "--ledger", url]).output
    assert said.startswith("3 requests")


def test_keys(url: str) -> None:
    made = RUN.invoke(
        app,
        ["keys", "add", "alice", "--ledger", url, "--budget-tokens", "2M", "--budget-usd", "5",
         "--window", "day", "--requests-per-minute", "60"],
    )  # fmt: skip
    assert made.exit_code == 0
    text = made.stdout.splitlines()[0]
    assert text.startswith("sk-suffice-")
    (row,) = json.loads(RUN.invoke(app, ["keys", "list", "--ledger", url, "--json"]).output)
    assert (row["name"], row["budget_tokens"], row["budget_window"]) == ("alice", 2_000_000, "day")
    shown = RUN.invoke(app, ["keys", "list", "--ledger", url], env={"COLUMNS": "200"}).output
    assert "2.00M tokens, $5 a day" in shown
    assert text not in shown
    assert "revoked" in RUN.invoke(app, ["keys", "revoke", "alice", "--ledger", url]).output
    again = RUN.invoke(app, ["keys", "revoke", "alice", "--ledger", url])
    assert isinstance(again.exception, InputError)
    wrong = RUN.invoke(app, ["keys", "add", "bob", "--window", "year", "--ledger", url])
    assert "hour, day, month, total" in str(wrong.exception)


def test_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    for verb in (["ledger", "stats"], ["keys", "list"]):
        result = RUN.invoke(app, [*verb, "--ledger", str(tmp_path / "none.db")])
        assert "no ledger at" in str(result.exception)
