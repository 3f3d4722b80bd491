"""Statistics against independent implementations (scipy) and textbook sums."""

from __future__ import annotations

from itertools import product
from math import comb, factorial

import numpy as np
import pytest
from compared_tests import betting_p_value, hoeffding_bentkus_p_value
from scipy import stats

from suffice.evals.statistics.binomial import (
    at_least_p_value,
    at_most_p_value,
    clopper_pearson,
    lower_bound,
    rows_needed,
    upper_bound,
)
from suffice.evals.statistics.bootstrap import (
    clustered_mean,
    of_share,
)
from suffice.evals.statistics.calibration import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from suffice.evals.statistics.paired import (
    NUISANCE_SHARE,
    Pairs,
    _helps_needed,
    _most_likely,
    _score,
    _sizes,
    drop_p_value,
    drop_upper_bound,
    rows_for_drop,
)
from suffice.evals.statistics.ranking import auc, mean_pass_at_k, pass_at_k

CASES = [(0, 10), (3, 10), (10, 10), (1, 299), (17, 660), (500, 1319)]


@pytest.mark.parametrize(("count", "n"), CASES)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_clopper_pearson_equals_scipy(count, n, confidence):
    ours = clopper_pearson(count, n, confidence)
    theirs = stats.binomtest(count, n).proportion_ci(confidence, method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    sided = stats.binomtest(count, n, alternative="less").proportion_ci(confidence, "exact")
    assert upper_bound(count, n, confidence) == pytest.approx(sided.high, rel=1e-9)
    sided = stats.binomtest(count, n, alternative="greater").proportion_ci(confidence, "exact")
    assert lower_bound(count, n, confidence) == pytest.approx(sided.low, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("count", "n"), CASES)
def test_binomial_p_values_equal_scipy(count, n):
    less = stats.binomtest(count, n, 0.02, alternative="less").pvalue
    more = stats.binomtest(count, n, 0.02, alternative="greater").pvalue
    assert at_most_p_value(count, n, 0.02) == pytest.approx(less, rel=1e-9)
    assert at_least_p_value(count, n, 0.02) == pytest.approx(more, rel=1e-9)


def test_rows_needed_is_the_rule_of_three_made_exact():
    # ln .05 / ln .99 = 298.07: 299 flawless rows show a rate of at most 1 % at 95 %.
    assert rows_needed(0.01, 0.95) == 299
    assert rows_needed(0.02, 0.95) == 149
    for count in (0, 1, 5):
        n = rows_needed(0.05, 0.9, count)
        assert stats.binom.cdf(count, n, 0.05) <= 0.1 < stats.binom.cdf(count, n - 1, 0.05)


def trinomial_at_most(t, n, h, g):
    """P(harmed - helped <= t) by the double sum of the definition."""
    total = 0.0
    for a, b in product(range(n + 1), repeat=2):
        if a + b <= n and a - b <= t:
            ways = factorial(n) // (factorial(a) * factorial(b) * factorial(n - a - b))
            total += ways * h**a * g**b * (1 - h - g) ** (n - a - b)
    return total


@pytest.mark.parametrize(("h", "g"), [(0.1, 0.05), (0.3, 0.3), (0.05, 0.0), (0.5, 0.45)])
def test_distribution_of_the_difference_equals_the_double_sum(h, g):
    for n, t in ((5, 0), (12, -2), (12, 3), (20, 1)):
        needed = np.maximum(np.arange(n + 1) - t, 0)  # harmed - helped <= t
        expected = trinomial_at_most(t, n, h, g)
        (found,) = _sizes(needed, n, np.array([g]), h - g)
        assert found == pytest.approx(expected, abs=1e-12)


def test_score_statistic_equals_a_numerical_likelihood_and_orders_outcomes():
    n, limit = 50, 0.1
    for a, b in ((3, 1), (0, 4), (10, 2)):
        grid = np.linspace(1e-7, (1 - limit) / 2 - 1e-7, 400_001)
        likelihood = a * np.log(grid + limit) + b * np.log(grid)
        likelihood += (n - a - b) * np.log(1 - 2 * grid - limit)
        g = grid[likelihood.argmax()]
        expected = (a - b - n * limit) / np.sqrt(n * (2 * g + limit - limit**2))
        assert _score(np.array([a]), np.array([b]), n, limit)[0] == pytest.approx(
            expected, rel=1e-4
        )
    a, b = np.meshgrid(np.arange(n // 2), np.arange(n // 2), indexing="ij")
    z = _score(a, b, n, limit)
    assert (np.diff(z, axis=0) > 0).all()  # the proof of the test's validity rests on this
    assert (np.diff(z, axis=1) < 0).all()


def test_drop_test_holds_its_level_for_any_true_rates():
    """The size of the test, summed over every outcome: at most alpha on the null's edge."""
    n, limit, alpha = 24, 0.1, 0.1
    for g in (0.0, 0.01, 0.05, 0.13, 0.29, 0.45):
        h = g + limit
        size = 0.0
        for a in range(n + 1):
            for b in range(n + 1 - a):
                if drop_p_value(Pairs(n=n, harmed=a, helped=b), limit, alpha) <= alpha:
                    ways = comb(n, a) * comb(n - a, b)
                    size += ways * h**a * g**b * (1 - h - g) ** (n - a - b)
        assert size <= alpha


def test_supremum_over_the_grid_is_that_of_a_finer_one():
    for harmed, helped, n in ((3, 1, 400), (8, 9, 660), (20, 30, 1000)):
        spent = NUISANCE_SHARE * 0.05
        most = upper_bound(helped, n, 1 - spent)
        z = float(_score(np.array([harmed]), np.array([helped]), n, 0.02)[0])
        needed = _helps_needed(z, n, _most_likely(n, most + 0.02), 0.02)
        fine = _sizes(needed, n, np.linspace(0, most, 1000), 0.02).max()
        ours = drop_p_value(Pairs(n=n, harmed=harmed, helped=helped), 0.02) - spent
        assert ours >= fine * (1 - 1e-3)


def test_drop_without_a_difference_costs_little_more_than_the_binomial():
    n = rows_for_drop(0.01, 0.95)
    # One-sided binomial: 299. The nuisance costs some rows more.
    assert 299 <= n <= 400
    assert drop_p_value(Pairs(n=n, harmed=0, helped=0), 0.01) <= 0.05
    assert drop_p_value(Pairs(n=n - 1, harmed=0, helped=0), 0.01) > 0.05
    bound = drop_upper_bound(Pairs(n=660, harmed=3, helped=2), 0.95)
    assert 1 / 660 < bound < upper_bound(3, 660, 0.95)


def test_hoeffding_and_bentkus():
    n, mean, limit = 300, 0.02, 0.05
    bentkus = np.e * stats.binom.cdf(6, n, limit)
    relative = np.exp(-n * (mean * np.log(mean / limit) + 0.98 * np.log(0.98 / 0.95)))
    assert hoeffding_bentkus_p_value(mean, n, limit) == pytest.approx(min(bentkus, relative))


def test_betting_p_value_is_valid_on_the_null_and_strong_off_it():
    generator = np.random.default_rng(3)
    null = [betting_p_value(generator.random(200) < 0.1, 0.1, 0.1) for _ in range(1500)]
    rejected = sum(p <= 0.1 for p in null)
    assert stats.binomtest(rejected, 1500, 0.1, alternative="greater").pvalue > 0.001
    assert betting_p_value(generator.random(600) < 0.02, 0.1) < 1e-4


def test_clustered_mean_is_as_wide_as_the_textbook_double_sum_says():
    generator = np.random.default_rng(0)
    questions = np.repeat(np.arange(40), generator.integers(1, 9, 40))  # unbalanced on purpose
    values = generator.random(questions.size) + questions / 40
    deviations = values - values.mean()
    same = questions[:, None] == questions[None, :]
    double_sum = np.sqrt((np.outer(deviations, deviations) * same).sum()) / values.size
    interval = clustered_mean(values, questions.tolist(), seed=1)
    assert interval.estimate == pytest.approx(values.mean())
    # A percentile interval of 2,000 resamples: within a tenth of the normal one.
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * double_sum, rel=0.1)


def test_clustered_mean_equals_scipy_bootstrap_where_each_row_is_a_cluster():
    values = np.random.default_rng(5).exponential(size=120)
    ours = clustered_mean(values, range(120), draws=6000, seed=2)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=6000, rng=1)
    bounds = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((bounds.low, bounds.high), abs=0.02)


def test_auc_equals_mann_whitney_with_ties_and_delong_by_hand():
    generator = np.random.default_rng(7)
    right = generator.random(400) < 0.4
    scores = np.round(right * 0.3 + generator.random(400), 1)
    u = stats.mannwhitneyu(scores[right], scores[~right]).statistic
    found = auc(scores, right)
    assert found.estimate == pytest.approx(u / (right.sum() * (~right).sum()), rel=1e-12)
    above, below = scores[right][:, None], scores[~right][None, :]
    wins = (above > below) + 0.5 * (above == below)
    variance = wins.mean(1).var(ddof=1) / right.sum() + wins.mean(0).var(ddof=1) / (~right).sum()
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert found.high - found.estimate == pytest.approx(half, rel=1e-9)


@pytest.mark.parametrize(
    ("c", "n", "k"), [(0, 10, 3), (3, 10, 1), (3, 10, 5), (10, 10, 4), (7, 8, 2)]
)
def test_pass_at_k_equals_the_ratio_of_binomials(c, n, k):
    assert pass_at_k(c, n, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k), rel=1e-12)
    assert mean_pass_at_k([c, c], [n, n], k) == pytest.approx(pass_at_k(c, n, k))


def test_calibration_error_by_hand():
    predicted, correct = [0.95, 0.92, 0.15, 1.0], [1, 0, 0, 1]
    # Bins [.1, .2): |.15 - 0|, [.9, 1]: |.9566 - 2/3|
    expected = (1 * 0.15 + 3 * abs((0.95 + 0.92 + 1.0) / 3 - 2 / 3)) / 4
    assert expected_calibration_error(predicted, correct) == pytest.approx(expected)
    assert [each.n for each in reliability(predicted, correct)] == [1, 3]
    squares = [0.05**2, 0.92**2, 0.15**2, 0.0]
    assert brier_score(predicted, correct) == pytest.approx(np.mean(squares))


def test_a_share_without_a_miss_is_no_certainty():
    """Resampling 240 right of 240 gives 1 every time; the exact bound is .985 (scipy)."""
    found = of_share(clustered_mean(np.ones(240), range(240)), 240)
    exact = stats.binomtest(240, 240).proportion_ci(0.95, method="exact")
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(exact.low, abs=1e-9) == pytest.approx(0.98475, abs=1e-5)
    none = of_share(clustered_mean(np.zeros(30), range(30)), 30)
    assert none.low == 0.0
    assert none.high == pytest.approx(
        stats.binomtest(0, 30).proportion_ci(0.95, method="exact").high, abs=1e-9
    )
    mixed = clustered_mean([1.0, 0.0, 1.0], range(3))
    assert of_share(mixed, 3) == mixed
