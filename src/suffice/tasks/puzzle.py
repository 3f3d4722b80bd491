"""A puzzle, and the kinds whose prompts are all equally long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """A prompt with the steps that lead to its answer; `counted` is what difficulty bands."""

    prompt: str
    steps: str
    answer: str
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How puzzles of a kind are made, and the largest count of difficulty 1 and of 2.

    `characters` holds every character that prompts, steps and answers of the kind use.
    """

    make: Callable[[random.Random], Puzzle]
    easy: int
    middle: int
    characters: str

    def difficulty(self, puzzle: Puzzle) -> int:
        """1, 2 or 3."""
        return 1 if puzzle.counted <= self.easy else 2 if puzzle.counted <= self.middle else 3
