"""Power on recorded votes: on halves of shipped traces, what loses nothing is certified.

`benchmarks/certify/certify.py splits` does the same on 200 halves of seven sets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from suffice.evals.statistics.binomial import lower_bound
from suffice.evals.traces.files import of_questions, read_traces
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.gates_and_samplers import THRESHOLDS
from suffice.recipes.calibrate.run import survey

TRACES = Path(__file__).parent.parent.parent / "data" / "traces"
HALVES = 12
LOSES_NOTHING = 0.0005
LIMIT = 0.05  # 165 questions show no less than 2 points, and then nothing may differ
CUSTOMARY = THRESHOLDS.index(0.95)


@pytest.fixture(scope="module")
def stepwise():
    return read_traces(TRACES / "stepwise.parquet")


@pytest.fixture(scope="module")
def lost(stepwise):
    """Points that each threshold loses on all questions."""
    (chain,) = survey(stepwise, CalibrateConfig(max_drop=LIMIT, mixed=True)).bench.chains
    return [float(chain.step(rule).losses("drop").mean()) for rule in range(len(chain))]


def test_a_vote_rule_that_loses_nothing_is_certified_on_half_of_the_questions(stepwise, lost):
    """Never dearer than Adaptive-Consistency at its customary .95, rarely over the limit."""
    safe = [rule for rule, drop in enumerate(lost) if drop <= LOSES_NOTHING]
    assert len(safe) >= 3
    shown, over = np.zeros(len(lost)), 0
    for seed in range(HALVES):
        half = np.random.default_rng(seed).permutation(len(stepwise.questions))
        traces = of_questions(stepwise, half[: len(half) // 2])
        found = survey(traces, CalibrateConfig(max_drop=LIMIT, mixed=True))
        assert found.choice is not None
        assert found.choice.rule >= CUSTOMARY
        over += lost[found.choice.rule] > LIMIT
        shown[: found.bench.shown(LIMIT)[0]] += 1
    assert (shown[safe] >= 0.95 * HALVES).all()
    assert lower_bound(over, HALVES, 0.95) <= 0.05  # what 95 % confidence allows
