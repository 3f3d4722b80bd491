"""Certificates keep their promise on tasks with known truth; the naive method does not."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.evals.statistics.sequence import (
    bonferroni,
    conformal_risk,
    fixed_sequence,
    holm,
    largest_shown,
)
from suffice.recipes.calibrate.simulate import METHODS, simulate, tasks

TASKS = {task.name: task for task in tasks()}
NAIVE = [name for name in METHODS if name.startswith("naive")]
SLOW = "fst harm, betting"


@pytest.mark.parametrize("method", [name for name in METHODS if name not in (*NAIVE, SLOW)])
@pytest.mark.parametrize("task", list(TASKS))
def test_promises_are_kept(task, method):
    found = simulate(TASKS[task], method, repetitions=120, seed=11)
    assert found.keeps, found


@pytest.mark.parametrize("method", NAIVE)
def test_the_naive_method_breaks_the_same_promise(method):
    for task in TASKS.values():
        found = simulate(task, method, repetitions=60, seed=11)
        assert not found.keeps, found
        assert found.violations > 0.3 * found.repetitions


def test_a_useful_share_is_certified_where_truth_allows_it():
    task = TASKS["graded, 200 thresholds"]
    allowed = (task.true_drop <= task.limit).mean()
    found = simulate(task, "fst drop, exact paired", repetitions=25, seed=2)
    assert 0.6 * allowed < found.certified < allowed * 1.02


def test_multiple_testing_rules_by_hand():
    assert fixed_sequence([0.01, 0.04, 0.2, 0.001], 0.05) == 2
    assert fixed_sequence([0.2, 0.001], 0.05) == 0
    tested = []
    fixed_sequence((tested.append(p) or p for p in (0.01, 0.9, 0.01)), 0.05)
    assert tested == [0.01, 0.9]  # lazily: nothing after the first failure is looked at
    assert bonferroni([0.01, 0.03, 0.02], 0.05) == (True, False, False)
    assert holm([0.01, 0.03, 0.02], 0.05) == (True, True, True)
    assert holm([0.001, 0.2, 0.04], 0.05) == (True, False, False)
    assert largest_shown([7, 5, 3], lambda setting: 0.01 * (8 - setting), 0.03) == 5
    assert largest_shown([7], lambda _: 0.9, 0.05) is None


def test_conformal_risk_by_hand():
    losses = np.zeros((9, 3))
    losses[0, 1:] = 1.0
    losses[1, 1] = 1.0  # falls again: its running maximum counts
    # (0 + 1) / 10 = .1, (2 + 1) / 10 = .3, and .3 again
    assert conformal_risk(losses, 0.1) == 1
    assert conformal_risk(losses, 0.29) == 1
    assert conformal_risk(losses, 0.3) == 3
    assert conformal_risk(losses, 0.05) == 0
