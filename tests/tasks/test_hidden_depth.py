"""Puzzles that hide their depth: right by another way, and only what counts decides."""

from __future__ import annotations

import random

import pytest

from suffice.tasks.hidden_depth import KINDS, OPERATIONS
from suffice.tasks.operations import PERMUTATIONS
from suffice.tasks.same_length import DIFFICULTIES, Puzzle, draw
from suffice.training.modes.data import alphabet_of


def solved(kind: str, prompt: str) -> tuple[str, int]:
    """(answer, count of what decides), worked out from the end of the prompt."""
    if kind == "variables":
        listed, asked = prompt.split("?")
        value = {k.lower(): v for k, v in zip(listed[::2], listed[1::2], strict=True)}
        hops = 0
        while not value[asked].isdigit():
            asked, hops = value[asked], hops + 1
        return value[asked], hops
    if kind == "restarts":
        start = max(n for n, c in enumerate(prompt) if c.isdigit())
        state = prompt[start]
        for name in prompt[start + 1 :]:
            state = PERMUTATIONS[name][int(state)]
        return state, len(prompt) - 1 - start
    at = prompt.rfind("*0")
    tail = prompt[at + 2 :] if at >= 0 else prompt[1:]
    total = 0 if at >= 0 else int(prompt[0])
    for sign, operand in zip(tail[::2], tail[1::2], strict=True):
        total = eval(f"({total}){sign}{operand}")
    return str(total % 10), len(tail) // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_answers_and_counts(kind: str, difficulty: int) -> None:
    rng, counts = random.Random(0), set()
    for _ in range(200):
        puzzle = draw(kind, rng, difficulty)
        assert (puzzle.answer, puzzle.counted) == solved(kind, puzzle.prompt)
        assert KINDS[kind].difficulty(puzzle) == difficulty
        counts.add(puzzle.counted)
    # Every count of the band is drawn.
    assert counts == set(range(min(counts), max(counts) + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_equally_long_and_spelled_by_the_kinds_characters(kind: str) -> None:
    rng = random.Random(1)
    found = [draw(kind, rng, difficulty) for difficulty in DIFFICULTIES for _ in range(60)]
    assert len({len(puzzle.prompt) for puzzle in found}) == 1
    used = {c for p in found for c in p.prompt + p.steps + p.answer}
    assert used <= set(KINDS[kind].characters)


@pytest.mark.parametrize("kind", ["restarts", "zeros"])
def test_thoughts_are_equally_long_and_end_in_the_answer(kind: str) -> None:
    rng = random.Random(2)
    found: list[Puzzle] = [draw(kind, rng, d) for d in DIFFICULTIES for _ in range(40)]
    width = 2 if kind == "restarts" else 3
    assert {len(puzzle.steps) for puzzle in found} == {width * OPERATIONS}
    assert all(puzzle.steps.endswith(puzzle.answer) for puzzle in found)


def test_what_stands_before_a_restart_changes_nothing() -> None:
    rng = random.Random(3)
    for kind in ("restarts", "zeros"):
        for _ in range(40):
            puzzle = draw(kind, rng, 1)
            assert solved(kind, "9" + puzzle.prompt[1:])[0] == puzzle.answer


def test_the_alphabet_holds_what_the_chosen_tasks_use() -> None:
    from suffice.tasks.puzzles import ALPHABET, Mixture

    mixture = Mixture(tasks=("variables",), difficulties=(1, 2, 3))
    assert set(KINDS["variables"].characters) <= set(alphabet_of(mixture))
    assert alphabet_of(Mixture(tasks=("chain",))) == ALPHABET
