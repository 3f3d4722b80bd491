"""Datasets load with checks that accept their own gold answer; wrong files say which line."""

from __future__ import annotations

import json

import pytest

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError, UnknownName
from suffice.core.requests import ToolCall
from suffice.evals.datasets import load_dataset
from suffice.evals.grading import check_of, scored, tool_check, unchecked


def said(text="", *calls):
    made = tuple(
        ToolCall(id="", name=name, arguments=json.dumps(arguments)) for name, arguments in calls
    )
    return Completion(text=text, finish_reason="stop", usage=Usage(), tool_calls=made)


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("form", "reference", "right", "wrong"),
    [
        ("number", "1,000", "so 1000.0", "so 100"),
        ("choice", "B", "the answer is (B)", "answer: A"),
        ("boxed", r"\boxed{x+1}", r"\boxed{x+1}", r"\boxed{x}"),
        ("json", '{"a": 1}', '{"a": 1.0}', '{"a": 2}'),
        ("regex:=> (.*)", "=> left", "x => left", "x => right"),
        (None, "Paris", "  paris ", "Paris, France"),
    ],
)
def test_checks_compare_by_the_extractors_spelling(form, reference, right, wrong):
    check = check_of(form, reference)
    assert check(said(right)).correct is True
    assert check(said(wrong)).correct is False
    assert check(said("")).correct is False


def test_without_a_reference_right_and_wrong_stay_unknown():
    assert unchecked("number")(said("it is 4")) == ("4", None, None)
    assert check_of("number", None)(said("4")).correct is None


def test_a_scorer_that_fails_scores_nothing():
    def score(answer):
        return 1.0 / int(answer)

    check = scored(score, "number")
    assert check(said("1")) == ("1", True, 1.0)
    assert check(said("4")) == ("4", False, 0.25)
    assert check(said("0")) == ("0", False, 0.0)
    assert check(said("none")) == (None, False, 0.0)


CALLS = [
    {"area": {"base": [10], "height": [5, 5.0], "unit": ["", "cm"]}},
    {"area": {"base": [3], "height": [4], "unit": [""]}},
]


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        (said("", ("area", {"base": 3, "height": 4}), ("area", {"base": 10, "height": 5})), True),
        (
            said(
                '[{"area": {"base": 10, "height": 5, "unit": "CM"}}, '
                '{"area": {"base": 3, "height": 4}}]'
            ),
            True,
        ),
        (said("[area(base=10, height=5.0), area(base=3, height=4)]"), True),
        (said("", ("area", {"base": 10, "height": 5})), False),  # one is missing
        (said("[area(base=10, height=5), area(base=3, height=True)]"), False),
        (said("[area(base=10, height=5, depth=1), area(base=3, height=4)]"), False),
        (said("[area(10, 5), area(base=3, height=4)]"), False),  # not by name
        (said("[volume(base=10, height=5), area(base=3, height=4)]"), False),
        (said("__import__('os').system('true')"), False),
        (said("area(base=" + "(" * 9999), False),
        (said("I cannot"), False),
    ],
)
def test_tool_calls_pair_off_with_the_possible_ones(completion, right):
    assert tool_check(CALLS)(completion).correct is right


def test_jsonl_rows(tmp_path):
    path = lines(
        tmp_path / "mine.jsonl",
        {"prompt": "2+2?", "answer": 4, "checker": "number", "category": "easy"},
        {
            "id": "b",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        },
    )
    first, second = load_dataset(str(path))
    assert (first.question.name, first.question.dataset, first.question.prompt) == (
        "1",
        "mine",
        "2+2?",
    )
    assert first.check(said("4")).correct
    assert [turn.role for turn in second.question.messages] == ["system", "user"]
    assert len(load_dataset(str(path), limit=1)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "answr": 1}, "line 1: unknown field .answr., did you mean answer"),
        ({"answer": 1}, "either prompt or messages"),
        ({"prompt": "x", "checker": "nmber"}, "unknown answer format"),
        ({"prompt": "x", "answer": "{", "checker": "tool"}, "must be JSON"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "needs a role"),
        ({"messages": []}, "at least one turn"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    path = lines(tmp_path / "mine.jsonl", row)
    with pytest.raises(InputError, match=message):
        load_dataset(str(path))


def test_wrong_files_and_names(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_dataset(str(tmp_path / "no.jsonl"))
    with pytest.raises(UnknownName, match="did you mean gsm8k"):
        load_dataset("gsm9k:x")
    empty = tmp_path / "e.jsonl"
    empty.write_text("\n")
    with pytest.raises(InputError, match="no questions"):
        load_dataset(str(empty))
    empty.write_text("{\n")
    with pytest.raises(InputError, match="line 1: not JSON"):
        load_dataset(str(empty))
    twice = lines(tmp_path / "t.jsonl", {"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"})
    with pytest.raises(InputError, match="two questions named '1'"):
        load_dataset(str(twice))


def test_published_layouts(tmp_path):
    gsm = lines(tmp_path / "g.jsonl", {"question": "q", "answer": "so\n#### 1,200"})
    (item,) = load_dataset(f"gsm8k:{gsm}")
    assert item.check(said("The answer is 1200.")).correct
    choices = lines(tmp_path / "c.jsonl", {"query": "which?", "choices": ["x", "y"], "gold": 1})
    (item,) = load_dataset(f"choices:{choices}")
    assert "B. y" in item.question.prompt
    assert item.question.reference == "B"
    folder = tmp_path / "bfcl"
    (folder / "possible_answer").mkdir(parents=True)
    name = "BFCL_v3_simple.json"
    function = {
        "name": "f",
        "description": "",
        "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}},
    }
    asked = [[{"role": "user", "content": "call f"}]]
    lines(folder / name, {"id": "s_0", "question": asked, "function": [function]})
    lines(folder / "possible_answer" / name, {"id": "s_0", "ground_truth": [{"f": {"a": [1.0]}}]})
    (item,) = load_dataset(f"bfcl:{folder / name}")
    assert '"type": "object"' in (item.question.tools_json or "")
    assert item.check(said("", ("f", {"a": 1}))).correct


def test_generated_tasks_accept_their_own_answers():
    pytest.importorskip("reasoning_gym")
    items = load_dataset("reasoning-gym:chain_sum,size=3,seed=1")
    assert [item.check(said(f"it is {item.question.reference}")).correct for item in items] == [
        True
    ] * 3
    assert not items[0].check(said("it is 1.5")).correct
    with pytest.raises(UnknownName):
        load_dataset("reasoning-gym:chain_sums")
    with pytest.raises(InputError, match="refuses"):
        load_dataset("reasoning-gym:chain_sum,sise=3")
