from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.core.decisions import Sample
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.allocation import (
    DifficultyBinned,
    allocate,
    success_curve,
)
from suffice.policies.auto import PUBLISHED_ARMS, Auto, RatedPolicy, SpendControl
from suffice.policies.fixed import SelfConsistency, Single
from tests.policies.scripted import REQUEST, Said, play


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4), st.integers(0, 9))
@settings(max_examples=60)
def test_marginal_allocation_is_optimal_on_concave_curves(rates, total):
    values = success_curve(rates, 4)
    chosen = allocate(values, total)
    assert chosen.sum() <= total
    best = max(
        sum(values[q, b] for q, b in enumerate(split))
        for split in product(range(5), repeat=len(rates))
        if sum(split) <= total
    )
    assert sum(values[q, b] for q, b in enumerate(chosen)) == pytest.approx(best, abs=1e-9)


def test_allocation_abandons_the_hopeless_and_the_solved():
    chosen = allocate(success_curve([0.0, 0.3, 1.0], 8), 6)
    assert chosen.tolist() == [0, 5, 1]


def test_allocation_beats_the_uniform_split():
    rng = np.random.default_rng(0)
    rates = rng.beta(0.5, 0.5, size=200)
    values = success_curve(rates, 32)
    chosen = allocate(values, 200 * 4)
    gained = values[np.arange(200), chosen].sum()
    assert gained > values[:, 4].sum() + 2.0


def test_a_step_shaped_curve_is_climbed_by_its_hull():
    values = [[0.0, 0.0, 0.0, 0.9], [0.0, 0.2, 0.2, 0.2]]
    assert allocate(values, 3).tolist() == [3, 0]
    assert allocate(values, 4).tolist() == [3, 1]
    with pytest.raises(InputError, match="finite table"):
        allocate([[np.nan]], 1)


def test_pilots_decide_how_many_more():
    policy = DifficultyBinned(pilot=4, edges=(0.3, 0.9), more=(0, 6, 0))
    assert play(policy, ["1"] * 10).drawn == 4  # easy: all pilots agree
    assert play(policy, ["1", "2", "3", "1"] + ["1"] * 6).drawn == 10
    assert play(policy, ["1", "2", "3", "4"] * 3).drawn == 4  # hopeless: a quarter each
    scored = play(policy, [Said("1", score=0.1)] * 4)
    assert scored.outcome.why.endswith("difficulty bin 1 of 3")
    with pytest.raises(InputError, match="must rise"):
        DifficultyBinned(edges=(0.9, 0.3))


def test_auto_takes_the_arm_that_is_worth_its_cost():
    assert Auto(price=0.0).pick(REQUEST) == 3
    assert Auto(price=1.0).pick(REQUEST) == 0
    picks = [Auto(price=price).pick(REQUEST) for price in np.geomspace(1e-4, 1e-1, 30)]
    assert picks == sorted(picks, reverse=True)
    assert set(picks) == {0, 1, 2, 3}
    free = Request(messages=(Message(role="user", content="hi"),), model="m")
    assert Auto(price=0.0).pick(free) == 0


def test_auto_runs_the_arm_and_says_so():
    result = play(Auto(price=0.0), ["4"] * 40)
    assert result.outcome.arm == "auto"
    assert result.outcome.why.startswith("auto chose adaptive_consistency")
    by_length = Auto(predict=lambda request: (1.0, 0.0, 0.0, 0.0), price=0.0)
    assert play(by_length, ["4"]).drawn == 1


def test_published_arms_are_the_means_of_the_published_curves():
    # Accuracy % and tokens relative to one sample, MATH500, GSM8K, AMC23, AIME24, AIME25.
    published = {
        1: ([89.6, 87.0, 82.5, 53.3, 36.7], [1.0] * 5),
        4: ([92.2, 89.0, 90.0, 56.7, 36.7], [4.0, 3.96, 4.18, 4.05, 4.09]),
        8: ([93.4, 90.1, 85.0, 60.0, 40.0], [5.19, 5.81, 6.46, 6.95, 6.63]),
        40: ([93.6, 90.8, 90.0, 60.0, 36.7], [7.91, 11.51, 11.59, 19.53, 15.63]),
    }
    for arm, (accuracy, tokens) in zip(PUBLISHED_ARMS, published.values(), strict=True):
        assert arm.quality == pytest.approx(np.mean(accuracy) / 100, abs=6e-4)
        assert arm.cost == pytest.approx(np.mean(tokens), abs=0.06)


def test_price_follows_the_spend_target():
    control = SpendControl(target=4.0, price=0.0, rate=0.0002)
    spends = []
    for _ in range(4000):
        auto = Auto(price=control.price_at())
        spent = auto.arms[auto.pick(REQUEST)].cost
        spends.append(spent)
        control = control.after(spent)
    assert np.mean(spends[1000:]) == pytest.approx(4.0, rel=0.05)


def test_a_queue_makes_everything_dearer_at_once():
    control = SpendControl(target=4.0, price=0.01, queue_target=10)
    assert control.price_at(10) == pytest.approx(0.02)
    assert (
        Auto(price=control.price_at(0)).pick(REQUEST)
        > Auto(price=control.price_at(50)).pick(REQUEST) - 1
    )
    with pytest.raises(InputError, match="positive"):
        SpendControl(target=0.0)
    with pytest.raises(InputError, match="quality"):
        RatedPolicy(policy=Single(), quality=1.2, cost=1.0)


def test_arms_may_be_any_policy():
    auto = Auto(
        arms=(
            RatedPolicy(policy=SelfConsistency(samples=2), quality=0.5, cost=2.0),
            RatedPolicy(policy=AdaptiveConsistency(), quality=0.9, cost=5.0),
        )
    )
    _, actions = auto.start(REQUEST)
    assert isinstance(actions[0], Sample)
    assert len(actions[0].samples) == 4
