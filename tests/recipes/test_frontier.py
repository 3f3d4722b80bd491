"""The frontier: costs, hull, oracle, best buys, two shapes, and its refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from suffice.architecture.catalog import load_shape
from suffice.core.errors import InputError
from suffice.core.prices import Prices, TokenPrice
from suffice.evals.traces.files import trace_set
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


def named(found, *policies):
    """The points of some policies."""
    by_name = {point.policy: point for point in found.points}
    return [by_name[policy] for policy in policies]


def test_points_are_means_of_the_recording(traces):
    policies = ("single@small", "self_consistency:samples=8@small")
    config = FrontierConfig(policies=policies, shuffles=8,
                            draws=200)  # fmt: skip
    costs = cost_model({m: TokenPrice(prompt_usd=1.0, completion_usd=2.0) for m in traces.models})
    found = frontier(traces, config, cost_model=costs)
    single, vote = named(found, *policies)
    inside = traces.arm == traces.arm_index("small")
    mean = traces.completion_tokens[inside].mean()
    assert vote.tokens.estimate == pytest.approx(8 * mean)
    assert single.tokens.estimate == pytest.approx(mean)
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
    today, vote = named(found, *policies)
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
    (vote,) = named(found, *config.policies)
    assert (found.baseline, found.unit) == ("single@small", "tokens")
    assert vote.saved is not None
    assert -3.5 < vote.saved.estimate < -2.5  # four samples, each with its prompt
    assert "costs" in policy_rows(found)[1][-2][-1]


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
    written = write_frontier(found.base, tmp_path, found)
    assert {"frontier.html", "frontier.csv", "accuracy_flops.png", "shapes.png"} <= {
        path.name for path in written
    }


def test_token_level_policies_need_confidences_and_use_them(one):
    config = FrontierConfig(policies=("deepconf:max_samples=8,warmup=2,parallel=2",), shuffles=1,
                            draws=100)  # fmt: skip
    with pytest.raises(InputError, match="token confidences"):
        frontier(one, config)
    generator = np.random.default_rng(0)
    with_levels = trace_set(
        replace(t, confidences=(1 + t.correct + generator.normal(0, 0.2, t.completion_tokens)))
        for t in one
    )
    found = frontier(with_levels, config)
    (early,) = (p for p in found.points if p.policy.startswith("deepconf"))
    assert early.samples <= 8
    votes = FrontierConfig(policies=("self_consistency:samples=8",), shuffles=1, draws=100)
    (whole,) = named(frontier(one, votes), "self_consistency:samples=8@small")
    assert early.tokens.estimate < whole.tokens.estimate


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
    assert header == ["policy", "accuracy, %", "shuffled", "samples", "saved"]
    assert all(len(row) == len(header) for row in rows)
    assert write_frontier(found, tmp_path)
    with pytest.raises(InputError, match="does not count the tokens of every sample"):
        frontier(bare, replace(CONFIG, axis="tokens"))


def test_fixed_models_and_the_budget_sweep_are_always_there(traces):
    """One sample of every model at every recorded effort, whatever was asked for."""
    modes = trace_set([
        replace(trace, mode=mode, completion_tokens=factor * (trace.completion_tokens or 0))
        for trace in traces
        if trace.model == "small"
        for mode, factor in (("answer", 1), ("think:512", 3), ("think:2048", 7))
    ])  # fmt: skip
    policies = ("self_consistency:samples=4@small",)
    found = frontier(trace_set([*traces]), FrontierConfig(policies=policies, shuffles=1, draws=100))
    assert [point.policy for point in found.points][:2] == ["single@small", "single@large"]
    swept = frontier(modes, FrontierConfig(policies=("single@small",), shuffles=1, draws=100))
    names = ["single@small", "one sample, think:512@small", "one sample, think:2048@small"]
    points = named(swept, *names)
    assert [round(p.tokens.estimate / points[0].tokens.estimate) for p in points] == [1, 3, 7]
    inside = modes.arm == modes.arm_index("small", "think:512")
    assert points[1].accuracy.estimate == pytest.approx(modes.correct[inside].mean())
    assert points[1].tokens.estimate == pytest.approx(modes.completion_tokens[inside].mean())


def test_the_shuffled_control_spends_the_same_without_knowing_where(traces):
    """Where a policy knows what is hard it beats its own samples dealt out at random."""
    cascade = "adaptive_consistency:max_samples=4,accept=.9@small > single@large"
    config = FrontierConfig(policies=(cascade, "self_consistency:samples=4@small"), shuffles=4,
                            draws=200)  # fmt: skip
    found = frontier(traces, config)
    adaptive, fixed = named(found, cascade, "self_consistency:samples=4@small")
    assert fixed.control is None  # every question gets the same
    assert adaptive.control is not None
    assert adaptive.accuracy.estimate > adaptive.control.estimate + 0.05
    header, rows, _ = policy_rows(found)
    shown = {row[0]: row[header.index("shuffled")] for row in rows}
    assert shown[cascade].startswith(f"{100 * adaptive.control.estimate:.1f}")
    assert shown["self_consistency:samples=4@small"] == ""


def test_a_rule_that_knows_nothing_gains_nothing_over_its_control():
    """Where both kinds are alike, where samples go is chance."""
    alike = make(150, samples=4, small=(0.6, 0.6), large=(0.9, 0.9), informative=False, seed=4)
    rule = "single:accept=.55@small > single@large"
    found = frontier(alike, FrontierConfig(policies=(rule,), shuffles=4, draws=200))
    (point,) = named(found, rule)
    assert point.control is not None
    assert abs(point.accuracy.estimate - point.control.estimate) < 0.08


def test_without_token_counts_samples_are_the_axis(traces, tmp_path):
    bare = trace_set(replace(trace, completion_tokens=None) for trace in traces)
    found = frontier(bare, FrontierConfig(shuffles=1, draws=100))
    assert (found.axes, found.axis) == (("samples",), "samples")
    single, vote = named(found, "single@small", "self_consistency:samples=8@small")
    assert (single.tokens, vote.tokens) == (None, None)
    assert (single.drawn.estimate, vote.drawn.estimate) == (1.0, 8.0)
    header, rows, _ = policy_rows(found)
    assert "tokens" not in header
    assert all(len(row) == len(header) for row in rows)
    assert write_frontier(found, tmp_path)
    with pytest.raises(InputError, match=r"in tokens are not known.*--axis samples"):
        frontier(bare, FrontierConfig(axis="tokens", shuffles=1, draws=100))
    asked = frontier(traces, FrontierConfig(axis="samples", shuffles=1, draws=100))
    assert asked.axis == "samples"
    assert asked.buys[0].budget < 1.1
