"""Choices of a fit: held and tied coefficients, leaning, weights by seed, forms without r."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from suffice.architecture.fitting import fit
from suffice.architecture.fitting.constrain import constrain
from suffice.architecture.laws import effective_tokens, load_family
from suffice.architecture.runs import RunsTable, load_runs
from suffice.core.errors import InputError, TableError
from suffice.recipes.fit_plot import write_plot

TRUTH = (1.82, 482.0, 2085.4, 0.348, 0.366)


def table(noise: float = 0.002, seed: int = 0, **extra: object) -> RunsTable:
    rng = np.random.default_rng(seed)
    E, A, B, alpha, beta = TRUTH
    rows = []
    for n in np.geomspace(5e7, 3e9, 6):
        for ratio in (5, 20, 80):
            loss = (E + A * n**-alpha + B * (n * ratio) ** -beta) * np.exp(noise * rng.normal())
            rows.append({"N": float(n), "D": float(n * ratio), "loss": float(loss), **extra})
    return RunsTable.from_rows(rows)


def value(result, name: str) -> float:
    return next(c.value for c in result.coefficients if c.name == name)


def test_a_held_exponent_is_the_fit_that_scipy_finds():
    runs = table()
    made = fit(runs, "chinchilla", held={"beta": 0.37}, method="least_squares", bootstrap_draws=30)
    n, d, loss = (runs.column(c) for c in ("N", "D", "loss"))

    def cost(point: np.ndarray) -> float:
        e, a, b, alpha = np.exp(point)
        return float(((e + a * n**-alpha + b * d**-0.37 - loss) ** 2).sum())

    start = np.log([1.8, 480.0, 2000.0, 0.35])
    best = minimize(cost, start, method="Nelder-Mead",
                    options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 20_000})  # fmt: skip
    found = [value(made, name) for name in ("E", "A", "B", "alpha")]
    assert found == pytest.approx(np.exp(best.x).tolist(), rel=2e-3)
    assert value(made, "beta") == 0.37 and made.interval("beta") is None
    assert made.interval("alpha") is not None
    assert made.law.coefficient("beta") == 0.37 and "beta = 0.37 held" in made.law.provenance.method
    assert made.law.draws is not None and set(made.law.draws[:, 4]) == {0.37}


def test_a_held_factor_and_a_tie_are_the_families_that_have_them():
    runs = load_runs("morph")
    tied = fit(runs, "chinchilla", tied={"beta": "alpha"}, bootstrap_draws=0)
    own = fit(runs, "chinchilla-tied", bootstrap_draws=0)
    assert tied.objective == pytest.approx(own.objective, rel=1e-9)
    for name in ("E", "A", "B", "alpha"):
        assert value(tied, name) == pytest.approx(value(own, name), rel=1e-4)
    assert value(tied, "beta") == value(tied, "alpha")
    held = fit(runs, "chinchilla-tied", held={"E": value(own, "E")}, bootstrap_draws=0)
    assert held.objective == pytest.approx(own.objective, rel=1e-6)
    assert value(held, "A") == pytest.approx(value(own, "A"), rel=1e-3)
    both = fit(runs, "chinchilla", tied={"B": "A"}, held={"alpha": 0.3}, bootstrap_draws=0)
    assert value(both, "A") == value(both, "B") and value(both, "alpha") == 0.3


@pytest.mark.parametrize(
    ("held", "tied", "says"),
    [
        ({"gamma": 1.0}, {}, "no coefficient 'gamma'"),
        ({"beta": -1.0}, {}, "lies outside"),
        ({}, {"alpha": "A"}, "one is a factor"),
        ({}, {"alpha": "beta", "beta": "alpha"}, "tie each coefficient once"),
        ({"E": 1.0, "A": 1.0, "B": 1.0}, {}, "no factor"),
    ],
)
def test_what_cannot_be_held_or_tied(held, tied, says):
    with pytest.raises(InputError, match=says):
        constrain(load_family("chinchilla"), held, tied)
    with pytest.raises(InputError, match="moves with L_opt"):
        constrain(load_family("conditional-multiplicative"), {"a1": 0.1})


def test_leaning_finds_the_edge_of_runs_that_can_only_be_too_bad():
    """A sweep's bad recipes raise losses and never lower them: the law should be under them."""
    rng = np.random.default_rng(5)
    runs = table(noise=0.0)
    worse = runs.column("loss") * np.exp(rng.exponential(0.02, len(runs)))
    lifted = RunsTable.from_rows(
        [{"N": n, "D": d, "loss": v}
         for n, d, v in zip(runs.column("N"), runs.column("D"), worse, strict=True)]
    )  # fmt: skip
    true = runs.column("loss")
    errors, above = {}, {}
    for lean in (1.0, 10.0):
        for method in ("huber", "likelihood"):
            made = fit(lifted, "chinchilla-tied", method=method, above=lean, bootstrap_draws=0)
            errors[method, lean] = float(np.abs(np.log(made.predicted / true)).mean())
            above[method, lean] = float((made.residuals < 0).mean())
    for method in ("huber", "likelihood"):
        assert above[method, 10.0] < 0.25 < above[method, 1.0]
        assert errors[method, 10.0] < errors[method, 1.0]
    with pytest.raises(InputError, match="leans to neither side"):
        fit(lifted, "chinchilla", method="lm", above=2.0)


def test_runs_are_weighed_by_the_scatter_of_their_repeats():
    rng = np.random.default_rng(6)
    rows = [
        {"N": n, "D": 20 * n, "seed": seed, "loss": float(loss * np.exp(sd * rng.normal()))}
        for n, loss, sd in ((1e8, 3.5, 0.02), (1e9, 3.0, 0.002))
        for seed in range(12)
    ]
    weighed = RunsTable.from_rows(rows).with_seed_weights()
    weight = weighed.column("weight")
    small, large = weight[:12], weight[12:]
    assert np.ptp(small) == np.ptp(large) == 0
    variances = [np.var(np.log([r["loss"] for r in part]), ddof=1) for part in
                 (rows[:12], rows[12:])]  # fmt: skip
    assert large[0] / small[0] == pytest.approx(variances[0] / variances[1], rel=1e-9)
    assert "weighed by the scatter of repeats" in weighed.notes[-1]
    with pytest.raises(TableError, match="too few for weights by seed"):
        table().with_seed_weights()


def test_a_table_without_heads_has_a_conditional_form():
    """Width and depth alone: the two sweeps in the wild have no MLP width and no heads."""
    rng = np.random.default_rng(7)
    rows = []
    for scale, level in ((1e8, 3.4), (3e8, 3.1)):
        for width in (320, 448, 640, 896, 1280, 1792):
            for layers in (6, 12, 24):
                x = width / np.sqrt(scale)
                bend = 0.04 * (np.log(x / 0.07) + 0.07 / x - 1)
                bend += 0.01 * (np.log(layers / 12) + 12 / layers - 1)
                loss = level * (1 + bend) * np.exp(0.001 * rng.normal())
                rows.append({"N": scale, "D": 20 * scale, "hidden_size": width,
                             "num_hidden_layers": layers, "loss": loss})  # fmt: skip
    runs = RunsTable.from_rows(rows)
    with pytest.raises(TableError, match="no column 'r'"):
        fit(runs, "conditional-multiplicative")
    made = fit(runs, "conditional-width-depth", bootstrap_draws=20)
    lowest = {point.variable: point for point in made.lowest}
    assert lowest["x"].located and lowest["x"].holds(0.07)
    assert lowest["layers"].holds(12.0)
    narrow = fit(load_runs("morph"), "conditional-width", bootstrap_draws=0)
    assert [point.variable for point in narrow.lowest] == ["x"]
    assert not any(name.startswith("b") for name in narrow.law.family.parameters)


def test_a_coupled_law_is_chinchillas_at_gamma_one_and_found_where_it_is_true():
    family = load_family("chinchilla-coupled")
    n, d = np.geomspace(1e8, 1e10, 5), np.geomspace(1e9, 1e12, 5)
    here = family.evaluate((1.8, 0.4, 0.34, 0.37, 1.5, 1.0), {"N": n, "D": d})
    assert here == pytest.approx(1.8 + 0.4 * (n / 1e9) ** -0.34 + 0.6 * (d / 2e10) ** -0.37)
    rows = []
    for size in np.geomspace(5e7, 5e9, 7):
        for ratio in (3, 20, 120):
            v = {"N": np.array(size), "D": np.array(size * ratio)}
            loss = float(family.evaluate((1.7, 0.5, 0.7, 0.9, 1.3, 0.45), v))
            rows.append({"N": size, "D": size * ratio, "loss": loss})
    made = fit(RunsTable.from_rows(rows), "chinchilla-coupled", bootstrap_draws=0)
    assert made.evaluation.log_rmse < 1e-4
    assert value(made, "gamma") == pytest.approx(0.45, rel=0.05)
    plain = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=0)
    assert plain.evaluation.log_rmse > 5 * made.evaluation.log_rmse


def test_repeated_tokens_are_worth_what_the_geometric_series_gives():
    """arXiv:2305.16264, Eq. 5; with R = 15.387756, 16 epochs are worth about ten and more."""
    assert effective_tokens(1e9, 1e9, 15.387756) == pytest.approx(1e9)
    assert effective_tokens(5e8, 1e9, 15.387756) == pytest.approx(5e8)
    worth = [float(effective_tokens(k * 1e9, 1e9, 15.387756)) / 1e9 for k in (4, 16, 1e6)]
    assert worth[0] == pytest.approx(1 + 15.387756 * (1 - np.exp(-3 / 15.387756)))
    assert 3.6 < worth[0] < 4 and worth[2] == pytest.approx(16.387756)
    rows = []
    family = load_family("chinchilla-repeated")
    for size in np.geomspace(1e8, 3e9, 5):
        for unique in (1e9, 5e9):
            for epochs in (1, 4, 16, 64):
                v = {"N": np.array(size), "D": np.array(unique * epochs),
                     "unique_tokens": np.array(unique)}  # fmt: skip
                loss = float(family.evaluate((*TRUTH, 15.387756), v))
                rows.append({**{k: float(x) for k, x in v.items()}, "loss": loss})
    runs = RunsTable.from_rows(rows, extra=("unique_tokens",))
    made = fit(runs, "chinchilla-repeated", bootstrap_draws=0)
    assert value(made, "R") == pytest.approx(15.387756, rel=0.02)


def test_a_plot_shows_the_fit_and_what_it_misses(tmp_path):
    made = fit(load_runs("morph"), "chinchilla-tied", bootstrap_draws=0)
    write_plot(made, tmp_path / "fit.svg")
    text = (tmp_path / "fit.svg").read_text(encoding="utf-8")
    assert "What it misses" in text and f"row {made.worst[0].row}" in text
    write_plot(made, tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"ends in \.png or \.svg"):
        write_plot(made, tmp_path / "fit.pdf")
