"""Lowest points: Fieller's closed form, Student's t, coverage, and flat truths that stay flat."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from suffice.architecture.fitting.turning_point import (
    LIKELY_LEVEL,
    Curves,
    TurningPoint,
    shape_averages,
    turning_points,
)
from suffice.core.errors import TableError

TRUTH = 0.12


def curves(seed: int = 0, shapes: int = 32) -> Curves:
    rng = np.random.default_rng(seed)
    return Curves(
        log_loss=np.zeros(shapes),
        scale=np.arange(shapes) % 2,
        curves={
            "x": np.exp(rng.uniform(np.log(0.06), np.log(0.3), shapes)),
            "r": np.exp(rng.uniform(np.log(0.5), np.log(5.0), shapes)),
        },
        slopes={"kv_share": rng.choice([0.25, 0.5, 1.0], shapes)},
    )


def planted(runs: Curves, size: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    x = runs.curves["x"]
    bend = np.log(x / TRUTH) + TRUTH / x - 1
    return size * bend + np.where(runs.scale > 0, 1.3, 1.2) + noise * rng.standard_normal(len(x))


def of(points: tuple[TurningPoint, ...], name: str) -> TurningPoint:
    return next(point for point in points if point.variable == name)


def test_the_interval_is_fiellers_and_the_test_is_students():
    runs = curves()
    loss = planted(runs, 0.05, 0.002, np.random.default_rng(1))
    found = of(turning_points(runs, log_loss=loss), "x")
    # The same regression in plain columns: ln x and 1/x, with the roots of Fieller's quadratic.
    x, r = runs.curves["x"], runs.curves["r"]
    plain = np.stack([runs.scale == 0, runs.scale == 1, np.log(x), 1 / x, np.log(r), 1 / r,
                      np.log(runs.slopes["kv_share"])], axis=1).astype(float)  # fmt: skip
    theta, rest, *_ = np.linalg.lstsq(plain, loss, rcond=None)
    freedom = len(x) - 7
    covariance = np.linalg.inv(plain.T @ plain) * rest[0] / freedom
    c1, c2 = theta[2], theta[3]
    v11, v12, v22 = covariance[2, 2], covariance[2, 3], covariance[3, 3]
    q = student.ppf(0.95, freedom) ** 2
    roots = sorted(np.roots([c1**2 - q * v11, -2 * (c1 * c2 - q * v12), c2**2 - q * v22]).real)
    assert found.value == pytest.approx(c2 / c1, rel=1e-6)
    assert (found.low, found.high) == pytest.approx(tuple(roots), rel=2e-3)
    assert found.degrees_of_freedom == freedom
    ends = [float(v) for v in (x.min(), x.max())]
    t = [(c1 - c2 / v) / np.sqrt(v11 - 2 * v12 / v + v22 / v**2) for v in ends]
    assert found.p_u_shape == pytest.approx(
        max(student.cdf(t[0], freedom), student.sf(t[1], freedom)), rel=1e-4
    )
    assert found.located and found.verdict == "U-shape, lowest point located"


def test_intervals_hold_the_truth_and_flat_truths_are_never_located():
    """200 repetitions of each: at the noise where a positive bootstrap covered 62 to 68 %."""
    rng = np.random.default_rng(2)
    held = located = likely = 0
    for number in range(200):
        runs = curves(number)
        bent = of(turning_points(runs, log_loss=planted(runs, 0.02, 0.0054, rng)), "x")
        held += bent.holds(TRUTH)
        flat = turning_points(runs, log_loss=planted(runs, 0.0, 0.0054, rng))
        located += sum(point.located for point in flat)
        likely += sum(point.p_u_shape <= LIKELY_LEVEL for point in flat)
    assert 174 <= held <= 190  # nominal 180 of 200
    assert located == 0
    assert likely <= 0.08 * 400


def test_a_curve_that_only_falls_has_an_open_end():
    runs = curves()
    x = runs.curves["x"]
    falling = -0.05 * np.log(x) + 0.001 * np.random.default_rng(3).standard_normal(len(x))
    found = of(turning_points(runs, log_loss=falling), "x")
    assert found.high is None and not found.located
    assert found.verdict == "no U-shape shown"
    assert found.worst_end_percent > 5


def test_seeds_of_a_shape_are_one_row():
    runs = shape_averages(
        np.array([1.0, 3.0, 5.0, 9.0]), np.array([0, 0, 0, 1]), np.array([4, 4, 7, 4]),
        {"x": np.array([0.1, 0.1, 0.2, 0.1])}, {},
    )  # fmt: skip
    assert sorted(runs.log_loss.tolist()) == [2.0, 5.0, 9.0]
    with pytest.raises(TableError, match="3 shapes are too few for 4 coefficients"):
        turning_points(runs)
    alike = curves()
    twice = {"x": alike.curves["x"], "again": alike.curves["x"]}
    same = Curves(log_loss=alike.log_loss, scale=alike.scale, curves=twice, slopes={})
    with pytest.raises(TableError, match="cannot be told apart"):
        turning_points(same)
