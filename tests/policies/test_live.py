"""The live certificate: its bets are fair, its detectors are, and what is switched on follows."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from suffice.core import serial
from suffice.core.errors import InputError
from suffice.policies.live.detector import ChangeDetector, level_bets, rise_bets
from suffice.policies.live.evidence import BETS, PARTS, CandidateEvidence
from suffice.policies.live.state import (
    LiveRule,
    LiveState,
    ShadowJudged,
    ShadowSeen,
    after,
)

TARGET = 0.05


def seen(*differs: bool | None, share: float = 1.0, u: float = 0.5) -> ShadowSeen:
    return ShadowSeen(differs=differs, share=share, u=u)


def run(
    state: LiveState, rule: LiveRule, many: list[ShadowSeen | ShadowJudged]
) -> tuple[LiveState, list]:
    events = []
    for each in many:
        state, more = after(state, each, rule)
        events += more
    return state, events


def test_wealth_is_one_in_the_mean_at_the_target() -> None:
    assert sum(PARTS) == pytest.approx(1.0)
    mean = 0.0
    for losses in itertools.product((0, 1), repeat=8):
        evidence, chance = CandidateEvidence(), 1.0
        for i, x in enumerate(losses):
            evidence = evidence.after(float(x), TARGET, weight=(1.0, 0.2)[i % 2])
            chance *= TARGET if x else 1.0 - TARGET
        mean += chance * math.exp(evidence.log)
    assert mean == pytest.approx(1.0, abs=1e-12)


def test_weights_make_every_request_count_alike_whatever_its_share() -> None:
    # Over the coin and the loss, the logarithm apart: E = 1 + ν floor (target - chance).
    floor, chance = 0.25, 0.02
    for share in (0.25, 0.5, 1.0):
        for bet in BETS:
            nu = bet / (1.0 - TARGET)
            won = 1.0 + nu * floor / share * TARGET
            lost = 1.0 + nu * floor / share * (TARGET - 1.0)
            mean = 1.0 - share + share * (chance * lost + (1.0 - chance) * won)
            assert mean == pytest.approx(1.0 + nu * floor * (TARGET - chance))
            assert lost > 0.0


def test_order_does_not_count_in_evidence_and_corrections_take_losses_back() -> None:
    losses = [1.0, 0.0, 0.0, 1.0, 0.0]
    one = other = CandidateEvidence()
    for x in losses:
        one = one.after(x, TARGET)
    for x in sorted(losses):
        other = other.after(x, TARGET)
    assert one.log == pytest.approx(other.log)
    better = one.corrected(1.0, 0.0, TARGET)
    known = CandidateEvidence()
    for x in (0.0, 0.0, 0.0, 1.0, 0.0):
        known = known.after(x, TARGET)
    assert better.log == pytest.approx(known.log)
    assert (better.n, better.total, better.mean) == (5, 1.0, pytest.approx(0.2))


def test_bets_on_a_change_are_fair() -> None:
    for target in (0.01, 0.05, 0.3):
        for a, below, above in rise_bets(target):
            assert a * below + (1.0 - a) * above == pytest.approx(1.0)
            assert above > 0.0
        for one, none in level_bets(target):
            assert target * one + (1.0 - target) * none == pytest.approx(1.0)
            assert none > 0.0


def test_a_rise_is_a_martingale_over_every_order_of_the_same_answers() -> None:
    """Mean of R over all orders of a bag, and over u: the number of requests, whatever the bag."""
    grid = [(i + 0.5) / 20 for i in range(20)]  # every edge lies between two of them
    target = 0.5
    for differing in (1,):
        orders = set(itertools.permutations([True] * differing + [False] * (3 - differing)))
        total = count = 0.0
        for order in orders:
            for us in itertools.product(grid, repeat=3):
                detector = ChangeDetector()
                for differs, u in zip(order, us, strict=True):
                    detector = detector.after(differs, u, target)
                total += sum(detector.rise) / len(detector.rise)
                count += 1
        assert total / count == pytest.approx(3.0)


def test_promoted_and_demoted() -> None:
    rule = LiveRule(target=TARGET, run_length=1000, share=0.5, share_after=0.1)
    state = LiveState.of(rule)
    assert (state.answering, state.share(rule)) == (None, 0.5)
    state, events = run(state, rule, [seen(False, share=0.5)] * 200)
    assert [event.happened for event in events] == ["promoted"]
    # No bet that keeps a part of itself can be there before ln 20 / ln(1 + .05 / .95).
    assert 59 <= events[0].n <= 110
    assert (state.answering, state.share(rule)) == (0, 0.1)
    generator = random.Random(0)
    bad = [seen(generator.random() < 0.3, share=0.1, u=generator.random()) for _ in range(200)]
    state, events = run(state, rule, bad)
    assert events[0].happened == "demoted" and events[0].number < 260
    assert state.answering is None and state.arms[0].evidence.n < 200


def test_the_share_rises_on_suspicion_before_the_demotion() -> None:
    rule = LiveRule(run_length=1000, share=0.5, share_after=0.1)
    state, _ = run(LiveState.of(rule), rule, [seen(False, share=0.5)] * 300)
    generator, shares = random.Random(1), []
    while state.on:
        shares.append(state.share(rule))
        differs = generator.random() < 0.2
        state, _ = after(state, seen(differs, share=shares[-1], u=generator.random()), rule)
    assert shares[0] == 0.1 and shares[-1] == 0.5


def test_candidates_are_switched_on_in_their_order_only() -> None:
    rule = LiveRule(candidates=3, share=1.0)
    state, events = run(
        LiveState.of(rule), rule, [seen(i % 2 == 0, False, False) for i in range(300)]
    )
    assert events == [] and state.on == 0  # the first differs: none behind it may be used
    assert state.arms[2].evidence.log > rule.reach
    state, events = run(LiveState.of(rule), rule, [seen(False, False, None)] * 200)
    assert [event.candidate for event in events] == [0, 1] and state.on == 2


def test_a_demotion_takes_those_behind_along() -> None:
    rule = LiveRule(candidates=2, share=1.0, run_length=100)
    state, _ = run(LiveState.of(rule), rule, [seen(False, False)] * 300)
    assert state.on == 2
    state, events = run(state, rule, [seen(True, False, u=0.01)] * 30)
    assert ("demoted", 0) in [(event.happened, event.candidate) for event in events]
    assert state.on == 0
    # What the second had shown counts no longer: it was shown on other traffic.
    assert state.arms[1].evidence.n < 30


def test_evidence_that_does_not_suffice_begins_anew_at_a_lower_share() -> None:
    rule = LiveRule(share=0.5, share_after=0.1, window=150)
    many = [seen(i % 10 == 0, share=0.5) for i in range(150)]
    state, events = run(LiveState.of(rule), rule, many)
    assert [event.happened for event in events] == ["restarted"]
    assert state.share(rule) == 0.1
    state, events = run(state, rule, [seen(False, share=0.1)] * 140)
    assert events[-1].happened == "promoted"  # its past does not hold it back


def test_a_share_below_the_floor_is_no_evidence() -> None:
    rule = LiveRule(share=0.5, share_after=0.1)
    state, _ = run(LiveState.of(rule), rule, [seen(False, share=0.1)] * 50)
    assert state.arms[0].evidence.n == 0 and state.n == 50


def test_a_judgement_corrects_what_entered_as_lost() -> None:
    rule = LiveRule(share=1.0)
    state, _ = run(LiveState.of(rule), rule, [seen(True)] + [seen(False)] * 40)
    judged = ShadowJudged(number=0, candidate=0, before=1.0, loss=0.0, share=1.0)
    state, _ = after(state, judged, rule)
    clean, _ = run(LiveState.of(rule), rule, [seen(False)] * 41)
    assert state.arms[0].evidence.log == pytest.approx(clean.arms[0].evidence.log)
    old, _ = after(
        state, ShadowJudged(number=-1, candidate=0, before=1.0, loss=0.0, share=1.0), rule
    )
    assert old.arms == state.arms  # of evidence that is gone


def test_the_state_can_be_stored() -> None:
    rule = LiveRule(candidates=2, share=1.0)
    state, _ = run(LiveState.of(rule), rule, [seen(False, True)] * 70)
    assert serial.loads(serial.dumps(state)) == state


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"target": 0.0}, "target must lie"),
        ({"confidence": 1.0}, "confidence must lie"),
        ({"share": 0.01, "share_after": 0.1}, "shares must be"),
        ({"window": 10}, "window must be"),
        ({"run_length": 1}, "run_length must be"),
        ({"candidates": 0}, "at least one"),
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        LiveRule(**wrong)
