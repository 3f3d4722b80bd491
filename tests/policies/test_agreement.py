from __future__ import annotations

import random

import pytest

from suffice.core.completions import Budget
from suffice.core.errors import InputError
from suffice.policies.agreement import AdaptiveConsistency, Agreement, EarlyStopping
from suffice.policies.fixed import BestOfN, SelfConsistency, Single
from suffice.policies.short_m_at_k import ShortMAtK
from suffice.policies.votes import beta_agreement
from tests.policies.scripted import FREE_FORM, Said, play


def sequential(answers, threshold=0.95, cap=40):
    """Adaptive-Consistency as published, one sample at a time."""
    counts: dict[str, int] = {}
    for n, answer in enumerate(answers[:cap], 1):
        if answer != "-":
            counts[answer] = counts.get(answer, 0) + 1
        top = [*sorted(counts.values(), reverse=True), 0, 0]
        if beta_agreement(top[0], top[1]) >= threshold and top[0]:
            return n
    return min(cap, len(answers))


def test_four_equal_answers_are_the_first_stop():
    result = play(AdaptiveConsistency(), ["4"] * 40)
    assert result.drawn == 4
    assert result.outcome.measure == pytest.approx(0.969, abs=5e-4)
    assert result.outcome.confidence == 1.0
    assert result.answer == "4"


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("criterion", ["beta", "dirichlet"])
def test_drawing_what_the_best_case_needs_wastes_nothing(seed, criterion):
    rng = random.Random(seed)
    answers = [rng.choice("1112-3") for _ in range(40)]
    result = play(AdaptiveConsistency(criterion=criterion), answers)
    if criterion == "beta":
        assert result.drawn == sequential(answers)
        assert result.outcome.samples_cancelled == 0
    else:
        assert result.drawn >= sequential(answers)


def test_speculation_is_cancelled_and_paid_for():
    policy = AdaptiveConsistency(ahead=6)
    slow_tail = [Said("4")] * 4 + [Said("4", tokens=50)] * 36
    outcome = play(policy, slow_tail).outcome
    assert (outcome.samples_run, outcome.samples_cancelled) == (10, 6)
    assert outcome.usage.completion_tokens > 4 * 4


def test_cap_and_unusable_answers():
    result = play(AdaptiveConsistency(max_samples=8), ["1", "2", "-"] * 5)
    assert result.drawn == 8
    assert "cap of 8" in result.outcome.why
    nothing = play(AdaptiveConsistency(max_samples=3), ["-"] * 3).outcome
    assert nothing.escalated
    assert nothing.sample == 2
    below = play(AdaptiveConsistency(max_samples=4, escalate_below=0.9), ["1", "2", "1", "2"])
    assert below.outcome.escalated


def test_free_form_text_is_never_voted_on():
    for policy in (AdaptiveConsistency(), SelfConsistency(), EarlyStopping(), ShortMAtK()):
        result = play(policy, ["a tale"] * 40, request=FREE_FORM)
        assert result.drawn == 1
        assert result.launches[0].final
        assert result.launches[0].draw.sampling.top_logprobs is None
        assert result.outcome.note == "free_form"


def test_esc_stops_at_a_unanimous_window():
    answers = ["1", "1", "2", "1", "1", *["3"] * 5, *["1"] * 30]
    result = play(EarlyStopping(), answers)
    assert result.drawn == 10
    assert result.answer == "3"  # 5 votes against 4
    mixed = play(EarlyStopping(max_samples=12), ["1", "2"] * 20)
    assert mixed.drawn == 12
    hole = play(EarlyStopping(window=3, max_samples=6), ["1", "-", "1", "2", "2", "2"])
    assert hole.drawn == 6  # a sample without an answer breaks unanimity


def test_adaptive_consistency_needs_fewer_samples_than_esc():
    # Reported on three recorded pools; here on Bernoulli answers over easy to hard questions.
    drawn = {"ac": 0, "esc": 0}
    agree = 0
    for seed in range(80):
        rng = random.Random(seed)
        right = rng.choice([0.95, 0.8, 0.6])
        answers = ["1" if rng.random() < right else rng.choice("23") for _ in range(40)]
        adaptive, esc = play(AdaptiveConsistency(), answers), play(EarlyStopping(), answers)
        whole = play(SelfConsistency(samples=40), answers)
        drawn["ac"] += adaptive.drawn
        drawn["esc"] += esc.drawn
        agree += adaptive.answer == whole.answer
    assert drawn["ac"] < drawn["esc"] < 80 * 40
    assert agree >= 0.95 * 80


def test_two_models_agree_or_escalate():
    policy = Agreement(models=("a", "b"))
    same = play(policy, ["7", "7"])
    assert [launch.draw.model for launch in same.launches] == ["a", "b"]
    assert same.outcome.confidence == 1.0
    assert not same.outcome.escalated
    differ = play(policy, ["7", "8"]).outcome
    assert differ.escalated
    assert differ.confidence == 0.5
    with pytest.raises(InputError, match="number of models"):
        Agreement(models=("a",))


def test_self_consistency_can_stop_when_decided():
    answers = [Said("1")] * 5 + [Said("2", tokens=30)] * 4
    early = play(SelfConsistency(samples=9, stop_when_decided=True), answers).outcome
    late = play(SelfConsistency(samples=9), answers).outcome
    assert early.samples_cancelled == 4
    assert late.votes == (("1", 5), ("2", 4))
    assert early.completion.text == late.completion.text


def test_best_of_n_plain_weighted_and_accepting():
    said = [Said("1", score=0.6), Said("2", score=0.7), Said("1", score=0.5), Said("-", score=0.1)]
    assert play(BestOfN(samples=4), said).answer == "2"
    assert play(BestOfN(samples=4, weighted=True), said).answer == "1"  # 1.1 against .7
    accepting = play(BestOfN(samples=4, wave=1, enough=0.65), said)
    assert accepting.drawn == 2
    assert accepting.answer == "2"


def test_short_m_at_k_votes_among_the_first_and_breaks_ties_by_length():
    said = [Said("9", tokens=40), Said("1", tokens=5), Said("2", tokens=7), Said("2", tokens=30)]
    two = play(ShortMAtK(k=4, m=2), said)
    assert two.answer == "1"
    assert two.outcome.samples_cancelled == 2
    assert play(ShortMAtK(k=4, m=3), said).answer == "2"


def test_single_keeps_what_it_has_when_the_budget_cuts_it():
    result = play(Single(), [Said("4", tokens=30)], budget=Budget(completion_tokens=5))
    assert result.outcome.completion.finish_reason == "length"
    assert result.outcome.usage.completion_tokens == 5


@pytest.mark.parametrize(
    "build",
    [
        lambda: AdaptiveConsistency(threshold=1.5),
        lambda: AdaptiveConsistency(criterion="gamma"),
        lambda: EarlyStopping(window=5, max_samples=3),
        lambda: ShortMAtK(k=2, m=3),
        lambda: SelfConsistency(samples=0),
        lambda: Single(effort="huge"),
    ],
)
def test_impossible_options_are_refused(build):
    with pytest.raises(InputError):
        build()
