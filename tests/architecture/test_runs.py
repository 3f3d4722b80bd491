"""Tables of runs: what is understood, and the one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suffice.architecture.runs import RunsTable, load_runs
from suffice.core.errors import TableError, UnknownName

GOOD = "N,D,loss\n1e8,2e9,3.1\n2e8,4e9,2.9\n"


def table(tmp_path: Path, text: str, name: str = "runs.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_formats_agree(tmp_path: Path) -> None:
    csv = load_runs(table(tmp_path, GOOD))
    tsv = load_runs(table(tmp_path, GOOD.replace(",", "\t"), "runs.tsv"))
    lines = '{"N": 1e8, "D": 2e9, "loss": 3.1}\n\n{"N": 2e8, "D": 4e9, "loss": 2.9}\n'
    jsonl = load_runs(table(tmp_path, lines, "runs.jsonl"))
    columns = {"N": [1e8, 2e8], "D": [2e9, 4e9], "loss": [3.1, 2.9]}
    pq.write_table(pa.table(columns), tmp_path / "runs.parquet")
    parquet = load_runs(tmp_path / "runs.parquet")
    for runs in (csv, tsv, jsonl, parquet):
        for name, values in columns.items():
            assert runs.column(name).tolist() == values


def test_mapping_aliases_and_derived_columns(tmp_path: Path) -> None:
    text = "my_loss,params,ratio,d_model,d_ff,n_heads,n_kv_heads,d_head,n_layers\n"
    text += "2.803,973078528,100,2048,8192,32,8,64,16\n"
    runs = load_runs(
        table(tmp_path, text), columns={"loss": "my_loss", "tokens_per_parameter": "ratio"}
    )
    assert runs.column("D")[0] == 97307852800
    assert runs.column("r")[0] == pytest.approx(4.8)
    assert runs.column("x")[0] == pytest.approx(2048 / 973078528**0.5)
    assert runs.column("width_per_layer")[0] == 128
    assert runs.column("gqa")[0] == 4


def test_tokens_from_training_flops() -> None:
    runs = RunsTable.from_rows([{"N": 1e9, "C": 6e19, "loss": 3.0}])
    assert runs.column("D")[0] == pytest.approx(1e10)


def test_selection_and_digest(tmp_path: Path) -> None:
    assert len(load_runs("morph", where={"in_paper_fit_20N": "true"})) == 24
    assert len(load_runs("morph")) == 76
    path = table(tmp_path, GOOD)
    assert load_runs(path).sha256 != load_runs("morph").sha256


def test_repeats_of_one_shape_are_kept() -> None:
    rows = [{"N": 1e8, "D": 2e9, "loss": loss} for loss in (3.1, 3.101)]
    assert len(RunsTable.from_rows(rows)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N,D\n1,2\n", "no column 'loss'.*--map loss=YOUR_COLUMN"),
        ("N,D,loss\n", "no rows"),
        ("", "no rows"),
        (GOOD + "1e8,2e9,nan\n", "row 3, column 'loss' is nan: drop runs that diverged"),
        (GOOD + "1e8,2e9,inf\n", "row 3, column 'loss' is inf"),
        (GOOD + "1e8,2e9,\n", "row 3 has no 'loss'"),
        (GOOD + "1e8,,3.2\n", "row 3 has no 'D' while other rows do"),
        (GOOD + "1e8,abc,3.2\n", "row 3, column 'D': 'abc' is not a number"),
        (GOOD + "-1e8,2e9,3.2\n", "row 3, column 'N' is -1e\\+08: N must be positive"),
        (GOOD + "0,2e9,3.2\n", "N must be positive"),
        (GOOD + "1e8,2e9,31.4\n", "is it a perplexity"),
        (GOOD + "1e8,2e9,3.1\n", "rows 1 and 3 are the same"),
        (GOOD + "1e8,2e9,3.2,7\n", "row 3 has more cells than the header's 3"),
        ("N,N,loss\n1,2,3\n", "column 'N' appears twice"),
        ("N,D,val_loss,train_loss\n1e8,2e9,3.0,3.1\n", "both 'val_loss' and 'train_loss'"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        load_runs(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_bad_mappings(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD)
    with pytest.raises(TableError, match="'losss' is not a known column"):
        load_runs(path, columns={"losss": "loss"})
    with pytest.raises(TableError, match="no column 'absent' for loss"):
        load_runs(path, columns={"loss": "absent"})
    with pytest.raises(TableError, match="no column 'kind' to select by"):
        load_runs(path, where={"kind": "x"})
    with pytest.raises(TableError, match=r"no column 'r' .*or intermediate_size"):
        load_runs(path).column("r")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not exist"):
        load_runs(tmp_path / "absent.csv")
    with pytest.raises(UnknownName, match="did you mean morph"):
        load_runs("morf")
    with pytest.raises(TableError, match="cannot tell its format"):
        load_runs(table(tmp_path, GOOD, "runs.xyz"))
    with pytest.raises(TableError, match="line 1 is not JSON"):
        load_runs(table(tmp_path, "nonsense", "runs.jsonl"))
    with pytest.raises(TableError, match="line 1 is not a JSON object"):
        load_runs(table(tmp_path, "[1]", "runs.jsonl"))
    with pytest.raises(TableError, match="is not Parquet"):
        load_runs(table(tmp_path, "nonsense", "runs.parquet"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="not UTF-8"):
        load_runs(tmp_path / "binary.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="cannot be read"):
        load_runs(tmp_path / "folder.csv")


def test_take_keeps_columns_and_labels_together() -> None:
    rows = [{"N": n, "loss": 3.0, "scale": s} for n, s in ((1e8, "a"), (2e8, "b"), (3e8, "c"))]
    taken = RunsTable.from_rows(rows).take(np.array([True, False, True]))
    assert taken.column("N").tolist() == [1e8, 3e8]
    assert taken.labels["scale"] == ("a", "c")
