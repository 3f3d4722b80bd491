"""Traced problems: right answers, steps that are true, and no answer in the trace."""

from __future__ import annotations

import collections

import pytest

from suffice.training.pruning.problems import (
    ANSWERS,
    CATEGORIES,
    DIGITS,
    MODULUS,
    RESULTS,
    problems,
    solve,
    words,
)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_answers_are_right_and_stand_in_no_trace(steps: int) -> None:
    for problem in problems(200, seed=0, part="t", steps=steps):
        text = " ".join(problem.prompt)
        # Left to right on either side, worked out by Python with brackets.
        total = 0
        for side in text.split(" & "):
            first, *rest = side.split()
            formula = first
            for sign, operand in zip(rest[::2], rest[1::2], strict=True):
                formula = f"({formula} {sign} {operand})"
            total += eval(formula) % MODULUS
        assert problem.answer == ANSWERS[total] == solve(problem.prompt)
        assert not set(problem.trace) & set(ANSWERS)
        assert len(problem.categories) == len(problem.trace)
        words_of_it = words()
        assert all(words_of_it.id(word) for word in (*problem.prompt, *problem.trace))


@pytest.mark.parametrize("steps", [1, 2])
def test_results_of_the_trace_lead_to_the_answer(steps: int) -> None:
    for problem in problems(200, seed=1, part="t", steps=steps):
        results = [
            RESULTS.index(word)
            for word, kind in zip(problem.trace, problem.categories, strict=True)
            if kind == "result"
        ]
        assert len(results) == 2 * steps
        assert problem.answer == ANSWERS[results[steps - 1] + results[-1]]


def test_one_result_leaves_five_answers_equally_likely() -> None:
    seen: dict[tuple[int, str], collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    for problem in problems(6000, seed=2, part="t"):
        results = [
            word
            for word, kind in zip(problem.trace, problem.categories, strict=True)
            if kind == "result"
        ]
        for side, word in ((0, results[0]), (1, results[1])):
            seen[side, word][problem.answer] += 1
    for counts in seen.values():
        assert len(counts) == MODULUS
        assert max(counts.values()) / sum(counts.values()) < 0.3


def test_every_kind_of_token_occurs_and_draws_are_independent() -> None:
    found = problems(100, seed=0, part="t")
    assert {kind for problem in found for kind in problem.categories} == set(CATEGORIES)
    assert {problem.prompt[0] for problem in found} == set(DIGITS)
    assert found == problems(100, seed=0, part="t")
    assert found != problems(100, seed=0, part="u")
