"""What a request's tokens amount to: FLOPs, GPU-seconds and money, by model.

A hosted model has a price per token (suffice.core.prices). A model of one's own, of whatever
architecture, has a machine: exact counts give FLOPs, the predictor gives seconds, the machine's
hourly price gives money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from suffice.architecture import counts, model_counts
from suffice.architecture.model import Model
from suffice.architecture.shape import Shape
from suffice.core.completions import Cost, CostModel, Usage
from suffice.core.prices import Prices, TokenPrice
from suffice.throughput.analytic import predict
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

# The request whose predicted speed stands for every request's: rates per token hardly depend on it
# while contexts stay in the low thousands.
TYPICAL = Workload.single(1024, 256)


@dataclass(frozen=True, kw_only=True)
class OwnModel:
    """A model served on one's own machine; `batch` sequences run together (None: all that fit)."""

    shape: Shape | Model
    serving: Serving
    batch: int | None = None

    def cost(self, usage: Usage) -> Cost:
        """FLOPs, GPU-seconds and their money; prompt tokens found in the cache are free.

        Formula: prefill(P) - prefill(cached) + C decode(P + C/2), matmul convention, output matrix
        included. GPU-seconds are the predictor's per-token rates times the tokens, all devices
        counted.
        """
        prompt, drawn = usage.prompt_tokens, usage.completion_tokens
        cached = min(usage.cached_tokens or 0, prompt)
        flops = 0.0
        if prompt > cached:
            flops += _prefill_flops(self.shape, prompt)
            flops -= _prefill_flops(self.shape, cached) if cached else 0
        if drawn:
            context = prompt + drawn // 2
            flops += drawn * _decode_flops(self.shape, context)
        prefill_s, decode_s = self._rates
        gpu_s = (prompt - cached) * prefill_s + drawn * decode_s
        usd_per_s = self.serving.hardware.usd_per_hour / 3600.0
        return Cost(tokens=usage.total_tokens, flops=flops, gpu_s=gpu_s, usd=gpu_s * usd_per_s)

    @cached_property
    def _rates(self) -> tuple[float, float]:
        """GPU-seconds per prompt token and per completion token."""
        found = predict(self.shape, self.serving, TYPICAL, batch=self.batch)
        devices = self.serving.devices
        prefill_s = found.prefill_s / TYPICAL.mean_input_tokens
        return devices * prefill_s, devices / found.decode_tokens_per_s


def _prefill_flops(what: Shape | Model, prompt: int) -> int:
    if isinstance(what, Model):
        return model_counts.prefill_flops(what, prompt)
    return counts.prefill_flops(what, prompt, "matmul")


def _decode_flops(what: Shape | Model, context: int) -> int:
    if isinstance(what, Model):
        return model_counts.decode_flops(what, context)
    return counts.decode_flops(what, context, "matmul", lm_head=True)


def cost_model(
    by_model: Mapping[str, TokenPrice | OwnModel], prices: Prices | None = None
) -> CostModel:
    """Cost of `(model, usage)`; only tokens are known of a model that is not in `by_model`.

    Money is that of `prices` where they know the model.
    """
    given = prices or Prices()

    def cost(model: str, usage: Usage) -> Cost:
        known = by_model.get(model)
        found = Cost(tokens=usage.total_tokens) if known is None else known.cost(usage)
        price = given.of(model)
        return found if price is None else replace(found, usd=price.usd(usage))

    return cost
