"""What all calls of a gateway share: settings, upstreams, policies, prices, limits, the cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from suffice.backends.pool import BackendPool
from suffice.core.completions import CostModel, Outcome
from suffice.core.requests import Request
from suffice.evals.comparison_pool import ComparisonPool
from suffice.executors.baseline import compare, compare_with_turns
from suffice.gateway.admission import ConcurrencyLimit
from suffice.gateway.baselines import Baselines, Lengths, promise_of, relative_prices
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.config import GatewayConfig
from suffice.gateway.fallbacks import fallbacks_of
from suffice.gateway.policy_router import PolicyRoute, PolicyRouter
from suffice.gateway.response_cache import AnswerCache
from suffice.gateway.tools import ServerTools
from suffice.gateway.wire.headers import HeaderLists
from suffice.throughput.pricing import OwnModel, cost_model
from suffice.tools.toolbox import Toolbox


class Service:
    """What all calls share; a reload puts another one in its place."""

    def __init__(
        self,
        config: GatewayConfig,
        pool: BackendPool,
        monitors: Monitors,
        comparisons: ComparisonPool,
        tools: ServerTools,
    ) -> None:
        self.config = config
        self.tools = tools
        self.pool = pool
        self.comparisons = comparisons
        self.arms = PolicyRouter(config, monitors)
        self.baselines = Baselines(config)
        self.lengths = Lengths()
        self.headers = HeaderLists.of(config.headers)
        self.fallbacks = fallbacks_of(config.fallback)
        self.places = ConcurrencyLimit(config.traffic)
        self.cache = AnswerCache(config.traffic.cache)
        self.chooses_modes = any(each.mode_tokens is not None for each in config.upstreams)
        self.calls = 0  # that are being answered with it
        self._costs: tuple[int, CostModel] | None = None

    def cost_model(self) -> CostModel:
        """What tokens cost on the upstreams that can be reached."""
        known: dict[str, OwnModel] = {}
        for backend, upstream in zip(self.pool.backends, self.config.upstreams, strict=False):
            if upstream.cost is not None:
                # One that is down, and has never told, will not cost anything either.
                known |= dict.fromkeys(self.pool.served_by(backend.name), upstream.cost)
        if self._costs is None or self._costs[0] != len(known):
            self._costs = (len(known), cost_model(known, self.config.prices))
        return self._costs[1]

    def comparison(
        self,
        route: PolicyRoute,
        question: Request,
        cost_model: CostModel,
        toolbox: Toolbox | None = None,
    ) -> Callable[[Outcome], Outcome]:
        """What holds an outcome of `question` against the baseline and a certificate's promise.

        What runs tools is compared with the same calls in turns, whatever the baseline: without
        tools nobody would have had this answer.
        """
        policy = route.policy or self.arms.plain
        baseline = self.baselines.of(asked=route.asked, target=question.model, policy=policy)

        def compared(outcome: Outcome) -> Outcome:
            if toolbox is not None:
                tools = (*question.tools, *toolbox.tools)
                in_turns = compare_with_turns(
                    outcome,
                    question,
                    tools,
                    route.asked or question.model,
                    cost_model=cost_model,
                    relative=relative_prices(policy),
                )
                return outcome.beside(in_turns, promise_of(policy, outcome))
            saving = compare(
                outcome,
                question,
                baseline,
                cost_model=cost_model,
                relative=relative_prices(policy),
                length_of=partial(self.lengths.of, policy=policy),
            )
            self.lengths.learn(outcome, baseline, saving)
            return outcome.beside(saving, promise_of(policy, outcome))

        return compared
