"""Laws with depth and KV share: what they say, what a fit recovers, how forms are compared."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.architecture.fitting import fit
from suffice.architecture.fitting.compare import (
    FormResult,
    compare_forms,
    simplest_within_error,
)
from suffice.architecture.laws import (
    CONDITIONAL_ASPECT,
    CONDITIONAL_DEPTH,
    CONDITIONAL_PRODUCT,
    CONDITIONAL_SHAPE,
    DEPTH_ALONE,
    MULTIPLICATIVE,
    WIDTH_DEPTH,
    ConditionalLaw,
    Family,
)
from suffice.architecture.runs import RunsTable
from suffice.core.errors import TableError

FAMILIES = (
    CONDITIONAL_DEPTH, CONDITIONAL_SHAPE, CONDITIONAL_ASPECT, CONDITIONAL_PRODUCT, DEPTH_ALONE,
    WIDTH_DEPTH,
)  # fmt: skip
# a0 a1 a2 b1 b2 h1 h2 g: lowest at x = .1, r = 1.5, 4 layers; 4 % from a sixteenth to all layers.
PLANTED = (0.6, 0.08, 0.008, 0.03, 0.045, 0.05, 0.2, 0.01)


def planted(noise: float = 1e-4, seed: int = 0, per_scale: int = 30) -> RunsTable:
    """Two scales of shapes whose losses follow `PLANTED`."""
    rng = np.random.default_rng(seed)
    size = np.repeat([1e6, 1e6, 4e6], per_scale)
    budget = np.repeat([2e7, 4e7, 8e7], per_scale)
    x, r = np.exp(rng.uniform(np.log([[0.05], [0.5]]), np.log([[0.2], [5.0]]), (2, size.size)))
    layers = rng.integers(2, 13, size.size).astype(np.float64)
    kv_share = rng.choice([1.0, 0.5, 0.25], size.size)
    shape = {"x": x, "r": r, "layers": layers, "kv_share": kv_share}
    level = np.repeat([4.0, 3.8, 3.3], per_scale)
    ratio = CONDITIONAL_SHAPE.evaluate(PLANTED, shape)
    loss = level * ratio * np.exp(noise * rng.standard_normal(size.size))
    hidden = x * np.sqrt(size)
    return RunsTable(
        numbers={"N": size, "D": budget, "loss": loss, "hidden_size": hidden,
                 "width_per_layer": hidden / layers, **shape}
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_linear_in_its_linear_coefficients(family: Family) -> None:
    rng = np.random.default_rng(1)
    runs = planted()
    variables = {name: runs.column(name) for name in family.variables}
    nonlinear = [family.fixed.get(name, 0.0) for name in family.fixed]
    free = rng.uniform(0.1, 0.5, len(family.nonlinear))
    linear = rng.uniform(0.1, 1.0, len(family.linear))
    whole = family.evaluate([*linear, *nonlinear, *free], variables)
    columns = family.columns(list(free), variables)
    assert whole == pytest.approx(sum(a * c for a, c in zip(linear, columns, strict=True)))
    # The same formula serves one shape and a column of draws.
    draws = family.evaluate([np.full((3, 1), c) for c in (*linear, *nonlinear, *free)], variables)
    assert draws.shape == (3, len(runs)) and draws[1] == pytest.approx(whole)


def test_a_product_without_depth_is_the_published_form() -> None:
    runs = planted()
    variables = {name: runs.column(name) for name in CONDITIONAL_PRODUCT.variables}
    a0, a1, a2, b0, b1, b2 = 0.7, 0.05, 0.004, 1.0, 0.02, 0.03
    ours = CONDITIONAL_PRODUCT.evaluate((a0, a1, a2, 0.0, 0.0, 0.0, b0, b1, b2), variables)
    published = MULTIPLICATIVE.evaluate((a0, a1, a2, b0, b1, b2), variables)
    assert ours == pytest.approx(published)


def test_planted_curves_come_back() -> None:
    result = fit(
        planted(), CONDITIONAL_SHAPE, optimal_loss="free", bootstrap_draws=100, name="planted"
    )
    law = result.law
    assert isinstance(law, ConditionalLaw)
    best = law.optimum(layers=4.0, kv_share=1.0)
    assert best.x == pytest.approx(0.1, rel=0.02)
    assert best.r == pytest.approx(1.5, rel=0.02)
    assert law.coefficient("h2") / law.coefficient("h1") == pytest.approx(4.0, rel=0.02)
    # One level for all coefficients: ratios of coefficients are what the runs determine.
    assert law.coefficient("g") / law.coefficient("a1") == pytest.approx(0.125, rel=0.05)
    low, high = result.interval("g") or (0.0, 0.0)
    assert 0 < low < high


def test_a_law_says_which_depths_it_has_seen() -> None:
    law = fit(planted(), CONDITIONAL_SHAPE, optimal_loss="free", bootstrap_draws=0).law
    interval = law.domain.interval("layers")
    assert interval is not None and (interval.low, interval.high) == (2.0, 12.0)
    assert law.not_modelled == ()
    blind = fit(planted(), MULTIPLICATIVE, optimal_loss="free", bootstrap_draws=0).law
    assert any("depth" in text for text in blind.not_modelled)


def test_the_form_behind_the_runs_wins() -> None:
    names = ("conditional-multiplicative", "conditional-depth", "conditional-shape")
    results = compare_forms(planted(noise=1e-3), names)
    errors = {result.family: result.cross_validated for result in results}
    assert errors["conditional-shape"] < 2e-3 < errors["conditional-depth"]
    assert errors["conditional-depth"] < errors["conditional-multiplicative"]
    assert simplest_within_error(results).family == "conditional-shape"
    ahead = results[2].next_size
    assert ahead is not None and ahead.n == 30
    assert ahead.spearman.rho is not None and ahead.spearman.rho > 0.99
    assert ahead.log_rmse < 2e-3 and ahead.regret_nats < 0.02


def test_a_form_with_coefficients_that_earn_nothing_is_not_taken() -> None:
    runs = planted(noise=3e-3)
    flat = dict(runs.numbers)
    ratio = CONDITIONAL_DEPTH.evaluate(
        PLANTED[:7], {name: flat[name] for name in CONDITIONAL_DEPTH.variables}
    )
    noise = np.exp(3e-3 * np.random.default_rng(5).standard_normal(len(runs)))
    flat["loss"] = np.repeat([4.0, 3.8, 3.3], 30) * ratio * noise
    results = compare_forms(
        RunsTable(numbers=flat), ("conditional-depth", "conditional-shape", "conditional-product")
    )
    assert simplest_within_error(results).family == "conditional-depth"


def test_left_out_errors_are_those_of_fits_without_the_shape() -> None:
    runs = planted(noise=2e-3, per_scale=12)
    (result,) = compare_forms(runs, ["conditional-depth"])
    one = 7
    without = np.arange(len(runs)) != one
    again = fit(runs.take(without), "conditional-depth", optimal_loss="free", bootstrap_draws=0)
    shape = {
        name: float(runs.column(name)[one]) for name in ("x", "r", "layers")
    }  # fmt: skip
    level = next(iter(again.optimal_losses.values()))
    assert isinstance(again.law, ConditionalLaw)
    error = np.log(level * again.law.relative_loss(**shape)) - np.log(runs.column("loss")[one])
    assert float(error) ** 2 == pytest.approx(result.squared_errors[one], rel=0.2, abs=1e-7)


def test_too_few_runs_to_compare() -> None:
    with pytest.raises(TableError, match="too few to compare conditional-shape"):
        compare_forms(planted().take(np.arange(9)), ["conditional-shape"])


def test_forms_are_told_apart_by_shape_and_in_pairs():
    """Ten repeats of one bad shape are one observation; what is hard for all forms cancels."""

    def form(name, free, errors, shapes):
        errors = np.asarray(errors, dtype=float)
        return FormResult(
            family=name, formula="", free_coefficients=free, log_rmse=0.0,
            cross_validated=float(np.sqrt(errors.mean())), squared_errors=errors,
            shape_of=np.asarray(shapes),
        )  # fmt: skip

    # One shape of ten repeats is worse by much: by runs a sure difference, by shapes none.
    shapes = [0] * 10 + [1, 2, 3, 4]
    large = form("large", 7, [1e-4] * 10 + [1e-4, 3e-4, 1e-4, 3e-4], shapes)
    small = form("small", 3, [1.6e-4] * 10 + [1e-4, 2.9e-4, 1e-4, 3e-4], shapes)
    assert simplest_within_error([large, small]).family == "small"
    # Hard shapes make all errors scatter, but one form is worse on every shape by the same.
    hard = np.array([1e-5, 4e-3, 2e-5, 6e-3, 1e-4, 3e-3, 5e-5, 5e-3])
    best = form("large", 7, hard, range(8))
    worse = form("small", 3, hard + 2e-4, range(8))
    assert simplest_within_error([best, worse]).family == "large"
