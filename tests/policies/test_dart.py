"""DART against a plain writing-down of its published control flow, and its edges."""

from __future__ import annotations

import itertools

import pytest

from suffice.core.errors import InputError
from suffice.core.requests import Sampling
from suffice.core.thinking import Thinking
from suffice.policies.dart import DraftAgreement
from tests.policies.scripted import FREE_FORM, REQUEST, Said, play


def by_the_paper(drafts, stages, last):
    """(answer, samples) by the published steps: `stages` are (answer, cut), `last` the fallback."""
    if drafts[0] == drafts[1] and drafts[0] is not None:
        return drafts[0], 2
    majority = next((answer for answer in drafts if answer is not None), None)
    for number, (answer, cut) in enumerate(stages, start=1):
        if not cut or (answer is not None and answer == majority):
            return answer, 2 + number
    return last, 3 + len(stages)


WHAT = ("1", "2", "3")


@pytest.mark.parametrize("cut", list(itertools.product((False, True), repeat=2)))
def test_it_decides_as_the_published_steps_do(cut):
    """Every combination of two drafts, two stages and a fallback over three answers."""
    stages = (20, 40)
    for a, b, first, second, last in itertools.product(WHAT, repeat=5):
        answers = [a, b, first, second, last]
        sizes = [3, 3, 25 if cut[0] else 5, 45 if cut[1] else 5, 3]

        def said(launch, answers=answers, sizes=sizes):
            # The k-th draw: drafts, stages, fallback; an engine that counts no thinking apart.
            return Said(answers[launch.sample], tokens=sizes[launch.sample])

        due, samples = by_the_paper((a, b), ((first, cut[0]), (second, cut[1])), last)
        outcome = play(DraftAgreement(stages=stages), said).outcome
        assert (outcome.completion.text.split()[-1], outcome.samples_run) == (due, samples)


def test_what_is_asked_of_the_engine():
    result = play(
        DraftAgreement(stages=(20, 40)),
        lambda launch: Said("1234567"[launch.sample], tokens=50),
    )
    drafts, first, second, last = (
        result.launches[:2], result.launches[2], result.launches[3], result.launches[4]
    )  # fmt: skip
    assert {launch.draw.thinking for launch in drafts} == {Thinking(enabled=False)}
    assert {launch.draw.sampling.temperature for launch in drafts} == {0.7}
    assert {launch.draw.sampling.max_tokens for launch in drafts} == {512}
    assert first.draw.thinking == Thinking(budget_tokens=20)
    assert second.draw.thinking == Thinking(budget_tokens=40)
    assert first.draw.sampling.temperature == 0.6
    assert last.draw.thinking == Thinking(enabled=False)
    assert last.draw.sampling.temperature == 0.0
    assert result.outcome.exit == "hopeless"


@pytest.mark.parametrize(
    ("answers", "sizes", "exit", "confidence"),
    [
        (["1", "1"], [3, 3], "accepted", 1.0),
        (["1", "2", "2"], [3, 3, 3], "safe", 2 / 3),
        (["1", "2", "1"], [3, 3, 30], "accepted", 2 / 3),
    ],
)
def test_exits_and_confidence(answers, sizes, exit, confidence):
    outcome = play(
        DraftAgreement(stages=(20, 40)),
        lambda launch: Said(answers[launch.sample], tokens=sizes[launch.sample]),
    ).outcome
    assert (outcome.exit, outcome.confidence) == (exit, pytest.approx(confidence))


def test_one_draft_without_an_answer_is_no_agreement():
    """The published code lets an empty second draft pass for one that agrees."""
    answers = ["1", "-", "3"]
    outcome = play(DraftAgreement(), lambda launch: Said(answers[launch.sample])).outcome
    assert outcome.samples_run == 3
    assert outcome.completion.text.split()[-1] == "3"


def test_the_fallback_may_keep_the_last_thought():
    outcome = play(
        DraftAgreement(stages=(20,), fallback="think"),
        lambda launch: Said("123"[launch.sample], tokens=30),
    ).outcome
    assert (outcome.samples_run, outcome.completion.text.split()[-1]) == (3, "3")


def test_models_that_are_set_up_for_a_mode_are_not_told():
    policy = DraftAgreement(switch=False, draft_model="quick", think_model="slow")
    result = play(policy, lambda launch: Said("123"[launch.sample]))
    assert [launch.draw.model for launch in result.launches] == ["quick", "quick", "slow"]
    assert {launch.draw.thinking for launch in result.launches} == {None}


def test_free_form_is_one_sample_and_a_greedy_request_still_has_two_drafts():
    assert play(DraftAgreement(), lambda _: Said("1"), request=FREE_FORM).outcome.samples_run == 1
    from dataclasses import replace

    greedy = replace(REQUEST, sampling=Sampling(temperature=0.0))
    assert play(DraftAgreement(), lambda _: Said("1"), request=greedy).outcome.samples_run == 2
    same = DraftAgreement(draft_temperature=None)
    assert play(same, lambda _: Said("1"), request=greedy).outcome.samples_run == 1


@pytest.mark.parametrize(
    "options",
    [{"drafts": 1}, {"stages": ()}, {"stages": (20, 10)}, {"fallback": "give up"},
     {"switch": False}],
)  # fmt: skip
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        DraftAgreement(**options)
