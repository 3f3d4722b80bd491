"""Routing metrics: closed forms, and the published outcomes of RouteLLM's data."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.evals.router_metrics import RoutingCurve, aiq, non_decreasing_hull, router_arena_score

DATA = Path(os.environ.get("SUFFICE_SHARED_DATA", "../shared/data")) / "runtime"


def test_curve_by_hand():
    # Two questions gain, one loses, one stays: sent in the order of their scores.
    curve = RoutingCurve.of([4, 3, 2, 1], weak=[0, 0, 1, 1], strong=[1, 1, 1, 0])
    np.testing.assert_allclose(curve.accuracy, [0.5, 0.75, 1.0, 1.0, 0.75])
    np.testing.assert_allclose(curve.pgr, [0, 1, 2, 2, 1])
    assert curve.apgr == pytest.approx((0.5 + 1.5 + 2 + 1.5) / 4)
    assert curve.cpt(0.5) == 0.25
    assert curve.cpt(2.0) == 0.5
    assert curve.at(0.125) == pytest.approx(0.625)


def test_a_constant_score_is_a_coin_and_order_of_rows_does_not_matter():
    generator = np.random.default_rng(0)
    weak, strong = generator.random(200) < 0.6, generator.random(200) < 0.8
    assert RoutingCurve.of(np.zeros(200), weak, strong).apgr == pytest.approx(0.5)
    score = generator.integers(0, 5, 200).astype(float)
    order = generator.permutation(200)
    a = RoutingCurve.of(score, weak, strong)
    b = RoutingCurve.of(score[order], weak[order], strong[order])
    np.testing.assert_allclose(a.accuracy, b.accuracy)


def test_no_gap_is_refused():
    with pytest.raises(InputError, match="no gap"):
        _ = RoutingCurve.of([1, 2], [1, 1], [1, 0]).pgr
    with pytest.raises(InputError, match="never recovers"):
        RoutingCurve.of([1, 2], [0, 0], [1, 0]).cpt(3.0)


def test_hull_and_aiq_by_hand():
    cost, quality = [0, 1, 2, 3, 4], [0.2, 0.6, 0.5, 0.8, 0.7]
    x, y = non_decreasing_hull(cost, quality)
    np.testing.assert_allclose(x, [0, 1, 3])
    np.testing.assert_allclose(y, [0.2, 0.6, 0.8])
    # .4 + 2 * .7 + 1 * .8 over a range of 4
    assert aiq(cost, quality) == pytest.approx(2.6 / 4)


def test_router_arena_score_at_its_ends_and_between():
    assert router_arena_score(1.0, 0.0044) == pytest.approx(1.0)
    assert router_arena_score(0.8, 200.0) == 0.0
    # C = 1/2 at the geometric mean of the prices: 1.1 * .7 * .5 / (.07 + .5)
    assert router_arena_score(0.7, (200 * 0.0044) ** 0.5) == pytest.approx(0.385 / 0.57)
    with pytest.raises(InputError):
        router_arena_score(1.2, 1.0)


@pytest.mark.shared
@pytest.mark.skipif(not (DATA / "routellm_gsm8k").exists(), reason="recorded data not at hand")
def test_length_and_oracle_on_routellm_gsm8k():
    """Values measured before, on the same rows, by other code: three digits were kept."""
    with (DATA / "routellm_gsm8k/gsm8k_responses.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    weak = np.array([row["mistralai/Mixtral-8x7B-Instruct-v0.1"] == "True" for row in rows], float)
    strong = np.array([row["gpt-4-1106-preview"] == "True" for row in rows], float)
    assert (weak.mean(), strong.mean()) == pytest.approx((0.6384, 0.8567), abs=5e-5)
    length = RoutingCurve.of([len(row["prompt"]) for row in rows], weak, strong)
    assert length.apgr == pytest.approx(0.601, abs=1e-3)
    oracle = RoutingCurve.of(strong - weak, weak, strong)
    assert oracle.apgr == pytest.approx(1.125, abs=1e-3)
    assert (oracle.cpt(0.5), oracle.cpt(0.8)) == pytest.approx((0.11, 0.18), abs=5e-3)
