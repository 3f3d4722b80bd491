"""All 16,400 HumanEval programs of CodeT's set, as run by benchmarks/certify/humaneval.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from suffice.evals.statistics.ranking import mean_pass_at_k

FOUND = json.loads((Path(__file__).parents[2] / "results/certify/humaneval.json").read_text())
RIGHT = [int(bits, 16).bit_count() for bits in FOUND["verdicts"].values()]


def test_every_problem_was_run():
    assert len(RIGHT) == 164
    assert FOUND["programs"] == 16_400
    assert FOUND["canonical_failures"] == []


@pytest.mark.parametrize(("k", "published"), [(10, 0.503), (100, 0.737)])
def test_pass_at_k_is_as_published(k, published):
    """CodeT (2207.10397, table 2), the same samples: a time limit may cost a program or two.

    Its pass@1 (29.7) is of greedy-like sampling and not of these samples at temperature .8.
    """
    assert mean_pass_at_k(RIGHT, [100] * 164, k) == pytest.approx(published, abs=0.002)


def test_best_of_n_with_tests_is_pass_at_n_for_fewer_samples():
    for row in FOUND["best_of_n"]:
        n = row["n"]
        assert row["pass_at_n"] == pytest.approx(mean_pass_at_k(RIGHT, [100] * 164, n))
        # 20 draws of 164 problems: a standard error below .01.
        assert row["accuracy"][0] == pytest.approx(row["pass_at_n"], abs=0.02)
        assert row["samples"][0] <= n
    spent = np.array([row["samples"][0] / row["n"] for row in FOUND["best_of_n"]])
    assert (np.diff(spent) < 0).all()  # the more may be drawn, the larger the share saved
