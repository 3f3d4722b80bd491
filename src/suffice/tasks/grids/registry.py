"""Grid tasks by name: queens-8, colouring-10, sudoku-9."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from suffice.core.errors import InputError, UnknownName
from suffice.tasks.grids.colouring import Colouring
from suffice.tasks.grids.puzzles import GridTask
from suffice.tasks.grids.queens import Queens
from suffice.tasks.grids.sudoku import Sudoku

KINDS: dict[str, Callable[[int], GridTask]] = {
    "queens": cast("Callable[[int], GridTask]", Queens),
    "colouring": cast("Callable[[int], GridTask]", Colouring),
    "sudoku": cast("Callable[[int], GridTask]", Sudoku),
}


def grid_task(name: str) -> GridTask:
    """The task of a name. Raises InputError, or UnknownName for a kind that there is not."""
    kind, dash, size = name.partition("-")
    if kind not in KINDS:
        raise UnknownName.of("task", kind, KINDS, "(known: queens-N, colouring-N, sudoku-N)")
    if not dash or not size.isdigit():
        raise InputError(f"task {name!r} must be {kind}-SIZE, such as {kind}-8")
    return KINDS[kind](int(size))
