"""Playing recorded samples in long pieces gives what playing them token by token gives."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.core.completions import Budget, Cost
from suffice.core.errors import BudgetTooSmall, NoAnswer
from suffice.core.requests import Message, Request, Sampling
from suffice.core.series import Floats, first_below
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.replay import play
from suffice.policies.confidence_signals import Window
from suffice.policies.registry import parse_policy

POLICIES = [
    "single",
    "self_consistency:samples=5",
    "self_consistency:samples=7,stop_when_decided=yes",
    "adaptive_consistency:max_samples=9,ahead=2",
    "esc:window=3,max_samples=8",
    "deepconf:max_samples=12,warmup=4,parallel=3,keep=.5,consensus=.9",
    "deepconf:max_samples=10,warmup=2,parallel=4,keep=.2,consensus=1,largest_window=9",
    "deepconf_offline:samples=6,keep=.5,signal=tail",
    "best_of_n:samples=6,wave=2,enough=.8",
    "short_m_at_k:k=5,m=2",
    "difficulty_binned:pilot=3,edges=.5+.9,more=2+4+0",
    "auto",
    "agreement:models=a+b",
    "single:accept=.9 > deepconf:max_samples=8,warmup=3,parallel=2,keep=.4@b",
]


@cache
def recorded(seed: int, model: str, sample: int, gaps: bool) -> RecordedSample:
    rng = random.Random(f"{seed}/{model}/{sample}")
    tokens = rng.randint(1, 150)
    noise = np.random.default_rng(rng.randrange(2**32))
    confidences = rng.uniform(0.5, 3.0) + noise.normal(0.0, 0.5, tokens)
    if gaps:
        confidences[noise.random(tokens) < 0.1] = np.nan
        confidences = confidences[: max(1, tokens - rng.randint(0, 2))]
    return RecordedSample(
        text="word " * tokens,
        tokens=tokens,
        prompt_tokens=rng.choice([0, 11]),
        confidences=confidences,
        logprobs=-noise.random(tokens) if rng.random() < 0.8 else None,
        answer=rng.choice(["1", "1", "2", "3", None]),
        score=rng.random(),
    )


def played(policy: str, seed: int, budget: Budget, piece: int | None, gaps: bool, first: int):  # noqa: PLR0917
    request = Request(
        messages=(Message(role="user", content="?"),),
        model="m",
        answer_format="number",
        sampling=Sampling(max_tokens=120),
    )

    def cost(model, usage):
        return Cost(tokens=usage.total_tokens, usd=usage.total_tokens * 1e-6)

    try:
        return play(
            parse_policy(policy),
            request,
            lambda launch: recorded(seed, launch.draw.model, launch.sample, gaps),
            budget=budget,
            cost_model=cost,
            extract_cut=lambda said: str(len(said.text)),
            token_s=0.25,
            first_ticks=first,
            piece=piece,
        )
    except (BudgetTooSmall, NoAnswer) as error:
        return str(error)


budgets = st.builds(
    Budget,
    completion_tokens=st.none() | st.integers(30, 900),
    samples=st.none() | st.integers(1, 8),
    elapsed_s=st.none() | st.floats(1.0, 60.0),
    usd=st.none() | st.floats(1e-4, 2e-3),
)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), budget=budgets, gaps=st.booleans(), first=st.integers(0, 3))
def test_long_pieces_are_token_by_token(policy, seed, budget, gaps, first):
    assert played(policy, seed, budget, None, gaps, first) == played(
        policy, seed, budget, 1, gaps, first
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.floats(0, 10, width=16), min_size=1, max_size=200),
    size=st.integers(1, 70),
    cut=st.integers(0, 200),
    level=st.floats(0, 10),
)
def test_first_below_is_where_the_window_first_falls(values, size, cut, level):
    window, found = Window(size=size), None
    for n, value in enumerate(values):
        window = window.extend((value,))
        if window.lowest is not None and window.lowest < level:
            found = n
            break
    array = np.asarray(values, dtype=np.float64)
    assert first_below(array, size, level) == found
    begin, end = Floats(array[:cut]), Floats(array[cut:])
    whole, parts = Window(size=size).extend(values), Window(size=size).extend(begin).extend(end)
    assert (whole.total, whole.lowest, whole.recent) == (parts.total, parts.lowest, parts.recent)


def test_a_sample_that_is_cancelled_has_spent_its_tokens_so_far():
    """Four samples of 10, 20, 30 and 40 tokens; after two ended the other two are cancelled."""
    outcome, ticks, spans = play(
        parse_policy("short_m_at_k:k=4,m=2"),
        Request(messages=(), model="m", answer_format="number"),
        lambda launch: RecordedSample(text="x", tokens=10 * (launch.sample + 1), answer="1"),
    )
    assert [r.usage.completion_tokens for r in outcome.records] == [10, 20, 19, 19]
    assert ticks == 20
    assert [tuple(span) for span in spans] == [(0, 10), (0, 20), (0, 19), (0, 19)]
