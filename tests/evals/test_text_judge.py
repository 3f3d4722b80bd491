"""A judge of free text: what it is asked, what counts as worse, what its mistakes do to a bound."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from scipy.stats import beta

from suffice.core.errors import InputError
from suffice.core.requests import ImagePart, Message, TextPart
from suffice.evals.text_judge import (
    KindCount,
    MeasuredJudge,
    is_readable,
    judged_worse,
    read_judge,
    split,
    verdict,
    write_judge,
)

ASKED = (Message(role="user", content="Why is the sky blue?"),)


def judged(*said: str | None, safe: str = "good", cheap: str = "bad") -> tuple[bool, int]:
    """Whether it is worse if the judge says these in turn, and how often it was asked."""
    answers, asked = iter(said), []

    async def ask(messages: tuple[Message, ...]) -> str | None:
        asked.append(messages)
        return next(answers)

    return asyncio.run(judged_worse(ASKED, safe, cheap, ask)), len(asked)


@pytest.mark.parametrize(
    ("said", "worse", "asked"),
    [
        (("[[A]]", "[[B]]"), True, 2),  # the safe one both times: A first, then B
        (("[[A]]", "[[A]]"), False, 2),  # whoever stands first wins: no verdict
        (("[[B]]",), False, 1),  # the cheap one won: it cannot lose more often
        (("[[C]]", "[[B]]"), True, 2),
        (("[[C]]", "[[C]]"), False, 2),
        (("[[A]]", "[[C]]"), True, 2),
        (("no idea",), True, 1),
        ((None,), True, 1),
        (("[[C]]", "no idea"), True, 2),
        (("I thought of [[A]] first, but [[C]]", "[[C]]"), False, 2),
    ],
)
def test_what_counts_as_worse(said: tuple[str | None, ...], worse: bool, asked: int) -> None:
    assert judged(*said) == (worse, asked)


def test_equal_texts_are_not_asked_about() -> None:
    assert judged(safe="same", cheap="same") == (False, 0)


def test_places_are_exchanged_and_writers_are_not_named() -> None:
    seen: list[str] = []

    async def ask(messages: tuple[Message, ...]) -> str:
        seen.append(messages[1].text)
        return "[[C]]"

    asyncio.run(judged_worse(ASKED, "the first", "the second", ask))
    assert seen[0].index("the first") < seen[0].index("the second")
    assert seen[1].index("the second") < seen[1].index("the first")
    assert all("sky blue" in text and "safe" not in text and "cheap" not in text for text in seen)


def test_the_bound_is_that_of_the_kind_noticed_least() -> None:
    judge = MeasuredJudge(
        model="j", noticed={"cut": KindCount(n=50, worse=45), "other": KindCount(n=50, worse=50)}
    )
    low = beta.ppf((1 - 0.99) / 2, 45, 6)  # Clopper-Pearson, half of the error for each kind
    assert judge.sensitivity(0.99) == pytest.approx(low, rel=1e-9)
    assert split(0.95) == (pytest.approx(0.99), pytest.approx(0.96))
    blind = MeasuredJudge(model="j", noticed={"cut": KindCount(n=50, worse=0)})
    assert blind.sensitivity(0.99) == 0.0


def test_the_file_comes_back_and_mistakes_in_it_are_named(tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    judge = MeasuredJudge(model="j", max_tokens=9, noticed={"cut": KindCount(n=50, worse=45)})
    write_judge(path, judge)
    assert read_judge(path) == judge
    for change, said in (
        ({"instructions": 0}, "other instructions"),
        ({"noticed": {}}, "no pairs"),
        ({"noticed": {"cut": {"n": 3, "worse": 4}}}, "4 of 3"),
        ({"colour": 1}, "colour"),
    ):
        path.write_text(json.dumps(judge.model_dump() | change))
        with pytest.raises(InputError, match=said):
            read_judge(path)


def test_verdicts_and_what_can_be_read() -> None:
    assert [verdict(text) for text in ("[[A]]", "x [[B]] y [[C]]", "A", "", None)] == [
        "A", "C", None, None, None,
    ]  # fmt: skip
    assert is_readable((Message(role="user", content=(TextPart(text="hi"),)),))
    assert not is_readable((Message(role="user", content=(ImagePart(url="http://x/y.png"),)),))
