from __future__ import annotations

import pytest

from suffice.core.errors import InputError
from suffice.policies.agreement import AdaptiveConsistency, Agreement
from suffice.policies.cascade import Cascade, Rung, rung
from suffice.policies.fixed import SelfConsistency, Single
from suffice.policies.registry import parse_policy
from tests.policies.scripted import FREE_FORM, Said, play


def by_model(**scripts):
    """Samples of each model in the order it is asked."""
    left = {model: list(answers) for model, answers in scripts.items()}
    return lambda launch: left[launch.draw.model].pop(0)


WEAK_PAIR = Cascade(rungs=(Rung(policy=Agreement(models=("a", "b"))), rung(Single(), model="big")))


def test_agreement_answers_disagreement_escalates():
    agree = play(WEAK_PAIR, by_model(a=["7"], b=["7"]))
    assert agree.drawn == 2
    assert agree.outcome.why.startswith("step 1 of 2")
    differ = play(WEAK_PAIR, by_model(a=["7"], b=["8"], big=["9"]))
    assert (differ.answer, differ.drawn) == ("9", 3)
    assert differ.outcome.tokens_by_sample == ((0, 4), (1, 4), (2, 4))


@pytest.mark.parametrize(("a", "b"), [(2, 9), (9, 2)])
def test_whose_answer_stands_does_not_depend_on_who_is_quicker(a, b):
    agree = play(WEAK_PAIR, by_model(a=[Said("7", tokens=a)], b=[Said("7", tokens=b)]))
    assert agree.outcome.sample == 0
    silent = by_model(a=[Said("7", tokens=a)], b=[Said("8", tokens=b)], big=["-"])
    kept = play(WEAK_PAIR, silent)
    assert (kept.answer, kept.outcome.sample) == ("7", 0)


def test_low_confidence_escalates_and_the_rest_is_cancelled():
    first = rung(AdaptiveConsistency(max_samples=4, ahead=2), model="small", accept=0.9)
    policy = Cascade(rungs=(first, rung(Single(), model="big")))
    sure = play(policy, by_model(small=["1"] * 6))
    assert {launch.draw.model for launch in sure.launches} == {"small"}
    unsure = play(policy, by_model(small=["1", "2", "1", "2"], big=["3"]))
    assert unsure.answer == "3"
    assert [launch.sample for launch in unsure.launches] == [0, 1, 2, 3, 4]


def test_the_best_earlier_answer_is_kept():
    policy = Cascade(
        rungs=(rung(SelfConsistency(samples=3), accept=0.9), rung(Single(), model="big"))
    )
    result = play(policy, by_model(m=["5", "5", "6"], big=["-"]))
    assert result.answer == "5"
    assert "kept from step 1" in result.outcome.why
    assert result.outcome.escalated


def test_a_cascade_is_a_rung_of_a_cascade():
    inner = Cascade(
        rungs=(
            rung(SelfConsistency(samples=2), model="a", accept=0.9),
            rung(SelfConsistency(samples=2), model="b"),
        )
    )
    policy = Cascade(rungs=(Rung(policy=inner, accept=0.9), rung(Single(), model="c")))
    result = play(policy, by_model(a=["1", "2"], b=["3", "4"], c=["5"]))
    assert result.answer == "5"
    assert [launch.sample for launch in result.launches] == list(range(5))
    assert play(policy, by_model(a=["1", "2"], b=["3", "3"])).answer == "3"


def test_only_the_last_rung_may_stream():
    policy = Cascade(rungs=(rung(Single(), model="a", accept=0.9), rung(Single(), model="b")))
    result = play(policy, by_model(a=["tale"], b=["better"]), request=FREE_FORM)
    assert [launch.final for launch in result.launches] == [False, True]


def test_the_spelling_of_a_cascade():
    policy = parse_policy("adaptive_consistency:max_samples=8,accept=.9@small > single@large")
    assert isinstance(policy, Cascade)
    assert policy.rungs[0].accept == 0.9
    result = play(policy, by_model(small=["1", "1", "1", "1"]))
    assert result.drawn == 4
    with pytest.raises(InputError, match="at least one step"):
        Cascade(rungs=())
    with pytest.raises(InputError, match="accept"):
        Rung(policy=Single(), accept=1.2)


def test_costs_of_every_rung_are_summed():
    policy = Cascade(rungs=(rung(Single(), model="a", accept=0.9), rung(Single(), model="b")))
    outcome = play(policy, by_model(a=[Said("1", tokens=7)], b=[Said("2", tokens=5)])).outcome
    assert outcome.usage.completion_tokens == 12
    assert outcome.usage.prompt_tokens == 20
