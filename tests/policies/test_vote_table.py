"""The table's verdicts, what is drawn at once, hand-over, and refusals."""

from __future__ import annotations

import pytest

from suffice.core.errors import InputError
from suffice.policies.registry import parse_policy
from suffice.policies.vote_table import State, VoteTable, least_further
from tests.policies.scripted import FREE_FORM, play

TABLE = VoteTable(answer=("-", "2", "-", "33", "00"), escalate=("-", "-", "1"))


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ((1, 1, 0), "go on"),
        ((2, 2, 0), "answer"),
        ((2, 1, 1), "go on"),  # no digit for a runner-up with one vote
        ((3, 1, 0), "escalate"),
        ((3, 2, 1), "go on"),
        ((4, 3, 1), "answer"),
        ((4, 2, 2), "go on"),
        ((5, 2, 2), "answer"),  # the cap
    ],
)
def test_verdicts(state, verdict):
    assert TABLE.verdict(State(*state)) == verdict


def test_as_many_are_in_flight_as_the_best_case_needs():
    assert least_further(TABLE, State(0, 0, 0)) == 2
    assert least_further(TABLE, State(2, 1, 1)) == 2  # 2 to 1 goes on, 3 to 1 answers
    assert play(TABLE, ["4", "4", "5"]).drawn == 2
    assert play(TABLE, ["4", "5", "4", "4"]).drawn == 4
    assert play(TABLE, ["4", "5", "4", "5", "6"]).drawn == 5


def test_a_scattered_vote_is_handed_up():
    alone = VoteTable(answer=("-", "2", "-"), escalate=("-", "-", "1"))
    found = play(alone, ["-", "5", "-"])
    assert found.outcome.escalated
    rungs = parse_policy(f"{alone.text}@a > single@b")
    found = play(rungs, lambda launch: "9" if launch.draw.model == "b" else "-")
    assert (found.answer, found.drawn) == ("9", 4)


def test_free_form_text_takes_one_sample():
    assert play(TABLE, ["a tale"], request=FREE_FORM).drawn == 1


def test_text_is_read_back_and_nonsense_refused():
    assert parse_policy(TABLE.text) == TABLE
    with pytest.raises(InputError, match="0-9, a-z and -"):
        parse_policy("vote_table:answer=-+2!+00")
    with pytest.raises(InputError, match="the cap"):
        VoteTable(answer=("0",), escalate=("-", "-"))
