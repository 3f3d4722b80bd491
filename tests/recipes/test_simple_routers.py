"""Rules on the prompt's text: found where there is something to find, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.recipes.modes.simple_routers import (
    auroc_at_equal_length,
    halves,
    length_rule,
    regression,
)

RNG = np.random.default_rng(0)


def test_halves_split_every_cell() -> None:
    cell = np.array([0, 0, 1, 0, 1, 0])
    half = halves(cell)
    assert [half[cell == 0].sum(), half[cell == 1].sum()] == [2, 1]


def test_the_length_rule_finds_the_length_that_pays() -> None:
    prompts = ["1" * n for n in (1, 2, 3, 4, 5, 6) for _ in range(20)]
    gain = np.where([len(p) > 3 for p in prompts], 0.8, -0.5)
    weight = np.full(len(prompts), 1 / len(prompts))
    half = halves(np.array([len(p) for p in prompts]))
    assert (length_rule(prompts, gain, weight, half) == (gain > 0)).all()
    # Equal lengths leave it all or nothing.
    same = ["12345"] * len(prompts)
    assert set(length_rule(same, gain, weight, half)) == {1.0}
    assert set(length_rule(same, gain - 0.4, weight, half)) == {0.0}


def test_regression_reads_characters_and_is_fitted_on_the_other_half() -> None:
    prompts = ["".join(RNG.choice(list("abcd"), 4)) for _ in range(400)]
    gain = np.array([0.5 if "a" in p[:1] else -0.5 for p in prompts])
    weight = np.full(400, 1 / 400)
    half = np.arange(400) % 2.0
    assert ((regression(prompts, gain, weight, half) > 0) == (gain > 0)).mean() > 0.95
    # Noise that it has seen does not help on the half that it has not.
    noise = RNG.choice([-0.5, 0.5], 400)
    hits = ((regression(prompts, noise, weight, half) > 0) == (noise > 0)).mean()
    assert 0.35 < hits < 0.65


def test_auroc_counts_pairs_of_equal_length_only() -> None:
    prompts = ["aa", "bb", "cc", "dd", "a", "b"]
    tasks = ["t"] * 6
    wrong = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    logit = np.array([3.0, 1.0, 1.0, 2.0, -9.0, -9.0])  # the short ones have no pair
    one = np.ones((1, 6))
    found = auroc_at_equal_length(prompts, tasks, logit, wrong, one)
    assert found is not None
    assert found[0] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert auroc_at_equal_length(prompts, tasks, logit, np.ones(6), one) is None
    # A weight counts as that many copies.
    double = auroc_at_equal_length(prompts, tasks, logit, wrong, np.array([[2.0, 1, 1, 1, 1, 1]]))
    assert double is not None
    assert double[0] == pytest.approx((2 + 2 + 0.5 + 0) / 6)
