"""Random arrivals in closed form, held against a simulation that goes pass by pass."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.architecture.catalog import load_model
from suffice.hardware import load_hardware
from suffice.recipes.size.queueing import simulate_load
from suffice.throughput.load_curve import LoadCurve, batches, load_curve
from suffice.throughput.serving import Serving
from suffice.throughput.workload import RequestClass, Workload

CHAT = Workload.single(1024, 256)


def curve_of(
    name: str, hardware: str, workload: Workload, *, tensor: int = 1, data: int = 1
) -> LoadCurve:
    serving = Serving(
        hardware=load_hardware(hardware),
        engine="vllm",
        tensor_parallel=tensor,
        data_parallel=data,
        expert_parallel=data > 1,
        max_batch=1024,
    )
    found = load_curve(load_model(name), serving, workload, random=True)
    assert found is not None
    return found


def test_the_columns_of_a_curve() -> None:
    curve = curve_of("meta-llama/Llama-3.1-8B", "h100", CHAT)
    assert curve.batch[0] == 1.0
    assert curve.batch[-1] == min(curve.largest_batch, 1024)
    assert np.all(np.diff(curve.rate_per_s) >= 0)
    assert np.all(np.diff(curve.step_s) > 0)
    # Little's law; the handling of a request that no step waits for is in the times alone.
    np.testing.assert_allclose(curve.rate_per_s[5:], (curve.batch / curve.e2e_s)[5:], rtol=0.03)


def test_batches_cover_from_one_to_the_most() -> None:
    assert batches(1).tolist() == [1.0]
    found = batches(1000)
    assert (found[0], found[-1]) == (1.0, 1000.0)
    assert np.all(np.diff(found) >= 1)
    assert np.all(found[1:] / found[:-1] <= 2.0)


@pytest.mark.parametrize("load", [(0.2, 1), (0.2, 4), (0.5, 1), (0.5, 4), (0.7, 1), (0.7, 4)])
@pytest.mark.parametrize(
    ("name", "hardware", "layout", "lengths"),
    [
        ("meta-llama/Llama-3.1-8B", "h100", (1, 1), (1024, 256)),
        ("DeepSeek-V3", "h200", (8, 1), (4096, 1024)),
        ("gpt-oss-120b", "h100", (1, 1), (2000, 500)),
        ("gpt-oss-120b", "h100", (1, 4), (2000, 500)),
    ],
)
def test_formulas_and_simulation_agree(
    name: str,
    hardware: str,
    layout: tuple[int, int],
    lengths: tuple[int, int],
    load: tuple[float, int],
) -> None:
    """Mean TPOT within 15 %, that of 95 % within 20 %; TTFT within 45 %: a queue's tail."""
    workload = Workload.single(*lengths)
    busy, replicas = load
    curve = curve_of(name, hardware, workload, tensor=layout[0], data=layout[1])
    rate = busy * curve.most_per_s
    told = curve.under_rate(rate, replicas=replicas, within=0.95)
    assert told is not None
    found = simulate_load(
        curve, workload, rate_per_s=rate * replicas, replicas=replicas,
        requests=int(max(2000, 8 * told.running * replicas)),
    )  # fmt: skip
    ttft_s, tpot_s = found.quantiles(0.95)
    assert told.tpot_s == pytest.approx(float(found.tpot_s.mean()), rel=0.15)
    assert told.tpot_within_s == pytest.approx(tpot_s, rel=0.2)
    assert told.ttft_s == pytest.approx(float(found.ttft_s.mean()), rel=0.45, abs=0.03)
    assert told.ttft_within_s == pytest.approx(ttft_s, rel=0.45, abs=0.03)


def test_a_rate_beyond_the_largest_batch_is_none() -> None:
    curve = curve_of("meta-llama/Llama-3.1-8B", "h100", CHAT)
    assert curve.under_rate(curve.most_per_s * 1.3, replicas=1, within=0.95) is None
    low = curve.under_rate(1e-3, replicas=1, within=0.95)
    assert low is not None
    assert low.ttft_s == pytest.approx(curve.prefill_alone_s, rel=0.01)
    assert low.tpot_s == pytest.approx(float(curve.step_s[0]), rel=0.01)


def test_more_load_is_slower_and_more_of_the_requests_too() -> None:
    curve = curve_of("meta-llama/Llama-3.1-8B", "h100", CHAT)
    rates = np.linspace(0.5, 0.8 * curve.most_per_s, 12)
    told = [curve.under_rate(rate, replicas=2, within=0.95) for rate in rates]
    assert all(each is not None for each in told)
    for name in ("ttft_s", "tpot_s", "ttft_within_s", "tpot_within_s", "running"):
        values = [getattr(each, name) for each in told]
        assert values == sorted(values), name
    few = curve.under_rate(5.0, replicas=2, within=0.6)
    many = curve.under_rate(5.0, replicas=2, within=0.99)
    assert few is not None
    assert many is not None
    assert few.tpot_within_s < many.tpot_within_s


def test_unlike_prompts_wait_longer() -> None:
    mixed = Workload(
        classes=(
            RequestClass(input_tokens=200, output_tokens=256, weight=9),
            RequestClass(input_tokens=8440, output_tokens=256, weight=1),
        )
    )
    alike = Workload.single(round(mixed.mean_input_tokens), 256)
    told = [
        curve_of("meta-llama/Llama-3.1-8B", "h100", w).under_rate(10.0, replicas=1, within=0.95)
        for w in (alike, mixed)
    ]
    assert told[0] is not None
    assert told[1] is not None
    assert told[1].ttft_s > told[0].ttft_s
    assert told[1].ttft_within_s > 1.5 * told[0].ttft_within_s


def test_a_simulation_conserves_requests() -> None:
    curve = curve_of("meta-llama/Llama-3.1-8B", "h100", CHAT)
    found = simulate_load(curve, CHAT, rate_per_s=4.0, replicas=3, requests=1000)
    assert len(found.ttft_s) == len(found.tpot_s) == 750
    assert found.ttft_s.min() > 0
    # Nobody is faster than a lone request.
    assert found.tpot_s.min() >= 0.99 * float(curve.step_s[0])
    again = simulate_load(curve, CHAT, rate_per_s=4.0, replicas=3, requests=1000)
    np.testing.assert_array_equal(found.ttft_s, again.ttft_s)
