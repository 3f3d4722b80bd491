"""Statistics against statsmodels, by values that statsmodels_references.py wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from suffice.evals.statistics.binomial import at_least_p_value, at_most_p_value, clopper_pearson
from suffice.evals.statistics.bootstrap import clustered_standard_error
from suffice.evals.statistics.paired import Pairs, mcnemar_p_value
from suffice.evals.statistics.sequence import bonferroni, holm
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


@pytest.mark.parametrize(("harmed", "helped", "p_value"), THEIRS["mcnemar"])
def test_exact_mcnemar(harmed, helped, p_value):
    pairs = Pairs(n=90 + harmed + helped, harmed=harmed, helped=helped)
    assert mcnemar_p_value(pairs) == pytest.approx(p_value, rel=1e-9)


@pytest.mark.parametrize(("p_values", "by_bonferroni", "by_holm"), THEIRS["multiple"])
def test_multiple_tests(p_values, by_bonferroni, by_holm):
    assert list(bonferroni(p_values, 0.05)) == by_bonferroni
    assert list(holm(p_values, 0.05)) == by_holm


def test_standard_error_clustered_by_question():
    theirs = THEIRS["clustered"]
    ours = clustered_standard_error(theirs["values"], theirs["questions"])
    assert np.mean(theirs["values"]) == pytest.approx(theirs["mean"], rel=1e-9)
    assert ours == pytest.approx(theirs["error"], rel=1e-9)
