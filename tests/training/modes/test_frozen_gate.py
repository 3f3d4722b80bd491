"""The linear gate: least loss by another optimiser, what it can find, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from suffice.core.errors import InputError
from suffice.training.modes.frozen_gate import _fit, cross_fitted, fit_gate

RNG = np.random.default_rng(0)


def test_the_fit_is_the_least_of_its_loss() -> None:
    state, gain = RNG.normal(size=(40, 6)), RNG.normal(size=40)
    found = _fit(state, gain, 0.1)
    scaled = (state - state.mean(axis=0)) / state.std(axis=0)

    def loss(at):
        z = scaled @ at[:-1] + at[-1]
        p = 1 / (1 + np.exp(-z))
        cross = -np.where(gain > 0, np.log(p), np.log(1 - p))
        return (np.abs(gain) @ cross) / np.abs(gain).sum() + 0.05 * (at[:-1] ** 2).sum()

    other = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-9})
    assert np.append(found.weight_D, found.bias) == pytest.approx(other.x, abs=1e-5)
    # More features than questions: the same, by rows.
    wide = np.hstack([state, RNG.normal(size=(40, 60))])
    odds = _fit(wide, gain, 0.5).log_odds(wide)
    assert odds.shape == (40,)
    assert ((odds > 0) == (gain > 0)).mean() > 0.9


def test_a_direction_that_tells_is_found_and_noise_is_not() -> None:
    state = RNG.normal(size=(300, 80))
    hard = state[:, 3] + 0.2 * RNG.normal(size=300) > 0
    gain = np.where(hard, 0.9, -0.06)
    part = np.arange(300) % 5.0
    odds = cross_fitted(state, gain, part)
    assert gain @ (odds > 0) > 0.9 * gain[gain > 0].sum()
    # Where nothing tells, it does what pays on the mean: thinking.
    shuffled = RNG.permutation(gain)
    assert (cross_fitted(state, shuffled, part) > 0).mean() > 0.8


def test_a_price_at_which_nothing_pays_is_an_error() -> None:
    state = RNG.normal(size=(20, 4))
    with pytest.raises(InputError, match="no question pays for thinking at this price"):
        fit_gate(state, np.full(20, -0.1))
    with pytest.raises(InputError, match="every question pays"):
        fit_gate(state, np.full(20, 0.1))
