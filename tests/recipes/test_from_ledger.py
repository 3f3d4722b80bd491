"""Recordings from traffic: what a judgement says of which sample, and what is left out."""

from __future__ import annotations

import json

import pytest

from suffice.core.errors import InputError
from suffice.recipes.record.from_ledger import traces_of

PROMPT = json.dumps([{"role": "user", "content": "2+2?"}])


def record(answers=("4", "4", "5"), *, score=None, prompt=PROMPT, **more):
    """A vote whose first sample was accepted."""
    rows = [
        {
            "purpose": "answer", "status": "finished", "sample": number, "model": "m",
            "answer": answer, "prompt_tokens": 5, "completion_tokens": 3, "ttft_s": None,
            "elapsed_s": 1.0, "confidence": 2.0,
        }
        for number, answer in enumerate(answers)
    ]  # fmt: skip
    return {
        "ending": "answered", "prompt": prompt, "output": f"it is {answers[0]}", "choices": 1,
        "sample_rows": rows, "accepted_sample": 0, "served_model": "m", "model": "m",
        "score": score, "elapsed_s": 1.0,
    } | more  # fmt: skip


def verdicts(found):
    return [trace.correct for trace in found.traces]


def test_equal_answers_share_a_judgement_and_others_are_wrong():
    found = traces_of([record(score=1.0)])
    assert verdicts(found) == [True, True, False]
    assert [trace.text for trace in found.traces] == ["it is 4", "", ""]
    assert all(not len(trace.confidences) for trace in found.traces)  # only a mean was kept


def test_of_others_than_a_wrong_answer_nothing_is_known():
    assert verdicts(traces_of([record(score=0.0)])) == [False, False, None]
    assert verdicts(traces_of([record()])) == [None, None, None]


def test_judged_leaves_out_questions_with_unknown_samples_and_counts_them():
    sure = record(prompt=json.dumps([{"role": "user", "content": "3+3?"}]), score=1.0)
    found = traces_of([record(score=0.0), sure], judged=True)
    assert {trace.question.prompt for trace in found.traces} == {"3+3?"}
    assert found.left_out == {"with a sample that nobody judged": 1}
    with pytest.raises(InputError, match="none of the 1 requests with prompt and output is judged"):
        traces_of([record(score=0.0)], judged=True)


def test_equal_prompts_are_one_question():
    found = traces_of([record(score=1.0), record(("7",), score=0.0)])
    assert len({trace.question.name for trace in found.traces}) == 1
    assert [trace.sample for trace in found.traces] == [0, 1, 2, 3]
    assert verdicts(found) == [True, True, False, False]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ending": "left"}, "that failed or were left"),
        ({"prompt": None}, "without a stored prompt"),
        ({"output": None}, "without a stored output"),
        ({"choices": 2}, "with several choices"),
    ],
)
def test_what_cannot_become_a_sample_is_counted_by_reason(change, why):
    found = traces_of([record(score=1.0), record() | change])
    assert (found.requests, found.used, found.left_out) == (2, 1, {why: 1})
    with pytest.raises(InputError, match="none of 1 requests can become a trace"):
        traces_of([record() | change])


def test_a_request_that_passed_through_is_its_own_sample():
    output = json.dumps({"choices": [{"message": {"content": "it is 4"}}]})
    passed = record() | {"sample_rows": [], "output": output, "completion_tokens": 3,
                         "prompt_tokens": 5}  # fmt: skip
    (trace,) = traces_of([passed], answer_format="number").traces
    assert (trace.text, trace.answer, trace.model) == ("it is 4", "4", "m")
