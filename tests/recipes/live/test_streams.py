"""Many streams at once are the state machine itself, and certificates on them are seldom false."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.evals.statistics.binomial import at_least_p_value
from suffice.policies.live.state import LiveRule, LiveState, ShadowJudged, ShadowSeen, after
from suffice.recipes.live.streams import Streams
from tests.recipes.live.worlds import WORLDS, World, try_world


def test_streams_are_the_state_machine() -> None:
    rule = LiveRule(candidates=3, window=300, run_length=100)
    count, rng = 4, np.random.default_rng(3)
    streams, states = Streams(rule, count), [LiveState.of(rule) for _ in range(count)]
    happened = {"promoted": 0, "demoted": 0}
    for i in range(900):
        rates = np.array([0.01, 0.03, 0.06])[:, None] * (1 + 3 * ((i // 400) % 2))
        differs, u = rng.random((3, count)) < rates, rng.random(count)
        shadowed = rng.random(count) < 0.7
        share = np.minimum(1.0, streams.share * rng.choice([1.0, 0.5, 2.0], count))
        on, off = streams.see(differs, u, share=share, shadowed=shadowed)
        happened["promoted"] += int(on.sum())
        happened["demoted"] += int(off.sum())
        for r in np.flatnonzero(shadowed):
            row = tuple(bool(each) for each in differs[:, r])
            given = ShadowSeen(differs=row, share=float(share[r]), u=float(u[r]))
            states[r], events = after(states[r], given, rule)
            promoted = [event.candidate for event in events if event.happened == "promoted"]
            assert promoted == list(np.flatnonzero(on[:, r]))
        assert [state.on for state in states] == list(streams.on)
        assert [state.share(rule) for state in states] == pytest.approx(list(streams.share))
    assert min(happened.values()) > 0


@pytest.mark.parametrize("unlabelled", ["lost", "left_out"])
@pytest.mark.parametrize("loss", ["harm", "net"])
def test_streams_with_labels_are_the_state_machine(loss: str, unlabelled: str) -> None:
    rule = LiveRule(
        loss=loss, unlabelled=unlabelled, target=0.1, window=300, run_length=100,  # type: ignore[arg-type]
        share=1.0, share_after=0.5,
    )  # fmt: skip
    count, rng = 4, np.random.default_rng(5)
    streams, states = Streams(rule, count), [LiveState.of(rule) for _ in range(count)]
    least = -1.0 if loss == "net" else 0.0
    for i in range(700):
        differs, u = rng.random((1, count)) < 0.12, rng.random(count)
        worse = 0.9 if 300 < i < 500 else 0.2
        losses = np.where(rng.random((1, count)) < worse, 1.0, least) * differs
        labelled, share = rng.random(count) < 0.7, streams.share
        streams.see(differs, u, share=share, losses=losses, labelled=labelled)
        for r in range(count):
            given = ShadowSeen(differs=(bool(differs[0, r]),), share=float(share[r]), u=float(u[r]))
            entered, number = unlabelled == "lost", states[r].n
            states[r], _ = after(states[r], given, rule)
            if labelled[r] and (differs[0, r] or not entered):
                judged = ShadowJudged(
                    number=number, candidate=0, before=1.0 if entered else None,
                    loss=float(losses[0, r]), share=float(share[r]),
                )  # fmt: skip
                states[r], _ = after(states[r], judged, rule)
        assert [state.on for state in states] == list(streams.on)
        logs = [state.arms[0].evidence.log for state in states]
        assert logs == pytest.approx(list(streams.log[0]))


@pytest.mark.parametrize("number", range(len(WORLDS)), ids=[world.name for world in WORLDS])
def test_false_certificates_are_seldom(number: int) -> None:
    world: World = WORLDS[number]
    found = try_world(world, streams=100, requests=300, seed=number)
    p_value = at_least_p_value(found.false, found.streams, 0.05)
    assert (p_value > 1e-4) == world.keeps
