"""What holds for any coefficients and any shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.architecture.fitting import fit, rank_correlation
from suffice.architecture.laws import (
    MULTIPLICATIVE,
    ConditionalLaw,
    Provenance,
    build_law,
    family_names,
    load_family,
)
from suffice.architecture.runs import RunsTable

PLANES = {
    "N": (1e6, 1e11),
    "D": (1e8, 1e13),
    "x": (0.03, 0.2),
    "r": (0.3, 8.0),
    "width_per_layer": (4.0, 400.0),
}
SHIPPED = (
    "chinchilla", "chinchilla-tied", "morph", "conditional-multiplicative",
    "conditional-additive", "conditional-joint",
)  # fmt: skip
positive = st.floats(1e-3, 2.0)


def test_the_shipped_families_are_registered() -> None:
    assert set(SHIPPED) <= set(family_names())


@given(st.sampled_from(SHIPPED), st.integers(0, 2**32 - 1))
def test_a_formula_is_linear_in_its_linear_parameters(name: str, seed: int) -> None:
    family, rng = load_family(name), np.random.default_rng(seed)
    variables = {v: np.exp(rng.uniform(*np.log(PLANES[v]), size=7)) for v in family.variables}
    linear, nonlinear = (rng.uniform(0.01, 2.0, len(n)) for n in (family.linear, family.nonlinear))
    coefficients = [*linear, *family.fixed.values(), *nonlinear]
    direct = family.evaluate(coefficients, variables)
    columns = family.columns(list(nonlinear), variables)
    assert len(columns) == len(linear)
    summed = sum(c * column for c, column in zip(linear, columns, strict=True))
    assert direct == pytest.approx(summed, rel=1e-12)


@given(st.tuples(positive, positive, positive, positive), st.floats(0.01, 0.5), st.floats(0.2, 8))
def test_no_shape_beats_the_optimum(
    curves: tuple[float, float, float, float], x: float, r: float
) -> None:
    a1, a2, b1, b2 = curves
    # Levels high enough for both factors to stay positive, without which "lowest" is moot.
    a0, b0 = 100.0, 100.0
    law = build_law(
        MULTIPLICATIVE,
        name="any",
        coefficients=(a0, a1, a2 / 100, b0, b1, b2),
        provenance=Provenance(source="-", fitted_on="-"),
    )
    assert isinstance(law, ConditionalLaw)
    best = law.optimum()
    assert float(law.relative_loss(x, r)) >= float(law.relative_loss(best.x, best.r)) * (1 - 1e-12)


@settings(max_examples=12, deadline=None)
@given(
    st.floats(1.0, 2.5),
    st.floats(100.0, 1000.0),
    st.floats(500.0, 5000.0),
    st.floats(0.25, 0.45),
    st.floats(0.25, 0.45),
)
def test_a_noiseless_fit_recovers_any_chinchilla_law(
    E: float, A: float, B: float, alpha: float, beta: float
) -> None:
    sizes, ratios = np.geomspace(5e7, 1e10, 6), np.geomspace(5, 200, 5)
    rows = [
        {"N": n, "D": k * n, "loss": E + A * n**-alpha + B * (k * n) ** -beta}
        for n in sizes
        for k in ratios
    ]
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=0)
    assert found.law.coefficients == pytest.approx((E, A, B, alpha, beta), rel=2e-3)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=7, unique=True), st.integers(0, 999))
def test_p_is_a_chance_and_never_below_one_over_all_orders(values: list[float], seed: int) -> None:
    first = np.array(values)
    second = np.random.default_rng(seed).permutation(first)
    found = rank_correlation(first, second)
    if found.rho is None or found.p is None:
        return
    assert -1 - 1e-12 <= found.rho <= 1 + 1e-12
    assert 1 / 5040 - 1e-12 <= found.p <= 1
    increasing = rank_correlation(2 * first + 1, second)
    assert increasing.rho == pytest.approx(found.rho)


@given(st.integers(0, 2**32 - 1))
def test_a_comparison_is_antisymmetric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    law = build_law(
        MULTIPLICATIVE,
        name="any",
        coefficients=(2.3, 0.24, 0.018, 0.51, 0.005, 0.006),
        provenance=Provenance(source="-", fitted_on="-"),
    )
    assert isinstance(law, ConditionalLaw)
    a, b = ({"x": float(rng.uniform(0.05, 0.1)), "r": float(rng.uniform(0.5, 5))} for _ in "ab")
    there, back = law.compare(**a, versus=b), law.compare(**b, versus=a)
    assert there.ratio[0] * back.ratio[0] == pytest.approx(1.0)
    assert there.low[0] * back.high[0] == pytest.approx(1.0)
