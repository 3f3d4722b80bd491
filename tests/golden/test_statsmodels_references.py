"""Statistics against statsmodels, by values that statsmodels_references.py wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compared_tests import bonferroni

from suffice.evals.statistics.binomial import at_least_p_value, at_most_p_value, clopper_pearson
from suffice.recipes.modes.evaluate import wilson

THEIRS = json.loads(Path(__file__).with_name("statsmodels_references.json").read_text())


@pytest.mark.parametrize(("count", "n", "confidence", "low", "high"), THEIRS["clopper_pearson"])
def test_clopper_pearson(count, n, confidence, low, high):
    ours = clopper_pearson(count, n, confidence)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("count", "n", "low", "high"), THEIRS["wilson"])
def test_wilson(count, n, low, high):
    ours = wilson(count, n)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("count", "n", "rate", "smaller", "larger"), THEIRS["binomial"])
def test_one_sided_binomial_tests(count, n, rate, smaller, larger):
    assert at_most_p_value(count, n, rate) == pytest.approx(smaller, rel=1e-9)
    assert at_least_p_value(count, n, rate) == pytest.approx(larger, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("p_values", "shown"), THEIRS["bonferroni"])
def test_bonferroni(p_values, shown):
    assert list(bonferroni(p_values, 0.05)) == shown
