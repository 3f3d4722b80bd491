"""Votes settle where nothing is to be won, and confidence means the same under every policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suffice.core.completions import Completion, TokenLogprob, Usage
from suffice.core.decisions import SampleFinished
from suffice.core.requests import Sampling
from suffice.policies.registry import parse_policy
from suffice.policies.sampling_state import one_sample, step_alone
from tests.policies.scripted import FREE_FORM, REQUEST, Said, play

VOTES = [
    "self_consistency",
    "adaptive_consistency",
    "adaptive_consistency:criterion=dirichlet",
    "adaptive_consistency:threshold=.9",
    "adaptive_consistency:threshold=.9999",
    "two_sided",
    "esc",
    "vote_table:answer=-+2+3+3+3+3+3+3",
    "short_m_at_k",
    "difficulty_binned",
    "deepconf:max_samples=20,warmup=4,parallel=4",
    "deepconf_offline:samples=12",
    "no_thinking",
    "auto",
    "adaptive_consistency:max_samples=8,accept=.9 > adaptive_consistency@b",
    "single:accept=.9 > self_consistency:samples=6@b",
]
SEQUENTIAL = ("adaptive", "two_sided", "esc", "deepconf:")
ADAPTIVE = [text for text in VOTES if text.startswith(SEQUENTIAL)]
SCATTERED = [Said(str(n), confidences=(1.0,) * 4) for n in range(60)]
MUTE = [Said("-", confidences=(1.0,) * 4)] * 60


@pytest.mark.parametrize("text", ADAPTIVE)
def test_a_first_wave_without_a_comparable_answer_is_the_last(text: str) -> None:
    policy = parse_policy(text)
    outcome = play(policy, MUTE).outcome
    first_wave = play(policy, MUTE).launches
    most = 17 if "9999" in text else 9 if ">" in text else 5
    assert len(first_wave) <= most
    assert (outcome.note, outcome.confidence, outcome.escalated) == (
        "nothing_comparable", None, True,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["adaptive_consistency", "two_sided", "esc", "difficulty_binned"])
def test_answers_that_all_differ_end_the_vote(text: str) -> None:
    outcome = play(parse_policy(text), SCATTERED).outcome
    assert outcome.samples_run <= 20
    assert outcome.samples_cancelled == 0 or text == "two_sided"
    assert outcome.confidence == 1 / len(outcome.votes)
    assert outcome.note == "all_different" or text == "difficulty_binned"


def test_giving_in_can_be_turned_off_or_moved() -> None:
    for scatter, drawn in (("none", 40), ("20", 20), ("4", 4)):
        policy = parse_policy(f"adaptive_consistency:scatter={scatter}")
        assert play(policy, SCATTERED).drawn == drawn


def test_one_that_agrees_late_is_not_given_up() -> None:
    said = [str(n) for n in range(10)] + ["7"] * 30
    result = play(parse_policy("adaptive_consistency"), said)
    assert (result.answer, result.outcome.note) == ("7", None)


@pytest.mark.parametrize("text", VOTES)
@pytest.mark.parametrize("answers", ["1112", "1", "123456789", "1-", "12-1-1", "112233"])
def test_confidence_is_the_share_of_comparable_samples(text: str, answers: str) -> None:
    said = [Said(answers[n % len(answers)], confidences=(1.0,) * 4) for n in range(60)]
    outcome = play(parse_policy(text), said).outcome
    votes = dict(outcome.votes)
    mine = next(each.answer for each in outcome.records if each.sample == outcome.sample)
    if sum(votes.values()) < 2 or mine is None:
        assert outcome.confidence is None
    else:
        assert outcome.confidence == votes[mine] / sum(votes.values())


@pytest.mark.parametrize("text", VOTES)
def test_forty_different_answers_are_no_even_chance(text: str) -> None:
    outcome = play(parse_policy(text), SCATTERED).outcome
    assert outcome.confidence is not None
    assert outcome.confidence == 1 / sum(count for _, count in outcome.votes)


GREEDY = [Sampling(temperature=0.0), Sampling(top_k=1), Sampling(top_p=0.0)]


@pytest.mark.parametrize("sampling", GREEDY)
@pytest.mark.parametrize("text", [each for each in VOTES if ">" not in each and each != "auto"])
def test_a_vote_at_temperature_0_is_one_sample(text: str, sampling: Sampling) -> None:
    result = play(parse_policy(text), ["4"] * 60, request=replace(REQUEST, sampling=sampling))
    assert result.drawn == 1
    assert result.launches[0].final
    assert (result.outcome.note, result.outcome.confidence) == ("greedy", None)
    assert "copies" in result.outcome.why


def test_different_models_are_no_copies() -> None:
    request = replace(REQUEST, sampling=Sampling(temperature=0.0))
    assert play(parse_policy("agreement:models=a+b"), ["4"] * 2, request=request).drawn == 2


def test_a_step_is_not_accepted_for_being_greedy() -> None:
    pool, _ = one_sample("greedy")
    sure = (TokenLogprob(token="4", logprob=-0.01),)
    said = Completion(text="4", finish_reason="stop", usage=Usage(), logprobs=sure)
    finished = SampleFinished(sample=0, completion=said, answer="4")
    _, (answer,) = step_alone(pool, finished)
    assert answer.measure is None  # type: ignore[union-attr]
    _, (answer,) = step_alone(replace(pool, note=None), finished)
    assert answer.measure == pytest.approx(0.99, abs=1e-3)  # type: ignore[union-attr]


def test_log_probabilities_are_asked_for_only_where_they_are_used() -> None:
    for text, wanted in (
        ("single", [None]),
        ("single:logprobs=yes", [0]),
        ("adaptive_consistency", [None]),
        ("single:accept=.9@a > single@b", [0, None]),
        ("adaptive_consistency:accept=.9@a > adaptive_consistency@b", [0, None]),
    ):
        result = play(parse_policy(text), ["a tale"] * 9, request=FREE_FORM)
        assert [launch.draw.sampling.top_logprobs for launch in result.launches] == wanted, text
