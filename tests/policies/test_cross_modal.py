"""CoT-PoT: two kinds of samples, and the arithmetic that reads a program."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.completions import Completion, Usage
from suffice.core.errors import LacksCapability
from suffice.core.requests import Message, Sampling
from suffice.evals.extract import extractor
from suffice.evals.grading import check_of
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, messages_json
from suffice.executors.replay import play as replay
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.cross_modal import AS_PROGRAM, CrossModal, asked_for_program
from suffice.recipes.recordings import Source
from tests.policies.scripted import FREE_FORM, REQUEST, Said, play


def kinds(words, programs):
    """Words at even numbers, programs at odd ones."""
    return lambda launch: Said((programs if launch.sample % 2 else words)[launch.sample // 2])


def test_two_kinds_that_agree_are_enough():
    result = play(CrossModal(), kinds(["7"], ["7"]))
    assert (result.drawn, result.answer, result.outcome.exit) == (2, "7", "accepted")
    assert result.outcome.confidence == 1.0
    in_words, as_program = result.launches
    assert in_words.draw.request.messages == REQUEST.messages
    assert as_program.draw.request.messages[-1].text == f"2+2?\n\n{AS_PROGRAM}"


def test_after_a_disagreement_they_take_turns_until_the_majority_is_stable():
    result = play(CrossModal(), kinds(["7"] * 20, ["8", *["7"] * 20]))
    assert result.answer == "7"
    # 1 to 1, then six more of one kind of answer: the Beta criterion's own count.
    alone = play(AdaptiveConsistency(), ["7", "8", *["7"] * 20])
    assert result.drawn == alone.drawn
    asked = [launch.draw.request.messages != REQUEST.messages for launch in result.launches]
    by_number = sorted(zip((launch.sample for launch in result.launches), asked, strict=True))
    assert [program for _, program in by_number] == [n % 2 == 1 for n in range(result.drawn)]


def test_a_model_of_its_own_writes_programs():
    result = play(CrossModal(program_model="coder"), kinds(["7"], ["7"]))
    assert [launch.draw.model for launch in result.launches] == ["m", "coder"]
    assert {launch.draw.request.messages for launch in result.launches} == {REQUEST.messages}


def test_at_temperature_0_two_samples_are_all():
    greedy = replace(REQUEST, sampling=Sampling(temperature=0.0))
    result = play(CrossModal(), kinds(["7"] * 9, ["8"] * 9), request=greedy)
    assert (result.drawn, result.outcome.exit) == (2, "safe")
    assert play(CrossModal(), lambda _: Said("x"), request=FREE_FORM).drawn == 1


def test_the_question_is_asked_in_the_last_user_turn():
    turns = (
        Message(role="system", content="Be short."),
        Message(role="user", content="2+2?"),
        Message(role="assistant", content="4"),
        Message(role="user", content="and 3?"),
    )
    asked = asked_for_program(turns, "As Python.")
    assert [turn.text for turn in asked] == ["Be short.", "2+2?", "4", "and 3?\n\nAs Python."]


def of(text):
    completion = Completion(text=text, finish_reason="stop", usage=Usage())
    return extractor("program")(completion)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("```python\napples = 12\nleft = apples - 3 * 2\nanswer = left / 4\n```", "1.5"),
        ("answer = 9 + 3 + 2 + 5", "19"),
        ("answer = 9 + 3\nQ: 4 + 4\nanswer = 8 nonsense", "12"),
        ("```\ntotal = sum([1, 2, 3])\nprint(max(total, 2) ** 2)\n```", "36"),
        ("```py\nx = 10\nx -= 3\nanswer = x % 4\n```", "3"),
        ("answer = round(10 / 3, 2)", "3.33"),
        ("answer = 0.1 + 0.2", "0.3"),
        ("It is 17, so the answer is 17.", "17"),
    ],
)
def test_programs_and_words_are_read_alike(text, due):
    assert of(text) == due


@pytest.mark.parametrize(
    "text",
    [
        "```python\nimport os\nanswer = os.getpid()\n```",
        "```python\nanswer = __import__('os').system('true')\n```",
        "```python\nanswer = 9 ** 9 ** 9\n```",
        "```python\nwhile True:\n    answer = 1\n```",
        "```python\nanswer = 1 / 0\n```",
        "```python\nanswer = unknown + 1\n```",
        "```python\nanswer = 'a' * 9\n```",
        "```python\nanswer = " + "(" * 500 + "1" + ")" * 500 + "\n```",
        "```python\nanswer = 1e999\n```",
    ],
)
def test_nothing_but_arithmetic_is_read_as_a_program(text):
    from suffice.evals.answers.programs import program_value

    assert program_value(text) is None


def test_references_are_numbers():
    check = check_of("program", "1,000")
    said = Completion(text="answer = 10 * 100", finish_reason="stop", usage=Usage())
    assert check(said).correct is True


def test_a_recording_of_words_is_not_played_as_programs():
    words = trace_set(
        Trace(
            question=Question(
                dataset="d", name="q", messages_json=messages_json("2+2?"), reference="4",
                answer_format="program",
            ),
            model=model, sample=n, text="4", answer="4", correct=True, completion_tokens=1,
        )
        for model in ("words", "programs")
        for n in range(4)
    )  # fmt: skip
    source = Source(words)
    with pytest.raises(LacksCapability, match="program_model"):
        replay(CrossModal(), source.request(0), source.drawer(0, (0,)))
    found = replay(
        CrossModal(program_model="programs"), source.request(0), source.drawer(0, (0,))
    ).outcome
    assert found.samples_run == 2
