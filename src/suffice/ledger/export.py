"""The ledger as JSONL or Parquet: one record per request, with samples, judgement and any text."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from suffice.core.errors import InputError, MissingExtra
from suffice.ledger.records import COLUMNS, TYPES, RequestRow, SampleRow, ToolCallRow, saved_of
from suffice.ledger.store import Store

PAGE = 2000


def records(
    store: Store, *, since_s: float = 0.0, until_s: float | None = None
) -> Iterator[dict[str, Any]]:
    """Records of the requests that started in the interval (Unix times), oldest first."""
    last = (since_s, "")
    until_s = 1e18 if until_s is None else until_s
    columns = COLUMNS[RequestRow]
    while True:
        rows = store.database.execute(
            f"SELECT {', '.join(columns)} FROM requests WHERE started_s < ? AND "
            "(started_s > ? OR started_s = ? AND id > ?) ORDER BY started_s, id LIMIT ?",
            (until_s, last[0], last[0], last[1], PAGE),
        )
        if not rows:
            return
        page = [dict(zip(columns, row, strict=True)) for row in rows]
        _attach(store, page)
        yield from page
        last = (page[-1]["started_s"], page[-1]["id"])


def _attach(store: Store, page: list[dict[str, Any]]) -> None:
    by_id = {one["id"]: one for one in page}
    names, calls = COLUMNS[SampleRow], COLUMNS[ToolCallRow]
    for one in page:
        saved = saved_of(one["compared_cost"], one["baseline_cost"], one["saving_basis"])
        one |= {
            "saved": saved, "sample_rows": [], "tool_rows": [], "score": None,
            "score_source": None, "prompt": None, "output": None,
        }  # fmt: skip
    ids = list(by_id)
    for start in range(0, len(ids), 500):  # SQLite bounds the number of parameters
        some = tuple(ids[start : start + 500])
        inside = f"WHERE request_id IN ({', '.join('?' * len(some))})"
        execute = store.database.execute
        for row in execute(
            f"SELECT {', '.join(names)} FROM samples {inside} ORDER BY choice, sample", some
        ):
            sample = dict(zip(names, row, strict=True))
            by_id[sample.pop("request_id")]["sample_rows"].append(sample)
        for row in execute(
            f"SELECT {', '.join(calls)} FROM tool_calls {inside} ORDER BY choice, number", some
        ):
            call = dict(zip(calls, row, strict=True))
            by_id[call.pop("request_id")]["tool_rows"].append(call)
        for request_id, score, source in execute(
            f"SELECT request_id, score, source FROM feedback {inside} ORDER BY at_s", some
        ):
            by_id[request_id] |= {"score": score, "score_source": source}
        for request_id, prompt, output in execute(
            f"SELECT request_id, prompt, output FROM texts {inside}", some
        ):
            by_id[request_id] |= {"prompt": prompt, "output": output}


def write_jsonl(found: Iterator[dict[str, Any]], out: IO[str]) -> int:
    """Write records, one JSON object a line; how many there were."""
    count = 0
    for count, record in enumerate(found, 1):  # noqa: B007 - the last count is the result
        out.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def export_file(found: Iterator[dict[str, Any]], path: Path) -> int:
    """Write records to `path` (.jsonl or .parquet); the file is whole or absent."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"export to a file that ends in .jsonl or .parquet, not {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if path.suffix == ".parquet":
            count = _write_parquet(found, Path(temporary))
        else:
            with Path(temporary).open("w", encoding="utf-8") as out:
                count = write_jsonl(found, out)
        Path(temporary).replace(path)  # stays private: it may hold what people wrote
    except BaseException:  # Ctrl-C too: raised again, but half a file must not stay
        Path(temporary).unlink(missing_ok=True)
        raise
    return count


def _write_parquet(found: Iterator[dict[str, Any]], path: Path) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 - the extra parquet
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("pyarrow", "parquet", "a Parquet export") from None
    schema = _schema(pa)
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        page: list[dict[str, Any]] = []
        for record in found:
            page.append(record)
            if len(page) >= PAGE:
                writer.write_table(pa.Table.from_pylist(page, schema=schema))
                count += len(page)
                page = []
        if page or not count:
            writer.write_table(pa.Table.from_pylist(page, schema=schema))
            count += len(page)
    return count


def _schema(pa: Any) -> Any:
    """Arrow types from the rows' annotations."""

    def kind(annotation: str) -> Any:
        if annotation.startswith("int"):
            return pa.int64()
        return pa.float64() if annotation.startswith("float") else pa.string()

    sample, call = (
        pa.struct([(n, kind(text)) for n, text in TYPES[row].items() if n != "request_id"])
        for row in (SampleRow, ToolCallRow)
    )
    columns = [(name, kind(text)) for name, text in TYPES[RequestRow].items()]
    columns += [
        ("saved", pa.float64()), ("sample_rows", pa.list_(sample)),
        ("tool_rows", pa.list_(call)),
        ("score", pa.float64()),
        ("score_source", pa.string()), ("prompt", pa.string()), ("output", pa.string()),
    ]  # fmt: skip
    return pa.schema(columns)
