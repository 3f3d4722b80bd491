"""Sudoku of 4, 6 and 9 symbols, with one solution each.

A token is a cell, row by row. Its one field is 0 if it is empty, else its symbol (1 to the size);
the answer is a symbol for every cell, counted from 0. Boxes are 2 x 2, 2 x 3 (rows x columns) and
3 x 3.

A puzzle is a random full grid from which cells are taken in random order, each only if the solution
stays the only one, until so many are empty that the size's limit is reached or all were tried.
These are our own puzzles: Sudoku-Extreme, which papers report on, is a file of far harder ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

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

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # rows, columns
MOST_EMPTY = {4: 10, 6: 22, 9: 48}
COUNTS = {4: (2000, 300), 6: (2000, 300), 9: (1000, 200)}  # to learn from, to be judged by
# Drawn apart from how puzzles are shared out, so that all seeds see the same puzzles.
PUZZLES_SEED = 20260102


@dataclass(frozen=True, slots=True)
class Sudoku:
    """Sudoku with `size` symbols."""

    size: int

    def __post_init__(self) -> None:
        if self.size not in BOXES:
            known = ", ".join(map(str, BOXES))
            raise InputError(f"sudoku comes in sizes {known}, got {self.size}")

    @property
    def name(self) -> str:
        """sudoku-9."""
        return f"sudoku-{self.size}"

    @property
    def shape(self) -> GridShape:
        """A token per cell."""
        n = self.size
        return GridShape(tokens=n * n, fields=1, values=n + 1, classes=n)

    def splits(self, seed: int) -> Splits:
        """Distinct generated puzzles."""
        train, test = COUNTS[self.size]
        source = random.Random(f"{PUZZLES_SEED}/{self.size}")
        found: dict[tuple[int, ...], Ints] = {}
        while len(found) < train + test:
            cells, solution = self.generate(source)
            found.setdefault(tuple(cells), np.array(solution) - 1)
        puzzles = Puzzles.of((np.array(cells)[:, None], [found[cells]]) for cells in found)
        return shared_out(puzzles, seed, train=train)

    def generate(self, source: random.Random) -> tuple[list[int], list[int]]:
        """One puzzle and its solution, cells from 1, 0 where empty."""
        empty = [0] * (self.size * self.size)
        (solution,) = solutions(empty, self.size, limit=1, source=source)
        cells = list(solution)
        left = MOST_EMPTY[self.size]
        for place in source.sample(range(len(cells)), len(cells)):
            if not left:
                break
            kept, cells[place] = cells[place], 0
            if len(solutions(cells, self.size, limit=2)) > 1:
                cells[place] = kept
            else:
                left -= 1
        return cells, list(solution)

    def right(self, inputs: Ints, answers: Ints) -> Bools:
        """Every symbol once in every row, column and box, and the given cells kept."""
        given, n = inputs[..., 0], self.size
        kept: Bools = ((given == 0) | (given == answers + 1)).all(axis=-1)
        rows, columns = BOXES[n]
        grid = answers.reshape(*answers.shape[:-1], n, n)
        lead = grid.shape[:-2]
        boxes = grid.reshape(*lead, n // rows, rows, n // columns, columns)
        boxes = np.moveaxis(boxes, -2, -3).reshape(*lead, n, n)
        for units in (grid, np.swapaxes(grid, -1, -2), boxes):
            kept = kept & (np.sort(units, axis=-1) == np.arange(n)).all(axis=(-2, -1))
        return kept

    def count(self, given: Ints) -> int:
        """Solutions of one grid."""
        return len(solutions([int(v) for v in given[:, 0]], self.size))

    def prompt(self, given: Ints) -> str:
        """sudoku-4 1..4....3...2..1"""
        return f"{self.name} {write_cells(given[:, 0])}"

    def parse(self, prompt: str) -> Ints:
        """The grid of a prompt."""
        (cells,) = words_of(prompt, self.name, 1)
        return read_cells(cells, self.size * self.size, self.size, what="grid")[:, None]


def solutions(
    cells: list[int], size: int, *, limit: int | None = None, source: random.Random | None = None
) -> list[tuple[int, ...]]:
    """Solutions of a grid, at most `limit`; symbols are tried in order, or in `source`'s.

    Depth first, the cell with the fewest symbols left next; what a row, column and box hold are bit
    sets.
    """
    rows, columns = BOXES[size]
    across = size // columns
    units = [
        (p // size, size + p % size, 2 * size + p // size // rows * across + p % size // columns)
        for p in range(size * size)
    ]
    used = [0] * (3 * size)
    grid = list(cells)
    for place, symbol in enumerate(grid):
        if symbol:
            bit = 1 << symbol
            if any(used[u] & bit for u in units[place]):
                return []
            for u in units[place]:
                used[u] |= bit
    every = (1 << (size + 1)) - 2
    found: list[tuple[int, ...]] = []

    def fill(empty: list[int]) -> bool:
        """True once there are enough."""
        if not empty:
            found.append(tuple(grid))
            return limit is not None and len(found) >= limit
        best, fewest, free = -1, size + 1, 0
        for index, place in enumerate(empty):
            a, b, c = units[place]
            left = every & ~(used[a] | used[b] | used[c])
            if left.bit_count() < fewest:
                best, fewest, free = index, left.bit_count(), left
                if fewest <= 1:
                    break
        place = empty[best]
        rest = empty[:best] + empty[best + 1 :]
        symbols = [s for s in range(1, size + 1) if free >> s & 1]
        if source is not None:
            source.shuffle(symbols)
        for symbol in symbols:
            grid[place] = symbol
            for u in units[place]:
                used[u] |= 1 << symbol
            if fill(rest):
                return True
            for u in units[place]:
                used[u] &= ~(1 << symbol)
        grid[place] = 0
        return False

    fill([p for p, symbol in enumerate(grid) if not symbol])
    return found
