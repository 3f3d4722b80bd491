from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.completions import SENTINEL_LOGPROB, TokenLogprob
from suffice.core.errors import InputError
from suffice.policies.confidence_signals import (
    Window,
    bottom_groups,
    group_confidences,
    lowest_group,
    scaled_window,
    tail,
    threshold_keeping,
    trace_signal,
)

traces = st.lists(st.floats(0.0, 30.0), min_size=1, max_size=300)


def plain_groups(values, window):
    """Every full window's mean, one slice at a time."""
    if len(values) <= window:
        return [np.mean(values)]
    return [np.mean(values[i : i + window]) for i in range(len(values) - window + 1)]


@given(traces, st.integers(1, 80))
def test_signals_equal_the_plain_reference(values, window):
    groups = plain_groups(values, window)
    lowest_tenth = sorted(groups)[: max(1, int(0.1 * len(groups)))]
    assert group_confidences(values, window) == pytest.approx(groups, abs=1e-9)
    assert lowest_group(values, window) == pytest.approx(min(groups), abs=1e-9)
    assert bottom_groups(values, window) == pytest.approx(np.mean(lowest_tenth), abs=1e-9)
    assert tail(values, window) == pytest.approx(np.mean(values[-window:]), abs=1e-9)
    assert trace_signal(values, "mean") == pytest.approx(np.mean(values), abs=1e-9)


@given(st.lists(st.floats(-12.0, -1e-6), min_size=1, max_size=25), st.integers(1, 20))
def test_token_confidence_equals_the_plain_reference(logprobs, k):
    token = TokenLogprob(
        token="a", logprob=logprobs[0], top=tuple((str(i), p) for i, p in enumerate(logprobs))
    )
    best = np.sort(np.asarray(logprobs))[::-1][:k]
    assert token.confidence(k) == pytest.approx(-best.mean(), abs=1e-12)


@pytest.mark.parametrize("sentinel", [-9999.0, -math.inf, SENTINEL_LOGPROB])
def test_sentinels_are_dropped_before_averaging(sentinel):
    token = TokenLogprob(token="a", logprob=-1.0, top=(("a", -1.0), ("b", -3.0), ("c", sentinel)))
    assert token.confidence() == 2.0
    assert TokenLogprob(token="a", logprob=-1.0, top=(("c", sentinel),)).confidence() is None
    assert TokenLogprob(token="a", logprob=-1.0).confidence() is None


@given(traces, st.integers(1, 60), st.lists(st.integers(1, 120), min_size=1, max_size=12))
def test_window_is_exact_and_ignores_chunking(values, size, cuts):
    whole = Window(size=size).extend(values)
    pieces, at, turn = Window(size=size), 0, 0
    while at < len(values):
        step = cuts[turn % len(cuts)]
        pieces = pieces.extend(values[at : at + step])
        at, turn = at + step, turn + 1
    assert pieces == whole  # to the last bit: both add in the same order
    assert whole.count == len(values)
    if len(values) < size:
        assert whole.lowest is None
        assert whole.total / whole.count == pytest.approx(np.mean(values), abs=1e-9)
    else:
        assert whole.lowest == pytest.approx(min(plain_groups(values, size)), abs=1e-9)


@pytest.mark.parametrize(("length", "window"), [(10, 8), (400, 50), (8000, 1000), (65536, 2048)])
def test_window_scales_with_the_trace(length, window):
    assert scaled_window(length) == window


def test_threshold_keeps_the_wanted_share():
    signals = [float(i) for i in range(101)]
    assert threshold_keeping(signals, 0.9) == pytest.approx(10.0)
    assert threshold_keeping(signals, 0.1) == pytest.approx(90.0)


def test_a_trace_without_confidences_has_no_signal():
    with pytest.raises(InputError, match="no confidence signal"):
        trace_signal((), "tail")
