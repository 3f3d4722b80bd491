"""Recorded answers as live traffic: what is certified, what it costs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, TraceSet, messages_json
from suffice.policies.live.state import LiveRule
from suffice.policies.registry import parse_policy
from suffice.recipes.live.play import Pool, Traffic, play_live

CASCADE = "agreement:models=a+b > single@large"
PRICES = Prices.parse(["a=0/1", "b=0/1", "large=0/20"])


def recording(differ: float = 0.02, agree: float = 0.8, questions: int = 200) -> TraceSet:
    """Two small models that agree on a share, and then differ from the large one on some."""

    def traces() -> Any:
        for number in range(questions):
            agreed = number < agree * questions
            wrong = number < differ * questions
            question = Question(
                dataset="easy" if agreed else "hard", name=str(number),
                messages_json=messages_json(f"question {number}"), reference="1",
                answer_format="recorded",
            )  # fmt: skip
            said = {"a": "2" if wrong else "1", "large": "1"}
            said["b"] = said["a"] if agreed else "3"
            for model, answer in said.items():
                yield Trace(
                    question=question, model=model, sample=0, answer=answer,
                    correct=answer == "1", prompt_tokens=10, completion_tokens=10,
                )  # fmt: skip

    return trace_set(traces())


def pool(**how: Any) -> Pool:
    ways = [(text, parse_policy(text)) for text in ("single@large", CASCADE)]
    return Pool.of(recording(**how), ways[0], ways[1:], prices=PRICES)


def test_a_pool_holds_what_differs_and_what_it_costs() -> None:
    found = pool()
    assert found.differs[1].mean() == pytest.approx(0.02)
    assert found.cost is not None
    assert found.cost[0].mean() == pytest.approx(20 * 10 / 1e6)
    assert found.cost[1].mean() == pytest.approx((2 * 10 + 0.2 * 20 * 10) / 1e6)
    # Where the two disagree the last step is the safe way's own sample.
    assert found.reused[1].mean() == pytest.approx(0.2 * 20 * 10 / 1e6)


def test_it_is_certified_and_saves() -> None:
    rule = LiveRule(target=0.08, share=0.5)
    played = play_live(pool(), rule, Traffic(requests=1200, rate_per_s=2.0), seeds=20)
    assert np.isfinite(played.requests_to_certificate).all()
    shadowed = np.median(played.shadowed_to_certificate)
    assert 40 < shadowed < 200
    assert np.median(played.requests_to_certificate) == pytest.approx(2 * shadowed, rel=0.2)
    assert np.median(played.seconds_to_certificate) == pytest.approx(shadowed, rel=0.2)
    assert played.cost is not None and played.shadow_cost is not None
    assert (played.cost < 0.75).all() and (played.shadow_cost < 0.1).all()
    assert (played.differed < 0.05).all()
    assert played.lost_points.mean() == pytest.approx(100 * played.differed.mean())


def test_what_differs_too_often_is_not() -> None:
    rule = LiveRule(target=0.05, share=1.0)
    played = play_live(pool(differ=0.1), rule, Traffic(requests=600), seeds=40)
    assert np.isinf(played.requests_to_certificate).mean() > 0.8
    assert played.differed.mean() < 0.02


def test_traffic_drifts_from_one_set_to_another() -> None:
    found = pool()
    traffic = Traffic(requests=400, mix={"hard": 1}, drift={"easy": 1})
    begin, end = (traffic.weights(found.datasets, when) for when in (0.0, 1.0))
    easy = np.array([name == "easy" for name in found.datasets])
    assert begin[easy].sum() == 0.0 and end[easy].sum() == pytest.approx(1.0)
    play_live(found, LiveRule(share=1.0), traffic, seeds=2)


def test_bursts_change_when_requests_come_and_not_how_many() -> None:
    rng = np.random.default_rng(0)
    calm = Traffic(requests=4000, rate_per_s=10.0).seconds(rng, 4)[-1]
    bursty = Traffic(requests=4000, rate_per_s=10.0, burst=3.0).seconds(rng, 4)[-1]
    assert calm.mean() == pytest.approx(400, rel=0.1)
    assert bursty.mean() == pytest.approx(400, rel=0.15)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="burst from 1"):
        Traffic(burst=20.0)
    with pytest.raises(InputError, match="no data set 'other'"):
        Traffic(mix={"other": 1}).weights(("a", "b"), 0.0)
