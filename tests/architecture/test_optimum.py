"""The best use of a compute budget: closed forms, brute force, published figures, coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from suffice.architecture.fitting import fit
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import AbsoluteLaw, LossNoise, Provenance, build_law, load_family
from suffice.architecture.optimum import compute_optimum
from suffice.architecture.predict import predict_size
from suffice.architecture.runs import RunsTable
from suffice.core.errors import InputError, OutsideValidity


def law(E: float, A: float, B: float, alpha: float, beta: float) -> AbsoluteLaw:
    made = build_law(
        load_family("chinchilla"), name="made", coefficients=(E, A, B, alpha, beta),
        provenance=Provenance(source="this test", fitted_on="nothing"),
    )  # fmt: skip
    assert isinstance(made, AbsoluteLaw)
    return made


@pytest.mark.parametrize(
    "coefficients",
    [
        (1.82, 482.0, 2085.4, 0.348, 0.366),
        (1.69, 406.4, 410.7, 0.34, 0.28),
        (2.0, 20.0, 9e5, 0.2, 0.6),
    ],
)
@pytest.mark.parametrize("flops", [1e18, 1e21, 1e24])
def test_the_closed_form(coefficients, flops):
    """arXiv:2203.15556, Eq. 4."""
    _, A, B, alpha, beta = coefficients
    a, b = beta / (alpha + beta), alpha / (alpha + beta)
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    found = compute_optimum(law(*coefficients), flops)
    assert found.N.value == pytest.approx(G * (flops / 6) ** a, rel=2e-5)
    assert found.D.value == pytest.approx((flops / 6) ** b / G, rel=2e-5)
    assert found.exponent.value == pytest.approx(a, abs=1e-4)
    assert 6 * found.N.value * found.D.value == pytest.approx(flops, rel=1e-12)


@pytest.mark.parametrize("served", [0.0, 1e10, 1e12])
def test_nothing_nearby_is_better_at_the_same_cost(served):
    made, flops = law(1.82, 482.0, 2085.4, 0.348, 0.366), 3e21
    found = compute_optimum(made, flops, served_tokens=served)
    spent = found.N.value * (6 * found.D.value + 2 * served)
    assert spent == pytest.approx(flops, rel=1e-12)
    for factor in np.geomspace(0.5, 2.0, 41):
        n = found.N.value * factor
        d = (flops / n - 2 * served) / 6
        if d > 0:
            assert float(made.evaluate(N=n, D=d)) >= found.loss.value - 1e-12


def test_tokens_served_make_the_model_smaller_and_its_training_longer():
    made = law(1.82, 482.0, 2085.4, 0.348, 0.366)
    plain, busy = (compute_optimum(made, 1e22, served_tokens=t) for t in (0.0, 1e12))
    assert busy.N.value < plain.N.value / 3
    assert busy.tokens_per_parameter.value > 100 > plain.tokens_per_parameter.value


def test_published_exponents_to_their_printed_digits():
    """N_opt ~ C^a: arXiv:2404.10102 gives .513 for its fit and .45 for the original as printed;
    arXiv:2203.15556 prints a = .46, b = .54, which the digits of its source give (.3392, .2849)."""
    corrected = compute_optimum(load_law("besiroglu2024"), 1e21)
    assert f"{corrected.exponent.value:.3f}" == "0.513"
    assert 20 < corrected.tokens_per_parameter.value < 26
    printed = compute_optimum(load_law("hoffmann2022"), 1e21)
    assert f"{printed.exponent.value:.2f}" == "0.45"
    unrounded = compute_optimum(law(1.6934, 406.4, 410.7, 0.3392, 0.2849), 1e21)
    assert f"{unrounded.exponent.value:.2f}" == "0.46"
    assert f"{1 - unrounded.exponent.value:.2f}" == "0.54"


def planted(seed: int) -> RunsTable:
    rng = np.random.default_rng(seed)
    rows = []
    for n in np.geomspace(5e7, 3e9, 7):
        for ratio in (5, 15, 45, 135):
            loss = 1.82 + 482.0 * n**-0.348 + 2085.4 * (n * ratio) ** -0.366
            loss *= np.exp(0.003 * rng.standard_normal())
            rows.append({"N": float(n), "D": float(n * ratio), "loss": float(loss)})
    return RunsTable.from_rows(rows)


def test_intervals_cover_a_planted_optimum():
    """Twelve fits to made-up runs; 200 of them are in the benchmark of coverage."""
    truth = compute_optimum(law(1.82, 482.0, 2085.4, 0.348, 0.366), 2e20)
    held = {"N": 0, "D": 0, "loss": 0}
    for seed in range(12):
        runs = planted(seed)
        made = fit(runs, "chinchilla", bootstrap_draws=60, seed=seed, cluster="run").law
        found = compute_optimum(made, 2e20)
        for name in held:
            mine, due = getattr(found, name), getattr(truth, name).value
            held[name] += mine.low <= due <= mine.high
    assert min(held.values()) >= 9


def test_a_loss_has_bounds_where_the_law_knows_its_spread():
    fitted = fit(planted(1), "chinchilla", bootstrap_draws=100).law
    assert isinstance(fitted, AbsoluteLaw)
    inside = predict_size(fitted, N=5e8, D=2e10)
    far = predict_size(fitted, N=5e8, D=2e13, extrapolate=True)
    assert inside.loss_low < inside.loss < inside.loss_high
    assert inside.loss_high / inside.loss_low < 1.02
    assert far.loss_high / far.loss_low > inside.loss_high / inside.loss_low
    published = load_law("besiroglu2024")
    bare = predict_size(published, N=1e9, D=2e10)
    assert bare.loss_low is None
    assert any("no bounds" in note for note in bare.notes)
    noise = LossNoise(relative_sd=0.01, degrees_of_freedom=None, basis="made up")
    scattered = predict_size(replace(published, noise=noise), N=1e9, D=2e10)
    assert scattered.loss_high == pytest.approx(scattered.loss * np.exp(0.01 * 1.2815516), rel=1e-6)


def test_what_it_refuses():
    with pytest.raises(InputError, match="N and D alone"):
        compute_optimum(load_law("morph2025"), 1e21)
    with pytest.raises(InputError, match="it needs a shape"):
        predict_size(load_law("bian2025-1b"), N=1e9, D=1e10)
    with pytest.raises(OutsideValidity):
        compute_optimum(load_law("besiroglu2024"), 1e25)
    for flops in (0.0, float("nan"), 10.0):
        with pytest.raises(InputError):
            compute_optimum(load_law("besiroglu2024"), flops)
    with pytest.raises(InputError, match="served tokens"):
        compute_optimum(load_law("besiroglu2024"), 1e21, served_tokens=-1.0)
