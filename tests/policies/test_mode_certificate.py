"""CITE: the e-process against exact integrals, and how often it certifies what is not the mode."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.policies.mode_certificate import (
    ModeCertificate,
    draws_needed,
    evidence,
    least_evidence,
)
from tests.policies.scripted import FREE_FORM, Said, play


def exact(a: int, b: int) -> Fraction:
    """∫_{1/2}^1 2 (2θ)^a (2(1-θ))^b dθ, the binomial of (1-θ)^b written out."""
    total = Fraction(0)
    for j in range(b + 1):
        power = a + j + 1
        total += comb(b, j) * (-1) ** j * (1 - Fraction(1, 2**power)) / power
    return 2 ** (a + b + 1) * total


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (0, 1), (7, 0), (7, 3), (3, 7), (40, 12)])
def test_the_evidence_is_the_integral(a, b):
    assert evidence(a, b) == pytest.approx(float(exact(a, b)), rel=1e-12)


def test_unanimous_draws_have_a_closed_form():
    for n in range(12):
        assert evidence(n, 0) == pytest.approx((2 ** (n + 1) - 1) / (n + 1))
    assert draws_needed(0, 0, 0.05, 99) == 7  # 255/8 is the first at 20 or more


@pytest.mark.parametrize(("a", "b"), [(0, 0), (2, 5), (9, 3)])
def test_the_evidence_does_not_grow_where_both_are_equally_likely(a, b):
    """The mean over the next draw is what it was: a martingale at the edge of the null."""
    following = (evidence(a + 1, b) + evidence(a, b + 1)) / 2
    assert following == pytest.approx(evidence(a, b), rel=1e-12)


def test_the_least_evidence_is_that_against_the_runner_up():
    answers = ("x", "y", "x", "z", "x", None, "y", "x")
    assert least_evidence("x", answers) == evidence(4, 2)
    assert least_evidence("x", ("x", "x")) == evidence(2, 0)  # against who has yet to appear


# Shares of answers, the first of which is never the mode where it is certified wrongly.
TRUTHS = {
    "a tie": (0.5, 0.5),
    "three of a kind": (0.3, 0.3, 0.3, 0.1),
    "a close second": (0.45, 0.5, 0.05),
    "a long tail": (0.1, 0.12, *(0.039 for _ in range(20))),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_an_answer_that_is_not_the_mode_is_rarely_certified(name):
    """2,000 streams looked at after every draw up to 60, the first answer drawn as the target."""
    shares = np.array(TRUTHS[name]) / sum(TRUTHS[name])
    rng = np.random.default_rng(7)
    mode, level = int(np.argmax(shares)), 0.1
    ties = np.isclose(shares, shares[mode]).sum() > 1
    false = streams = 0
    for _ in range(2_000):
        drawn = rng.choice(len(shares), size=61, p=shares)
        target, counts = drawn[0], np.zeros(len(shares), int)
        if target == mode and not ties:
            continue
        streams += 1
        for answer in drawn[1:]:
            counts[answer] += 1
            rival = max(count for n, count in enumerate(counts) if n != target)
            if evidence(int(counts[target]), int(rival)) >= 1 / level:
                false += 1
                break
    assert clopper_pearson(false, streams, 0.99).low <= level


def said(answers):
    return lambda launch: Said(answers[launch.sample])


def test_equal_answers_are_certified_after_the_pilot_and_seven():
    result = play(ModeCertificate(), said(["4"] * 40))
    outcome = result.outcome
    assert outcome.samples_run == 8
    assert (outcome.completion.text.split()[-1], outcome.exit) == ("4", "accepted")
    assert outcome.measure == pytest.approx(1 - 8 / 255)
    assert outcome.confidence == 1.0


def test_what_is_not_certified_is_the_majority_at_the_cap():
    answers = ["4", "5"] * 20
    outcome = play(ModeCertificate(max_samples=12), said(answers)).outcome
    assert (outcome.samples_run, outcome.exit) == (12, "safe")
    assert outcome.measure < 0.95


def test_a_target_that_does_not_lead_is_no_measure_of_the_answer():
    answers = ["5", *["4"] * 30]
    outcome = play(ModeCertificate(max_samples=20), said(answers)).outcome
    assert outcome.completion.text.split()[-1] == "4"
    assert outcome.measure == 0.0


def test_the_order_in_which_samples_end_does_not_matter():
    """Samples that give another answer end first: the target is that of number 0 all the same."""

    def quick(launch):
        return Said("4", tokens=9) if launch.sample % 2 == 0 else Said("5", tokens=2)

    slow = play(ModeCertificate(max_samples=12), quick).outcome
    same = play(
        ModeCertificate(max_samples=12), lambda launch: Said("45"[launch.sample % 2])
    ).outcome
    assert slow.measure == same.measure
    assert slow.samples_run == same.samples_run


def test_free_form_text_is_one_sample():
    assert play(ModeCertificate(), said(["x"] * 9), request=FREE_FORM).outcome.samples_run == 1


@pytest.mark.parametrize("options", [{"level": 0.0}, {"level": 1.0}, {"pilot": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        ModeCertificate(**options)
