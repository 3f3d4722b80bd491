"""Certificates keep their promise on tasks with known truth; the naive method does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import METHODS, simulate, tasks

from suffice.evals.statistics.sequence import (
    chains_shown,
    conformal_risk,
    fixed_sequence,
)

TASKS = {task.name: task for task in tasks()}
NAIVE = [name for name in METHODS if name.startswith("naive")]
AS_ROWS = [name for name in METHODS if name.startswith("every copy")]
COPIED = [name for name, task in TASKS.items() if task.plays > 1 and task.concentration < 1.0]
SLOW = "fst harm, betting"


@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in (*NAIVE, *AS_ROWS, SLOW)]
)
@pytest.mark.parametrize("task", list(TASKS))
def test_promises_are_kept(task, method):
    found = simulate(TASKS[task], method, repetitions=120, seed=11)
    assert found.keeps, found


@pytest.mark.parametrize("method", NAIVE)
def test_the_naive_method_breaks_the_same_promise(method):
    for task in TASKS.values():
        if task.plays > 1 and task.concentration > 1.0:
            continue  # many samples of each question come near the truth by themselves
        found = simulate(task, method, repetitions=60, seed=11)
        assert not found.keeps, found
        assert found.violations > 0.2 * found.repetitions


@pytest.mark.parametrize("task", COPIED)
def test_copies_as_rows_break_the_promise_that_questions_keep(task):
    found = simulate(TASKS[task], "every copy a row, drop", repetitions=60, seed=11)
    assert not found.keeps, found
    once = simulate(TASKS[task], "fst drop, exact paired", repetitions=60, seed=11)
    assert once.keeps, once


def test_without_copies_a_row_is_a_question():
    for task in TASKS.values():
        if task.plays == 1 and len(task.share) < 30:
            drawn = task.draw(np.random.default_rng(3))
            for one, other in (
                ("fst drop, exact paired", "every copy a row, drop"),
                ("fst harm, Clopper-Pearson", "every copy a row, harm"),
            ):
                found = METHODS[one][0](task, drawn, 0.05)
                assert found == METHODS[other][0](task, drawn, 0.05)


def test_several_paths_share_the_error_probability_by_hand():
    def path(*p_values):
        return p_values.__getitem__

    # Each path at half of .05; the second is shown to its end and leaves its half to the first.
    chains = [path(0.02, 0.04, 0.2), path(0.001)]
    assert chains_shown(chains, (3, 1), (1.0, 1.0), 0.05) == ((2, 1), (0.05, 0.025))
    assert chains_shown(chains, (3, 1), (1.0, 9.0), 0.05) == ((2, 1), (0.05, 0.045))
    stuck = [path(0.03, 0.01), path(0.03)]
    assert chains_shown(stuck, (2, 1), (1.0, 1.0), 0.05)[0] == (0, 0)
    assert chains_shown([path(0.04)], (1,), (0.3,), 0.05) == ((1,), (0.05,))
    # Three paths: what two leave is shared by what is left.
    three = [path(0.01), path(0.012, 0.9), path(0.04)]
    shown, levels = chains_shown(three, (1, 2, 1), (1.0, 1.0, 2.0), 0.05)
    assert shown == (1, 1, 0)
    assert levels == pytest.approx((0.0125, 0.05 / 3, 0.1 / 3))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_smaller_p_values_never_show_less(data):
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    shares = [data.draw(st.floats(0.1, 3.0)) for _ in lengths]
    tables = [[data.draw(st.floats(0.0, 0.2)) for _ in range(k)] for k in lengths]
    smaller = [[p * data.draw(st.floats(0.0, 1.0)) for p in row] for row in tables]
    first, second = (
        chains_shown([row.__getitem__ for row in each], lengths, shares, 0.05)[0]
        for each in (tables, smaller)
    )
    assert all(b >= a for a, b in zip(first, second, strict=True))


def test_a_useful_share_is_certified_where_truth_allows_it():
    task = TASKS["graded, 200 thresholds"]
    allowed = (task.true_drop <= task.limit).mean()
    found = simulate(task, "fst drop, exact paired", repetitions=25, seed=2)
    assert 0.6 * allowed < found.certified < allowed * 1.02


def test_a_fixed_sequence_by_hand():
    assert fixed_sequence([0.01, 0.04, 0.2, 0.001], 0.05) == 2
    assert fixed_sequence([0.2, 0.001], 0.05) == 0
    tested = []
    fixed_sequence((tested.append(p) or p for p in (0.01, 0.9, 0.01)), 0.05)
    assert tested == [0.01, 0.9]  # lazily: nothing after the first failure is looked at


def test_conformal_risk_by_hand():
    losses = np.zeros((9, 3))
    losses[0, 1:] = 1.0
    losses[1, 1] = 1.0  # falls again: its running maximum counts
    # (0 + 1) / 10 = .1, (2 + 1) / 10 = .3, and .3 again
    assert conformal_risk(losses, 0.1) == 1
    assert conformal_risk(losses, 0.29) == 1
    assert conformal_risk(losses, 0.3) == 3
    assert conformal_risk(losses, 0.05) == 0
