"""MARS's margin against worlds in which the switches are played out, and its logistic fit."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from scipy.optimize import minimize

from suffice.policies.switch_margin import (
    Course,
    SwitchModel,
    Vote,
    Whole,
    calibrated_gamma,
    fit_switches,
    leader_is_safe,
)


def lead(answers):
    """The one leading answer; None where two lead."""
    counts = {answer: answers.count(answer) for answer in answers if answer is not None}
    first = max(counts, key=counts.__getitem__, default=None)
    others = [count for answer, count in counts.items() if answer != first]
    return first if first is not None and counts[first] > max(others, default=0) else None


@pytest.mark.parametrize("seed", range(40))
def test_with_known_switches_no_outcome_overturns_a_safe_leader(seed):
    """q is 0 or 1 and traces that switch land anywhere, even on an answer nobody has given."""
    rng = random.Random(seed)
    votes = [
        Vote(answer=rng.choice("aaab"), weight=1.0, q=float(rng.random() < 0.3))
        for _ in range(rng.randint(3, 7))
    ]
    leader = leader_is_safe(votes)
    moving = [vote for vote in votes if vote.q]
    stay = [vote.answer for vote in votes if not vote.q]
    ends = itertools.product("abz", repeat=len(moving))
    held = all(
        lead([*stay, *end]) == leader
        for end in ends
        if all(now.answer != then for now, then in zip(moving, end, strict=True))
    )
    if leader is not None:
        assert held


def test_the_rule_is_not_idle():
    """Four of a kind outlast two that may switch; three do not."""
    two = [Vote(answer="b", weight=1.0, q=1.0)] * 2
    assert leader_is_safe([*[Vote(answer="a", weight=1.0)] * 3, *two]) == "a"
    assert leader_is_safe([*[Vote(answer="a", weight=1.0)] * 2, *two]) is None
    assert leader_is_safe([]) is None
    unseen = [Vote(answer=None, weight=1.0, q=1.0)] * 3
    assert leader_is_safe([*[Vote(answer="a", weight=1.0)] * 3, *unseen]) is None
    assert leader_is_safe([*[Vote(answer="a", weight=1.0)] * 4, *unseen]) == "a"


def test_gamma_shrinks_what_is_held_against_the_leader():
    votes = [*[Vote(answer="a", weight=1.0)] * 3, *[Vote(answer=None, weight=1.0, q=1.0)] * 4]
    assert leader_is_safe(votes, 1.0) is None
    assert leader_is_safe(votes, 0.5) == "a"


def test_the_rule_equals_the_retained_margin_of_the_derivation():
    """M_k > Σ q c is R_k > Q_total - Q_k, with R_k the margin that is expected to stay."""
    rng = np.random.default_rng(3)
    agreed = 0
    for _ in range(300):
        votes = [
            Vote(answer=str(rng.choice(list("aab"))), weight=float(rng.uniform(0.5, 2)),
                 q=float(rng.uniform(0, 0.4)))
            for _ in range(8)
        ]  # fmt: skip
        mass = {k: sum(v.weight for v in votes if v.answer == k) for k in "ab"}
        if not all(mass.values()):
            continue
        leader = max(mass, key=mass.__getitem__)
        other = "b" if leader == "a" else "a"
        stays = {k: sum((1 - v.q) * v.weight for v in votes if v.answer == k) for k in "ab"}
        moves = {k: sum(v.q * v.weight for v in votes if v.answer == k) for k in "ab"}
        total = sum(moves.values())
        seen = stays[leader] - stays[other] > total - moves[other]
        unseen = stays[leader] > total
        assert (leader_is_safe(votes) == leader) == (seen and unseen)
        agreed += seen and unseen
    assert 20 < agreed < 280


def courses(rng, n):
    """Traces whose later probes and higher confidence mean fewer switches."""
    found = []
    for _ in range(n):
        final, switch = "1", rng.integers(0, 5)
        said = tuple("2" if at < switch else final for at in range(5))
        levels = tuple(float(at >= switch) + rng.normal(0, 0.6) for at in range(5))
        found.append((Course(positions=(5, 10, 15, 20, 25), answers=said, levels=levels), final))
    return found


def test_the_fit_is_the_maximum_of_the_penalised_likelihood():
    rng = np.random.default_rng(1)
    made = courses(rng, 30)
    model = fit_switches([course for course, _ in made], [final for _, final in made])
    assert isinstance(model, SwitchModel)
    rows = [(c.features(at), c.answers[at] != f) for c, f in made for at in range(5)]
    x = (np.array([row for row, _ in rows]) - model.means) / model.scales
    design, y = np.column_stack([np.ones(len(x)), x]), np.array([float(label) for _, label in rows])

    def loss(beta):
        z = design @ beta
        return -(y * z - np.logaddexp(0, z)).sum() + 0.01 * (beta[1:] ** 2).sum()

    best = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-9})
    found = np.array([model.intercept, *model.slopes])
    assert loss(found) <= best.fun + 0.02  # ours has a small ridge on the intercept too
    assert found == pytest.approx(best.x, abs=0.08)


def test_a_trace_without_a_probe_will_switch_for_all_one_knows():
    model = SwitchModel(means=(0.0,) * 5, scales=(1.0,) * 5, slopes=(0.0,) * 5, intercept=-9.0)
    assert model.q(Course()) == 1.0
    assert model.q(Course(positions=(5,), answers=("1",), levels=(1.0,))) < 0.001
    assert fit_switches([Course()], ["1"]) is None


def test_a_warm_up_that_never_switched_has_a_finite_fit():
    steady = Course(positions=(5, 10), answers=("1", "1"), levels=(1.0, 1.1))
    model = fit_switches([steady] * 6, ["1"] * 6)
    assert model is not None
    assert 0 < model.q(steady) < 0.05


def test_features_are_the_papers_five():
    course = Course(positions=(5, 10, 15), answers=("1", "2", "2"), levels=(1.0, 3.0, 2.5))
    assert course.features(2) == (15.0, 2.5, 1.0, 2.0, -0.5)
    assert course.features(0) == (5.0, 1.0, 0.0, 1.0, 0.0)


def test_gamma_stays_at_one_where_less_would_have_answered_otherwise():
    """Most traces say b at first and all but one end at a: only the cautious rule waits."""
    model = SwitchModel(means=(0.0,) * 5, scales=(1.0,) * 5, slopes=(0.0,) * 5, intercept=0.0)
    early = [
        Whole(course=Course(positions=(5,), answers=("b",), levels=(1.0,)), final="a", weight=1.0)
        for _ in range(9)
    ]
    assert model.q(early[0].course) == 0.5
    assert calibrated_gamma(early, model) == 1.0
    same = [
        Whole(course=Course(positions=(5,), answers=("a",), levels=(1.0,)), final="a", weight=1.0)
        for _ in range(9)
    ]
    assert 0.5 <= calibrated_gamma(same, model) <= 1.0
