"""Errors by size, forms compared by what they had not seen, and accuracy from loss."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.architecture.accuracy_link import fit_accuracy
from suffice.architecture.fitting.roll_out import roll_out
from suffice.architecture.laws import load_family
from suffice.architecture.runs import RunsTable, load_runs
from suffice.core.errors import InputError, TableError


def made(family: str, coefficients: tuple[float, ...], noise: float = 0.0) -> RunsTable:
    rng = np.random.default_rng(3)
    rows = []
    for n in np.geomspace(5e7, 6e9, 7):
        for ratio in (3.0, 20.0, 120.0):
            v = {"N": np.array(n), "D": np.array(n * ratio)}
            loss = float(load_family(family).evaluate(coefficients, v))
            rows.append({"N": n, "D": n * ratio, "loss": loss * np.exp(noise * rng.normal())})
    return RunsTable.from_rows(rows)


def test_a_true_law_rolls_out_without_error_and_a_wrong_one_with_growing_bias():
    truth = made("chinchilla", (1.82, 482.0, 2085.4, 0.348, 0.366))
    right = roll_out(truth, "chinchilla")
    assert max(each.log_rmse for each in right) < 1e-3
    assert [each.N for each in right] == sorted(each.N for each in right)
    assert all(each.reach == pytest.approx(right[0].reach) for each in right)
    coupled = made("chinchilla-coupled", (1.7, 0.5, 0.7, 0.9, 1.3, 0.45))
    own, other = (roll_out(coupled, name) for name in ("chinchilla-coupled", "chinchilla"))
    assert own[-1].log_rmse < 0.3 * other[-1].log_rmse


def test_forms_are_compared_by_held_out_error_on_public_runs():
    """Morph's 76 runs: the coupled form is not better than Chinchilla's here, which is kept."""
    runs = load_runs("morph")
    found = {name: roll_out(runs, name)[-1] for name in ("chinchilla-tied", "chinchilla-coupled")}
    assert all(each.reach > 1.5 and each.runs >= 4 for each in found.values())
    assert all(each.log_rmse < 0.2 for each in found.values())


def test_what_cannot_be_rolled_out():
    with pytest.raises(InputError, match="relative to the best loss"):
        roll_out(load_runs("morph"), "conditional-width")
    few = RunsTable.from_rows([{"N": n, "D": 20 * n, "loss": 3 - n / 1e10} for n in (1e8, 1e9)])
    with pytest.raises(TableError, match="no size has more than"):
        roll_out(few, "chinchilla")


def test_accuracy_follows_loss_by_a_sigmoid():
    loss = np.linspace(2.2, 3.6, 40)
    accuracy = 0.25 + 0.75 / (1 + np.exp(3.0 * (loss - 2.8)))
    rng = np.random.default_rng(1)
    exact = fit_accuracy(loss, accuracy, floor=0.25)
    assert (exact.slope, exact.half) == pytest.approx((3.0, 2.8), rel=1e-6)
    assert float(exact.at(2.8)) == pytest.approx(0.625)
    noisy = fit_accuracy(loss, accuracy + 0.01 * rng.standard_normal(40), floor=0.25)
    assert noisy.sd == pytest.approx(0.01, rel=0.35)
    low, high = noisy.bounds(2.8)
    assert low < 0.625 < high and high - low == pytest.approx(2 * 1.69 * noisy.sd, rel=0.01)
    with pytest.raises(InputError, match="outside the runs"):
        noisy.bounds(1.0)
    with pytest.raises(TableError, match="not per cent"):
        fit_accuracy(loss, 100 * accuracy)
    with pytest.raises(TableError, match="too few"):
        fit_accuracy(loss[:3], accuracy[:3])


def test_accuracy_of_the_published_models_falls_with_their_loss():
    """arXiv:2510.18245, tables 1 and 2: training loss and the mean of nine tasks, seven models."""
    loss = np.array([2.803, 2.782, 2.804, 2.625, 2.619, 2.620, 2.606])
    accuracy = np.array([54.9, 57.0, 55.4, 61.9, 62.5, 62.6, 62.5]) / 100
    link = fit_accuracy(loss, accuracy, floor=0.3)
    assert link.slope > 0 and link.sd < 0.01
    assert float(link.at(2.62)) > float(link.at(2.80)) + 0.04
