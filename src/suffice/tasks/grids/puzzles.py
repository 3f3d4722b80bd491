"""What a grid puzzle is: an input of small integers, its solutions, and how both are written.

An input is an array (tokens, fields); every field holds one of `values` integers. An answer gives
each token one of `classes` integers. How a task is laid out in tokens is said in its own file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import InputError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
TRAIN_SHARE = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class GridShape:
    """Sizes of a task's arrays: inputs (tokens, fields) below `values`, answers below `classes`."""

    tokens: int
    fields: int
    values: int
    classes: int


@dataclass(frozen=True, slots=True)
class Puzzles:
    """P inputs with all their solutions.

    inputs     (P, tokens, fields)
    solutions  (S, tokens), those of input i in rows first[i] to first[i + 1]
    first      (P + 1,)
    """

    inputs: Ints
    solutions: Ints
    first: Ints

    @classmethod
    def of(cls, pairs: Iterable[tuple[Ints, Sequence[Ints] | Ints]]) -> Puzzles:
        """From inputs and their lists of solutions."""
        inputs: list[Ints] = []
        solutions: list[Ints] = []
        first = [0]
        for given, found in pairs:
            inputs.append(given)
            solutions.extend(found)
            first.append(len(solutions))
        return cls(np.stack(inputs), np.stack(solutions), np.array(first, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def counts(self) -> Ints:
        """Solutions of each input, (P,)."""
        return np.diff(self.first)

    def solutions_of(self, puzzle: int) -> Ints:
        """All solutions of one input, (solutions, tokens)."""
        return self.solutions[self.first[puzzle] : self.first[puzzle + 1]]

    def pairs(self) -> tuple[Ints, Ints]:
        """Every input with every solution of it: rows of `inputs`, rows of `solutions`."""
        return np.repeat(np.arange(len(self)), self.counts), np.arange(len(self.solutions))

    def take(self, chosen: Sequence[int] | Ints) -> Puzzles:
        """Some of the puzzles, in the order given."""
        return Puzzles.of((self.inputs[i], self.solutions_of(int(i))) for i in chosen)


@dataclass(frozen=True, slots=True)
class Splits:
    """Puzzles to learn from and puzzles to be judged by; no input is in both."""

    train: Puzzles
    test: Puzzles


class GridTask(Protocol):
    """A kind of puzzle: how it is drawn, checked and written."""

    @property
    def name(self) -> str:
        """As on the command line: queens-8."""
        ...

    @property
    def shape(self) -> GridShape:
        """Sizes of its arrays."""
        ...

    def splits(self, seed: int) -> Splits:
        """The puzzles, shared out by `seed`."""
        ...

    def right(self, inputs: Ints, answers: Ints) -> Bools:
        """Whether answers (..., tokens) solve inputs (..., tokens, fields); shapes broadcast.

        Checks the rules alone and knows no list of solutions.
        """
        ...

    def count(self, given: Ints) -> int:
        """How many solutions one input (tokens, fields) has."""
        ...

    def prompt(self, given: Ints) -> str:
        """One input as text."""
        ...

    def parse(self, prompt: str) -> Ints:
        """The input that a text stands for. Raises InputError."""
        ...


def shared_out(puzzles: Puzzles, seed: int, *, train: int | None = None) -> Splits:
    """Split unique inputs at random: `train` to learn from, by default 85 % rounded down."""
    order = np.random.default_rng(seed).permutation(len(puzzles))
    size = int(len(puzzles) * TRAIN_SHARE) if train is None else train
    return Splits(puzzles.take(order[:size]), puzzles.take(order[size:]))


def write_answer(answer: Any) -> str:
    """An answer (tokens,) as text: one character a token, 1 for class 0."""
    return "".join(DIGITS[int(value) + 1] for value in answer)


def read_answer(text: str, shape: GridShape) -> Ints:
    """The answer that `write_answer` wrote. Raises InputError."""
    values = [DIGITS.find(character) - 1 for character in text.strip()]
    if len(values) != shape.tokens or not all(0 <= v < shape.classes for v in values):
        raise InputError(
            f"answer {text.strip()!r} must be {shape.tokens} characters from "
            f"{DIGITS[1 : shape.classes + 1]!r}"
        )
    return np.array(values, dtype=np.int64)


DIGITS = "0123456789ABCDEFG"
EMPTY = "."


def read_cells(text: str, tokens: int, classes: int, *, what: str) -> Ints:
    """Cells written by `write_cells`: 0 where nothing is given, else the class plus one."""
    values = [0 if c == EMPTY else DIGITS.find(c) for c in text]
    if len(values) != tokens or not all(0 <= v <= classes for v in values):
        raise InputError(
            f"{what} {text!r} must be {tokens} characters from {EMPTY + DIGITS[1 : classes + 1]!r}"
        )
    return np.array(values, dtype=np.int64)


def write_cells(cells: Any) -> str:
    """One character a cell, a dot for 0."""
    return "".join(EMPTY if value == 0 else DIGITS[int(value)] for value in cells)


def words_of(prompt: str, name: str, parts: int) -> list[str]:
    """The words after the task's name. Raises InputError."""
    first, *rest = prompt.split() or [""]
    if first != name or len(rest) != parts:
        raise InputError(f"prompt {prompt!r} must be {name!r} and {parts} word(s) after it")
    return rest
