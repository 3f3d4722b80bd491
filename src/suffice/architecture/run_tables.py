"""Rows of a table of runs: CSV, TSV, JSONL or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suffice.core.errors import MissingExtra, TableError

Row = Mapping[str, Any]


def table_rows(path: Path, data: bytes) -> list[Row]:
    """Rows of a file, by how its name ends."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise TableError(
            f"table of runs {path.name!r}: cannot tell its format; use .csv, .tsv, .jsonl or "
            ".parquet"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TableError(f"table of runs {path.name!r} is not UTF-8 text") from None
    if suffix in (".jsonl", ".ndjson"):
        return _json_rows(path, text)
    reader = csv.DictReader(
        text.splitlines(), delimiter="\t" if suffix == ".tsv" else ",", restkey="", restval=None
    )
    header = reader.fieldnames or []
    repeated = sorted({name for name in header if list(header).count(name) > 1})
    if repeated:
        raise TableError(f"{path.name}: column {repeated[0]!r} appears twice in the header")
    rows: list[Row] = []
    for number, row in enumerate(reader, start=1):
        if "" in row:
            raise TableError(
                f"{path.name}: row {number} has more cells than the header's {len(header)}"
            )
        rows.append(row)
    return rows


def _json_rows(path: Path, text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TableError(f"{path.name}: line {number} is not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise TableError(f"{path.name}: line {number} is not a JSON object")
        rows.append(row)
    return rows


def _parquet_rows(path: Path) -> list[Row]:
    try:
        import pyarrow.lib  # noqa: PLC0415  # optional extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("pyarrow", "parquet", "reading Parquet") from None
    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.lib.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"table of runs {path.name!r} is not Parquet: {reason}") from None
    return rows
