from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.policies.confidence_signals import lowest_group, scaled_window, trace_signal
from suffice.policies.deepconf import DeepConfOffline, DeepConfOnline
from tests.policies.scripted import FREE_FORM, Said, play


def trace(answer, level, *, length=40, dip=None, chunk_tokens=1):
    """Confidence `level`, or `dip` in the middle half."""
    levels = [level] * length
    if dip is not None:
        levels[length // 4 : 3 * length // 4] = [dip] * (length // 2)
    return Said(answer, tokens=length, confidences=tuple(levels), chunk_tokens=chunk_tokens)


class Blind(Said):
    """A sample of an engine that sends no alternatives."""

    def chunks(self, max_tokens=None):
        return [replace(chunk, confidences=()) for chunk in super().chunks(max_tokens)]


@pytest.mark.parametrize("signal", ["mean", "bottom", "tail", "lowest"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_offline_vote_equals_brute_force(signal, keep):
    rng = random.Random(f"{signal}{keep}")
    said = [
        Said(
            rng.choice("123-"),
            tokens=30,
            confidences=tuple(rng.uniform(0.5, 4.0) for _ in range(30)),
        )
        for _ in range(12)
    ]
    strength = [trace_signal(each.confidences, signal) for each in said]
    least = np.percentile(strength, 100 * (1 - keep))
    weights: dict[str, float] = {}
    for each, value in zip(said, strength, strict=True):
        if value >= least and each.answer != "-":
            weights[each.answer] = weights.get(each.answer, 0.0) + value
    outcome = play(DeepConfOffline(samples=12, keep=keep, signal=signal), said)
    assert outcome.answer == max(weights, key=weights.__getitem__)
    assert outcome.outcome.measure == pytest.approx(max(weights.values()) / sum(weights.values()))


def test_offline_filtering_overturns_a_hesitant_majority():
    said = [trace("1", 3.0)] * 3 + [trace("2", 3.0, dip=1.5)] * 5
    assert play(DeepConfOffline(samples=8, keep=1.0, signal="mean"), said).answer == "2"
    assert play(DeepConfOffline(samples=8, keep=0.3, signal="lowest"), said).answer == "1"


def online(**options):
    return DeepConfOnline(**{"max_samples": 24, "warmup": 8, "parallel": 4, **options})


def test_agreement_during_warm_up_ends_it():
    outcome = play(online(), [trace("5", 2.0)] * 24).outcome
    assert outcome.samples_run == 8
    assert outcome.confidence == 1.0


def test_a_trace_below_the_threshold_is_cancelled_early_and_does_not_vote():
    warm = [trace(answer, 2.0 + i / 10) for i, answer in enumerate("12121212")]
    weak = trace("2", 2.0, dip=0.3)
    result = play(online(max_samples=12, keep=0.9), [*warm, *[weak] * 4])
    outcome = result.outcome
    assert outcome.samples_cancelled == 4
    killed = outcome.records[8]
    assert killed.status == "cancelled"
    assert killed.usage.completion_tokens < 20  # of 40: while the dip was going on
    assert "below" in killed.reason
    # The threshold and the kill as a plain loop finds them.
    size = scaled_window(40)
    threshold = np.percentile([lowest_group(each.confidences, size) for each in warm], 10)
    first = next(n for n in range(size, 41) if np.mean(weak.confidences[n - size : n]) < threshold)
    assert killed.usage.completion_tokens == first


@pytest.mark.parametrize("chunk_tokens", [1, 3, 64])
def test_the_same_traces_are_cancelled_however_they_are_chunked(chunk_tokens):
    warm = [trace(answer, 2.0 + i / 10) for i, answer in enumerate("12121212")]
    rest = [trace("1", 2.5), trace("2", 2.5, dip=0.3), trace("1", 2.9), trace("2", 1.0)] * 4
    said = [
        Said(each.answer, each.tokens, each.confidences, chunk_tokens=chunk_tokens)
        for each in [*warm, *rest]
    ]
    outcome = play(online(max_samples=24), said).outcome
    votes = {record.sample for record in outcome.records if record.status == "finished"}
    assert votes == {n for n in range(24) if n < 8 or said[n].confidences[20] >= 2.0}
    assert outcome.completion.text.split()[-1] == "1"


def test_consensus_stops_before_the_cap():
    warm = [trace(answer, 2.0) for answer in "11111112"]
    said = [*warm, *[trace("1", 3.0)] * 90]
    outcome = play(online(max_samples=98, consensus=0.95), said).outcome
    assert 8 < outcome.samples_run < 40
    assert outcome.measure >= 0.95


def test_without_confidences_the_majority_stands():
    said = [Said("1", confidences=(1.0,) * 4)] * 2
    policy = DeepConfOffline(samples=2)
    assert "logprobs" in policy.needs
    assert play(policy, said).answer == "1"
    blind = play(online(), lambda launch: Blind("1"))
    assert blind.drawn == 8  # the warm-up shows that more would be drawn in the dark
    assert "plain majority" in blind.outcome.why
    assert play(online(), ["tale"], request=FREE_FORM).drawn == 1


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="signal"):
        DeepConfOffline(signal="median")
    with pytest.raises(InputError, match="max_samples"):
        DeepConfOnline(warmup=16, max_samples=8)
