"""Monitors: false alarms stay below the stated rate, losses are found, picking cases is useless."""

from __future__ import annotations

import math
import random
from itertools import product

import numpy as np
import pytest

from suffice.core import serial
from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import at_least_p_value
from suffice.policies.monitor import (
    FRACTIONS,
    LOSS_ALPHA,
    SHAPE_ALPHA,
    Answered,
    Compared,
    Judged,
    Monitor,
    Monitoring,
    Wealth,
)

STOPPED = Monitor(quantity="stopped", low=0.55, high=0.65)
DROP = Monitor(quantity="drop", low=-1.0, high=0.01)
HARM = Monitor(quantity="harm", low=0.0, high=0.02)
DIFFER = Monitor(quantity="differ", low=0.0, high=0.05)


def after(*seen, monitors=(DROP,)) -> Monitoring:
    state = Monitoring(monitors=tuple(monitors))
    for each in seen:
        state = state.after(each)
    return state


def until_alarm(monitor: Monitor, draw, most: int) -> int | None:
    """Observations until the alarm, None without one; read after every single one."""
    state = Monitoring(monitors=(monitor,))
    for number in range(1, most + 1):
        state = state.after(draw())
        if state.alarm is not None:
            return number
    return None


# --- what the wealth is


@pytest.mark.parametrize(("least", "limit"), [(-1.0, 0.01), (0.0, 0.02), (0.0, 0.6), (-1.0, 0.3)])
def test_a_bet_is_fair_at_the_limit_and_loses_below_it(least, limit):
    """The mean factor over {least, 0, 1} is at most 1 for every distribution with such a mean."""
    factors = {x: math.exp(Wealth().after(x, limit, least=least).log) for x in (least, 0.0, 1.0)}
    for low, high in product(np.linspace(0, 1, 21), repeat=2):
        if low + high <= 1 and (mean := high + least * low) <= limit + 1e-12:
            value = high * factors[1.0] + low * factors[least] + (1 - low - high) * factors[0.0]
            if least == 0.0:
                value = high * factors[1.0] + (1 - high) * factors[0.0]
            assert value <= 1 + 1e-9, (low, high, mean)
    assert all(math.isfinite(math.log(factor)) for factor in factors.values())


def test_the_logs_are_the_products_that_the_formula_says():
    values, limit = [1, 0, -1, 0, 1, 1], 0.03
    wealth = Wealth()
    for x in values:
        wealth = wealth.after(x, limit, least=-1.0)
    bets = [fraction / (limit + 1.0) for fraction in FRACTIONS]
    due = np.mean([math.prod(1 + bet * (x - limit) for x in values) for bet in bets])
    assert wealth.log == pytest.approx(math.log(due))
    assert (wealth.n, wealth.total) == (6, 2)


def test_order_does_not_matter_and_zeros_count_one_by_one():
    seen = [Compared(differs=False, zeros=2), Judged(harmed=True, helped=False, zeros=1),
            Compared(differs=True), Judged(harmed=False, helped=True)]  # fmt: skip
    one, other = after(*seen), after(*reversed(seen))
    assert one.above[0].logs == pytest.approx(other.above[0].logs)
    spread = after(*[Compared(differs=False)] * 3)
    assert after(Compared(differs=False, zeros=2)).above[0].logs == pytest.approx(
        spread.above[0].logs
    )


# --- false alarms


def test_at_the_edge_of_what_is_allowed_alarms_stay_below_the_stated_rate():
    """The truth on the limit, every answer judged, read after every one: the worst case."""
    generator = random.Random(0)

    def draw() -> Judged:
        u = generator.random()
        return Judged(harmed=u < 0.06, helped=0.06 <= u < 0.11)  # a drop of exactly 1 point

    alarms = sum(until_alarm(DROP, draw, 400) is not None for _ in range(300))
    assert at_least_p_value(alarms, 300, LOSS_ALPHA) > 0.001


def test_a_range_at_its_edge():
    generator = random.Random(1)

    def draw() -> Answered:
        return Answered(early=generator.random() < STOPPED.high)

    alarms = sum(until_alarm(STOPPED, draw, 300) is not None for _ in range(300))
    assert at_least_p_value(alarms, 300, SHAPE_ALPHA / 2) > 0.001


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_who_judges_only_what_was_harmed_cannot_raise_an_alarm(share):
    """Audits compare everything; the judge reports a harm always, a help with this share."""
    generator = random.Random(2)
    alarms = 0
    for _ in range(60):
        state = Monitoring(monitors=(DROP,))
        for _ in range(300):
            u = generator.random()
            harmed, helped = u < 0.10, 0.10 <= u < 0.20  # nothing is lost in the mean
            state = state.after(Compared(differs=harmed or helped))
            if harmed or (helped and generator.random() < share):
                state = state.after(Judged(harmed=harmed, helped=helped, compared=True))
        alarms += state.alarm is not None
    assert alarms == 0


# --- what is found


@pytest.mark.parametrize(
    ("harmed", "helped", "early"),
    [
        (0.06, 0.0, 1.0),  # only `helped` vanished: harm is where it was at calibration
        (0.06, 0.0, 0.5),
        (0.07, 0.01, 0.5),
    ],
)
def test_six_points_where_one_is_certified_are_found_within_500_audited_answers(
    harmed, helped, early
):
    """Rates are of all covered answers; a share `early` of them is not the baseline's."""
    generator = np.random.default_rng(3)

    def draw() -> Judged:
        u = generator.random() * early
        zeros = int(generator.geometric(early)) - 1
        return Judged(harmed=u < harmed, helped=harmed <= u < harmed + helped, zeros=zeros)

    found = sum(until_alarm(DROP, draw, 500) is not None for _ in range(200))
    assert found >= 190


def test_a_certificate_of_harm_is_held_against_its_limit():
    alarm = after(*[Judged(harmed=True, helped=False)] * 3, monitors=(HARM,)).alarm
    assert alarm is not None
    assert alarm.quantity == "harm"
    assert "certified for at most 2.0%" in str(alarm)
    # What helps elsewhere is no excuse for it.
    both = [Judged(harmed=True, helped=False), Judged(harmed=False, helped=True)] * 4
    assert after(*both, monitors=(HARM,)).alarm is not None
    assert after(*both, monitors=(DROP,)).alarm is None


def test_answers_that_differ_more_than_at_calibration_raise_the_alarm_unjudged():
    alarm = after(*[Compared(differs=True)] * 8, monitors=(DIFFER, DROP)).alarm
    assert alarm is not None
    assert (alarm.quantity, alarm.n) == ("differ", 8)
    assert "differ from the baseline's" in str(alarm)


def test_ranges_on_either_side():
    generator = random.Random(4)

    def draws(rate):
        return lambda: Answered(early=generator.random() < rate)

    assert until_alarm(STOPPED, draws(0.3), 300) is not None
    assert until_alarm(STOPPED, draws(0.95), 300) is not None
    assert until_alarm(STOPPED, draws(0.6), 300) is None
    low = after(*[Answered(early=False)] * 30, monitors=(STOPPED,)).alarm
    assert "share answered without the baseline 0.000 over 30" in str(low)


# --- pairs that nobody judged, or that were judged first


def test_a_judgement_corrects_what_the_comparison_took_for_granted():
    pair = [Compared(differs=True, zeros=3), Judged(harmed=True, helped=False, compared=True)]
    assert after(*pair).above[0].logs == pytest.approx(
        after(Judged(harmed=True, helped=False, zeros=3)).above[0].logs
    )
    assert after(*pair).above[0].n == 4
    waiting = after(Compared(differs=True)).above[0]
    helped = after(Judged(harmed=False, helped=True)).above[0]
    assert waiting == helped  # until it is known, a difference counts as a gain


def test_a_comparison_after_the_judgement_adds_only_the_difference():
    state = after(
        Judged(harmed=True, helped=False, zeros=2),
        Compared(differs=True, zeros=2, judged=True),
        monitors=(DROP, DIFFER),
    )
    assert (state.above[0].n, state.above[1].n) == (3, 3)
    assert (state.above[0].total, state.above[1].total) == (1, 1)


def test_what_is_not_known_is_not_counted_and_states_can_be_stored():
    state = after(Answered(early=True), Compared(differs=True), monitors=(STOPPED, DROP))
    assert [wealth.n for wealth in state.above] == [1, 1]
    assert serial.loads(serial.dumps(state)) == state
    with pytest.raises(InputError, match="range"):
        Monitor(quantity="harm", low=0.5, high=0.2)
    with pytest.raises(InputError, match="range"):
        Monitor(quantity="harm", low=-0.5, high=0.2)
    with pytest.raises(InputError, match="both"):
        Judged(harmed=True, helped=True)


def test_never_seen_at_calibration_and_always_seen():
    never = Monitor(quantity="differ", low=0.0, high=0.0)
    assert after(Compared(differs=True), monitors=(never,)).alarm is not None
    always = Monitor(quantity="stopped", low=0.0, high=1.0)
    assert after(*[Answered(early=True)] * 500, monitors=(always,)).alarm is None
