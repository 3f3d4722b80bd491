"""Unchanged traffic raises no alarm, whatever the baseline is.

`benchmarks/certify/monitoring.py` plays more of it.
"""

from __future__ import annotations

import numpy as np
import pytest

from suffice.evals.statistics.binomial import at_least_p_value
from suffice.policies.monitor import Monitoring
from tests.gateway.monitor_runs import (
    SHAPES,
    audited_until_alarm,
    calibrated,
    may_alarm,
    population,
    runs,
    served,
    traces,
)

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


@pytest.mark.parametrize("name", ["a cascade behind a gate", "one sample, never asked"])
def test_all_requests_at_once_miss_no_alarm(recording, name):
    """Traffic that changed by little and by much: where an alarm comes, the quick look sees it."""
    found = population(SHAPES[name], recording)
    rng = np.random.default_rng(1)
    watched = calibrated(found, rng, WIDE)
    assert watched is not None
    worse = np.flatnonzero(found.harmed | (found.differs & ~found.helped))
    seen = []
    for share in (0.0, 0.05, 0.15, 0.4):
        index = rng.integers(0, len(found.early), 300)
        changed = rng.random(300) < share
        index[changed] = rng.choice(worse, int(changed.sum()))
        alarm, _ = served(Monitoring(monitors=watched), found, index)
        assert alarm is None or may_alarm(watched, found, index)
        seen.append((alarm is not None, may_alarm(watched, found, index)))
    assert seen[-1] == (True, True)
    assert seen[0] == (False, False)
