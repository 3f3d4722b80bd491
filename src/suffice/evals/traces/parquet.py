"""Parquet files of traces: opened, read in batches and written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from suffice.core.errors import CorruptData, DiskFull, InputError
from suffice.evals.traces.columns import (
    METADATA_KEY,
    ContentDigest,
    TraceInformation,
    arrow,
    check_schema,
    information_of,
    schema,
)

COMPRESSION = {"compression": "zstd", "compression_level": 9, "version": "2.6"}
# Rows that are read at a time: what is in memory of texts and tokens, unless they are asked for.
BATCH_ROWS = 1024


def parts_folder(path: Path) -> Path:
    """Where the groups of an unfinished recording lie."""
    return path.with_name(f"{path.name}.parts")


def part_files(path: Path) -> list[Path]:
    """Groups of an unfinished recording, in order."""
    return sorted(part for part in parts_folder(path).glob("*.parquet") if part.stem.isdigit())


def open_traces(path: Path) -> Any:
    """A Parquet file; raises InputError, which says what to do with a file of another kind."""
    pa = arrow()
    shown = repr(str(path))
    if not path.exists():
        if parts_folder(path).is_dir():
            raise InputError(
                f"{shown} is an unfinished recording: run `suffice record` again with this --out"
            )
        raise InputError(f"trace file {shown} does not exist")
    if path.is_dir():
        raise InputError(
            f"trace file {shown} is a folder, a file is needed (logs in it: {how_to_import(path)})"
        )
    try:
        return pa.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        if path.suffix != ".parquet":
            raise InputError(f"{shown} is no trace file: {how_to_import(path)}") from None
        raise InputError(
            f"{shown} is no Parquet file or is cut short ({_one_line(error)})"
        ) from None


def how_to_import(path: Path) -> str:
    """What to do with a file of another kind."""
    return (
        f"record or import it first: suffice traces import {path} --out "
        f"{path.with_suffix('.traces.parquet').name}"
    )


def read_table(path: Path, columns: list[str] | None = None) -> tuple[Any, TraceInformation]:
    """Columns of a trace file, all of them without `columns`."""
    pa = arrow()
    file = open_traces(path)
    information = information_of(file.metadata.metadata, str(path))
    check_schema(file.schema_arrow, str(path))
    wanted = schema()
    names = columns or wanted.names
    try:
        table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{str(path)!r} is damaged ({_one_line(error)})") from None
    due = pa.schema([wanted.field(name) for name in names])
    return table.select(names).cast(due), information


def _one_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__


def batches(file: Any, path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Some columns of an open file, so many rows at a time."""
    pa = arrow()
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(names)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{str(path)!r} is damaged ({_one_line(error)})") from None


def write_tables(path: Path, tables: Iterable[Any], information: TraceInformation) -> None:
    """Write tables as row groups of one file, whole or not at all; the footer gets the digest."""
    pa = arrow()
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = ContentDigest()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        with pa.parquet.ParquetWriter(temporary, schema(), **COMPRESSION) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=max(len(table), 1))
                digest.update(table)
            described = information.model_copy(update={"digest": digest.hexdigest()})
            writer.add_key_value_metadata(
                {METADATA_KEY.decode(): described.model_dump_json(exclude_defaults=False)}
            )
        # It holds what people and models wrote: its owner's alone, unless he has changed that.
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"no room is left to write {str(path)!r}") from None
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}") from None
    except BaseException:  # Ctrl-C too; raised again, but half a file must not stay
        temporary.unlink(missing_ok=True)
        raise


def regrouped(sources: Sequence[Path], rows: int) -> Iterator[Any]:
    """The rows of several files as tables of at least `rows` rows, one row group at a time."""
    waiting: list[Any] = []
    count = 0
    for source in sources:
        file = open_traces(source)
        for index in range(file.num_row_groups):
            table = file.read_row_group(index).cast(schema())
            waiting.append(table)
            count += len(table)
            if count >= rows:
                yield arrow().concat_tables(waiting).combine_chunks()
                waiting, count = [], 0
    if waiting:
        yield arrow().concat_tables(waiting).combine_chunks()
