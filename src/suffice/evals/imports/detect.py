"""Which kind of file it is that is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from suffice.core.errors import InputError, UnknownName
from suffice.evals.imports import inspect_log, lm_eval
from suffice.evals.imports.found import Imported, ImportOptions
from suffice.evals.imports.inspect_log import import_inspect
from suffice.evals.imports.lm_eval import import_lm_eval
from suffice.evals.imports.rows import kind_of, rows_of
from suffice.evals.imports.table import import_tables

Reader = Callable[[Sequence[Path], ImportOptions], Imported]

READERS: dict[str, Reader] = {
    "table": import_tables,
    "lm-eval": import_lm_eval,
    "inspect": import_inspect,
}


def import_files(
    paths: Sequence[Path], options: ImportOptions, *, kind: str | None = None
) -> Imported:
    """Traces of files or folders of one kind, which `kind` names or the files tell.

    Raises InputError, with the line where there is one.
    """
    listed = [file for path in paths for file in _files(path)]
    if kind is not None and kind not in READERS:
        raise UnknownName.of("kind of file", kind, list(READERS), f"(known: {', '.join(READERS)})")
    kinds = {kind or _kind(path) for path in listed}
    if len(kinds) > 1:
        raise InputError(
            f"the files are of several kinds ({', '.join(sorted(kinds))}): import each alone, then "
            "suffice traces join"
        )
    return READERS[kinds.pop()](listed, options)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist")
    if not path.is_dir():
        return [path]
    found = lm_eval.log_files(path) or inspect_log.log_files(path)
    if not found:
        raise InputError(
            f"{str(path)!r} holds no logs (samples_*.jsonl of lm-evaluation-harness, *.eval of "
            "inspect_ai): give the files themselves"
        )
    return found


def _kind(path: Path) -> str:
    if inspect_log.is_log(path):
        return "inspect"
    if kind_of(path) == ".jsonl":
        first = next(islice(rows_of(path), 1), None)
        if first is not None and lm_eval.is_log(first.values):
            return "lm-eval"
    return "table"
