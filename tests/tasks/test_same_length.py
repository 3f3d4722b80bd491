"""Puzzles of equal length: right by another way of working them out, and length says nothing."""

from __future__ import annotations

import itertools
import math
import random
import re

import pytest

from suffice.core.errors import InputError
from suffice.tasks import hidden_depth
from suffice.tasks.puzzle import Puzzle
from suffice.tasks.same_length import CHARACTERS, DIFFICULTIES, draw
from suffice.tasks.same_length import KINDS as ALL_KINDS

KINDS = {name: kind for name, kind in ALL_KINDS.items() if name not in hidden_depth.KINDS}


def solved(kind: str, prompt: str) -> str:
    """The answer by Python's own arithmetic."""
    if kind == "addition":
        return f"{eval(prompt):04d}"
    if kind == "comparison":
        a, b = prompt.split("?")
        return "<" if int(a) < int(b) else ">"
    if kind == "gcd":
        return f"{math.gcd(*map(int, prompt[1:].split(','))):02d}"
    if kind == "sorting":
        return "".join(sorted(prompt[1:]))
    numbers, target = prompt[1:].split(":")
    a, b, c = numbers.split(",")
    found = [
        f"{x}{y}"
        for x, y in itertools.product("+-*", repeat=2)
        if eval(f"({a}{x}{b}){y}{c}") == int(target)
    ]
    assert len(found) == 1  # one right answer
    return found[0]


def counted(kind: str, puzzle: Puzzle) -> int:
    """What difficulty bands, by another count than the generator's."""
    if kind == "addition":
        a, b = puzzle.prompt.split("+")
        digits = [sum(map(int, str(n))) for n in (int(a), int(b), int(a) + int(b))]
        return (digits[0] + digits[1] - digits[2]) // 9  # each carry takes nine off the digits
    if kind == "comparison":
        a, b = puzzle.prompt.split("?")
        return next(n for n in range(4) if a[n] != b[n])
    if kind == "gcd":
        return puzzle.steps.count("%")
    if kind == "sorting":
        return sum(a > b for a, b in itertools.combinations(puzzle.prompt[1:], 2))
    return puzzle.steps.count("=") - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_answers_difficulties_and_characters(kind: str, difficulty: int) -> None:
    rng = random.Random(0)
    for _ in range(60):
        puzzle = draw(kind, rng, difficulty)
        assert puzzle.answer == solved(kind, puzzle.prompt)
        assert puzzle.counted == counted(kind, puzzle)
        assert KINDS[kind].difficulty(puzzle) == difficulty
        assert set(puzzle.prompt + puzzle.steps + puzzle.answer) <= set(CHARACTERS)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_and_answers_are_equally_long_at_every_difficulty(kind: str) -> None:
    rng = random.Random(1)
    found = [draw(kind, rng, difficulty) for difficulty in DIFFICULTIES for _ in range(40)]
    assert len({len(puzzle.prompt) for puzzle in found}) == 1
    assert len({len(puzzle.answer) for puzzle in found}) == 1
    assert len({puzzle.prompt for puzzle in found}) > 80


def test_every_step_is_true() -> None:
    rng = random.Random(2)
    for kind in ("addition", "gcd"):
        for _ in range(40):
            for step in draw(kind, rng, rng.choice(DIFFICULTIES)).steps[1:].split(","):
                left, right = step.split("=")
                terms = re.sub(r"\b0+(\d)", r"\1", left)
                assert eval(terms) == int(right)
    for _ in range(40):
        puzzle = draw("sorting", rng, 3)
        passes = puzzle.steps[1:].split(",")
        assert all(sorted(row) == sorted(puzzle.answer) for row in passes)
        assert passes[-1] == puzzle.answer


def test_there_is_no_fourth_difficulty() -> None:
    with pytest.raises(InputError, match="difficulties 1, 2 and 3, got 4"):
        draw("gcd", random.Random(0), 4)
