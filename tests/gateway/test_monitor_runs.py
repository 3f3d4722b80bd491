"""Unchanged traffic raises no alarm, whatever the baseline is (benchmarks/monitoring.py: more)."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.evals.statistics.binomial import at_least_p_value
from tests.gateway.monitor_runs import SHAPES, audited_until_alarm, population, runs, traces

RUNS, REQUESTS = 8, 1000
WIDE = 0.05  # a limit that every shape keeps on so few recorded questions


@pytest.fixture(scope="module")
def recording():
    return traces(200)


@pytest.mark.parametrize("name", SHAPES)
def test_unchanged_traffic_raises_no_alarm(recording, name):
    found = population(SHAPES[name], recording)
    all_runs = list(runs(found, RUNS, seed=0, requests=REQUESTS, limit=WIDE))
    assert len(all_runs) == RUNS
    alarms = [alarm for alarm in all_runs if alarm is not None]
    assert at_least_p_value(len(alarms), RUNS, 0.01) > 0.001, [str(alarm) for alarm in alarms]


def test_a_loss_of_six_points_is_found_by_audits():
    rng = np.random.default_rng(0)
    needed = [audited_until_alarm(0.06, 0.0, 1.0, rng) for _ in range(30)]
    assert sum(each is not None for each in needed) == 30
