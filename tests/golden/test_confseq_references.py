"""The betting test of means against confseq, by values that confseq_references.py wrote."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.evals.statistics.bounded import log_wealth, mean_p_value, mean_upper_bound
from suffice.evals.statistics.paired import rows_for_drop

THEIRS = json.loads(Path(__file__).with_name("confseq_references.json").read_text())
CASES = [case | {"values": THEIRS["samples"][case["values"]]} for case in THEIRS["cases"]]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_wealth_is_that_of_confseq(case):
    limit, alpha, boldest = (case[name] for name in ("limit", "alpha", "boldest"))
    ours = np.exp(log_wealth(np.array(case["values"]), limit, alpha, boldest))
    assert ours[-1] == pytest.approx(case["last"], rel=1e-9)
    assert ours.max() == pytest.approx(case["largest"], rel=1e-9)
    p_value = mean_p_value(case["values"], limit, alpha, boldest=boldest)
    assert p_value == pytest.approx(min(1.0, 1.0 / case["last"]), rel=1e-9)


@pytest.mark.parametrize("case", CASES[::8], ids=range(len(CASES[::8])))
def test_a_larger_limit_is_never_harder_to_show(case):
    limits, boldest = np.linspace(0.001, 0.9, 60), case["boldest"]
    p_values = [mean_p_value(case["values"], limit, boldest=boldest) for limit in limits]
    assert all(a >= b - 1e-12 for a, b in pairwise(p_values))
    bound = mean_upper_bound(case["values"], 0.95, boldest=boldest)
    if bound < 1.0:
        assert mean_p_value(case["values"], bound, boldest=boldest) <= 0.05
        assert mean_p_value(case["values"], bound - 1e-4, boldest=boldest) > 0.05


def test_nothing_is_shown_whose_mean_is_over_the_limit():
    """In an order by luck a bettor may be rich half-way: the last value counts like the first."""
    generator = np.random.default_rng(0)
    for limit, mean in ((0.01, 0.012), (0.05, 0.06), (0.05, 0.051)):
        for n in (60, 200, 800):
            lost = np.sort(generator.permutation(n) < round(mean * n) + 1).astype(float)
            assert lost.mean() > limit
            assert mean_p_value(lost, limit, boldest=0.5) > 0.5
            assert mean_p_value(lost[::-1], limit) > 0.5


@pytest.mark.parametrize("limit", [0.01, 0.02, 0.05])
def test_without_any_difference_it_needs_what_the_exact_test_needs(limit):
    """The boldest bets need not one question more, the default ones a tenth more."""
    exact = rows_for_drop(limit, 0.95)
    assert mean_p_value(np.zeros(exact), limit, boldest=0.999) <= 0.05
    assert mean_p_value(np.zeros(exact - 1), limit, boldest=0.999) > 0.05
    assert mean_p_value(np.zeros(round(1.12 * exact)), limit) <= 0.05


def test_what_is_no_mean_is_refused():
    for values in ([], [1.5], [float("nan")], [[0.1]]):
        with pytest.raises(InputError, match="between -1 and 1"):
            mean_p_value(values, 0.02)
