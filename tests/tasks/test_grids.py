"""Grid tasks: counts against brute force and published numbers, checks, texts, splits."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest

from suffice.core.errors import InputError, UnknownName
from suffice.tasks.grids.colouring import Colouring
from suffice.tasks.grids.puzzles import GridTask, Puzzles, read_answer, write_answer
from suffice.tasks.grids.queens import Queens, completions
from suffice.tasks.grids.registry import grid_task
from suffice.tasks.grids.sudoku import Sudoku, solutions


def every_answer(task: GridTask) -> Any:
    """All answers there are, (classes ** tokens, tokens)."""
    shape = task.shape
    return np.array(list(itertools.product(range(shape.classes), repeat=shape.tokens)))


@pytest.mark.parametrize(
    ("size", "known"), [(4, 2), (5, 10), (6, 4), (7, 40), (8, 92), (9, 352)]
)  # OEIS A000170
def test_queens_have_the_published_number_of_solutions(size: int, known: int) -> None:
    assert len(completions([None] * size)) == known


def test_queens_split_is_the_published_one() -> None:
    splits = Queens(8).splits(seed=0)
    assert (len(splits.train), len(splits.test)) == (4375, 773)  # arXiv:2605.19376


def test_queens_puzzles_are_every_way_of_leaving_one_to_three() -> None:
    splits = Queens(7).splits(seed=0)
    pairs = len(splits.train.solutions) + len(splits.test.solutions)
    assert pairs == 40 * (7 + 21 + 35)


@pytest.mark.parametrize("task", [Queens(5), Queens(6), Colouring(4), Colouring(5)])
def test_counts_and_solutions_are_those_of_brute_force(task: GridTask) -> None:
    answers, test = every_answer(task), task.splits(0).test
    for i in range(0, len(test), 1 + len(test) // 10):
        right = answers[task.right(test.inputs[i], answers)]
        listed = {tuple(row) for row in test.solutions_of(i)}
        assert listed == {tuple(row) for row in right}
        assert task.count(test.inputs[i]) == len(listed)


def test_checkers_agree_with_the_rules_written_out() -> None:
    source = np.random.default_rng(0)
    queens = Queens(6)
    for answer in source.integers(0, 6, (400, 6)):
        attacked = any(
            answer[i] == answer[j] or abs(int(answer[i]) - int(answer[j])) == j - i
            for i, j in itertools.combinations(range(6), 2)
        )
        assert bool(queens.right(np.zeros((6, 1), int), answer)) is not attacked
    graphs = Colouring(5).splits(0).test
    for given, answer in zip(graphs.inputs, source.integers(0, 3, (400, 5)), strict=False):
        wrong = [
            (i, j)
            for i, j in itertools.combinations(range(5), 2)
            if given[i, j] and answer[i] == answer[j]
        ]
        kept = all(given[i, -1] in (0, answer[i] + 1) for i in range(5))
        assert bool(Colouring(5).right(given, answer)) is (kept and not wrong)
        assert Colouring(5).conflicts(given, answer) == len(wrong)


def test_there_are_288_sudoku_grids_of_four() -> None:
    """And as many by trying all rows of permutations (OEIS A107739)."""
    task = Sudoku(4)
    grids = np.array(solutions([0] * 16, 4)) - 1
    rows = list(itertools.permutations(range(4)))
    brute = np.array([sum(four, ()) for four in itertools.product(rows, repeat=4)])
    right = brute[task.right(np.zeros((16, 1), int), brute)]
    assert {tuple(g) for g in grids} == {tuple(g) for g in right}
    assert len(grids) == 288


def test_sudoku_counts_are_those_of_brute_force() -> None:
    task, source = Sudoku(4), random.Random(0)
    grids = np.array(solutions([0] * 16, 4)) - 1
    for empty in (6, 9, 11, 13):
        cells = grids[source.randrange(len(grids))] + 1
        cells[source.sample(range(16), empty)] = 0
        given = cells[:, None]
        assert task.count(given) == int(task.right(given, grids).sum())


@pytest.mark.parametrize("size", [6, 9])
def test_generated_sudoku_has_one_solution(size: int) -> None:
    task, source = Sudoku(size), random.Random(1)
    cells, solution = task.generate(source)
    given = np.array(cells)[:, None]
    assert 0 in cells
    assert task.count(given) == 1
    assert task.right(given, np.array(solution) - 1)
    swapped = np.array(solution) - 1
    swapped[[0, 1]] = swapped[[1, 0]]
    assert not task.right(given, swapped)


@pytest.mark.parametrize("name", ["queens-7", "colouring-5"])
def test_prompts_and_answers_read_back(name: str) -> None:
    task = grid_task(name)
    test = task.splits(0).test
    for i in range(0, len(test), 17):
        assert (task.parse(task.prompt(test.inputs[i])) == test.inputs[i]).all()
        answer = test.solutions_of(i)[0]
        assert (read_answer(write_answer(answer), task.shape) == answer).all()


def test_a_sudoku_prompt_reads_back() -> None:
    task = grid_task("sudoku-4")
    given = task.parse("sudoku-4 34.1......1.2..4")
    assert task.prompt(given) == "sudoku-4 34.1......1.2..4"
    assert task.count(given) == 1
    assert task.shape.tokens == len(given) == 16


@pytest.mark.parametrize("name", ["queens-6", "colouring-5"])
def test_no_input_is_in_both_splits_and_seeds_share_out_anew(name: str) -> None:
    task = grid_task(name)

    def keys(puzzles: Puzzles) -> set[bytes]:
        return {given.tobytes() for given in puzzles.inputs}

    first, again, other = task.splits(0), task.splits(0), task.splits(1)
    assert not keys(first.train) & keys(first.test)
    assert len(keys(first.train)) == len(first.train)
    assert (first.test.inputs == again.test.inputs).all()
    assert keys(first.test) != keys(other.test)
    assert keys(first.test) | keys(first.train) == keys(other.test) | keys(other.train)


def test_some_puzzles_are_taken_with_their_solutions() -> None:
    puzzles = Queens(6).splits(0).train
    taken = puzzles.take([4, 1])
    assert (taken.inputs[1] == puzzles.inputs[1]).all()
    assert (taken.solutions_of(0) == puzzles.solutions_of(4)).all()
    rows, solutions_ = puzzles.pairs()
    assert Queens(6).right(puzzles.inputs[rows], puzzles.solutions[solutions_]).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("queens", "must be queens-SIZE"),
        ("queens-3", "board of 4 to 16"),
        ("sudoku-5", "sizes 4, 6, 9"),
        ("colouring-2", "3 to 16 vertices"),
    ],
)
def test_a_size_that_there_is_not_is_said(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        grid_task(name)


def test_a_task_that_there_is_not_is_said() -> None:
    with pytest.raises(UnknownName, match="did you mean queens"):
        grid_task("quens-8")


@pytest.mark.parametrize(
    ("name", "prompt", "said"),
    [
        ("queens-4", "queens-4 ..1", "must be 4 characters"),
        ("queens-4", "queens-5 ..1..", "must be 'queens-4' and 1 word"),
        ("queens-4", "queens-4 ..9.", "from '.1234'"),
        ("colouring-3", "colouring-3 012 ...", "from '01'"),
        ("sudoku-4", "sudoku-4 1", "must be 16 characters"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_said(name: str, prompt: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        grid_task(name).parse(prompt)


def test_an_answer_that_cannot_be_read_is_said() -> None:
    with pytest.raises(InputError, match="4 characters from '1234'"):
        read_answer("1205", Queens(4).shape)
