"""What labels say of a loss; evidence that waits for them promises no more than the truth."""

from __future__ import annotations

import itertools
import random

import pytest

from suffice.policies.live.detector import ChangeDetector, level_factors, net_factors
from suffice.policies.live.evidence import CandidateEvidence
from suffice.policies.live.labels import losses_of
from suffice.policies.live.state import LiveRule, LiveState, ShadowJudged, ShadowSeen, after


@pytest.mark.parametrize("candidates", [1, 2])
@pytest.mark.parametrize("kind", ["harm", "net"])
def test_what_follows_from_a_label_is_true_in_every_world_that_it_leaves(
    kind: str, candidates: int
) -> None:
    """Worlds: answers 0 (right) to 2, of the safe policy and of each candidate."""
    told = 0
    for letters in itertools.product((True, False), repeat=candidates):
        for right in itertools.product((True, False, None), repeat=candidates + 1):
            losses = losses_of(letters, right, kind)  # type: ignore[arg-type]
            for answers in itertools.product(range(4), repeat=candidates + 1):
                fits = all(
                    (answers[i + 1] != answers[0]) == apart for i, apart in enumerate(letters)
                ) and all(
                    known is None or known == (answer == 0)
                    for known, answer in zip(right, answers, strict=True)
                )
                if not fits:
                    continue
                for i, loss in enumerate(losses):
                    harm = answers[0] == 0 and answers[i + 1] != 0
                    gain = answers[0] != 0 and answers[i + 1] == 0
                    true = float(harm) - (float(gain) if kind == "net" else 0.0)
                    if loss is not None and kind == "net":
                        assert loss >= true  # what is not told of a gain is left out
                    elif loss is not None:
                        assert loss == true
                    told += loss is not None
    assert told > 40


def test_the_safe_answers_label_alone_tells_every_harm() -> None:
    assert losses_of((True, False, True), (True, None, None, None), "harm") == (1.0, 0.0, 1.0)
    assert losses_of((True, False, True), (False, None, None, None), "harm") == (0.0, 0.0, 0.0)
    assert losses_of((True,), (None, True), "net") == (-1.0,)
    assert losses_of((True,), (None, False), "harm") == (None,)
    assert losses_of((None,), (True, None), "harm") == (None,)


def test_level_bets_on_losses_are_fair_and_never_ruined() -> None:
    for target in (0.01, 0.05, 0.3):
        for one, none in zip(level_factors(1.0, target), level_factors(0.0, target), strict=True):
            assert target * one + (1.0 - target) * none == pytest.approx(1.0)
        for x in (-1.0, 0.0, 1.0):
            assert min(net_factors(x, target)) > 0.0
        assert net_factors(target, target) == pytest.approx((1.0, 1.0, 1.0))


def _true(losses: list[float], rule: LiveRule) -> list[float]:
    evidence, found = CandidateEvidence(), []
    for loss in losses:
        evidence = evidence.after(loss, rule.target)
        found.append(evidence.log)
    return found


@pytest.mark.parametrize("kind", ["harm", "net"])
def test_what_waits_for_labels_is_never_more_than_the_truth(kind: str) -> None:
    """Whoever chooses which requests are labelled, and when: here, only losses are hidden."""
    rule = LiveRule(loss=kind, share=1.0, confidence=0.999, run_length=10**6)  # type: ignore[arg-type]
    for seed in range(30):
        chance = random.Random(seed)
        state, losses, waiting = LiveState.of(rule), [], []
        truth: list[float] = []
        for number in range(120):
            differs = chance.random() < 0.3
            loss = chance.choice((1.0, 0.0, -1.0 if kind == "net" else 0.0)) if differs else 0.0
            losses.append(loss)
            state, _ = after(state, ShadowSeen(differs=(differs,), share=1.0, u=0.5), rule)
            if differs and chance.random() < 0.5 and loss < 1.0:
                waiting.append((number, loss))
            if waiting and chance.random() < 0.4:
                which, known = waiting.pop(chance.randrange(len(waiting)))
                judged = ShadowJudged(number=which, candidate=0, before=1.0, loss=known, share=1.0)
                state, _ = after(state, judged, rule)
            truth = _true(losses, rule)
            assert state.arms[0].evidence.log <= truth[-1] + 1e-9
        assert state.n == 120 and len(truth) == 120


def test_what_is_left_out_enters_with_its_label_alone() -> None:
    rule = LiveRule(loss="harm", unlabelled="left_out", share=1.0)
    state = LiveState.of(rule)
    for differs in (True, False, True):
        state, _ = after(state, ShadowSeen(differs=(differs,), share=1.0, u=0.5), rule)
    assert state.arms[0].evidence == CandidateEvidence() and state.n == 3
    for number, loss in ((2, 0.0), (1, 0.0)):
        judged = ShadowJudged(number=number, candidate=0, before=None, loss=loss, share=1.0)
        state, _ = after(state, judged, rule)
    known = CandidateEvidence().after(0.0, rule.target).after(0.0, rule.target)
    assert state.arms[0].evidence == known


def test_a_level_waits_for_labels_and_rises_with_harm_alone() -> None:
    """Where many differ and few are lost, no alarm is due; then the losses come."""
    rule = LiveRule(loss="harm", target=0.05, run_length=200, share=1.0, share_after=1.0)
    state, chance, demoted = LiveState.of(rule), random.Random(0), []
    for number in range(1600):
        differs, lost = chance.random() < 0.2, number >= 800
        seen = ShadowSeen(differs=(differs,), share=1.0, u=chance.random())
        state, first = after(state, seen, rule)
        events = first
        if differs:
            judged = ShadowJudged(
                number=state.n - 1, candidate=0, before=1.0, loss=float(lost), share=1.0
            )
            state, more = after(state, judged, rule)
            events = (*first, *more)
        demoted += [number for event in events if event.happened == "demoted"]
        if number == 799:
            assert state.on == 1 and demoted == []
    assert demoted and demoted[0] < 1000


def test_a_label_of_older_evidence_moves_nothing() -> None:
    rule = LiveRule(loss="harm", share=1.0, window=100, run_length=10**6)
    state = LiveState.of(rule)
    for _ in range(100):
        state, _ = after(state, ShadowSeen(differs=(True,), share=1.0, u=0.9), rule)
    assert state.arms[0].since == 100
    judged = ShadowJudged(number=5, candidate=0, before=1.0, loss=0.0, share=1.0)
    assert after(state, judged, rule)[0].arms[0].evidence == CandidateEvidence()
    assert ChangeDetector().level == (0.0, 0.0, 0.0)
