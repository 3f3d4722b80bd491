from __future__ import annotations

import pytest

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import decode_flops
from suffice.core.completions import Usage
from suffice.core.errors import InputError
from suffice.core.prices import TokenPrice
from suffice.hardware import load_hardware
from suffice.throughput.pricing import OwnModel, cost_model
from suffice.throughput.serving import Serving

SHAPE = load_shape("meta-llama/Llama-3.2-1B")


def own(**serving: int) -> OwnModel:
    return OwnModel(
        shape=SHAPE, serving=Serving(hardware=load_hardware("h100"), **serving), batch=32
    )  # fmt: skip


def test_a_price_counts_cached_tokens_apart() -> None:
    price = TokenPrice(prompt_usd=2.0, completion_usd=8.0, cached_usd=0.5)
    usage = Usage(prompt_tokens=1000, cached_tokens=600, completion_tokens=100)
    cost = price.cost(usage)
    assert cost.usd == pytest.approx((400 * 2.0 + 600 * 0.5 + 100 * 8.0) / 1e6)
    assert (cost.tokens, cost.flops, cost.gpu_s) == (1100, None, None)
    with pytest.raises(InputError, match="prompt_usd"):
        TokenPrice(prompt_usd=-1.0, completion_usd=0.0)


def test_decoding_flops_are_the_sum_over_tokens() -> None:
    usage = Usage(prompt_tokens=100, cached_tokens=100, completion_tokens=50)
    one_by_one = sum(decode_flops(SHAPE, 100 + i, "matmul", lm_head=True) for i in range(1, 51))
    assert own().cost(usage).flops == pytest.approx(one_by_one, rel=1e-4)


def test_cost_adds_up_and_caching_saves() -> None:
    model = own()
    prompt = model.cost(Usage(prompt_tokens=1000))
    cached = model.cost(Usage(prompt_tokens=1000, cached_tokens=1000))
    assert prompt.gpu_s is not None
    assert prompt.flops is not None
    assert prompt.gpu_s > 0
    assert (cached.gpu_s, cached.flops, cached.usd) == (0.0, 0.0, 0.0)
    assert prompt.usd == pytest.approx(prompt.gpu_s * model.serving.hardware.usd_per_hour / 3600.0)
    # 2 N per token and the attention to what precedes it; far from the peak in no direction.
    assert prompt.flops == pytest.approx(2 * 973e6 * 1000, rel=0.2)


def test_more_devices_cost_more_gpu_seconds() -> None:
    usage = Usage(prompt_tokens=500, completion_tokens=100)
    single, double = own().cost(usage).gpu_s, own(tensor_parallel=2).cost(usage).gpu_s
    assert single is not None
    assert double is not None
    assert double > single


def test_models_without_a_price_count_tokens() -> None:
    model = cost_model({"a": TokenPrice(prompt_usd=1.0, completion_usd=1.0)})
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    assert model("a", usage).usd == pytest.approx(2e-6)
    assert model("b", usage).usd is None
    assert model("b", usage).tokens == 2
