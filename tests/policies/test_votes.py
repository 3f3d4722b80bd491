from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, gamma

from suffice.policies.votes import (
    beta_agreement,
    decided,
    dirichlet_agreement,
    tally,
    top_two,
    votes_needed,
    weighted_tally,
)


@pytest.mark.parametrize(("v1", "v2"), [(1, 0), (4, 0), (5, 3), (20, 20), (33, 2), (0, 7)])
def test_closed_form_equals_the_integral(v1, v2):
    integral, _ = quad(lambda p: beta.pdf(p, v1 + 1, v2 + 1), 0.5, 1.0, epsabs=1e-12)
    assert beta_agreement(v1, v2) == pytest.approx(integral, abs=1e-10)


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.5, 0.9999))
def test_votes_needed_are_those_at_which_the_sum_in_full_gets_there(v1, v2, threshold):
    def in_full(lead):
        n = lead + v2 + 1
        return sum(math.comb(n, j) for j in range(lead + 1)) / 2**n

    assert beta_agreement(v1, v2) == in_full(v1)
    needed = votes_needed(v1, v2, threshold, 30)
    assert needed == next((n for n in range(30) if in_full(v1 + n) >= threshold), 30)


def test_the_limit_does_not_change_how_many_votes_are_needed():
    for votes in (10, 100, 1000, 2000):
        needed = votes_needed(votes, votes, 0.95, 8192)
        assert 0 < needed < 8192
        assert votes_needed(votes, votes, 0.95, needed + 1) == needed
        assert votes_needed(votes, votes, 0.95, needed) == needed


def test_published_values():
    # 2305.11860: one vote gives .75; 4-0 is the first unanimous count that reaches .95.
    assert beta_agreement(1, 0) == 0.75
    assert beta_agreement(3, 0) == 0.9375
    assert beta_agreement(4, 0) == pytest.approx(0.969, abs=5e-4)
    assert votes_needed(0, 0, 0.95, 40) == 4


@pytest.mark.parametrize("votes", [(3, 1, 1), (4, 2, 2, 1), (10, 9, 8), (40, 1), (6, 0), (2, 2, 2)])
def test_dirichlet_equals_an_independent_integral(votes):
    def density(x):
        rivals = math.prod(gamma.cdf(x, v + 1) for v in votes[1:])
        return gamma.pdf(x, votes[0] + 1) * rivals

    integral, _ = quad(density, 0, 200, points=[votes[0] + 1.0], epsabs=1e-11, limit=400)
    assert dirichlet_agreement(votes) == pytest.approx(integral, abs=1e-8)


def test_dirichlet_equals_sampling():
    draws = np.random.default_rng(0).dirichlet(np.array([5, 3, 2]) + 1.0, size=200_000)
    sampled = float((draws.argmax(axis=1) == 0).mean())
    error = 4 * math.sqrt(sampled * (1 - sampled) / len(draws))
    assert dirichlet_agreement((5, 3, 2)) == pytest.approx(sampled, abs=error)


@pytest.mark.parametrize(("v1", "v2"), [(900, 800), (2000, 1990), (1000, 0)])
def test_large_counts_do_not_underflow(v1, v2):
    assert dirichlet_agreement((v1, v2)) == pytest.approx(beta_agreement(v1, v2), abs=1e-9)


@given(st.integers(0, 60), st.integers(0, 60))
def test_two_answers_make_both_criteria_equal(a, b):
    v1, v2 = max(a, b), min(a, b)
    assert dirichlet_agreement((v1, v2)) == pytest.approx(beta_agreement(v1, v2), abs=1e-9)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=6))
def test_rivals_never_raise_the_dirichlet_criterion(votes):
    ordered = tuple(sorted(votes, reverse=True))
    assert dirichlet_agreement(ordered) <= beta_agreement(*ordered[:2]) + 1e-9


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.6, 0.8, 0.95, 0.99]))
def test_votes_needed_is_the_least(a, b, threshold):
    v1, v2 = max(a, b), min(a, b)
    needed = votes_needed(v1, v2, threshold, 200)
    assert beta_agreement(v1 + needed, v2) >= threshold
    assert needed == 0 or beta_agreement(v1 + needed - 1, v2) < threshold


answers = st.lists(st.none() | st.sampled_from("abc"), max_size=9)


@given(answers)
def test_tally_equals_brute_force(given_answers):
    counts = tally(given_answers)
    votes = [answer for answer in given_answers if answer is not None]
    assert dict(counts) == {answer: votes.count(answer) for answer in votes}
    if votes:
        most = max(votes.count(answer) for answer in votes)
        assert counts[0][0] == next(a for a in votes if votes.count(a) == most)


@given(st.lists(st.tuples(st.none() | st.sampled_from("abc"), st.integers(0, 9)), max_size=9))
def test_weighted_tally_equals_brute_force(votes):
    sums = dict(weighted_tally(votes))
    for answer in "abc":
        given_weights = [weight for each, weight in votes if each == answer]
        assert sums.get(answer) == (sum(given_weights) if given_weights else None)


@given(st.lists(st.sampled_from("ab"), max_size=6), st.integers(0, 3))
def test_decided_equals_trying_every_continuation(seen, remaining):
    counts = tally(seen)
    winner = counts[0][0] if counts else None

    def can_change(rest):
        after = Counter([*seen, *rest])
        most = max(after.values())
        return any(after[each] == most and each != winner for each in after)

    changed = winner is None or any(
        can_change(rest) for rest in product("abz", repeat=remaining) if seen or rest
    )
    assert decided(counts, remaining) == (not changed)
    assert top_two(counts)[0] >= top_two(counts)[1]
