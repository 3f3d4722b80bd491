"""From figures to verdicts: the rule decides, and how large the test was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp

from suffice.core.errors import InputError
from suffice.recipes.evidence.claim import Measure, Seed
from suffice.recipes.evidence.registry import read_registry
from suffice.recipes.evidence.verdict import (
    Figure,
    Verdict,
    figure_of,
    judge,
    judge_figures,
    over_seeds,
)
from tests.recipes.evidence.registries import make


def figure(low: float, high: float) -> list[Figure]:
    measure = Measure(name="count", says="how many", at=("count",))
    return [Figure(measure=measure, estimate=(low + high) / 2, low=low, high=high)]


@pytest.mark.parametrize(
    ("low", "high", "verdict", "holds"),
    [
        (2.1, 3, Verdict.VERIFIED, True),
        (1.9, 3, Verdict.INCONCLUSIVE, None),
        (1, 1.9, Verdict.FALSIFIED, False),
    ],
)
def test_the_interval_decides(
    tmp_path: Path, low: float, high: float, verdict: Verdict, holds: bool | None
) -> None:
    claim = read_registry(make(tmp_path)).claims["three"]
    found = judge_figures(claim, figure(low, high))
    assert (found.verdict, found.holds) == (verdict, holds)


def test_a_tenth_of_the_size_is_a_toy(tmp_path: Path) -> None:
    claim = read_registry(make(tmp_path, paper="1001")).claims["three"]
    assert judge_figures(claim, figure(2.5, 3)).word == "toy, holds"
    assert judge_figures(claim, figure(1, 1.5)).word == "toy, fails"
    assert claim.scale is not None
    nearer = replace(claim, scale=replace(claim.scale, paper=(1000, 1e9)))
    assert judge_figures(nearer, figure(2.5, 3)).word == "verified"


def test_one_counter_example_refutes_a_claim_about_all(tmp_path: Path) -> None:
    claim = replace(read_registry(make(tmp_path, paper="1e9")).claims["three"], universal=True)
    assert judge_figures(claim, figure(1, 1.5)).word == "falsified"
    assert judge_figures(claim, figure(2.5, 3)).word == "toy, holds"


def test_a_prediction_neither_verifies_nor_refutes(tmp_path: Path) -> None:
    claim = replace(read_registry(make(tmp_path)).claims["three"], universal=True)
    assert claim.scale is not None
    predicted = replace(claim, scale=replace(claim.scale, by="predicted"))
    assert judge_figures(predicted, figure(2.5, 3)).word == "toy, holds"
    assert judge_figures(predicted, figure(1, 1.5)).word == "toy, fails"


def test_no_result_is_no_verdict(tmp_path: Path) -> None:
    root = make(tmp_path)
    assert judge(read_registry(root).claims["three"], root).verdict is Verdict.NOT_TESTED


def test_a_rule_that_says_both_is_an_error(tmp_path: Path) -> None:
    claim = read_registry(make(tmp_path)).claims["three"]
    both = replace(claim, fails_if=claim.holds_if)
    with pytest.raises(InputError, match="that it holds and that it fails"):
        judge_figures(both, figure(2.5, 3))


def test_a_rule_needs_the_interval_that_it_asks_for(tmp_path: Path) -> None:
    claim = read_registry(make(tmp_path)).claims["three"]
    bare = [Figure(measure=claim.measures[0], estimate=3.0)]
    with pytest.raises(InputError, match="has no interval"):
        judge_figures(claim, bare)


def test_units_and_signs() -> None:
    measure = Measure(name="lost", says="points", at=("drop",), scale=-100, n_at=("rows",))
    found = figure_of(measure, {"drop": [0.02, 0.01, 0.04], "rows": 9})
    assert (found.estimate, found.low, found.high, found.n) == (-2, -4, -1, 9)


def test_a_difference_of_two_has_no_interval() -> None:
    measure = Measure(name="gain", says="points", at=("a",), minus=("b",))
    found = figure_of(measure, {"a": [3, 2, 4], "b": {"mean": 1, "low": 0, "high": 2}})
    assert (found.estimate, found.low) == (2, None)


def test_seeds_give_students_interval(tmp_path: Path) -> None:
    """Against scipy's own test of a mean."""
    values = (0.4, 0.5, 0.9)
    for number, value in enumerate(values):
        (tmp_path / f"{number}.json").write_text(json.dumps({"x": value}))
    seeds = tuple(Seed(file=f"{number}.json") for number in range(3))
    found = over_seeds(Measure(name="x", says="x", at=("x",), seeds=seeds), None, tmp_path)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)
    assert found.n == 3


def test_a_text_is_no_figure() -> None:
    with pytest.raises(InputError, match="is no figure"):
        figure_of(Measure(name="x", says="x", at=("x",)), {"x": "many"})
