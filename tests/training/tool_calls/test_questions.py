"""Tool calls: questions, what the teacher gets wrong, and what counts as right."""

from __future__ import annotations

import json
import random

import pytest

from suffice.core.completions import Completion, Usage
from suffice.core.requests import ToolCall
from suffice.evals.grading import check_of
from suffice.training.tool_calls.questions import (
    MODULUS,
    NONE,
    Call,
    chain_of,
    questions,
    right_chain,
    taught_chain,
    words,
)

ASKED = questions(3000, seed=0, part="test")


def test_the_same_seed_and_part_ask_the_same() -> None:
    assert questions(20, seed=3, part="a") == questions(20, seed=3, part="a")
    assert questions(20, seed=3, part="a") != questions(20, seed=3, part="b")


def test_every_word_has_an_id() -> None:
    known, rng = words(), random.Random(0)
    for question in ASKED:
        for word in (*question.prompt, *taught_chain(question, rng).words):
            known.id(word)


@pytest.mark.parametrize(
    ("tool", "a", "b", "said"),
    [("sub", 52, 37, 15), ("sub", 37, 52, 85), ("mul", 25, 5, 25), ("div", 9, 0, 0),
     ("div", 97, 9, 10), ("mod", 97, 9, 7), ("mod", 9, 0, 0)],
)  # fmt: skip
def test_tools_count_modulo_100(tool: str, a: int, b: int, said: int) -> None:
    assert Call(tool, a, b).run() == said


def test_right_calls_use_offered_tools_and_each_result_in_the_next() -> None:
    for question in ASKED:
        assert {call.tool for call in question.calls} <= set(question.offered)
        for earlier, later in zip(question.calls, question.calls[1:], strict=False):
            assert later.a == earlier.run() < MODULUS
    assert {len(question.calls) for question in ASKED} == {0, 1, 2}


def test_the_teacher_errs_where_preference_can_and_as_often_as_it_says() -> None:
    rng = random.Random(1)
    wrong = {q: taught_chain(q, rng) != right_chain(q) for q in ASKED}
    assert not any(wrong[q] for q in ASKED if not q.by_preference)
    for errs in (0.35, 0.65):
        mine = [wrong[q] for q in ASKED if q.by_preference and q.errs == errs]
        # A wrong chain is another one even where both orders give the same result.
        assert abs(sum(mine) / len(mine) - errs) < 4 * (errs * (1 - errs) / len(mine)) ** 0.5


def test_observations_are_not_the_models_own_words() -> None:
    chain = chain_of((Call("add", 1, 2), Call("mul", 3, 5)))
    others = [word for word, own in zip(chain.words, chain.own, strict=True) if not own]
    assert others == ["tool:", "3", "<end>", "tool:", "15", "<end>"]
    assert chain_of(()).words[0] == NONE


def test_what_is_right_is_right_for_the_check_of_tool_calls() -> None:
    """Against `suffice record`'s check, which agrees with the leaderboard's own."""
    rng, seen = random.Random(2), set()
    for question in ASKED:
        if len(question.calls) != 1:
            continue
        ((tool, a, b),) = ((c.tool, c.a, c.b) for c in question.calls)
        check = check_of("tool", json.dumps([{tool: {"a": [a], "b": [b]}}]))
        taught = taught_chain(question, rng)
        text = "".join(taught.words[: taught.words.index("<end>")])
        said = Completion(text=text, finish_reason="stop", usage=Usage())
        assert check(said).correct is (taught == right_chain(question))
        seen.add(check(said).correct)
        native = ToolCall(id="1", name=tool, arguments=json.dumps({"a": a, "b": b}))
        said = Completion(text="", finish_reason="stop", usage=Usage(), tool_calls=(native,))
        assert check(said).correct
    assert seen == {True, False}
