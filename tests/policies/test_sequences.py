"""Policies that look into one sample or build on it: probes, revisions, thinking budgets."""

from __future__ import annotations

import pytest

from suffice.core.decisions import Sample, SampleFailed
from suffice.core.errors import InputError
from suffice.core.thinking import EFFORT_TOKENS, Thinking, effort_of, effort_tokens
from suffice.evals.extract import number
from suffice.policies.answer_stability import AnswerStability
from suffice.policies.fixed import SelfConsistency, Single
from suffice.policies.sequential_revision import ASK, ReviseOnce, SequentialRevision
from suffice.policies.think_block import BudgetForcing, HesitationStop
from suffice.policies.thinking import NoThinking, Overrides
from tests.policies.reference_replay import replay
from tests.policies.scripted import FREE_FORM, REQUEST, Said, play


def prober(script):
    """The main sample runs long; probe n says script[n]."""
    main = Said("42", tokens=400)

    def said(launch):
        if launch.sample == 0:
            return main
        return Said("", words=script[launch.sample - 1])

    return said


def test_stable_probes_stop_the_sample():
    policy = AnswerStability(k=3, chunk=50)
    result = play(policy, prober([("42",)] * 9))
    outcome = result.outcome
    assert [launch.purpose for launch in result.launches] == ["answer", "probe", "probe", "probe"]
    assert outcome.records[0].status == "cancelled"
    assert 150 <= outcome.records[0].usage.completion_tokens < 200
    assert outcome.sample == 3
    assert outcome.completion.text.endswith("Final answer: 42")
    assert outcome.completion.text.startswith("so so")
    probe = result.launches[1]
    assert probe.draw.sampling.max_tokens == 20
    assert probe.draw.sampling.temperature == 0.0
    assert probe.draw.prefill.startswith("so so")
    assert probe.shown == "\n\nFinal answer: "


def test_a_probe_that_names_no_answer_does_not_repeat_what_the_sample_said_before():
    main = Said("42", words=("of ", "17 ", *["so "] * 300, "42"))
    evasive = Said("", words=("let ", "me ", "see"))
    outcome = replay(
        AnswerStability(k=2, chunk=50),
        REQUEST,
        lambda launch: (evasive if launch.sample else main).chunks(launch.draw.sampling.max_tokens),
        extract=number,
    )
    assert outcome.why == "finished by itself"
    assert outcome.completion.text.endswith("42")
    assert {record.answer for record in outcome.records[1:]} == {None}


def test_hedging_and_changing_probes_do_not_count():
    hedge = ("42 ", "wait, ", "no")
    policy = AnswerStability(k=2, chunk=50)
    assert play(policy, prober([("1",), hedge, ("2",), ("2",)])).drawn == 5
    never = play(policy, prober([("1",), ("2",)] * 5))
    assert never.outcome.sample == 0
    assert never.outcome.why == "finished by itself"


def test_a_probe_closes_the_think_block():
    thinker = Said("42", reasoning=("hmm ",) * 200)
    result = play(
        AnswerStability(k=1, chunk=40),
        lambda launch: thinker if launch.sample == 0 else Said("", words=("42",)),
    )
    assert result.launches[1].draw.prefill.startswith("<think>\nhmm hmm")
    assert "</think>" in result.launches[1].draw.prefill
    assert "think" not in result.outcome.completion.text


def test_probes_ask_in_the_form_of_the_answer():
    state, _ = AnswerStability().start(
        FREE_FORM.__class__(messages=FREE_FORM.messages, model="m", answer_format="boxed")
    )
    assert state.prompt.endswith("\\boxed{")
    assert play(AnswerStability(), ["tale"], request=FREE_FORM).drawn == 1


def test_revisions_see_the_last_attempts_and_the_vote_keeps_a_right_answer():
    policy = SequentialRevision(revisions=5, context=2)
    result = play(policy, ["1", "1", "2", "1", "3", "4"])
    assert result.drawn == 6
    assert result.answer == "1"
    last = result.launches[-1].draw.request.messages
    assert [message.role for message in last] == ["user", *["assistant", "user"] * 2]
    assert last[-1].content == ASK
    assert [message.content.split()[-1] for message in last[1::2]] == ["1", "3"]
    assert (
        play(SequentialRevision(revisions=5, select="last"), ["1", "1", "2", "1", "3", "4"]).answer
        == "4"
    )


def test_revision_stops_when_stable_or_selects_by_score():
    assert play(SequentialRevision(revisions=5, until_stable=True), ["1", "2", "2", "3"]).drawn == 3
    scored = [Said("1", score=0.9), Said("2", score=0.4)]
    policy = ReviseOnce(select="score")
    assert policy.needs == {"score"}
    assert play(policy, scored).answer == "1"
    assert play(ReviseOnce(), ["1", "2"]).answer == "2"
    assert play(ReviseOnce(), ["draft", "better"], request=FREE_FORM).answer == "better"


def test_no_thinking_leaves_the_block_empty():
    result = play(NoThinking(samples=3), ["1", "2", "2"])
    assert result.answer == "2"
    assert all(launch.draw.thinking == Thinking(enabled=False) for launch in result.launches)
    assert NoThinking().needs == frozenset()


def test_no_thinking_begins_with_a_finished_block_where_there_is_no_switch():
    policy = NoThinking(samples=2, begin=True)
    assert policy.needs == {"prefill"}
    result = play(policy, ["1", "1"])
    assert all(
        launch.draw.prefill.endswith("finished thinking.\n</think>\n\n")
        for launch in result.launches
    )
    assert all(launch.draw.thinking is None for launch in result.launches)
    assert "think" not in result.outcome.completion.text
    alone = play(policy, ["tale"], request=FREE_FORM)
    assert alone.launches[0].draw.prefill.startswith("<think>")


def test_budget_forcing_closes_a_long_block():
    def said(launch):
        if launch.sample == 0:
            return Said("late", reasoning=("hmm ",) * 100)
        return Said("", words=("7",))

    result = play(BudgetForcing(budget=30, answer_tokens=9), said)
    assert result.outcome.records[0].usage.completion_tokens == 30
    assert result.launches[1].draw.prefill == "<think>\n" + ("hmm " * 30).strip() + "\n</think>\n\n"
    assert result.outcome.completion.text == "7"  # the block was never part of the text
    assert result.launches[1].draw.sampling.max_tokens == 9
    assert result.answer == "7"


def test_budget_forcing_reopens_a_short_block():
    def said(launch):
        if launch.sample == 0:
            return Said("3", words=("<think>\n", "easy", "</think>", "3"))
        return Said("", words=(" let me see", "</think>", "4"))

    result = play(BudgetForcing(least=5, waits=1), said)
    assert result.launches[1].shown == "<think>\neasy\nWait,"
    assert result.outcome.completion.text.endswith("</think>4")
    enough = play(BudgetForcing(least=1), said)
    assert enough.drawn == 1


def test_a_block_reopened_is_not_shown_where_the_engine_sends_it_apart():
    def said(launch):
        if launch.sample == 0:
            return Said("3", reasoning=("easy ",))
        return Said("", words=(" let me see", "</think>", "\n\n", "4"))

    result = play(BudgetForcing(least=5, waits=1), said)
    assert result.launches[1].draw.prefill == "<think>\neasy\nWait,"
    assert result.outcome.completion.text == "4"


def test_one_map_between_efforts_and_budgets():
    for name, tokens in EFFORT_TOKENS:
        assert effort_tokens(name) == tokens
        assert effort_of(tokens) == name
        assert Thinking.of_effort(name).effort == name
    assert effort_of(1025) == "medium"
    assert effort_of(10**9) == "xhigh"
    with pytest.raises(InputError, match="effort 'huge'"):
        effort_tokens("huge")
    with pytest.raises(InputError, match="negative"):
        Thinking(budget_tokens=-1)


def test_single_asks_the_engine_for_its_budget():
    (action,) = Single(effort="low").start(FREE_FORM)[1]
    assert isinstance(action, Sample)
    assert action.thinking == Thinking(budget_tokens=1024)
    assert action.final


def test_rewiring_sets_model_and_thinking_where_none_is_set():
    policy = Overrides(
        inner=SelfConsistency(samples=2), model="big", thinking=Thinking(enabled=False)
    )
    result = play(policy, ["1", "1"])
    assert {(launch.draw.model, launch.draw.thinking) for launch in result.launches} == {
        ("big", Thinking(enabled=False))
    }
    assert result.outcome.arm == "self_consistency"


def test_a_failed_probe_for_lack_of_budget_ends_probing():
    policy = AnswerStability(chunk=1)
    state, _ = policy.start(
        FREE_FORM.__class__(messages=FREE_FORM.messages, model="m", answer_format="number")
    )
    state, _ = policy.step(state, SampleFailed(sample=1, reason="budget"))
    assert state.silent


def hesitating(words):
    def said(launch):
        return Said("7", reasoning=words) if launch.sample == 0 else Said("9")

    return said


def test_hesitations_close_the_block_and_the_answer_is_asked_for():
    words = ("It ", "is 7. ", "Wa", "it, ", "no. ", "Hmm", ", ", "await ", "or ", "WAIT ", "so ")
    result = play(HesitationStop(most=3, answer_tokens=9), hesitating((*words, *["so "] * 50)))
    first, second = result.outcome.records
    assert first.status == "cancelled"
    assert first.usage.completion_tokens == 10  # with the space after the third
    assert result.launches[1].draw.prefill.endswith("</think>\n\n")
    assert result.launches[1].draw.sampling.max_tokens == 9
    assert (result.answer, result.outcome.exit) == ("9", "hopeless")
    assert second.status == "finished"


def test_too_few_hesitations_leave_the_block_alone():
    words = ("Wait ", "hmm ", "so ")
    result = play(HesitationStop(most=3), hesitating(words))
    assert (result.answer, result.outcome.exit, result.drawn) == ("7", "safe", 1)
    early = play(HesitationStop(most=1, least=20), hesitating((*words, *["so "] * 9)))
    assert early.drawn == 1


@pytest.mark.parametrize("options", [{"words": ()}, {"words": ("hold on",)}, {"most": 0}])
def test_hesitations_are_single_words(options):
    with pytest.raises(InputError):
        HesitationStop(**options)
