"""Fits: planted coefficients come back, failures are said aloud, statistics are what they claim."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from suffice.architecture.fitting import Fit, fit, rank_correlation, shape_clusters
from suffice.architecture.fitting.minimise import huber, least_absolute, minimise_batch
from suffice.architecture.fitting.problem import scales
from suffice.architecture.law_file import load_law, save_law
from suffice.architecture.laws import ConditionalLaw, Family
from suffice.architecture.runs import RunsTable, load_runs
from suffice.core.errors import InputError, TableError, UnknownName

PLANTED = (2.697, 0.0974, 0.0078, 0.3870, 0.0063, 0.0065)


def sweep(
    *, noise: float = 0.0, sizes: int = 3, per_size: int = 20, seed: int = 0, additive: bool = False
) -> RunsTable:
    """Shapes at several sizes with known effects of x and r on top of a level per size."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in range(sizes):
        N, level = 8e7 * 2**size, 3.4 - 0.25 * size
        for _ in range(per_size):
            x, r = rng.uniform(0.05, 0.11), np.exp(rng.uniform(np.log(0.5), np.log(5)))
            if additive:
                loss = level + 0.55 * np.log(x / 0.08) + 0.044 / x + 0.02 * np.log(r) + 0.0206 / r
            else:
                a0, a1, a2, b0, b1, b2 = PLANTED
                loss = level * (a0 + a1 * np.log(x) + a2 / x) * (b0 + b1 * np.log(r) + b2 / r)
            loss *= np.exp(noise * rng.standard_normal())
            rows.append({"N": N, "D": 100 * N, "x": x, "r": r, "loss": float(loss)})
    return RunsTable.from_rows(rows)


def optimum_ratios(found: Fit) -> tuple[float, float]:
    c = found.law.coefficient
    return c("a2") / c("a1"), c("b2") / c("b1")


@pytest.mark.parametrize("method", ["huber", "likelihood", "least_squares", "lm"])
@pytest.mark.parametrize(
    ("law", "x", "r"),
    [
        ("conditional-multiplicative", 0.0078 / 0.0974, 0.0065 / 0.0063),
        ("conditional-joint", 0.0078 / 0.0974, 0.0065 / 0.0063),
        ("conditional-additive", 0.08, 1.03),
    ],
)
def test_conditional_laws_recover_the_planted_optimum(
    law: str, method: Any, x: float, r: float
) -> None:
    runs = sweep(additive=law == "conditional-additive")
    found = fit(runs, law, method=method, optimal_loss="free", bootstrap_draws=0)
    assert optimum_ratios(found) == pytest.approx((x, r), rel=1e-4)
    assert found.evaluation.log_rmse < 1e-6
    if law == "conditional-joint":
        assert found.law.coefficient("c") == pytest.approx(0.0, abs=1e-6)


def test_best_measured_level_biases_little_and_free_levels_not_at_all() -> None:
    best = fit(sweep(), "conditional-multiplicative", bootstrap_draws=0)
    free = fit(sweep(), "conditional-multiplicative", optimal_loss="free", bootstrap_draws=0)
    assert optimum_ratios(best) == pytest.approx(optimum_ratios(free), rel=0.02)
    assert list(free.optimal_losses.values()) == pytest.approx(
        [level * 1.0028 for level in (3.4, 3.15, 2.9)], rel=1e-3
    )
    lowest = free.law.evaluate(x=sweep().column("x"), r=sweep().column("r")).min()
    assert lowest == pytest.approx(1.0)


def test_given_optimal_losses_are_used() -> None:
    runs = sweep()
    level = np.where(runs.column("N") < 1e8, 3.4, np.where(runs.column("N") < 2e8, 3.15, 2.9))
    given = RunsTable(numbers={**runs.numbers, "loss_opt": level})
    found = fit(given, "conditional-multiplicative", bootstrap_draws=0)
    x, r = np.array([0.06, 0.09]), np.array([1.0, 4.0])
    a0, a1, a2, b0, b1, b2 = PLANTED
    planted = (a0 + a1 * np.log(x) + a2 / x) * (b0 + b1 * np.log(r) + b2 / r)
    assert found.law.evaluate(x=x, r=r) == pytest.approx(planted, rel=1e-6)


def test_the_shared_scale_is_held_and_said() -> None:
    found = fit(sweep(), "conditional-multiplicative", bootstrap_draws=50)
    assert found.law.coefficient("b0") == 1.0
    assert found.interval("b0") is None
    assert any("6 coefficients have 5 degrees of freedom" in w for w in found.warnings)


def test_bootstrap_intervals_cover_the_planted_optimum_and_shrink_with_runs() -> None:
    def interval(per_size: int) -> tuple[float, float]:
        runs = sweep(noise=0.0005, per_size=per_size)
        law = fit(runs, "conditional-multiplicative", optimal_loss="free", bootstrap_draws=200).law
        assert isinstance(law, ConditionalLaw)
        low, high = np.percentile(law.optimum_draws()[:, 0], [5, 95])
        return float(low), float(high)

    few, many = interval(10), interval(80)
    assert few[0] < 0.0801 < few[1]
    assert many[0] < 0.0801 < many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_bootstrap_is_repeatable_and_seeded() -> None:
    runs = sweep(noise=0.001)
    draws = [
        fit(runs, "conditional-multiplicative", bootstrap_draws=20, seed=seed).law.draws
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_each_bootstrap_draw_is_the_minimum_of_its_own_resample() -> None:
    runs = load_runs("morph")
    found = fit(runs, "chinchilla", bootstrap_draws=5, cluster="run", seed=3)
    counts = np.random.default_rng(3).multinomial(76, np.full(76, 1 / 76), size=5)
    logs = np.log(runs.column("loss"))

    def objective(theta: np.ndarray, weights: np.ndarray) -> float:
        logE, logA, logB, alpha, beta = theta
        predicted = (
            np.exp(logE)
            + np.exp(logA - alpha * np.log(runs.column("N")))
            + np.exp(logB - beta * np.log(runs.column("D")))
        )
        return float((weights * huber(np.log(predicted) - logs, 1e-3)).sum()) * 1e4

    assert found.law.draws is not None
    for draw, weights in zip(found.law.draws, counts, strict=True):
        theta = np.concatenate([np.log(draw[:3]), draw[3:]])
        here = objective(theta, weights)
        better = minimize(objective, theta, args=(weights,), method="Nelder-Mead").fun
        assert here <= better * 1.002


def test_clusters_follow_shapes() -> None:
    runs = load_runs("morph")
    clusters = shape_clusters(runs)
    assert len(np.unique(clusters)) == 35
    size = runs.column("N") * 1000 + runs.column("hidden_size")
    for cluster in range(35):
        assert len(np.unique(size[clusters == cluster])) == 1


def test_scales_group_equal_budgets() -> None:
    _, names = scales(load_runs("morph"))
    assert len(names) == 15
    assert names[0] == "N 78.9M, D 1.61B"
    assert names[-1] == "N 1.49B, D 29B"


def four_axes() -> Family:
    """The multiplicative law with two further factors: KV share k, depth over a reference u."""

    def factors(t: Any, v: Any) -> Any:
        b1, b2, c1, e1 = t
        shape = 1 + b1 * np.log(v["r"]) + b2 / v["r"]
        return shape * (1 + c1 * v["k"]) * (1 + e1 * np.log(v["u"]) ** 2)

    def columns(t: Any, v: Any) -> Any:
        rest = factors(t, v)
        return [rest, rest * np.log(v["x"]), rest / v["x"]]

    def evaluate(c: Any, v: Any) -> Any:
        a0, a1, a2, *t = c
        return (a0 + a1 * np.log(v["x"]) + a2 / v["x"]) * factors(t, v)

    return Family(
        name="four-axes",
        formula="(a0 + a1 ln x + a2/x) (1 + b1 ln r + b2/r) (1 + c1 k) (1 + e1 ln² u)",
        target="ratio",
        variables=("x", "r", "k", "u"),
        linear=("a0", "a1", "a2"),
        nonlinear=("b1", "b2", "c1", "e1"),
        evaluate=evaluate,
        columns=columns,
        starts=np.array([[0.01, 0.01, 0.0, 0.01], [0.05, 0.05, 0.0, 0.0]]),
        bounds={"b1": (0.0, 10.0), "b2": (0.0, 10.0), "e1": (0.0, 10.0)},
        positive=frozenset({"a1", "a2", "b1", "b2"}),
        shape_variables=("x", "r", "k", "u"),
    )


def test_a_family_with_more_axes_fits_without_further_code() -> None:
    rng, family = np.random.default_rng(0), four_axes()
    planted = (1.04, 0.0375, 0.003, 0.0163, 0.0168, -0.004, 0.006)
    rows = []
    for size in range(2):
        for _ in range(40):
            at = {
                "x": rng.uniform(0.05, 0.11), "r": rng.uniform(0.5, 5),
                "k": rng.uniform(-1, 1), "u": rng.uniform(0.5, 2),
            }  # fmt: skip
            loss = (3.4 - 0.3 * size) * float(family.evaluate(planted, at))
            rows.append({"N": 1e8 * 3**size, "D": 1e10, "loss": loss, **at})
    runs = RunsTable.from_rows(rows, extra=("k", "u"))
    found = fit(runs, family, optimal_loss="free", bootstrap_draws=40)
    c = found.law.coefficient
    assert optimum_ratios(found) == pytest.approx((0.08, 0.0168 / 0.0163), rel=1e-3)
    assert (c("c1"), c("e1")) == pytest.approx((-0.004, 0.006), rel=1e-3)
    assert isinstance(found.law, ConditionalLaw)
    assert found.law.optimum(k=0.0, u=1.0).x == pytest.approx(0.08, rel=1e-3)
    assert found.law.relative_loss_draws(0.08, 1.0, k=0.0, u=1.0).shape == (40, 1)


def test_weights_of_zero_leave_runs_out() -> None:
    runs = load_runs("morph")
    small = runs.column("N") < 1e9
    options: Any = {"method": "lm", "bootstrap_draws": 0}
    weighted = fit(runs, "chinchilla", weights=small.astype(float), **options)
    without = fit(runs.take(small), "chinchilla", **options)
    assert weighted.law.coefficients == pytest.approx(without.law.coefficients, rel=1e-5)


def test_holdout_never_sees_the_largest_scale() -> None:
    runs = load_runs("morph")
    small = runs.column("N") < 1e9
    found = fit(runs, "morph", method="lm", holdout="largest", bootstrap_draws=0)
    assert found.holdout is not None
    assert found.holdout.scale == "N 1.49B, D 29B"
    without = fit(runs.take(small), "morph", method="lm", bootstrap_draws=0)
    assert list(found.holdout.coefficients.values()) == pytest.approx(
        list(without.law.coefficients), rel=1e-6
    )
    assert found.holdout.evaluation.n == 4
    assert found.holdout.evaluation.spearman.p == pytest.approx(1 / 24)


def test_the_largest_size_is_held_out_with_all_its_budgets() -> None:
    rows = [
        {"N": n, "D": k * n, "loss": 1.8 + 480 * n**-0.35 + 2000 * (k * n) ** -0.36}
        for n in (1e8, 3e8, 1e9, 3e9)
        for k in (10, 40, 160)
    ]
    found = fit(RunsTable.from_rows(rows), "chinchilla", holdout="largest", bootstrap_draws=0)
    assert found.holdout is not None
    assert (found.holdout.scale, found.holdout.evaluation.n) == ("N 3B", 3)
    assert found.holdout.evaluation.log_rmse < 1e-4
    with pytest.raises(TableError, match=r"without the largest scale .* too few"):
        fit(RunsTable.from_rows(rows[3:9]), "chinchilla", holdout="largest", bootstrap_draws=0)


def test_regret_is_the_loss_given_up_by_the_pick() -> None:
    runs = load_runs("morph")
    found = fit(runs, "chinchilla-tied", method="lm", bootstrap_draws=0)
    numbers, names = scales(runs)
    assert len(found.evaluation.scales) == 15
    for scale in found.evaluation.scales:
        rows = [i for i in range(76) if names[numbers[i]] == scale.name]
        picked = min(rows, key=lambda i: found.predicted[i])
        losses = runs.column("loss")
        assert scale.regret_nats == pytest.approx(losses[picked] - losses[rows].min())
        assert scale.regret_nats >= 0


def test_residuals_and_data_are_kept() -> None:
    runs = load_runs("morph")
    found = fit(runs, "morph", bootstrap_draws=0)
    assert found.residuals == pytest.approx(runs.column("loss") - found.predicted)
    assert found.runs is runs
    assert found.evaluation.mse == pytest.approx((found.residuals**2).mean())


def warned(rows: list[dict[str, float]], law: str, text: str) -> bool:
    found = fit(RunsTable.from_rows(rows), law, bootstrap_draws=0)
    return any(text in warning for warning in found.warnings)


def shapes_at(N: float, pairs: list[tuple[float, float]]) -> list[dict[str, float]]:
    return [
        {"N": N, "D": 20 * N, "x": x, "r": r, "loss": 3 + x + 0.01 * r + 1e-3 * i + 1e7 / N}
        for i, (x, r) in enumerate(pairs)
    ]


def test_warnings_where_the_data_cannot_tell() -> None:
    spread = [(0.05, 0.5), (0.06, 3.0), (0.07, 1.0), (0.08, 5.0), (0.09, 2.0), (0.1, 0.7), (0.1, 4)]
    law = "conditional-multiplicative"
    assert warned(shapes_at(1e8, spread), law, "one scale only")
    assert not warned(shapes_at(1e8, spread) + shapes_at(4e8, spread), law, "one scale only")
    fixed_r = [(x, 1.0) for x, _ in spread[:6]]
    assert warned(shapes_at(1e8, fixed_r), law, "r never varies")
    fixed_x = [(0.08, r) for _, r in spread]
    assert warned(shapes_at(1e8, fixed_x), law, "x never varies")
    together = [(0.05 * 1.1**i, 0.5 * 1.4**i) for i in range(7)]
    assert warned(shapes_at(1e8, together), law, "x and r vary together")
    by_size = [
        row
        for k in range(5)
        for row in shapes_at(1e8 * 2**k, [(0.05, 0.5 * 1.5**k), (0.09, 0.52 * 1.5**k)])
    ]
    assert warned(by_size, law, "r is confounded with scale")


def test_absolute_laws_warn_of_a_constant_ratio_or_size() -> None:
    flat = [{"N": n, "D": 20 * n, "loss": 2 + 400 * n**-0.3} for n in np.geomspace(1e8, 1e10, 9)]
    assert warned(flat, "chinchilla", "D/N never varies")
    one = [{"N": 1e9, "D": d, "loss": 2 + 400 * d**-0.3} for d in np.geomspace(1e9, 1e11, 9)]
    assert warned(one, "chinchilla", "N never varies")


def test_runs_without_a_u_shape_have_no_optimum() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"N": 1e8, "D": 1e10, "x": x, "r": r, "loss": 3 + 0.1 * np.log(x) + 0.01 * np.log(r)}
        for x, r in zip(rng.uniform(0.05, 0.1, 30), rng.uniform(0.5, 5, 30), strict=True)
    ]
    found = fit(RunsTable.from_rows(rows), "conditional-multiplicative", bootstrap_draws=0)
    assert any("no optimum" in warning or "outside" in warning for warning in found.warnings)
    assert isinstance(found.law, ConditionalLaw)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, "method 'magic' must be one of huber"),
        ({"cluster": "day"}, "cluster 'day'"),
        ({"holdout": "smallest"}, "holdout 'smallest'"),
        ({"optimal_loss": "guess"}, "optimal loss 'guess'"),
        ({"confidence": 1.0}, "confidence must lie in"),
        ({"delta": 0.0}, "delta must lie in"),
        ({"bootstrap_draws": -1}, "bootstrap draws"),
        ({"weights": np.ones(3)}, "weights must be one per run"),
        ({"weights": -np.ones(76)}, "weights must be finite"),
        ({"parameter_count": "all"}, "parameter count 'all'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(load_runs("morph"), "morph", **arguments)


def test_few_clusters_make_narrow_intervals() -> None:
    few = load_runs("bian2025")
    found = fit(few, "conditional-multiplicative", bootstrap_draws=20)
    assert any("7 shapes to resample are few" in warning for warning in found.warnings)
    assert any("leave 2 to judge" in warning for warning in found.warnings)


def test_equal_losses_are_no_data() -> None:
    rows = [{"N": 1e8 * k, "D": 1e10 / k, "loss": 3.0} for k in range(1, 10)]
    with pytest.raises(TableError, match="every run has a loss of 3"):
        fit(RunsTable.from_rows(rows), "chinchilla")


def test_too_few_runs_and_unknown_family() -> None:
    runs = load_runs("morph")
    with pytest.raises(TableError, match="5 runs are too few for the 5 free coefficients"):
        fit(runs.take(np.arange(5)), "morph")
    with pytest.raises(UnknownName, match="did you mean morph"):
        fit(runs, "morf")
    with pytest.raises(TableError, match="no column 'r'"):
        fit(runs, "conditional-multiplicative")


def test_a_fit_survives_its_law_file(tmp_path: Any) -> None:
    found = fit(sweep(noise=0.0005), "conditional-multiplicative", bootstrap_draws=60, name="mine")
    save_law(tmp_path / "law.json", found.law)
    loaded = load_law(tmp_path / "law.json")
    assert isinstance(loaded, ConditionalLaw)
    assert loaded.coefficients == found.law.coefficients
    assert loaded.domain == found.law.domain
    assert loaded.noise == found.law.noise
    assert loaded.draws is not None
    assert found.law.draws is not None
    assert loaded.draws == pytest.approx(found.law.draws, rel=1e-7)
    assert loaded.diagnostics["intervals"]["a1"] == list(found.interval("a1") or ())


def test_permutation_p_counts_orders() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0])
    found = rank_correlation(first, second)
    at_least = sum(
        np.corrcoef(first, order)[0, 1] >= 0.8 - 1e-12 for order in permutations([1, 2, 3, 4])
    )
    assert found.rho == pytest.approx(0.8)
    assert found.p == pytest.approx(at_least / 24)
    assert rank_correlation(first, first).p == pytest.approx(1 / 24)


def test_sampled_p_and_ties() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 6, 40).astype(float)
    second = first + rng.normal(0, 1, 40)
    found = rank_correlation(first, second)
    assert found.rho == pytest.approx(spearmanr(first, second).statistic)
    assert found.p == pytest.approx(1e-4)
    assert not found.exact
    unrelated = rank_correlation(rng.normal(size=40), rng.normal(size=40))
    assert unrelated.p is not None
    assert unrelated.p > 0.01
    assert rank_correlation(np.ones(5), np.arange(5.0)).rho is None


def test_minimise_batch_solves_a_linear_problem_exactly() -> None:
    rng = np.random.default_rng(1)
    matrix, target = rng.normal(size=(30, 3)), rng.normal(size=30)
    weights = rng.integers(0, 3, (8, 30)).astype(float)
    points, _ = minimise_batch(
        lambda u: u @ matrix.T - target, np.zeros((8, 3)), weights, delta=None
    )
    for point, w in zip(points, weights, strict=True):
        root = np.sqrt(w)
        exact = np.linalg.lstsq(matrix * root[:, None], target * root, rcond=None)[0]
        assert point == pytest.approx(exact, abs=1e-6)


def test_least_absolute_deviations_find_the_weighted_median() -> None:
    values = np.array([1.0, 2.0, 5.0, 9.0, 100.0])
    found = least_absolute(lambda u: values - u, np.array([4.0]), np.ones(5))
    assert found[0] == pytest.approx(5.0, abs=1e-8)
