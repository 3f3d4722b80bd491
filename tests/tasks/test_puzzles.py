"""Problems: right answers, difficulty, splits that do not meet, and files of one's own."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.core.errors import InputError, UnknownName
from suffice.tasks.puzzles import (
    ALPHABET,
    BY_STEPS,
    PERMUTATIONS,
    TASKS,
    Mixture,
    Problem,
    Split,
    check_spelling,
    read_problems,
)
from suffice.training.modes.rewards import ModePrice, TokenCost, gamma_of_costs


def test_the_permutations_are_permutations_and_do_not_commute() -> None:
    assert all(sorted(row) == list("0123456789") for row in PERMUTATIONS.values())
    a, b = PERMUTATIONS["a"], PERMUTATIONS["b"]
    assert [b[int(a[i])] for i in range(10)] != [a[int(b[i])] for i in range(10)]


def solve(problem: Problem) -> str:
    """The answer, worked out another way than the generator does."""
    text = problem.prompt
    if problem.task == "chain":
        tables = [list(map(int, PERMUTATIONS[name])) for name in text[1:]]
        state = int(text[0])
        for table in tables:
            state = table[state]
        return str(state)
    state = int(text[0])
    for sign, operand in zip(text[1::2], map(int, text[2::2]), strict=True):
        if problem.task == "arithmetic":
            state = eval(f"({state} {sign} {operand}) % 10")
        elif sign == ">":
            state = int(not state or operand)
        else:
            state = eval(f"{state} {sign} {operand}")
    return str(state)


@pytest.mark.parametrize("task", BY_STEPS)
def test_answers_and_steps_are_right(task: str) -> None:
    rng = random.Random(0)
    for difficulty in range(1, 9):
        problem = TASKS[task](rng, difficulty)
        assert problem.answer == solve(problem)
        assert problem.steps is not None
        assert problem.steps.count(",") == problem.difficulty == difficulty
        assert problem.steps.endswith(problem.answer)
        assert problem.is_right(problem.response(think=False), think=False)
        assert problem.is_right(problem.response(think=True), think=True)
        Vocabulary.of(ALPHABET).encode(problem.prompt + problem.response(think=True))


def test_a_thought_chain_has_3n_plus_4_tokens() -> None:
    problem = TASKS["chain"](random.Random(1), 5)
    tokens = Vocabulary.of(ALPHABET).encode(f"<think>{problem.response(think=True)}<end>")
    assert len(tokens) == 3 * 5 + 4


def test_wrong_answers_and_hidden_reasoning_are_wrong() -> None:
    problem = Problem(task="chain", difficulty=2, prompt="3bf", answer="4", steps=",b6,f4")
    assert problem.is_right("4", think=False)
    for short in ("5", "44", ",b6,f44", ",b6,f4</think>4", "</think>4", "a</think>b</think>4"):
        assert not problem.is_right(short, think=False)
    assert problem.is_right("nonsense</think>4", think=True)  # only the answer is judged
    for thought in ("4", ",b6,f4</think>", "a</think>4</think>4", ",b6</think>44"):
        assert not problem.is_right(thought, think=True)
    assert not problem.is_right(",b6,f4</think>4", think=True, ended=False)
    assert not problem.is_right("4", think=False, ended=False)


def test_splits_never_share_a_problem() -> None:
    mixture = Mixture(tasks=("chain", "logic"), difficulties=(3, 4))
    held = {p.prompt for p in mixture.draw(400, seed=0, step=0, split="held_out")}
    train = {p.prompt for p in mixture.draw(4000, seed=0, step=1, split="train")}
    assert held and not held & train


def test_tables_are_in_both_splits_and_the_rest_in_one() -> None:
    def prompts(split: Split, difficulty: int, **options: int) -> set[str]:
        mixture = Mixture(difficulties=(difficulty,), **options)
        return {p.prompt for p in mixture.distinct(1000, seed=0, split=split)["chain", difficulty]}

    # ten digits, six permutations: one and two steps are the whole table
    for difficulty, size in ((1, 60), (2, 360)):
        assert len(prompts("train", difficulty)) == len(prompts("held_out", difficulty)) == size
    assert not prompts("train", 3) & prompts("held_out", 3)
    # With tables of one step a tenth of the two-step problems is never shown.
    shown, hidden = (prompts(split, 2, table_steps=1) for split in ("train", "held_out"))
    assert len(shown | hidden) == 360
    assert not shown & hidden
    assert 18 <= len(hidden) <= 54


def test_a_files_two_step_problems_are_held_out_too() -> None:
    given = tuple(TASKS["chain"](random.Random(seed), 2) for seed in range(400))
    mixture = Mixture(given=given)
    held = {p.prompt for p in mixture.draw(400, seed=0, step=0, split="held_out")}
    train = {p.prompt for p in mixture.draw(4000, seed=0, step=0, split="train")}
    assert held
    assert not held & train


def test_tables_of_no_step_are_refused() -> None:
    with pytest.raises(InputError, match="table_steps must be 1 or more"):
        Mixture(table_steps=0)


def test_about_a_tenth_is_held_out() -> None:
    rng = random.Random(3)
    drawn = [TASKS["chain"](rng, 5) for _ in range(4000)]
    assert 0.085 < sum(p.held_out for p in drawn) / len(drawn) < 0.115


def test_draws_depend_on_seed_and_step_alone() -> None:
    mixture = Mixture(difficulties=(3,))
    once = mixture.draw(8, seed=1, step=5, split="train")
    mixture.draw(100, seed=1, step=4, split="train")
    assert mixture.draw(8, seed=1, step=5, split="train") == once
    assert mixture.draw(8, seed=2, step=5, split="train") != once
    assert mixture.draw(8, seed=1, step=6, split="train") != once


def test_distinct_problems_differ() -> None:
    for problems in Mixture().distinct(200, seed=0, split="held_out").values():
        assert len({p.prompt for p in problems}) == len(problems)


def test_unknown_tasks_and_difficulties() -> None:
    with pytest.raises(UnknownName, match="did you mean chain"):
        Mixture(tasks=("chian",))
    with pytest.raises(InputError, match="from 1 up"):
        Mixture(difficulties=(0,))


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_own_problems_from_a_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.jsonl",
        {"prompt": "12", "answer": "3"},
        {"prompt": "34", "answer": "7", "task": "sum", "difficulty": 3, "steps": ",3+47"},
    )
    problems = read_problems(path)
    assert [p.task for p in problems] == ["mine", "sum"]
    check_spelling(problems, Vocabulary.of(ALPHABET))
    cells = Mixture(given=problems).distinct(9, seed=0, split="train")
    assert sum(map(len, cells.values())) == 2 - sum(p.held_out for p in problems)
    with pytest.raises(InputError, match="has no steps to show"):
        problems[0].response(think=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "12"}, "has no verifiable `answer`"),
        ({"prompt": "12", "answer": " "}, "has no verifiable `answer`"),
        ({"prompt": "12", "answer": 3}, "has no verifiable `answer`"),
        ({"answer": "3"}, "needs a `prompt`"),
        ({"prompt": "12", "answer": "3", "label": 1}, "unknown fields: label"),
        ({"prompt": "12", "answer": "3", "difficulty": 0}, "whole number from 1 up"),
        ({"prompt": "12", "answer": "3", "steps": [1, 2]}, "steps must be one text"),
        ({"prompt": "12", "answer": "3", "task": None}, "task must be a name"),
        ({"prompt": "12", "answer": "4"}, r"answers '12' with '4', .*jsonl:1 with '3'"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "mine.jsonl", {"prompt": "12", "answer": "3"}, row)
    with pytest.raises(InputError, match=message) as caught:
        read_problems(path)
    assert "mine.jsonl:2" in str(caught.value)


def test_problems_outside_the_alphabet(tmp_path: Path) -> None:
    problems = read_problems(write(tmp_path / "t.jsonl", {"prompt": "two?", "answer": "2"}))
    with pytest.raises(InputError, match="outside this model's alphabet"):
        check_spelling(problems, Vocabulary.of(ALPHABET))


def test_published_rewards_and_their_optimum() -> None:
    price = ModePrice(gamma=0.5)
    assert price(right=True, think=False, tokens=3) == 1.0
    assert price(right=True, think=True, tokens=9) == 0.5
    assert price(right=False, think=True, tokens=9) == -1.0
    # thinking pays iff p_t (1 - γ/2) > p_s: .75 at p_t = 1
    assert price.worth_thinking(0.74, 1.0, 3, 9)
    assert not price.worth_thinking(0.76, 1.0, 3, 9)


def test_worth_thinking_is_the_sign_of_the_expected_rewards() -> None:
    rng = random.Random(0)
    for reward in (ModePrice(gamma=0.3), TokenCost(cost_per_token=0.01, answer_value=1.0)):
        for _ in range(200):
            p_s, p_t = rng.random(), rng.random()
            short, think = (
                p * reward(right=True, think=mode, tokens=n)
                + (1 - p) * reward(right=False, think=mode, tokens=n)
                for p, mode, n in ((p_s, False, 3), (p_t, True, 20))
            )
            assert reward.worth_thinking(p_s, p_t, 3, 20) == (think > short)


def test_gamma_of_costs_breaks_even_where_the_costs_do() -> None:
    gamma = gamma_of_costs(1.0, 5.0, 20.0)
    # 1 - p_s = (5 - 1) / 20: below p_s = .8 thinking pays by both
    assert ModePrice(gamma=gamma).worth_thinking(0.799, 1.0, 1, 5)
    assert not ModePrice(gamma=gamma).worth_thinking(0.801, 1.0, 1, 5)
    with pytest.raises(InputError, match="short mode is always best"):
        gamma_of_costs(1.0, 30.0, 20.0)
    with pytest.raises(InputError, match="at least as much"):
        gamma_of_costs(2.0, 1.0, 20.0)
    with pytest.raises(InputError, match=r"\[0, 2\)"):
        ModePrice(gamma=2.0)
