"""What a certificate is about: what a request may leave open, and what it must not change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.requests import ImagePart, Message, Request, Sampling, TextPart, Tool
from suffice.core.text import normalised, text_sha256
from suffice.core.thinking import Thinking
from suffice.policies.subject import Subject

BEFORE, AFTER = "Read the question with care.", "Answer with one number."
PROMPT = f"{BEFORE} What is 2 + 2? {AFTER}"
SUBJECT = Subject(
    answer_formats=("number",),
    extraction_version=2,
    sampling=Sampling(temperature=0.7, top_p=0.9, stop=("\n\n",)),
    least_max_tokens=200,
    thinking="default",
    tools=False,
    completions=False,
    single_turn=True,
    system_sha256=text_sha256("You are a calculator."),
    prefix_characters=len(BEFORE),
    prefix_sha256=text_sha256(BEFORE),
    suffix_characters=len(AFTER),
    suffix_sha256=text_sha256(AFTER),
)


def ask(
    text: str = PROMPT, *, system: str = "You are a  calculator.\n", **changed: object
) -> Request:
    messages = (Message(role="system", content=system), Message(role="user", content=text))
    return replace(Request(messages=messages, model="m"), **changed)


def sampled(**changed: object) -> Request:
    return ask(sampling=Sampling(**changed))


def test_what_a_request_leaves_open_is_asked_as_it_was_recorded() -> None:
    filled = SUBJECT.filled(ask())
    assert (filled.answer_format, filled.sampling) == ("number", SUBJECT.sampling)
    assert SUBJECT.differs(filled) is None
    own = SUBJECT.filled(ask(answer_format="choice", sampling=Sampling(temperature=0.0)))
    assert (own.answer_format, own.sampling.temperature) == ("choice", 0.0)
    assert own.sampling.top_p == 0.9
    thinks = Subject(answer_formats=("number",), thinking="on").filled(ask())
    assert thinks.thinking == Thinking(enabled=True)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ask(answer_format="choice"), "answer_format"),
        (ask(system="You are a poet."), "system_prompt"),
        (ask("What is 2 + 2? " + AFTER), "template"),
        (ask(f"{BEFORE} What is 2 + 2?"), "template"),
        (ask(""), "template"),
        (ask(messages=(*ask().messages, Message(role="assistant", content="4"))), "turns"),
        (ask(tools=(Tool(name="add"),)), "tools"),
        (ask(response_format_json='{"type": "json_object"}'), "response_format"),
        (ask(completion_only=True), "endpoint"),
        (ask(thinking=Thinking()), "thinking"),
        (ask(extra_json='{"logit_bias": {"5": 9}}'), "extra_field"),
        (sampled(temperature=0.0), "temperature"),
        (sampled(top_p=1.0), "top_p"),
        (sampled(stop=("END",)), "stop"),
        (sampled(max_tokens=199), "max_tokens"),
    ],
)  # fmt: skip
def test_what_differs_is_named(request_: Request, field: str) -> None:
    assert SUBJECT.differs(SUBJECT.filled(request_)) == field


def test_images_are_other_content() -> None:
    parts = (TextPart(text=PROMPT), ImagePart(url="https://example.org/a.png"))
    request = ask(messages=(ask().messages[0], Message(role="user", content=parts)))
    assert SUBJECT.differs(SUBJECT.filled(request)) == "content"
    told = ask(messages=(ask().messages[0], Message(role="user", content=parts[:1])))
    assert SUBJECT.differs(SUBJECT.filled(told)) is None


def test_what_was_not_recorded_is_not_compared() -> None:
    bare = Subject()
    assert bare.differs(ask(answer_format="choice", sampling=Sampling(temperature=2.0))) is None
    assert bare.differs(bare.filled(ask())) == "free_form"
    assert SUBJECT.differs(SUBJECT.filled(sampled(max_tokens=5000, seed=7))) is None


def test_another_version_of_the_extraction_rules_is_another_subject() -> None:
    filled = SUBJECT.filled(ask())
    assert SUBJECT.differs(filled, extraction_version=3) == "extraction_version"
    assert SUBJECT.differs(filled, extraction_version=2) is None


def test_equal_texts() -> None:
    assert normalised("e\u0301 a\u00a0 b\n\tc\u200b") == "\u00e9 a b c"
    assert normalised("2 + 2") != normalised("2+2")
    assert normalised("a\u00adb") == "ab"
