"""A file of problems is checked whole before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.core.errors import InputError
from suffice.recipes.modes.items import answer_format_of
from suffice.recipes.modes.train import room_for
from suffice.tasks.puzzles import ALPHABET, Mixture, Problem, read_problems
from suffice.training.modes.data import (
    alphabet_of,
    check_data,
    longest_prompt,
    most_frequent_share,
)


def rows(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{i}+{i}", "answer": str(2 * i), "steps": f"{i}+{i} is {2 * i}", **changes}
        for i in range(count)
    ]


def checked(path: Path, given: list[dict[str, Any]], *, own: bool = True, **options: Any) -> None:
    file = path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in given))
    mixture = Mixture(given=read_problems(file))
    words = Vocabulary.of(alphabet_of(mixture) if own else ALPHABET)
    check_data(mixture, words, **{"max_tokens": 48, "shown": True, **options})


def test_good_problems_pass_with_their_own_alphabet(tmp_path: Path) -> None:
    checked(tmp_path, rows(60))


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (rows(60), {"own": False}, r"mine.jsonl:1: steps: 'i' is outside"),
        (rows(60, steps=None), {}, r"mine.jsonl:1 has no `steps`"),
        (
            [*rows(60), {"prompt": "1", "answer": "1", "steps": "1" * 60}],
            {},
            r"response to .*mine.jsonl:61 has 64 tokens, routing.max_tokens is 48",
        ),
        (rows(2), {}, "none of the 2 problems is held out"),
        ([*rows(1)] * 60, {}, "none of the 60 problems is"),
        (
            [*rows(60), {"prompt": "<end>", "answer": "1"}],
            {},
            "mine.jsonl:61: prompt holds '<end>'",
        ),
        (
            [*rows(60), {"prompt": "1", "answer": "1", "steps": "a</think>b"}],
            {},
            "steps holds '</think>', which is a control token",
        ),
    ],
)
def test_what_is_refused(
    tmp_path: Path, given: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        checked(tmp_path, given, **options)


def test_white_space_that_a_tokenizer_drops_is_refused(tmp_path: Path) -> None:
    given = [{"prompt": f"{i} {i}", "answer": str(i)} for i in range(60)]
    with pytest.raises(InputError, match=r"mine.jsonl:1: prompt holds white space \(' '\)"):
        checked(tmp_path, given, own=False, shown=False)


def test_a_vocabulary_with_a_space_keeps_it() -> None:
    words = Vocabulary.of("12 ")
    assert words.keeps_spaces
    assert words.decode(words.encode("1 2")) == "1 2"
    assert words.encode("1 2") != words.encode("12")
    again = Vocabulary.from_json(words.to_json(), source="t")
    assert again == words
    assert again.keeps_spaces
    dropping = Vocabulary.of("12")
    assert not dropping.keeps_spaces
    assert dropping.encode("1 2") == dropping.encode("12")
    with pytest.raises(InputError, match="outside this model's alphabet"):
        words.encode("1\n2")


def test_the_tokenizers_package_reads_spaces_alike() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = Vocabulary.of("ab <>")
    theirs = tokenizers.Tokenizer.from_str(words.to_json())
    for text in ("<user>a b<assistant>", "<think>  b a</think>a<end>", " "):
        assert theirs.encode(text).ids == words.encode(text)


def test_room_and_prompts_are_those_of_every_problem(tmp_path: Path) -> None:
    given = [*rows(60), {"prompt": "1" * 99, "answer": "1", "steps": "2" * 70}]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in given))
    assert room_for(file) == 70 + 1 + 1 + 2  # steps, close, answer, mode and end
    problems = read_problems(file)
    words = Vocabulary.of(alphabet_of(Mixture(given=problems)))
    assert longest_prompt(Mixture(given=problems), words) == 101


def answers(*texts: str) -> list[Problem]:
    return [Problem(task="t", difficulty=1, prompt=str(i), answer=a) for i, a in enumerate(texts)]


def test_the_answer_format_is_that_of_the_problems() -> None:
    assert answer_format_of(answers("3", "7")) == r"regex:^\d$"
    assert answer_format_of(answers("3", "17")) == r"regex:^\d{1,2}$"
    assert answer_format_of(answers("<", "-1")) == r"regex:^[\-1<]{1,2}$"


def test_the_likeliest_single_answer() -> None:
    assert most_frequent_share(answers("1", "1", "0", "1")) == 0.75


def test_generated_tasks_have_an_alphabet_that_spells_them() -> None:
    assert alphabet_of(Mixture()) == ALPHABET  # the shipped model's
    mixed = Mixture(tasks=("chain", "addition", "countdown", "gcd", "comparison", "sorting"),
                    difficulties=(1, 2, 3))  # fmt: skip
    words = Vocabulary.of(alphabet_of(mixed))
    check_data(mixed, words, max_tokens=128, shown=True)
    with pytest.raises(InputError, match="raise it to"):
        check_data(mixed, words, max_tokens=48, shown=True)


def test_tasks_of_equal_length_have_no_table() -> None:
    mixture = Mixture(tasks=("addition",), difficulties=(1, 2, 3))
    held = {p.prompt for p in mixture.draw(200, seed=0, step=0, split="held_out")}
    train = {p.prompt for p in mixture.draw(600, seed=0, step=1, split="train")}
    assert held and not held & train
    assert len({len(prompt) for prompt in held | train}) == 1
    with pytest.raises(InputError, match="gcd has difficulties 1, 2 and 3"):
        Mixture(tasks=("gcd",))
