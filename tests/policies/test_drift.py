"""The watch: false alarms stay below the stated rate, drift is seen, status is for good."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.core import serial
from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import at_least_p_value
from suffice.policies.drift import Monitor, Observation, Watch, Wealth

STOPPED = Monitor(quantity="stopped", low=0.55, high=0.65)


def run(values, monitor=STOPPED, alpha=0.05) -> Watch:
    watch = Watch(monitors=(monitor,), alpha=alpha)
    for value in values:
        watch = watch.after(Observation(**{monitor.quantity: value}))
    return watch


def test_false_alarms_at_the_edge_of_the_range_stay_below_the_stated_rate():
    """Read after every one of 300 requests, with the truth on the upper edge: the worst case."""
    generator = np.random.default_rng(0)
    reach = np.log(2 / 0.05)
    alarms = 0
    for _ in range(200):
        wealth = Wealth()
        for x in generator.random(300) < 0.65:
            wealth = wealth.after(float(x), 0.65)
            if wealth.log >= reach:
                alarms += 1
                break
    assert at_least_p_value(alarms, 200, 0.025) > 0.001


def test_drift_on_either_side_voids_with_a_reason():
    generator = np.random.default_rng(1)
    less = run(generator.random(250) < 0.3)
    assert less.void is not None
    assert "share answered by the cheap arm" in less.void
    assert less.status.startswith("void: ")
    assert run(generator.random(400) < 0.95).void is not None
    assert run(generator.random(300) < 0.6).status == "valid"


def test_harm_is_seen_and_void_is_for_good():
    harm = Monitor(quantity="harm", low=0.0, high=0.02)
    watch = run([True] * 4, harm, alpha=0.01)
    assert watch.void is not None
    assert watch.after(Observation(harm=False)) is watch
    assert run([False] * 100, harm, alpha=0.01).void is None
    never = Monitor(quantity="harm", low=0.0, high=0.0)
    assert run([True], never, alpha=0.01).void is not None


def test_what_is_not_known_is_not_counted_and_state_can_be_stored():
    watch = run([True, True, False]).after(Observation(confidence=0.4))
    assert watch.n == 3
    assert serial.loads(serial.dumps(watch)) == watch
    with pytest.raises(InputError, match="range"):
        Monitor(quantity="harm", low=0.5, high=0.2)
