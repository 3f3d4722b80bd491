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
    BETTORS,
    DROP_BETS,
    LOSS_ALPHA,
    SHAPE_ALPHA,
    SHARE_BETS,
    Answered,
    Bets,
    Compared,
    Judged,
    Monitor,
    Monitoring,
    Wealth,
)
from tests.policies.exact_monitor import alarm_rate, one_look

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


CASES = [
    (-1.0, 0.01, DROP_BETS), (-1.0, 0.3, DROP_BETS),
    (0.0, 0.02, SHARE_BETS), (0.0, 0.6, SHARE_BETS),
]  # fmt: skip


@pytest.mark.parametrize(("least", "limit", "bets"), CASES)
def test_a_bet_is_fair_at_the_limit_and_loses_below_it(least, limit, bets):
    """The mean factor over {least, 0, 1} is at most 1 for every distribution with such a mean."""
    factors = {
        x: math.exp(Wealth().after(x, limit, bets, least=least).log(bets))
        for x in (least, 0.0, 1.0)
    }
    for low, high in product(np.linspace(0, 1, 21), repeat=2):
        if low + high <= 1 and (mean := high + least * low) <= limit + 1e-12:
            value = high * factors[1.0] + low * factors[least] + (1 - low - high) * factors[0.0]
            if least == 0.0:
                value = high * factors[1.0] + (1 - high) * factors[0.0]
            assert value <= 1 + 1e-9, (low, high, mean)
    assert all(math.isfinite(math.log(factor)) for factor in factors.values())


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3])
def test_no_fair_factor_beats_a_bet(limit):
    """Any f on {-1, 0, 1} with a mean of at most 1 under the null is nowhere above some bet.

    Each f is scaled up until one of the null's corners (all at -1, all at 0, a mean of `limit` on
    0 and 1 or on -1 and 1) is fair: there is no larger one in its direction.
    """
    generator = np.random.default_rng(6)
    corners = np.array([
        [1, 0, 0], [0, 1, 0], [0, 1 - limit, limit], [(1 - limit) / 2, 0, (1 + limit) / 2]
    ])  # fmt: skip
    for _ in range(500):
        f = generator.exponential(size=3)
        f /= (corners @ f).max()
        bet = min(max(0.0, (f[2] - 1) / (1 - limit)), 1 / (1 + limit))
        assert (f <= 1 + bet * (np.array([-1, 0, 1]) - limit) + 1e-9).all(), f


@pytest.mark.parametrize("bets", [DROP_BETS, SHARE_BETS])
def test_bettors_begin_with_a_wealth_of_one_between_them(bets):
    assert math.fsum(bets.weights) == pytest.approx(1.0)
    assert len(bets.weights) == len(bets.fractions) == BETTORS
    assert all(0 < fraction < 1 for fraction in bets.fractions)
    assert Wealth().log(bets) == pytest.approx(0.0)


def test_the_logs_are_the_products_that_the_formula_says():
    values, limit = [1, 0, -1, 0, 1, 1], 0.03
    wealth = Wealth()
    for x in values:
        wealth = wealth.after(x, limit, DROP_BETS, least=-1.0)
    bets = [fraction / (limit + 1.0) for fraction in DROP_BETS.fractions]
    products = [math.prod(1 + bet * (x - limit) for x in values) for bet in bets]
    assert wealth.log(DROP_BETS) == pytest.approx(
        math.log(np.average(products, weights=DROP_BETS.weights))
    )
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


# Computed exactly, over 2,000 answers, by how many of them are helped: on the limit, at half of it.
@pytest.mark.parametrize(("drop", "helped", "most"), [
    (0.01, 0.0, 0.013), (0.01, 0.01, 0.034), (0.01, 0.03, 0.041), (0.005, 0.01, 0.002),
])  # fmt: skip
def test_wrong_alarms_of_the_drop_are_as_rare_as_the_page_says(drop, helped, most):
    rate = alarm_rate(drop + helped, helped, 2000, limit=0.01)
    assert 0.0 < rate <= most < LOSS_ALPHA


def test_the_exact_rate_is_that_of_the_monitor_itself():
    """Against the monitor, answer by answer; and against a bet whose chance is known.

    One bet, nothing ever helped, an alarm from a wealth of 20 on: the first `k` answers being
    harmed is the only way to it within k answers.
    """
    generator = np.random.default_rng(5)

    def draw() -> Judged:
        u = generator.random()
        return Judged(harmed=u < 0.08, helped=0.08 <= u < 0.12)

    seen = sum(until_alarm(DROP, draw, 200) is not None for _ in range(200))
    rate = alarm_rate(0.08, 0.04, 200, limit=0.01)
    assert at_least_p_value(seen, 200, rate) > 0.001
    assert at_least_p_value(200 - seen, 200, 1.0 - rate) > 0.001
    one = Bets(fractions=(0.5,) * BETTORS, weights=(1 / BETTORS,) * BETTORS)
    needed = math.ceil(math.log(20) / math.log1p(0.5 * 0.99 / 1.01))
    assert alarm_rate(0.3, 0.0, needed, limit=0.01, bets=one) == pytest.approx(0.3**needed)
    assert alarm_rate(0.3, 0.0, needed - 1, limit=0.01, bets=one) == 0.0


# --- what is found


# Within 500 judged answers none of which the baseline gave: the least favourable mixture. The first
# line is also what remains where as many are harmed as before and none is helped any more.
@pytest.mark.parametrize(("harmed", "helped", "found"), [
    (0.06, 0.00, 0.999), (0.07, 0.01, 0.975), (0.08, 0.02, 0.925), (0.10, 0.04, 0.785),
])  # fmt: skip
def test_six_points_where_one_is_certified(harmed, helped, found):
    """Computed exactly; within a point of the best single bet, below what any test could find."""
    options = {"limit": 0.01, "alpha": LOSS_ALPHA}
    rate = alarm_rate(harmed, helped, 500, limit=0.01)
    assert rate >= found
    assert rate <= one_look(harmed, helped, 500, **options)
    alone = [
        alarm_rate(harmed, helped, 500, limit=0.01,
                   bets=Bets(fractions=(fraction,) * BETTORS, weights=SHARE_BETS.weights))
        for fraction in (0.2, 0.35, 0.5, 0.7, 0.9)
    ]  # fmt: skip
    assert rate >= max(alone) - 0.045


@pytest.mark.parametrize(
    ("harmed", "helped", "early"),
    [(0.06, 0.0, 0.5), (0.07, 0.01, 1.0), (0.08, 0.02, 0.5), (0.08, 0.02, 0.2)],
)
def test_six_points_where_one_is_certified_are_found_within_500_audited_answers(
    harmed, helped, early
):
    """Rates are of all covered answers; a share `early` of them is not the baseline's."""
    generator = np.random.default_rng([3, int(10 * early)])

    def draw() -> Judged:
        u = generator.random() * early
        zeros = int(generator.geometric(early)) - 1
        return Judged(harmed=u < harmed, helped=harmed <= u < harmed + helped, zeros=zeros)

    found = sum(until_alarm(DROP, draw, 500) is not None for _ in range(100))
    assert at_least_p_value(100 - found, 100, 0.05) > 0.01


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
