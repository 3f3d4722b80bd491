"""What a real model's completion answers in its mode, and rewards that cannot teach the reverse."""

from __future__ import annotations

import pytest

from suffice.core.errors import ConfigError, InputError
from suffice.training.modes.mode_tokens import WATCHED, Modes, mode_reward, modes_of
from suffice.training.modes.rewards import ModePrice

MODES = Modes(short=1, think=9, ends=frozenset({2}))
# AdaptThink's: the prompt opens the block, closing it at once is short.
OPEN = Modes(short=7, think=None, short_text="</think>")


def rewards(texts: list[str], ids: list[list[int]], answers: list[str], modes: Modes = MODES):
    return mode_reward(ModePrice(gamma=0.5), modes)(texts, ids, answer=answers)


def test_a_thought_answer_is_what_follows_the_block() -> None:
    thought = "<think>\n6*7=42\n</think>\n\n42"
    assert rewards([thought, "42"], [[9, 1, 2], [1, 2]], ["42", "42"]) == [0.5, 1.0]
    # The mode's own text may be decoded or not.
    assert rewards(["<short>42"], [[1, 2]], ["42"]) == [1.0]
    assert rewards(["6*7=42</think>42"], [[9, 2]], ["42"]) == [0.5]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("6*7=42</think>42", [1, 2]),  # a hidden block in short mode
        ("<think>6*7</think>42", [1, 2]),
        ("</think>42", [1, 2]),
        ("<think>42", [9, 2]),  # never closed
        ("<think>a</think>42</think>42", [9, 2]),
        ("42", [1, 5]),  # cut before its end
        ("<think>a</think>42", [9, 5]),
        ("42", [4, 2]),  # no mode at all
        ("42", []),
    ],
)
def test_what_is_wrong_in_its_mode(text: str, ids: list[int]) -> None:
    assert rewards([text], [ids], ["42"]) == [-1.0]


def test_an_open_block_closed_at_once_is_short() -> None:
    texts = ["</think>\n42", "6*7 is 42</think>42", "</think>a</think>42"]
    assert rewards(texts, [[7, 3], [5, 7, 3], [7, 3]], ["42"] * 3, OPEN) == [1.0, 0.5, -1.0]


def test_a_reward_that_finds_no_thought_answer_stops() -> None:
    boxed = "<think>a</think>\\boxed{42}."
    with pytest.raises(InputError, match=f"none of {WATCHED} thought completions counts as right"):
        rewards([boxed] * WATCHED, [[9, 2]] * WATCHED, ["42"] * WATCHED)
    found = mode_reward(ModePrice(), MODES, answer_of=lambda s: s.strip(" .}").rpartition("{")[2])
    assert found([boxed], [[9, 2]], answer=["42"]) == [0.5]
    # Wrong answers are no such sign.
    assert set(rewards(["<think>a</think>7"] * 99, [[9, 2]] * 99, ["42"] * 99)) == {-1.0}


class Words:
    unk_token_id, eos_token_id = 0, 2

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return {"<short>": [1], "<think>": [9], "no": [0]}.get(text, [3, 4])


def test_each_mode_is_one_known_token() -> None:
    assert modes_of(Words()) == MODES
    with pytest.raises(ConfigError, match="a mode must be one token"):
        modes_of(Words(), short="/no_think")
    with pytest.raises(ConfigError, match="unknown to it"):
        modes_of(Words(), short="no")
    with pytest.raises(ConfigError, match="the same token"):
        modes_of(Words(), short="<think>")
