"""N-Queens completion: some queens of a solved board are taken away, put them back.

A token is a row. Its one field is 0 if the row is empty, else its queen's column plus one; the
answer is a column for every row. N tokens of N + 1 values, where GRAM (arXiv:2605.19376) has N²
cells of 3: the same puzzles, a smaller network.

Removed: {4, 5, 6} queens of 7 x 7, {5, 6, 7} of 8 x 8, {7, 8, 9} of 10 x 10, from every solution in
every way; equal inputs are one puzzle. 85 % of the unique inputs are for training. On 8 x 8 these
are the published 4,375 and 773.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from suffice.core.errors import InputError
from suffice.tasks.grids.puzzles import (
    Bools,
    GridShape,
    Ints,
    Puzzles,
    Splits,
    read_cells,
    shared_out,
    words_of,
    write_cells,
)

GIVEN_QUEENS = (1, 2, 3)
SMALLEST, LARGEST = 4, 16


@dataclass(frozen=True, slots=True)
class Queens:
    """N-Queens completion on a board of `size` x `size`."""

    size: int

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise InputError(f"queens need a board of {SMALLEST} to {LARGEST}, got {self.size}")

    @property
    def name(self) -> str:
        """queens-8."""
        return f"queens-{self.size}"

    @property
    def shape(self) -> GridShape:
        """A token per row."""
        return GridShape(tokens=self.size, fields=1, values=self.size + 1, classes=self.size)

    def splits(self, seed: int) -> Splits:
        """All completions of 1 to 3 given queens."""
        found: dict[tuple[int, ...], list[Ints]] = {}
        for solution in completions([None] * self.size):
            for given in GIVEN_QUEENS:
                for rows in combinations(range(self.size), given):
                    key = [0] * self.size
                    for row in rows:
                        key[row] = solution[row] + 1
                    found.setdefault(tuple(key), []).append(np.array(solution))
        puzzles = Puzzles.of((np.array(k)[:, None], found[k]) for k in sorted(found))
        return shared_out(puzzles, seed)

    def right(self, inputs: Ints, answers: Ints) -> Bools:
        """No two queens on a column or a diagonal, and the given ones where they were."""
        given = inputs[..., 0]
        kept: Bools = ((given == 0) | (given == answers + 1)).all(axis=-1)
        rows = np.arange(self.size)
        for line in (answers, answers + rows, answers - rows):
            ordered = np.sort(line, axis=-1)
            kept = kept & (np.diff(ordered, axis=-1) > 0).all(axis=-1)
        return kept & ((answers >= 0) & (answers < self.size)).all(axis=-1)

    def count(self, given: Ints) -> int:
        """Completions of one board."""
        return len(completions([None if v == 0 else int(v) - 1 for v in given[:, 0]]))

    def prompt(self, given: Ints) -> str:
        """queens-8 ..3....1"""
        return f"{self.name} {write_cells(given[:, 0])}"

    def parse(self, prompt: str) -> Ints:
        """The board of a prompt."""
        (cells,) = words_of(prompt, self.name, 1)
        return read_cells(cells, self.size, self.size, what="board")[:, None]


def completions(columns: list[int | None]) -> list[tuple[int, ...]]:
    """All ways to put a queen into every row, in order; a column where one is given.

    Depth first with three bit sets: columns and both diagonals in use. The bit of diagonal
    row + column never moves, that of row - column is offset by the size.
    """
    size = len(columns)
    found: list[tuple[int, ...]] = []
    chosen = [0] * size

    def place(row: int, used: int, falling: int, rising: int) -> None:
        if row == size:
            found.append(tuple(chosen))
            return
        wanted = columns[row]
        for column in range(size) if wanted is None else (wanted,):
            bits = 1 << column, 1 << (row - column + size), 1 << (row + column)
            if used & bits[0] or falling & bits[1] or rising & bits[2]:
                continue
            chosen[row] = column
            place(row + 1, used | bits[0], falling | bits[1], rising | bits[2])

    place(0, 0, 0, 0)
    return found
