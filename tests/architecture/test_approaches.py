"""Approaches 1 and 2, and rates: recovered where the truth is known, refused where it is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from suffice.architecture.approaches import envelope, parabolas
from suffice.architecture.law_file import load_law
from suffice.architecture.optimum import compute_optimum
from suffice.architecture.rates import STEP_LAW_BATCH_TOKENS, STEP_LAW_RATE, fit_rates
from suffice.architecture.runs import RunsTable
from suffice.cli.main import app
from suffice.core.errors import TableError

# One exponent for both, so that the curves are symmetric in ln N and parabolas are unbiased.
E, A, B, ALPHA = 1.7, 400.0, 1200.0, 0.35


def rows(budgets: tuple[float, ...] = (1e19, 1e20, 1e21), width: float = 3.0) -> list[dict]:
    best = (A / B) ** (1 / ALPHA)
    found = []
    for c in budgets:
        centre = (best * c / 6) ** 0.5
        for n in centre * np.geomspace(1 / width, width, 7):
            d = c / (6 * n)
            found.append({"N": n, "D": d, "loss": E + A * n**-ALPHA + B * d**-ALPHA})
    return found


def test_parabolas_find_the_optimum_of_a_symmetric_law():
    frontier = parabolas(RunsTable.from_rows(rows()))
    assert frontier.exponent == pytest.approx(0.5, abs=1e-6)
    for each in frontier.optima:
        assert each.inside and each.runs == 7
        assert pytest.approx((A / B) ** (1 / ALPHA) * each.flops / 6, rel=1e-6) == each.N**2
        assert pytest.approx(each.flops) == 6 * each.N * each.D
    assert frontier.low is not None and frontier.low <= frontier.exponent <= frontier.high
    assert frontier.parameters(1e20) == pytest.approx(frontier.optima[1].N, rel=1e-6)


def test_parabolas_are_biased_where_a_law_is_not_symmetric():
    """arXiv:2603.22339: exact losses, and still a wrong N*; the fitted law has none of this."""
    law = load_law("besiroglu2024")
    found = []
    for c in (1e20, 1e21, 1e22):
        centre = compute_optimum(law, c).N.value
        for n in centre * np.geomspace(1 / 8, 8, 9):
            d = c / (6 * n)
            found.append({"N": n, "D": d, "loss": float(law.evaluate(N=n, D=d))})
    frontier = parabolas(RunsTable.from_rows(found))
    off = [each.N / compute_optimum(law, each.flops).N.value - 1 for each in frontier.optima]
    assert 0.005 < max(abs(v) for v in off) < 0.2


def test_the_envelope_holds_the_runs_that_none_beats():
    table = RunsTable.from_rows(
        [*rows(), {"N": 1e8, "D": 1e21 / 6e8, "loss": 9.0, }]
    )  # fmt: skip
    frontier = envelope(table)
    losses = [each.loss for each in frontier.optima]
    assert losses == sorted(losses, reverse=True) and max(losses) < 9
    n, d, loss = (table.column(name) for name in ("N", "D", "loss"))
    for each in frontier.optima:
        cheaper = 6 * n * d <= each.flops * (1 + 1e-9)
        assert loss[cheaper].min() == pytest.approx(each.loss)


def test_what_the_approaches_refuse():
    with pytest.raises(TableError, match="three sizes and more at equal compute"):
        parabolas(RunsTable.from_rows(rows((1e19,))))
    edge = [r for r in rows() if r["N"] < 0.6 * ((A / B) ** (1 / ALPHA) * 6 * r["N"] * r["D"] / 6)
            ** 0.5]  # fmt: skip
    with pytest.raises(TableError, match="a best size at 0 budgets"):
        parabolas(RunsTable.from_rows(edge))


def test_all_three_approaches_and_rates_stand_side_by_side(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "N,D,loss\n" + "".join(f"{r['N']},{r['D']},{r['loss']}\n" for r in rows((1e20, 1e21, 1e22)))
    )
    call = ["optimum", "--law", "besiroglu2024", "--flops", "1e21", "--runs", str(path),
            "--vocab", "32000", "--rates"]  # fmt: skip
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0, shown.output
    for text in ("approach 1, envelope", "approach 2, parabolas", "Step Law", "non-embedding"):
        assert text in shown.output
    (record,) = json.loads(CliRunner().invoke(app, [*call, "--json"]).output)
    assert record["approaches"]["2"]["exponent"] == pytest.approx(0.5, abs=1e-6)
    n, d = record["N"]["value"], record["D"]["value"]
    assert record["learning_rate"] == pytest.approx(1.79 * n**-0.713 * d**0.307)
    assert record["batch_tokens"] == pytest.approx(0.58 * d**0.571)
    assert record["other_count"] < n


def test_rates_of_a_sweep_are_found():
    found = []
    for n in (1e8, 3e8, 1e9):
        for d in (2e9, 1e10, 5e10):
            best = STEP_LAW_RATE.at(n, d)
            for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
                loss = 3.0 + 0.02 * np.log(factor) ** 2
                batch = STEP_LAW_BATCH_TOKENS.at(n, d)
                found.append({"N": n, "D": d, "loss": loss, "rate": best * factor, "batch": batch})
    runs = RunsTable.from_rows(found, extra=("rate", "batch"))
    rate, batch = fit_rates(runs, "rate"), fit_rates(runs, "batch", of_n=False)
    assert (rate.scale, rate.of_n, rate.of_d) == pytest.approx((1.79, -0.713, 0.307), rel=1e-6)
    assert (batch.scale, batch.of_d) == pytest.approx((0.58, 0.571), rel=1e-6)
    one_ratio = RunsTable.from_rows(
        [{**r, "D": 20 * r["N"]} for r in found], extra=("rate", "batch")
    )  # fmt: skip
    with pytest.raises(TableError, match="at several D/N"):
        fit_rates(one_ratio, "rate")
