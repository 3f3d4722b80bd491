"""The frontier: costs, hull, oracle, best buys, two shapes, and its refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from suffice.architecture.catalog import load_shape
from suffice.core.errors import InputError
from suffice.core.prices import Prices, TokenPrice
from suffice.evals.trace_files import trace_set
from suffice.hardware import load_hardware
from suffice.recipes.frontier.compound import compound
from suffice.recipes.frontier.output import against, policy_rows, write_frontier
from suffice.recipes.frontier.run import FrontierConfig, frontier
from suffice.throughput.pricing import OwnModel, cost_model
from suffice.throughput.serving import Serving
from tests.recipes.known_traces import make

CONFIG = FrontierConfig(shuffles=1, draws=200)


@pytest.fixture(scope="module")
def traces():
    return make(60, samples=8, small=(0.8, 0.3))


@pytest.fixture(scope="module")
def one(traces):
    return trace_set([trace for trace in traces if trace.model == "small"])


def test_points_are_means_of_the_recording(traces):
    policies = ("single@small", "self_consistency:samples=8@small")
    config = FrontierConfig(policies=policies, shuffles=8,
                            draws=200)  # fmt: skip
    costs = cost_model({m: TokenPrice(prompt_usd=1.0, completion_usd=2.0) for m in traces.models})
    found = frontier(traces, config, cost_model=costs)
    single, vote = found.points
    inside = traces.arm == traces.arm_index("small")
    mean = traces.completion_tokens[inside].mean()
    assert vote.tokens.estimate == pytest.approx(8 * mean)
    assert single.tokens.estimate == pytest.approx(mean, rel=0.1)
    # One prompt of 20 tokens, seven times found in the cache and paid all the same by this price.
    assert vote.usd.estimate == pytest.approx((8 * 20 + 2 * 8 * mean) / 1e6)
    assert vote.samples == 8
    assert found.axes == ("tokens", "usd")
    assert vote.accuracy.low < vote.accuracy.estimate < vote.accuracy.high


def test_saved_is_against_what_is_run_today(traces):
    """One minus the cost over the baseline's, prompts included, cached ones at their own price."""
    policies = ("single@large", "self_consistency:samples=4@small")
    config = FrontierConfig(policies=policies, shuffles=8, draws=200, baseline="single@large")
    prices = Prices.parse(["small=1/2/0.1", "large=10/20"])
    found = frontier(traces, config, cost_model=prices)
    today, vote = found.points
    assert (found.baseline, found.unit) == ("single@large", "usd")
    assert today.saved is None  # it is the baseline
    assert vote.saved is not None
    assert vote.saved.estimate == pytest.approx(1 - vote.usd.estimate / today.usd.estimate)
    assert vote.saved.low < vote.saved.estimate < vote.saved.high
    unpriced = frontier(traces, config)
    assert all(point.saved is None for point in unpriced.points)
    assert "--price" in against(unpriced)


def test_without_prices_tokens_of_one_model_are_compared(one):
    config = FrontierConfig(policies=("self_consistency:samples=4@small",), shuffles=1, draws=200)
    found = frontier(one, config)
    (vote,) = found.points
    assert (found.baseline, found.unit) == ("single@small", "tokens")
    assert vote.saved is not None
    assert -3.5 < vote.saved.estimate < -2.5  # four samples, each with its prompt
    assert "costs" in policy_rows(found)[1][0][-1]


def test_hull_oracle_and_buys(traces):
    found = frontier(traces, CONFIG)
    best = max(point.accuracy.estimate for point in found.points)
    assert found.oracle.accuracy.estimate >= best
    hull = found.hull("tokens")
    values = [point.accuracy.estimate for point in hull]
    assert values == sorted(values)
    assert len(hull) >= 2
    assert found.buys[-1].accuracy == best
    assert all(a.accuracy <= b.accuracy for a, b in zip(found.buys, found.buys[1:], strict=False))
    header, rows, strong = policy_rows(found)
    assert len(rows) == len(found.points) + 1
    assert all(len(row) == len(header) for row in rows)
    assert len(strong) == len(hull)


def test_a_faster_shape_buys_samples(one, tmp_path):
    serving = Serving(hardware=load_hardware("h100"))
    slow = OwnModel(shape=load_shape("meta-llama/Llama-3.2-3B"), serving=serving)
    fast = OwnModel(shape=load_shape("meta-llama/Llama-3.2-1B"), serving=serving)
    found = compound(one, CONFIG, slow, fast, ("3B", "1B"))
    assert found.speedup > 1.5
    for gain in found.gains:
        assert gain.samples_other / gain.samples_base == pytest.approx(found.speedup)
        assert gain.accuracy_other >= gain.accuracy_base
    assert found.base.axes == ("tokens", "flops", "gpu_s", "usd")
    written = write_frontier(found.base, tmp_path, "gpu_s", found)
    assert {"frontier.html", "frontier.csv", "accuracy_flops.png", "shapes.png"} <= {
        path.name for path in written
    }


def test_token_level_policies_need_confidences_and_use_them(one):
    config = FrontierConfig(policies=("deepconf:max_samples=8,warmup=2,parallel=2",), shuffles=1,
                            draws=100)  # fmt: skip
    with pytest.raises(InputError, match="token confidences"):
        frontier(one, config)
    from dataclasses import replace

    generator = np.random.default_rng(0)
    with_levels = trace_set(
        replace(t, confidences=(1 + t.correct + generator.normal(0, 0.2, t.completion_tokens)))
        for t in one
    )
    found = frontier(with_levels, config)
    assert found.points[0].samples <= 8
    votes = FrontierConfig(policies=("self_consistency:samples=8",), shuffles=1, draws=100)
    assert found.points[0].tokens.estimate < frontier(one, votes).points[0].tokens.estimate


def test_refusals(traces):
    with pytest.raises(InputError, match="not known for every model"):
        frontier(traces, FrontierConfig(axis="usd", policies=("single@small",), shuffles=1))
    with pytest.raises(InputError, match="axis must be one of"):
        FrontierConfig(axis="joules")
    with pytest.raises(InputError, match="names no model"):
        frontier(traces, FrontierConfig(policies=("single",), shuffles=1))


def test_verdicts_alone_are_counted_in_samples(tmp_path, traces):
    """No tokens, no answers: single models on an axis of samples, nothing voted on or saved."""
    bare = trace_set(
        replace(trace, answer=None, text="", completion_tokens=None, prompt_tokens=None)
        for trace in traces
    )
    found = frontier(bare, CONFIG)
    assert (found.axes, found.axis) == (("samples",), "samples")
    assert [point.policy for point in found.points] == [f"single@{m}" for m in bare.models]
    assert all(point.tokens is None and point.saved is None for point in found.points)
    assert found.oracle.cost("samples").estimate == 1.0
    assert "does not count the tokens" in against(found)
    header, rows, _ = policy_rows(found)
    assert header == ["policy", "accuracy, %", "samples", "saved"] and len(rows[0]) == 4
    assert write_frontier(found, tmp_path, found.axis)
    with pytest.raises(InputError, match="does not count the tokens of every sample"):
        frontier(bare, replace(CONFIG, axis="tokens"))
