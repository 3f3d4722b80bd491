"""What a call cost, where its policy did not say: tokens at the price of who served them."""

from __future__ import annotations

from suffice.backends.address import Address
from suffice.core.completions import Cost, total_cost
from suffice.core.prices import Prices
from suffice.gateway.calls import Call
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.observe.records import Spent
from suffice.throughput.pricing import OwnModel, cost_model

NO_PRICES = Prices()


class CallCosts:
    """Prices of the operator's models, by upstream."""

    def __init__(self, config: GatewayConfig) -> None:
        self._prices = config.prices
        self._upstreams = config.upstreams
        self._own = own_models(config)
        self._counts_only = not self._own and self._prices == NO_PRICES

    def of(self, call: Call, spent: Spent) -> Cost:
        """The cost of what `call` took of each model."""
        if call.outcomes and len(spent) == sum([each.samples_run for each in call.outcomes]):
            return total_cost([outcome.cost for outcome in call.outcomes])
        # A policy whose client left has no upstream on the call; with one there is no choice.
        if self._counts_only:
            return Cost(tokens=sum([usage.total_tokens for _, usage in spent]))
        upstreams = self._upstreams
        name = call.upstream or (name_of(upstreams[0]) if len(upstreams) == 1 else "")
        own = self._own.get(name)
        known = {} if own is None else {model: own for model, _ in spent}
        cost = cost_model(known, self._prices)
        return total_cost(cost(model, usage) for model, usage in spent if usage.total_tokens)


def own_models(config: GatewayConfig) -> dict[str, OwnModel]:
    """The operator's own models, by the name that their upstream has in a call."""
    return {name_of(each): each.cost for each in config.upstreams if each.cost is not None}


def name_of(upstream: UpstreamConfig) -> str:
    """The upstream's name in calls and metrics."""
    return upstream.name or Address.of(upstream.url, base_path=upstream.base_path).name
