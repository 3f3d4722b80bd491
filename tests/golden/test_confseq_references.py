"""The betting test of means against confseq, by values that confseq_references.py wrote."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.evals.statistics.bounded import _log_wealth, mean_p_value, mean_upper_bound
from suffice.evals.statistics.paired import rows_for_drop

THEIRS = json.loads(Path(__file__).with_name("confseq_references.json").read_text())
CASES = THEIRS["cases"]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_wealth_is_that_of_confseq(case):
    limit, alpha = case["limit"], case["alpha"]
    ours = np.exp(_log_wealth(np.array(case["values"]), limit, alpha))
    assert ours[-1] == pytest.approx(case["last"], rel=1e-9)
    assert ours.max() == pytest.approx(case["largest"], rel=1e-9)
    p_value = mean_p_value(case["values"], limit, alpha)
    assert p_value == pytest.approx(min(1.0, 1.0 / case["largest"]), rel=1e-9)


@pytest.mark.parametrize("case", CASES[::8], ids=range(len(CASES[::8])))
def test_a_larger_limit_is_never_harder_to_show(case):
    limits = np.linspace(0.001, 0.9, 60)
    p_values = [mean_p_value(case["values"], limit) for limit in limits]
    assert all(a >= b - 1e-12 for a, b in pairwise(p_values))
    bound = mean_upper_bound(case["values"], 0.95)
    if bound < 1.0:
        assert mean_p_value(case["values"], bound) <= 0.05
        assert mean_p_value(case["values"], bound - 1e-4) > 0.05


@pytest.mark.parametrize(("limit", "most"), [(0.01, 306), (0.02, 153), (0.05, 61)])
def test_without_any_difference_it_needs_hardly_more_than_the_exact_test(limit, most):
    needed = next(n for n in range(1, 400) if mean_p_value(np.zeros(n), limit) <= 0.05)
    assert rows_for_drop(limit, 0.95) <= needed <= most


def test_what_is_no_mean_is_refused():
    for values in ([], [1.5], [float("nan")], [[0.1]]):
        with pytest.raises(InputError, match="between -1 and 1"):
            mean_p_value(values, 0.02)
