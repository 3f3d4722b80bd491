"""Where a set's rows lie: texts and tokens stay in their files until somebody asks for a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from suffice.core.arrays import IntArray
from suffice.core.errors import CorruptData
from suffice.evals.traces.columns import arrow, schema


class Rows(Protocol):
    """The rows of a set, column by column, in the set's order."""

    def column(self, name: str) -> Any:
        """A column as an Arrow array, or what reads like one."""
        ...

    def table(self, rows: IntArray | None = None) -> Any:
        """All columns as an Arrow table; of some rows, in their order."""
        ...


class TableRows:
    """Rows of a table in memory, which is in order already."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def column(self, name: str) -> Any:
        """A column of the table."""
        return self._table.column(name)

    def table(self, rows: IntArray | None = None) -> Any:
        """The table, or some rows of it."""
        return self._table if rows is None else self._table.take(arrow().array(rows))


class FileRows:
    """Rows that are read when they are wanted; a column that was read once is kept.

    The files are held open, so that one that is written anew meanwhile changes nothing here.
    """

    def __init__(self, files: Sequence[Any], names: Sequence[str], order: IntArray) -> None:
        """`files` are open Parquet files, `order` puts their rows, end to end, in the set's."""
        self._files, self._names = list(files), list(names)
        in_order = bool((order == np.arange(len(order))).all())
        self._order = None if in_order else order
        self._columns: dict[str, Any] = {}

    def column(self, name: str) -> Any:
        """A column, from its files if it was not wanted before."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._read(name, self._order)
        return found

    def table(self, rows: IntArray | None = None) -> Any:
        """All columns, or some rows of all: read for this call, and not kept."""
        wanted = self._order if rows is None else rows if self._order is None else self._order[rows]
        arrays = [self._read(name, wanted) for name in schema().names]
        return arrow().Table.from_arrays(arrays, schema=schema())

    def _read(self, name: str, rows: IntArray | None) -> Any:
        pa = arrow()
        pieces = []
        for file, shown in zip(self._files, self._names, strict=True):
            try:
                column = file.read(columns=[name]).column(0)
            except (pa.ArrowException, OSError) as error:
                said = str(error).splitlines()[0][:160]
                raise CorruptData(f"{shown!r} is damaged ({said})") from None
            pieces += column.cast(schema().field(name).type).chunks
        whole = pa.chunked_array(pieces, schema().field(name).type)
        if rows is not None:
            whole = whole.take(pa.array(rows))
        return pa.chunked_array([whole.combine_chunks()], whole.type)
