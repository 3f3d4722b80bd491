"""Measuring a judge: pairs that are given, pairs that are planted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from suffice.core.errors import BackendError, InputError
from suffice.core.requests import Message
from suffice.evals.text_judge import KindCount
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, TraceSet, messages_json
from suffice.recipes.live.judging import JudgedPair, measure, planted, read_pairs

LONG = "the train leaves at nine and needs four hours for the way so it arrives at {}"


def recording(questions: int = 6, *, judged: bool = True, text: str = LONG) -> TraceSet:
    def traces() -> list[Trace]:
        return [
            Trace(
                question=Question(
                    dataset="d", name=str(number), messages_json=messages_json(f"when {number}?"),
                    reference=None, answer_format=None,
                ),
                model="m", sample=sample, text=f"{number}.{sample}: {text.format(13 + sample)}",
                correct=(sample < 2) if judged else None,
            )
            for number in range(questions) for sample in range(3)
        ]  # fmt: skip

    return trace_set(traces())


def test_planted_pairs_are_worse_in_the_way_that_they_say() -> None:
    pairs = planted(recording(), each=4, seed=1)
    assert Counter(pair.kind for pair in pairs) == {
        "other": 4, "plea": 4, "cut": 4, "number": 4, "wrong": 4, None: 4,
    }  # fmt: skip
    for pair in pairs:
        question = pair.messages[0].text.split()[1].rstrip("?")
        assert pair.safe.startswith(question) and pair.safe != pair.cheap
        match pair.kind:
            case "other" | "plea":
                assert not pair.cheap.startswith(f"{question}.")
            case "cut":
                assert pair.safe.startswith(pair.cheap) and len(pair.cheap) < len(pair.safe)
            case "number":
                assert pair.safe.rsplit(" ", 1)[0] == pair.cheap.rsplit(" ", 1)[0]
            case "wrong":
                assert pair.cheap.endswith("15") and not pair.safe.endswith("15")
            case _:
                assert not pair.cheap.endswith("15")
    assert planted(recording(), each=4, seed=1) == pairs
    assert planted(recording(), each=4, seed=2) != pairs


def test_without_labels_three_kinds_and_a_plea_are_left() -> None:
    kinds = {pair.kind for pair in planted(recording(judged=False), each=2, seed=0)}
    assert kinds == {"other", "plea", "cut", "number"}


def test_short_answers_cannot_be_planted() -> None:
    with pytest.raises(InputError, match="12 words"):
        planted(recording(text="{}"), each=4, seed=0)


def test_pairs_from_a_file_and_mistakes_by_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "p", "safe": "a", "cheap": "b", "worse": True}
    path.write_text("\n".join([json.dumps(good), "", json.dumps(good | {"worse": False})]))
    first, second = read_pairs(path)
    assert (first.kind, second.kind) == ("given", None)
    for line, said in (
        (json.dumps(good | {"worse": "yes"}), "line 2: worse"),
        (json.dumps(good | {"colour": 1}), "line 2: colour"),
        ("{", "line 2: no valid JSON"),
    ):
        path.write_text(json.dumps(good) + "\n" + line)
        with pytest.raises(InputError, match=said):
            read_pairs(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="no pairs"):
        read_pairs(path)


def _pair(number: int, kind: str | None) -> JudgedPair:
    return JudgedPair(
        messages=(Message(role="user", content=f"{number}"),), safe="good", cheap=f"bad {number}",
        kind=kind,
    )  # fmt: skip


async def _sees_all_but_seven(messages: tuple[Message, ...]) -> str:
    text = messages[1].text
    first = text.index("good") < text.index("bad")
    if "bad 7" in text:
        return "[[C]]"
    return "[[A]]" if first else "[[B]]"


def test_what_a_judge_notices_is_counted_by_kind() -> None:
    pairs = [_pair(n, "cut" if n < 5 else "other") for n in range(10)] + [_pair(11, None)]
    found = asyncio.run(measure(
        pairs, _sees_all_but_seven, model="j", max_tokens=None, source="s"))  # fmt: skip
    assert found.noticed == {"cut": KindCount(n=5, worse=5), "other": KindCount(n=5, worse=4)}
    assert found.blamed == KindCount(n=1, worse=1)


def test_a_judge_that_cannot_be_asked_is_an_error() -> None:
    async def away(messages: tuple[Message, ...]) -> str:
        raise BackendError("no answer from j")

    with pytest.raises(BackendError, match="no answer"):
        asyncio.run(measure([_pair(1, "cut")], away, model="j", max_tokens=None, source=""))
    with pytest.raises(InputError, match="worse: true"):
        asyncio.run(measure(
            [_pair(1, None)], _sees_all_but_seven, model="j", max_tokens=None, source=""
        ))  # fmt: skip
