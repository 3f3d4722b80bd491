from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from suffice.core.errors import DiskFull, InputError, TableError
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import LadderRung, Recipe

pytestmark = pytest.mark.torch


@pytest.fixture
def failed(rung: LadderRung) -> RunRecord:
    pytest.importorskip("torch")
    from suffice.training.pretrain.trainer import failed_record

    return failed_record(rung, Recipe(), "data", 2.5, "killed")


@pytest.fixture
def good(failed: RunRecord) -> RunRecord:
    return replace(
        failed, status="finished", error=None, loss=3.5, loss_per_byte=1.4, train_loss=3.4,
        evaluations=((1000, 4.0), (2000, 3.5)), run_id="good",
    )  # fmt: skip


def test_records_come_back_and_the_last_of_a_run_wins(
    tmp_path: Path, good: RunRecord, failed: RunRecord
) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    retried = replace(good, run_id=failed.run_id)
    for record in (failed, good, retried):
        store.append(record)
    assert store.read() == [good, retried]
    assert store.done() == {"good", failed.run_id}


def test_a_failed_run_is_not_done(tmp_path: Path, good: RunRecord, failed: RunRecord) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    store.append(failed)
    store.append(replace(good, run_id="diverged", status="diverged", loss=None))
    assert store.done() == {"diverged"}


@pytest.mark.parametrize("cut", [1, 40, 700])
def test_a_kill_in_the_middle_of_a_line_loses_that_line_alone(
    tmp_path: Path, cut: int, good: RunRecord
) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    store.append(good)
    store.append(replace(good, run_id="cut"))
    data = store.path.read_bytes()
    store.path.write_bytes(data[:-cut])
    assert store.read() == [good]
    third = replace(good, run_id="third")
    store.append(third)
    assert store.read() == [good, third]
    assert len(store.path.read_text().splitlines()) == 2


def test_a_damaged_line_is_named(tmp_path: Path, good: RunRecord) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    store.append(good)
    with store.path.open("a") as stream:
        stream.write('{"run_id": 1}\n')
    with pytest.raises(TableError, match=r"runs\.jsonl', line 2"):
        store.read()
    row = json.loads(store.path.read_text().splitlines()[0])
    store.path.write_text(json.dumps({**row, "mystery": 1}) + "\n")
    with pytest.raises(TableError, match="unknown fields mystery"):
        store.read()


def test_a_full_disk_leaves_the_store_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: RunRecord
) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    store.append(good)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="repeat the same command"):
        store.append(replace(good, run_id="second"))
    monkeypatch.undo()
    assert store.read() == [good]
    assert store.path.read_bytes().endswith(b"\n")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    with (
        store.writing(),
        pytest.raises(InputError, match="another process is writing"),
        RunStore(store.path).writing(),
    ):
        pass
    with store.writing():
        pass


def test_parquet_holds_the_same_records(tmp_path: Path, good: RunRecord, failed: RunRecord) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    store = RunStore(tmp_path / "runs.jsonl")
    store.append(good)
    store.append(failed)
    store.write_parquet(tmp_path / "runs.parquet")
    rows = parquet.read_table(tmp_path / "runs.parquet").to_pylist()
    assert [row["run_id"] for row in rows] == ["good", failed.run_id]
    assert rows[0]["evaluation_losses"] == [4.0, 3.5]
    assert rows[1]["loss"] is None
    same = set(RunRecord.__dataclass_fields__) - {"evaluations"}
    assert set(rows[0]) == same | {"evaluation_tokens", "evaluation_losses"}
