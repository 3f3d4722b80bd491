"""What a fit says where it should not be believed: limits, misfits, contradictions, units."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest

from suffice.architecture.fitting import fit
from suffice.architecture.fitting.evaluation import shape_means
from suffice.architecture.law_file import load_law, record_of, save_law
from suffice.architecture.runs import RunsTable
from suffice.core.errors import TableError


def chinchilla(n: Any, d: Any, *, e: float = 1.8, beta: float = 0.37) -> Any:
    return e + 480.0 * n**-0.35 + 2100.0 * d**-beta


def sizes(count: int, ratio: Any, *, noise: float = 0.0, seed: int = 0) -> list[dict[str, float]]:
    """Runs of `count` sizes at the given tokens per parameter."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in np.geomspace(5e7, 2e9, count):
        for tokens_per_parameter in np.atleast_1d(ratio):
            d = n * float(tokens_per_parameter)
            loss = float(chinchilla(n, d)) * np.exp(noise * rng.standard_normal())
            rows.append({"N": float(n), "D": float(d), "loss": float(loss)})
    return rows


# --- F1: limits


def one_ratio():
    """Eight runs at 20 tokens a parameter: the terms in N and D cannot be told apart."""
    return RunsTable.from_rows(
        [{"N": float(n), "D": 20 * float(n), "loss": 1.8 + 480 * float(n) ** -0.35}
         for n in np.geomspace(5e7, 2e9, 8)]
    )  # fmt: skip


def test_a_term_that_is_0_leaves_its_exponent_unidentified_and_other_intervals_free():
    found = fit(one_ratio(), "chinchilla", bootstrap_draws=100)
    by_name = {c.name: c for c in found.coefficients}
    zero, exponent = ("B", "beta") if by_name["B"].value == 0 else ("A", "alpha")
    assert by_name[zero].value == 0.0
    assert found.pinned == (zero,)
    assert by_name[zero].low is by_name[zero].high is None
    assert by_name[exponent].unidentified
    assert by_name[exponent].low is None
    assert any(f"{zero} is pinned" in each for each in found.warnings)
    assert any(f"{exponent} is not identified" in each for each in found.warnings)


def test_a_shape_that_never_varies_gives_0_and_says_so():
    """Morph with one width per layer is tied Chinchilla: epsilon was printed as 3.5e-30."""
    rows = [row | {"width_per_layer": 40.0} for row in sizes(6, (10, 40, 160))]
    found = fit(RunsTable.from_rows(rows), "morph", bootstrap_draws=50)
    epsilon = next(c for c in found.coefficients if c.name == "epsilon")
    if epsilon.value == 0:
        assert "epsilon" in found.pinned
        assert epsilon.low is None
    assert any("width_per_layer never varies" in each for each in found.warnings)


def test_draws_that_move_nothing_are_0_and_not_1e_minus_96():
    rng = np.random.default_rng(3)
    rows = []
    for n in (8e7, 1.6e8):
        for _ in range(14):
            x, r = rng.uniform(0.05, 0.11), rng.uniform(0.5, 5)
            loss = (3.4 if n < 1e8 else 3.1) * (1 + 0.02 * (x / 0.08 - 1 - np.log(x / 0.08)))
            noisy = float(loss * np.exp(0.003 * rng.standard_normal()))
            rows.append({"N": n, "D": 100 * n, "x": float(x), "r": float(r), "loss": noisy})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = fit(RunsTable.from_rows(rows), "conditional-multiplicative",
                    optimal_loss="free", bootstrap_draws=80)  # fmt: skip
    assert found.law.draws is not None
    b1 = found.law.draws[:, found.law.family.parameters.index("b1")]
    assert ((b1 == 0) | (b1 > 1e-9)).all()
    assert (b1 == 0).any()


def test_pinned_coefficients_may_move_in_resamples():
    """Tokens hardly matter in half of the data: the other intervals know that B may be above 0."""
    rows = sizes(6, (20, 80), noise=0.004, seed=2)
    for row in rows:
        row["loss"] = 1.9 + 480 * row["N"] ** -0.35 * (1 + 1e-9)
    rng = np.random.default_rng(5)
    for row in rows:
        row["loss"] *= float(np.exp(0.004 * rng.standard_normal()))
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=120)
    assert found.law.draws is not None
    if "B" in found.pinned:
        b = found.law.draws[:, found.law.family.parameters.index("B")]
        assert (b > 0).any()


# --- F2: alarms


def test_a_law_that_explains_nothing_is_said_to():
    rng = np.random.default_rng(0)
    rows = [row | {"loss": float(rng.uniform(2.5, 9.0))} for row in sizes(8, (10, 40))]
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=0)
    assert any("explains less than half" in each for each in found.warnings)
    assert any("scatter by" in each for each in found.warnings)


def test_rows_that_contradict_each_other_are_named():
    rows = sizes(8, (10, 40), noise=0.002)
    rows.insert(5, dict(rows[4], loss=rows[4]["loss"] * 1.22, seed="2"))
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=0)
    said = next(each for each in found.warnings if "--best-per" in each)
    assert "rows 5 and 6" in said
    assert found.worst[0].row == 6
    assert found.worst[0].log_residual == pytest.approx(np.log(1.22), abs=0.02)


def test_seeds_that_differ_by_noise_are_no_contradiction():
    rows = [
        dict(row, loss=row["loss"] * (1 + 0.004 * seed), seed=str(seed))
        for row in sizes(8, (10, 40), noise=0.003)
        for seed in (0, 1)
    ]
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=0)
    assert not any("--best-per" in each for each in found.warnings)


def test_the_best_of_a_sweep_is_kept_and_said():
    swept = [
        dict(row, loss=row["loss"] * factor, seed=str(factor))
        for row in sizes(6, (10, 40))
        for factor in (1.3, 1.0, 2.5)
    ]
    table = RunsTable.from_rows(swept).best_per(["N", "D"])
    assert len(table) == 12
    assert [table.row(i) for i in range(3)] == [2, 5, 8]
    found = fit(table, "chinchilla", bootstrap_draws=0)
    assert found.evaluation.log_rmse < 1e-4
    assert "kept the best run of each N, D: 12 of 36 rows" in found.warnings
    with pytest.raises(TableError):
        RunsTable.from_rows(swept).best_per(["batch"])


def test_intervals_without_width_are_no_knowledge():
    rows = sizes(6, (10, 40, 160))
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=30)
    widths = [c.high - c.low for c in found.coefficients if c.low is not None]
    alarm = any("alike in every resample" in each for each in found.warnings)
    assert alarm == any(width <= 1e-9 * abs(c.value) for width, c in
                        zip(widths, found.coefficients, strict=True))  # fmt: skip


# --- F3: budgets that drift with the shape


def drifting(d_of_x: Any, **labels: str) -> RunsTable:
    """Noise-free, truth x* = .08 and r* = 1.03; five widths whose budget is `d_of_x`."""
    rows = []
    for n in (8e7, 3.2e8):
        for step, x in enumerate(np.geomspace(0.04, 0.15, 5)):
            for r in (0.6, 1.0, 2.0, 4.0):
                d = float(d_of_x(step)) * n / 8e7
                shape = (2.697 + 0.0974 * np.log(x) + 0.0078 / x) * (
                    0.3870 + 0.0063 * np.log(r) + 0.0065 / r
                )
                loss = float(chinchilla(n, d) * shape)
                rows.append({"N": n, "D": d, "x": float(x), "r": r, "loss": loss,
                             **{k: f"{v} {n:g}" for k, v in labels.items()}})  # fmt: skip
    return RunsTable.from_rows(rows)


def test_budgets_that_fall_as_width_grows_are_refused_and_equal_ones_find_the_truth():
    """With D from 10B down to 7.2B the fit said x* = .055, and not a word."""
    law, how = "conditional-multiplicative", {"optimal_loss": "free", "bootstrap_draws": 0}
    equal = fit(drifting(lambda step: 1e10), law, **how)  # type: ignore[arg-type]
    assert equal.law.coefficient("a2") / equal.law.coefficient("a1") == pytest.approx(
        0.08, abs=5e-4
    )
    falls = np.geomspace(1e10, 7.2e9, 5)
    with pytest.raises(TableError, match="D differs by 39 % and goes with x"):
        fit(drifting(lambda step: falls[step]), law, **how)  # type: ignore[arg-type]
    labelled = drifting(lambda step: falls[step], scale="one")
    found = fit(labelled, law, **how)  # type: ignore[arg-type]
    assert any("goes with x (correlation -1.00)" in each for each in found.warnings)
    assert found.law.coefficient("a2") / found.law.coefficient("a1") < 0.07


def test_small_differences_of_budget_are_said_only_where_they_go_with_the_shape():
    law, how = "conditional-multiplicative", {"optimal_loss": "free", "bootstrap_draws": 0}
    mixed = np.array([1.03, 0.98, 1.0, 0.97, 1.02]) * 1e10
    found = fit(drifting(lambda step: mixed[step]), law, **how)  # type: ignore[arg-type]
    assert not any("goes with" in each for each in found.warnings)
    little = np.geomspace(1.03e10, 1e10, 5)
    said = fit(drifting(lambda step: little[step]), law, **how)  # type: ignore[arg-type]
    assert any("D differs by 3 % and goes with x" in each for each in said.warnings)


# --- F5: shapes, not seeds


def repeated():
    """Two good shapes and a bad one, four seeds each: the luckiest seed is of the worse shape."""
    rows = []
    for n in (8e7, 1.6e8):
        for x, effect in ((0.06, 0.004), (0.08, 0.0), (0.1, 0.003), (0.12, 0.02)):
            for seed, luck in enumerate((-0.012, 0.004, 0.004, 0.004)):
                shaken = luck if x == 0.1 else -luck / 3
                rows.append({"N": n, "D": 50 * n, "x": x, "r": 1.0 + x, "seed": str(seed),
                             "loss": 3.0 * (1 + effect + shaken)})  # fmt: skip
    return RunsTable.from_rows(rows)


def test_regret_is_between_shapes():
    found = fit(repeated(), "conditional-multiplicative", optimal_loss="free", bootstrap_draws=0)
    assert [scale.n for scale in found.evaluation.scales] == [4, 4]
    assert max(scale.regret_nats for scale in found.evaluation.scales) < 0.01
    alone = repeated().take(repeated().column("x") == 0.08)
    seeds = fit(alone, "chinchilla", bootstrap_draws=0)
    assert seeds.evaluation.scales == ()  # one shape: nothing to pick from
    assert shape_means(
        np.array([4, 7, 4]), np.array([1.0, 5.0, 3.0]), np.array([2.0, 6.0, 2.0])
    ).loss.tolist() == [2.0, 5.0]


# --- F7, F8, F9: tokens, objective, units


def test_tokens_made_up_from_flops_are_said_and_can_be_set_right():
    """C = 8.1 N D in truth: with 6 the tokens come out a third too many."""
    rows = [{"N": row["N"], "C": 8.1 * row["N"] * row["D"], "loss": row["loss"]}
            for row in sizes(8, (10, 40, 160))]  # fmt: skip
    table = RunsTable.from_rows(rows)
    guessed = fit(table, "chinchilla", bootstrap_draws=0)
    assert any("C / (6 N)" in each for each in guessed.warnings)
    assert guessed.law.coefficient("B") > 2300
    right = fit(table.with_flops_per_token(8.1), "chinchilla", bootstrap_draws=0)
    assert not any("C / (6 N)" in each for each in right.warnings)
    assert right.law.coefficient("B") == pytest.approx(2100, rel=0.01)
    column = [row | {"flops_per_token": 8.1 * row["N"]} for row in rows]
    same = fit(RunsTable.from_rows(column), "chinchilla", bootstrap_draws=0)
    assert same.law.coefficient("B") == pytest.approx(2100, rel=0.01)


def test_the_objective_and_the_conventions_are_in_the_law_file(tmp_path: Any):
    found = fit(RunsTable.from_rows(sizes(8, (10, 40), noise=0.004)), "chinchilla",
                bootstrap_draws=20)  # fmt: skip
    save_law(tmp_path / "law.json", found.law)
    kept = load_law(tmp_path / "law.json")
    assert kept.diagnostics["objective"] == pytest.approx(found.objective)
    assert kept.diagnostics["delta"] == 1e-3
    assert kept.diagnostics["bootstrap"] == 20
    assert kept.diagnostics["worst_rows"][0][0] == found.worst[0].row
    assert len(json.loads(json.dumps(record_of(found.law)))["draws"]) == 20
    log = np.log(found.predicted) - np.log(found.runs.column("loss"))
    small = np.abs(log) <= 1e-3
    by_hand = np.where(small, log**2 / 2, 1e-3 * (np.abs(log) - 5e-4)).sum()
    assert found.objective == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ({"N": 1e-6}, "not millions"),
        ({"D": 1e-9}, "not billions"),
        ({"loss": 4.0}, "perplexity"),
        ({"loss": 0.25}, "bits per byte"),
    ],
)
def test_columns_in_other_units_are_noticed(scale: dict[str, float], said: str):
    rows = [{k: v * scale.get(k, 1.0) for k, v in row.items()} for row in sizes(8, (10, 40))]
    found = fit(RunsTable.from_rows(rows), "chinchilla", bootstrap_draws=0)
    assert any(said in each for each in found.warnings)
    usual = fit(RunsTable.from_rows(sizes(8, (10, 40))), "chinchilla", bootstrap_draws=0)
    assert not any(said in each for each in usual.warnings)
