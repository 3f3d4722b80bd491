"""Trace files: written group by group, so that a killed recording loses only the current one.

While a set is being recorded, its groups lie as whole small Parquet files in `NAME.parts/` beside
the target; closing the writer joins them, group after group, into one file and removes the folder.
A writer that finds parts, or the finished file, goes on from there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from suffice.core.errors import CorruptData, InputError
from suffice.evals.traces.build import NEEDED, SetBuilder, build_set
from suffice.evals.traces.columns import (
    KEY_COLUMNS,
    QUESTION_COLUMNS,
    ContentDigest,
    TraceInformation,
    arrow,
    check_schema,
    information_of,
    schema,
    table_of,
)
from suffice.evals.traces.parquet import (
    batches,
    open_traces,
    part_files,
    parts_folder,
    read_table,
    regrouped,
    write_tables,
)
from suffice.evals.traces.rows import FileRows
from suffice.evals.traces.trace_set import Arm, Question, Trace, TraceKey, TraceSet, question_of

# A group is closed at either bound; the second bounds memory where traces are long.
GROUP_ROWS = 2048
GROUP_TOKENS = 4_000_000


def read_traces(paths: Path | Sequence[Path], *, check: bool = True) -> TraceSet:
    """Traces of one file, or of several as one set. `check=False` skips the digest.

    Texts, tokens and confidences stay in the files until they are asked for.
    """
    listed = [paths] if isinstance(paths, Path) else list(paths)
    if not listed:
        raise InputError("no trace file was given")
    files = [open_traces(path) for path in listed]
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
    for table in batches(file, path, names):
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


def read_information(path: Path) -> TraceInformation:
    """What a trace file says about itself, without reading its rows."""
    return information_of(open_traces(path).metadata.metadata, str(path))


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
    """Write a set as one file, whole or not at all. Traces may be a generator of any length.

    A file that is there already is replaced at the end, and stays as it is if anything fails.
    """
    if isinstance(traces, TraceSet):
        described = information or traces.information
        write_tables(path, _of_set(traces, GROUP_ROWS), described)
        return
    parts = parts_folder(path)
    if parts.exists() and any(parts.glob("*.parquet")):
        raise InputError(f"{str(parts)!r} holds an unfinished recording: finish or remove it first")
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        shutil.rmtree(parts_folder(fresh), ignore_errors=True)
        with TraceWriter(fresh, information or TraceInformation()) as writer:
            for trace in traces:
                writer.add(trace)
        if not fresh.exists():
            raise InputError(f"there is not one trace to write into {str(path)!r}")
        fresh.replace(path)
    except BaseException:  # Ctrl-C too; raised again
        shutil.rmtree(parts_folder(fresh), ignore_errors=True)  # nothing to go on with
        fresh.unlink(missing_ok=True)
        raise


class TraceWriter:
    """Adds traces to a file that may be killed at any time.

    Leaving the `with` block joins the parts into `path`; leaving it by an exception keeps them, as
    a kill would, and the next writer for the same path goes on (see `known`). A question that is
    there already is the same question: a trace of another one by its name is refused.
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
        self._questions = recorded_questions(path)
        self._parts.parent.mkdir(parents=True, exist_ok=True)
        self._parts.mkdir(mode=0o700, exist_ok=True)
        if path.exists():
            self._learn(path)
        for part in part_files(self.path):
            self._learn(part, joined=path.exists())

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
        known = self._questions.setdefault(trace.question.key, trace.question)
        if known is not trace.question and known != trace.question:
            raise InputError(
                f"question {trace.question.name!r} of dataset {trace.question.dataset!r} is in the "
                f"set already with another {', '.join(differences(known, trace.question))}"
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
        taken = [int(part.stem) for part in part_files(self.path)]
        target = self._parts / f"{max(taken, default=-1) + 1:06d}.parquet"
        rows = sorted(self._group, key=lambda trace: trace.key)
        write_tables(target, [table_of(rows)], self.information)
        self._group, self._group_tokens = [], 0

    def close(self) -> None:
        """Join everything into `path`."""
        self.flush()
        sources = [*([self.path] if self.path.exists() else []), *part_files(self.path)]
        if not sources or sources == [self.path]:
            self._parts.rmdir()
            return
        created = datetime.now(UTC).isoformat(timespec="seconds")
        described = self.information.model_copy(
            update={"created": self.information.created or created}
        )
        write_tables(self.path, regrouped(sources, self.group_rows), described)
        for part in part_files(self.path):
            part.unlink()
        self._parts.rmdir()

    def _learn(self, part: Path, *, joined: bool = False) -> None:
        """Take note of what a file holds; a part whose rows were joined before a kill goes."""
        table, earlier = read_table(part, columns=list(KEY_COLUMNS))
        # A set may be recorded mode by mode and model by model.
        self.information = self.information.model_copy(
            update={
                "modes": earlier.modes | self.information.modes,
                "servers": earlier.servers | self.information.servers,
            }
        )
        columns = [table.column(name).to_pylist() for name in KEY_COLUMNS]
        keys = {TraceKey(*row) for row in zip(*columns, strict=True)}
        if joined and keys <= self.known:
            part.unlink()
        self.known |= keys


def recorded_questions(path: Path) -> dict[tuple[str, str], Question]:
    """The questions of a file, and of a recording that goes on it, by their names."""
    found: dict[tuple[str, str], Question] = {}
    sources = [*([path] if path.exists() else []), *part_files(path)]
    names = ["dataset", "question", *QUESTION_COLUMNS]
    for source in sources:
        file = open_traces(source)
        information_of(file.metadata.metadata, str(source))
        check_schema(file.schema_arrow, str(source))
        for batch in batches(file, source, names):
            keys = zip(*(batch.column(name).to_pylist() for name in names[:2]), strict=True)
            for row, key in enumerate(keys):
                if key not in found:
                    cells = (batch.column(name)[row].as_py() for name in QUESTION_COLUMNS)
                    found[key] = question_of(*key, *cells)
    return found


def differences(a: Question, b: Question) -> list[str]:
    """What two questions of one name disagree about, in words."""
    words = {
        "messages_json": "prompt",
        "reference": "answer",
        "answer_format": "checker",
        "category": "category",
        "tools_json": "tools",
    }
    return [word for name, word in words.items() if getattr(a, name) != getattr(b, name)]


def finish(path: Path) -> None:
    """Join what an unfinished recording has written so far; nothing if there is none."""
    if parts_folder(path).is_dir():
        TraceWriter(path, read_information(next(iter(part_files(path)), path))).close()


def _of_set(traces: TraceSet, rows: int) -> Iterator[Any]:
    whole = traces.table()
    for start in range(0, len(whole), rows):
        yield whole.slice(start, rows)


def _joint(digests: Iterable[str]) -> str:
    """Digest of several files as one set, whatever their order."""
    return hashlib.sha256("+".join(sorted(digests)).encode()).hexdigest()
