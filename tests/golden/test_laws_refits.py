"""Published fits reproduced from their data: Morph (arXiv:2501.18107), Chinchilla (2404.10102)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from suffice.architecture.fitting import Fit, fit
from suffice.architecture.fitting.minimise import huber
from suffice.architecture.runs import RunsTable, load_runs

MORPH_TEST_SIZES = "N 1.49B, D 29B"


def morph(rows: int) -> RunsTable:
    """The 24 rows at 20 tokens per parameter, or these and three 80M shapes at 160."""
    marked = load_runs("morph", where={"in_paper_fit_20N": "True"})
    assert len(marked) == 24
    if rows == 24:
        return marked
    everything = load_runs("morph")
    size, tokens = everything.column("N"), everything.column("D")
    over_trained = (size < 8e7) & (tokens > 1e10)
    assert over_trained.sum() == 3
    inside = np.isin(everything.column("loss") * size, marked.column("loss") * marked.column("N"))
    return everything.take(inside | over_trained)


# Coefficients to 3 digits; MSE and R² on all 76 rows to the published digits.
@pytest.mark.parametrize(
    ("rows", "law", "coefficients", "mse", "r_squared"),
    [
        (27, "morph", (2.4475, 54754.4, 778345.5, 0.614574, 0.00114621), 0.00055, 0.9982),
        (27, "chinchilla-tied", (2.1306, 7720.6, 68572.9, 0.494667), 0.00330, 0.9895),
        (24, "morph", (2.4096, -16248.0, 958439.0, 0.60081, 0.00108), 0.11651, 0.6293),
        (24, "chinchilla-tied", (2.1427, -25288.0, 248467.0, 0.50651), 0.98244, -2.1259),
    ],
)
def test_morph_least_squares(
    rows: int, law: str, coefficients: tuple[float, ...], mse: float, r_squared: float
) -> None:
    found = fit(morph(rows), law, method="lm", bootstrap_draws=0)
    # ε of the 24-row fit is published to 3 digits, the rest to at least 4.
    assert found.law.coefficients == pytest.approx(coefficients, rel=5e-3 if rows == 24 else 2e-5)
    everything = found.evaluate(load_runs("morph"))
    assert everything.n == 76
    assert everything.mse == pytest.approx(mse, abs=6e-6)
    assert everything.r_squared == pytest.approx(r_squared, abs=6e-5)
    negative = any("A came out negative" in warning for warning in found.warnings)
    flat = any("D/N never varies" in warning for warning in found.warnings)
    assert (negative, flat) == ((True, True) if rows == 24 else (False, False))


@pytest.mark.parametrize(
    ("law", "rho", "p", "worst"),
    [("morph", 1.0, 1 / 24, 0.0115), ("chinchilla-tied", -0.4, 19 / 24, 0.0410)],
)
def test_morph_ranks_the_unseen_1b_shapes(law: str, rho: float, p: float, worst: float) -> None:
    found = fit(morph(27), law, method="lm", bootstrap_draws=0).evaluate(load_runs("morph"))
    (largest,) = [scale for scale in found.scales if scale.name == MORPH_TEST_SIZES]
    assert largest.n == 4
    assert largest.spearman.rho == pytest.approx(rho, abs=1e-9)
    assert largest.spearman.exact
    assert largest.spearman.p == pytest.approx(p)
    one_b = load_runs("morph").column("N") > 1e9
    errors = fit(morph(27), law, method="lm", bootstrap_draws=0).evaluate(
        load_runs("morph").take(one_b)
    )
    assert errors.max_relative_error == pytest.approx(worst, abs=6e-5)


@pytest.mark.parametrize(("law", "r_squared"), [("morph", 0.80), ("chinchilla-tied", 0.73)])
def test_positivity_softens_the_failure_and_says_so(law: str, r_squared: float) -> None:
    found = fit(morph(24), law, method="least_squares", bootstrap_draws=0)
    assert found.law.coefficient("A") == 0
    assert any("A is pinned" in warning for warning in found.warnings)
    assert found.evaluate(load_runs("morph")).r_squared == pytest.approx(r_squared, abs=6e-3)


def chinchilla_points(*, without_outliers: bool) -> RunsTable:
    """The 245 points read off Figure 4 of arXiv:2203.15556; they carry no licence to ship."""
    default = Path(__file__).resolve().parents[2].parent / "shared"
    shared = Path(os.environ.get("SUFFICE_SHARED", default))
    path = shared / "data/design/epoch_chinchilla/svg_extracted_data.csv"
    if not path.exists():
        pytest.skip(f"reference data not here: {path} (set SUFFICE_SHARED)")
    runs = load_runs(path)
    assert len(runs) == 245
    if not without_outliers:
        return runs
    return runs.take(np.sort(np.argsort(runs.column("loss"))[:-5]))


def named(found: Fit) -> dict[str, float]:
    return {c.name: c.value for c in found.coefficients}


@pytest.mark.shared
def test_chinchilla_huber() -> None:
    found = fit(chinchilla_points(without_outliers=True), "chinchilla", bootstrap_draws=0)
    # Our own minimum to 4 digits, below the published one's objective, .001018273.
    assert named(found) == pytest.approx(
        {"A": 477.83, "B": 2143.42, "E": 1.8172, "alpha": 0.3473, "beta": 0.3672}, rel=1.2e-4
    )
    assert found.objective == pytest.approx(0.00101827, abs=5e-9)
    # The published coefficients, with 5 digits, within 2 of 10,000.
    assert named(found) == pytest.approx(
        {"A": 477.84, "B": 2143.86, "E": 1.81724, "alpha": 0.34731, "beta": 0.36718}, rel=2.5e-4
    )


@pytest.mark.shared
def test_chinchilla_likelihood() -> None:
    runs = chinchilla_points(without_outliers=True)
    found = fit(runs, "chinchilla", method="likelihood", bootstrap_draws=300, cluster="run")
    assert named(found) == pytest.approx(
        {"A": 482.01, "B": 2085.43, "E": 1.81686, "alpha": 0.34781, "beta": 0.36585}, rel=2e-5
    )
    residual = np.log(found.predicted) - np.log(runs.column("loss"))
    assert float(huber(residual, 1e-3).sum()) == pytest.approx(0.00101864, abs=5e-9)
    # Published standard errors from 4,000 resamples: 124.5, 1293, .0257, .0154, .0206. Ours vary
    # by a tenth between seeds, B's heavy upper tail by more.
    assert found.law.draws is not None
    spread = dict(zip(found.law.family.parameters, found.law.draws.std(axis=0), strict=True))
    published = {"A": 124.5, "B": 1293.0, "E": 0.0257, "alpha": 0.0154, "beta": 0.0206}
    assert spread == pytest.approx(published, rel=0.25)


@pytest.mark.shared
def test_likelihood_fit_maximises_the_published_likelihood() -> None:
    """Least absolute deviations is what a Huber density (δ = 1e-3) with learned scale asks for."""
    runs = chinchilla_points(without_outliers=True)
    found = fit(runs, "chinchilla", method="likelihood", bootstrap_draws=0)

    def negative_log_likelihood(predicted: np.ndarray, scale: float) -> float:
        standardised = (np.log(predicted) - np.log(runs.column("loss"))) / scale
        return float((huber(standardised, 1e-3) + np.log(scale)).sum())

    def best(predicted: np.ndarray) -> float:
        return min(negative_log_likelihood(predicted, s) for s in np.geomspace(1e-7, 1e-2, 2001))

    huber_fit = fit(runs, "chinchilla", bootstrap_draws=0)
    assert best(found.predicted) < best(huber_fit.predicted)


@pytest.mark.shared
def test_five_outliers_decide_beta() -> None:
    found = fit(chinchilla_points(without_outliers=False), "chinchilla", bootstrap_draws=0)
    assert named(found) == pytest.approx(
        {"A": 495.73, "B": 12845.6, "E": 1.8913, "alpha": 0.3493, "beta": 0.4530}, rel=2e-4
    )


@pytest.mark.shared
@pytest.mark.parametrize(
    ("coefficients", "objective"),
    [
        ((1.69, 406.4, 410.7, 0.34, 0.28), 0.00412),
        ((1.6934, 406.4, 410.7, 0.3392, 0.2849), 0.00124),
    ],
)
def test_rounding_of_the_original_coefficients(
    coefficients: tuple[float, ...], objective: float
) -> None:
    runs = chinchilla_points(without_outliers=True)
    E, A, B, alpha, beta = coefficients
    predicted = E + A * runs.column("N") ** -alpha + B * runs.column("D") ** -beta
    residual = np.log(predicted) - np.log(runs.column("loss"))
    assert float(huber(residual, 1e-3).sum()) == pytest.approx(objective, abs=6e-6)
