"""Rows of JSONL, JSON, CSV, TSV and Parquet files, numbered as an error names them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from suffice.core.errors import InputError
from suffice.evals.traces.columns import arrow

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


class SourceRow(NamedTuple):
    """One row and where it stands: line 3, row 3."""

    where: str
    values: dict[str, Any]


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, compression aside. Raises InputError."""
    name = path.name.lower().removesuffix(".gz")
    for kind in KINDS:
        if name.endswith(kind):
            return kind
    raise InputError(f"{str(path)!r} cannot be told by its name: give one of {', '.join(KINDS)}")


def rows_of(path: Path) -> Iterator[SourceRow]:
    """Every row of a file; empty lines are left out. Raises InputError naming the line."""
    kind = kind_of(path)
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind in (".csv", ".tsv"):
        yield from _separated(path, "\t" if kind == ".tsv" else None)
    elif kind == ".json":
        yield from _json(path)
    else:
        yield from _lines(path)


def _opened(path: Path) -> io.TextIOBase:
    try:
        if path.name.lower().endswith(".gz"):
            return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="")
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def _lines(path: Path) -> Iterator[SourceRow]:
    shown = repr(str(path))
    with _opened(path) as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield SourceRow(
                        f"{shown}, line {number}", _parsed(line, f"{shown}, line {number}")
                    )
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError):
            raise InputError(f"{shown} is not UTF-8 text, or is cut short") from None


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        said = getattr(error, "msg", "nested too deep")
        raise InputError(f"{where}: not JSON ({said}); a JSON object a line is needed") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: a JSON object is needed, got {str(value)[:40]!r}")
    return value


def _json(path: Path) -> Iterator[SourceRow]:
    shown = repr(str(path))
    with _opened(path) as stream:
        try:
            value = json.load(stream)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{shown} is not JSON: {str(error)[:80]}") from None
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InputError(f"{shown}: a JSON list of objects is needed")
    for number, each in enumerate(value, 1):
        yield SourceRow(f"{shown}, row {number}", each)


def _separated(path: Path, delimiter: str | None) -> Iterator[SourceRow]:
    shown = repr(str(path))
    csv.field_size_limit(2**31 - 1)  # whole samples are long
    with _opened(path) as stream:
        try:
            head = stream.readline()
            rest = csv.reader([head], delimiter=delimiter or _delimiter(head))
            names = next(rest, [])
            if len(names) < 2:
                raise InputError(f"{shown}: a first line of at least two column names is needed")
            reader = csv.reader(stream, delimiter=delimiter or _delimiter(head))
            for cells in reader:
                if not any(cells):
                    continue
                where = f"{shown}, line {reader.line_num + 1}"
                if len(cells) != len(names):
                    raise InputError(f"{where}: {len(cells)} cells, the head has {len(names)}")
                yield SourceRow(where, {n: c for n, c in zip(names, cells, strict=True) if c != ""})
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{shown} is no CSV file in UTF-8: {error}") from None


def _delimiter(head: str) -> str:
    """Comma, semicolon or tab: whichever parts the head into most columns."""
    return max(",;\t", key=head.count)


def _parquet(path: Path) -> Iterator[SourceRow]:
    pa = arrow()
    shown = repr(str(path))
    try:
        file = pa.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield SourceRow(
                    f"{shown}, row {number}",
                    {name: value for name, value in values.items() if value is not None},
                )
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0][:120]
        raise InputError(f"{shown} is no Parquet file or is damaged ({first})") from None
