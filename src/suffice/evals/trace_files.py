"""Trace files: written group by group, so that a killed recording loses only the current one.

While a set is being recorded, its groups lie as whole small Parquet files in `NAME.parts/` beside
the target; closing the writer joins them, group after group, into one file and removes the folder.
A writer that finds parts, or the finished file, goes on from there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from suffice.core.errors import CorruptData, DiskFull, InputError
from suffice.evals.trace_build import NEEDED, SetBuilder, build_set
from suffice.evals.trace_rows import FileRows
from suffice.evals.trace_table import (
    KEY_COLUMNS,
    METADATA_KEY,
    ContentDigest,
    TraceInformation,
    arrow,
    check_schema,
    information_of,
    schema,
    table_of,
)
from suffice.evals.traces import Arm, Trace, TraceKey, TraceSet

# A group is closed at either bound; the second bounds memory where traces are long.
GROUP_ROWS = 2048
GROUP_TOKENS = 4_000_000
COMPRESSION = {"compression": "zstd", "compression_level": 9, "version": "2.6"}


# Rows that are read at a time: what is in memory of texts and tokens, unless they are asked for.
BATCH_ROWS = 1024


def read_traces(paths: Path | Sequence[Path], *, check: bool = True) -> TraceSet:
    """Traces of one file, or of several as one set. `check=False` skips the digest.

    Texts, tokens and confidences stay in the files until they are asked for.
    """
    listed = [paths] if isinstance(paths, Path) else list(paths)
    if not listed:
        raise InputError("no trace file was given")
    files = [_open(path) for path in listed]
    described, digests = [], []
    builder = SetBuilder(" + ".join(map(str, listed)))
    for path, file in zip(listed, files, strict=True):
        information = information_of(file.metadata.metadata, str(path))
        check_schema(file.schema_arrow, str(path))
        described.append(information)
        digests.append(_read_into(builder, file, path, information, check=check))
    return builder.build(
        lambda order: FileRows(files, [str(path) for path in listed], order),
        described[0],
        lambda: digests[0] if len(digests) == 1 else _joint(digests),
    )


def _read_into(
    builder: SetBuilder, file: Any, path: Path, information: TraceInformation, *, check: bool
) -> str:
    """Hand every row to the builder; gives the content's digest, checked if it is to be."""
    whole = check or not information.digest
    digest = ContentDigest()
    names = schema().names if whole else list(NEEDED)
    wanted = arrow().schema([schema().field(name) for name in names])
    for table in _batches(file, path, names):
        batch = table.select(names).cast(wanted)
        if whole:
            digest.update(batch)
        builder.add(batch)
    found = digest.hexdigest() if whole else information.digest
    if information.digest and found != information.digest:
        raise CorruptData(
            f"the content of {str(path)!r} differs from the digest in its footer: "
            "fetch or record it again"
        )
    return found


def _batches(file: Any, path: Path, names: Sequence[str]) -> Iterator[Any]:
    pa = arrow()
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(names)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{str(path)!r} is damaged ({_one_line(error)})") from None


def read_information(path: Path) -> TraceInformation:
    """What a trace file says about itself, without reading its rows."""
    return information_of(_open(path).metadata.metadata, str(path))


def trace_set(traces: Iterable[Trace], information: TraceInformation | None = None) -> TraceSet:
    """A set in memory."""
    return build_set(table_of(list(traces)), information or TraceInformation(), "these traces")


def subset(traces: TraceSet, rows: Any) -> TraceSet:
    """The rows that a boolean mask or an index array selects, as a set of their own."""
    chosen = np.asarray(rows)
    if chosen.dtype == np.bool_:
        chosen = np.flatnonzero(chosen)
    table = traces.table(chosen.astype(np.int64))
    return build_set(table, traces.information, "the selection")


def of_questions(traces: TraceSet, questions: Any) -> TraceSet:
    """The rows of some questions, given by their codes."""
    return subset(traces, np.isin(traces.question, np.asarray(questions, dtype=np.int64)))


def write_traces(
    path: Path, traces: Iterable[Trace] | TraceSet, information: TraceInformation | None = None
) -> None:
    """Write a set as one file, whole or not at all. Traces may be a generator of any length."""
    if isinstance(traces, TraceSet):
        described = information or traces.information
        _write_tables(path, _of_set(traces, GROUP_ROWS), described)
        return
    parts = parts_folder(path)
    if parts.exists() and any(parts.glob("*.parquet")):
        raise InputError(f"{str(parts)!r} holds an unfinished recording: finish or remove it first")
    path.unlink(missing_ok=True)
    try:
        with TraceWriter(path, information or TraceInformation()) as writer:
            for trace in traces:
                writer.add(trace)
    except BaseException:  # Ctrl-C too; raised again
        shutil.rmtree(parts, ignore_errors=True)  # nothing that could be gone on with
        raise


class TraceWriter:
    """Adds traces to a file that may be killed at any time.

    Leaving the `with` block joins the parts into `path`; leaving it by an exception keeps them, as
    a kill would, and the next writer for the same path goes on (see `known`).
    """

    def __init__(
        self,
        path: Path,
        information: TraceInformation,
        *,
        group_rows: int = GROUP_ROWS,
        group_tokens: int = GROUP_TOKENS,
    ) -> None:
        self.path = path
        self.information = information
        self.group_rows, self.group_tokens = group_rows, group_tokens
        self._parts = parts_folder(path)
        self._group: list[Trace] = []
        self._group_tokens = 0
        self.known: set[TraceKey] = set()  # traces that an earlier run has already written
        self._parts.mkdir(parents=True, exist_ok=True)
        for part in self._part_files():
            self._learn(part)
        if path.exists():
            self._learn(path)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()
        if error is None:
            self.close()

    def add(self, trace: Trace) -> None:
        """Add one trace; each key once."""
        if trace.key in self.known:
            raise InputError(
                f"sample {trace.sample} of question {trace.question.name!r} under "
                f"{Arm(trace.model, trace.mode)} is in the set already"
            )
        self.known.add(trace.key)
        self._group.append(trace)
        self._group_tokens += max(len(trace.tokens), trace.completion_tokens or 0)
        if len(self._group) >= self.group_rows or self._group_tokens >= self.group_tokens:
            self.flush()

    def flush(self) -> None:
        """Write the current group as a part of its own."""
        if not self._group:
            return
        taken = [int(part.stem) for part in self._part_files()]
        target = self._parts / f"{max(taken, default=-1) + 1:06d}.parquet"
        rows = sorted(self._group, key=lambda trace: trace.key)
        _write_tables(target, [table_of(rows)], self.information)
        self._group, self._group_tokens = [], 0

    def close(self) -> None:
        """Join everything into `path`."""
        self.flush()
        sources = [*([self.path] if self.path.exists() else []), *self._part_files()]
        if len(sources) == 1 and sources[0] == self.path:
            self._parts.rmdir()
            return
        created = datetime.now(UTC).isoformat(timespec="seconds")
        described = self.information.model_copy(
            update={"created": self.information.created or created}
        )
        _write_tables(self.path, _regrouped(sources, self.group_rows), described)
        for part in self._part_files():
            part.unlink()
        self._parts.rmdir()

    def _part_files(self) -> list[Path]:
        return sorted(part for part in self._parts.glob("*.parquet") if part.stem.isdigit())

    def _learn(self, part: Path) -> None:
        table, earlier = _read_table(part, columns=list(KEY_COLUMNS))
        modes = earlier.modes | self.information.modes  # a set may be recorded mode by mode
        self.information = self.information.model_copy(update={"modes": modes})
        columns = [table.column(name).to_pylist() for name in KEY_COLUMNS]
        self.known.update(TraceKey(*row) for row in zip(*columns, strict=True))


def parts_folder(path: Path) -> Path:
    """Where the groups of an unfinished recording lie."""
    return path.with_name(f"{path.name}.parts")


def _write_tables(path: Path, tables: Iterable[Any], information: TraceInformation) -> None:
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
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"no room is left to write {str(path)!r}") from None
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}") from None
    except BaseException:  # Ctrl-C too; raised again, but half a file must not stay
        temporary.unlink(missing_ok=True)
        raise


def _of_set(traces: TraceSet, rows: int) -> Iterator[Any]:
    whole = traces.table()
    for start in range(0, len(whole), rows):
        yield whole.slice(start, rows)


def _regrouped(sources: Sequence[Path], rows: int) -> Iterator[Any]:
    """The rows of several files as tables of at least `rows` rows, one row group at a time."""
    waiting: list[Any] = []
    count = 0
    for source in sources:
        file = _open(source)
        for index in range(file.num_row_groups):
            table = file.read_row_group(index).cast(schema())
            waiting.append(table)
            count += len(table)
            if count >= rows:
                yield arrow().concat_tables(waiting).combine_chunks()
                waiting, count = [], 0
    if waiting:
        yield arrow().concat_tables(waiting).combine_chunks()


def _open(path: Path) -> Any:
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


def _read_table(path: Path, columns: list[str] | None = None) -> tuple[Any, TraceInformation]:
    pa = arrow()
    file = _open(path)
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


def _joint(digests: Iterable[str]) -> str:
    """Digest of several files as one set, whatever their order."""
    return hashlib.sha256("+".join(sorted(digests)).encode()).hexdigest()
