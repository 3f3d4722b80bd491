"""What an answer is compared with: the operator's baseline, else one call of the model asked for.

    the request names      compared with
    a model                the operator's baseline if it names no model or just this one, else one
                           call of this model: that is what the client would have got
    suffice/NAME           the operator's baseline; without one, of a certified policy the baseline
                           of its file; else one call of the model that `model` in the settings
                           names, by default the first upstream's first

An option `suffice.model` in the request counts as naming that model.
"""

from __future__ import annotations

from suffice.core.completions import Outcome
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import SufficeError
from suffice.core.prices import Prices
from suffice.core.savings import Promise, Saving
from suffice.executors.baseline import Baseline, Length
from suffice.gateway.certificates.guarded_policy import GuardedPolicy
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_errors import BadSetting
from suffice.gateway.policy_router import PolicyRouter
from suffice.policies.fixed import Single
from suffice.policies.models import models_of
from suffice.policies.registry import parse_policy

# Requests that asked the baseline too before their ratio is worth more than a guess.
ENOUGH = 20


class Baselines:
    """The baseline of every request, built once."""

    def __init__(self, config: GatewayConfig) -> None:
        self._own: AnyPolicy | None = None
        # Of a live certificate what is saved is against its safe policy.
        text = self._text = config.baseline or config.live.safe or ""
        if text:
            try:
                self._own = parse_policy(text)
            except SufficeError as error:
                raise BadSetting("baseline", error) from None
        self._models = () if self._own is None else models_of(self._own)
        self._singles: dict[str, Baseline] = {}
        self._made: dict[tuple[str, str], Baseline] = {}

    def of(self, *, asked: str | None, target: str, policy: AnyPolicy) -> Baseline:
        """The baseline of a request for the model `asked` (None: for suffice/…).

        `target` is the model that a plain request would go to; `policy` is what answers.
        """
        own = self._own
        if own is not None and (asked is None or self._models in ((), (asked,))):
            return self._baseline(self._text, own, target, self._models)
        if (
            asked is None
            and isinstance(policy, GuardedPolicy)
            and policy.policy.promise is not None
        ):
            safe = policy.policy.safe
            return self._baseline(policy.policy.promise.baseline, safe, target, models_of(safe))
        return self.one_call(asked or target)

    def one_call(self, model: str) -> Baseline:
        """The request sent to a model once."""
        found = self._singles.get(model)
        if found is None:
            if len(self._singles) > 256:  # names may come from clients
                self._singles.clear()
            found = self._singles[model] = Baseline.of(f"single@{model}", Single(), model)
        return found

    def _baseline(
        self, text: str, policy: AnyPolicy, target: str, models: tuple[str, ...]
    ) -> Baseline:
        model = models[0] if len(models) == 1 else target
        key = text, model
        found = self._made.get(key)
        if found is None:
            if len(self._made) > 256:
                self._made.clear()
            shown = text if models else f"{text}@{model}"
            found = self._made[key] = Baseline.of(shown, policy, model)
        return found


class Lengths:
    """What is known of the length of answers that the baseline would have given.

    Of a certified policy its file says it, and audits of answers that the baseline did not give
    correct that: both are pooled, each by its number of questions. Of others, requests in which the
    baseline was asked beside another model are remembered: their ratio is a guess for those in
    which it was not.
    """

    def __init__(self) -> None:
        self._both: dict[tuple[str, str], list[float]] = {}  # requests, tokens without, tokens of
        self._audits: dict[str, list[float]] = {}  # by certificate: answers, the baseline's tokens

    def of(self, outcome: Outcome, baseline: Baseline, policy: AnyPolicy | None) -> Length | None:
        """The baseline's completion tokens for an outcome that did not ask it; None: unknown."""
        promise = None if policy is None else promise_of(policy, outcome)
        if (
            isinstance(policy, GuardedPolicy)
            and promise is not None
            and promise.comparable(baseline.text)
        ):
            recorded = self._recorded(policy)
            if recorded is not None:
                return recorded
        seen = self._both.get((outcome.arm, baseline.text))
        if seen is None or seen[0] < ENOUGH or not seen[1]:
            return None
        tokens = outcome.usage.completion_tokens * seen[2] / seen[1]
        return Length(tokens, "estimated", "both_asked")

    def _recorded(self, guard: GuardedPolicy) -> Length | None:
        """The mean over recorded and audited answers that the baseline did not give."""
        certified = guard.policy
        audits, tokens = self._audits.get(certified.guarantee.id, (0.0, 0.0))
        if certified.unasked_tokens is None:
            return Length(tokens / audits, "recorded", "audits") if audits >= ENOUGH else None
        known = max(1, certified.unasked_questions)
        mean = (known * certified.unasked_tokens + tokens) / (known + audits)
        return Length(mean, "recorded", "audits" if audits >= ENOUGH else "calibration")

    def audited(self, guard: GuardedPolicy, found: Outcome) -> None:
        """Take in what the baseline drew for an answer that it did not give."""
        sums = self._audits.setdefault(guard.policy.guarantee.id, [0.0, 0.0])
        sums[0] += 1.0
        sums[1] += found.usage.completion_tokens

    def learn(self, outcome: Outcome, baseline: Baseline, saving: Saving | None) -> None:
        """Take an outcome in that asked the baseline's model beside another."""
        if saving is None or saving.basis != "measured":
            return
        own = sum(r.usage.completion_tokens for r in outcome.records if r.model != baseline.model)
        if not own:
            return
        theirs = outcome.usage.completion_tokens - own
        key = outcome.arm, baseline.text
        if key not in self._both and len(self._both) > 256:
            return
        sums = self._both.setdefault(key, [0.0, 0.0, 0.0])
        for place, value in enumerate((1.0, own, theirs)):
            sums[place] += value


def relative_prices(policy: AnyPolicy | None) -> Prices | None:
    """Prices that a certified policy was calibrated at, where the operator gave none."""
    return (
        policy.policy.prices if isinstance(policy, GuardedPolicy) and policy.policy.prices else None
    )


def promise_of(policy: AnyPolicy, outcome: Outcome) -> Promise | None:
    """What the certificate promises that covers this outcome; None: none does."""
    covered = outcome.certificate is not None and outcome.certificate.status == "valid"
    return policy.policy.promise if covered and isinstance(policy, GuardedPolicy) else None


def baseline_in_words(config: GatewayConfig) -> str:
    """What answers are compared with, on one line."""
    unit = "USD" if config.prices else "tokens"
    text = (
        config.baseline
        or config.live.safe
        or "one call of the model asked for (of a policy file: its baseline)"
    )
    return f"{text}; costs in {unit}"


def price_notes(config: GatewayConfig) -> list[str]:
    """A line for every policy of the operator's whose costs cannot be compared."""
    own = PolicyRouter(config)
    found = []
    for name, policy in own.named():
        prices = config.prices.over(relative_prices(policy) or Prices())
        lacking = prices.lacking(models) if len(models := models_of(policy)) > 1 else ()
        if lacking:
            found.append(
                f"note: no price for {', '.join(lacking)}: what policy {name} saves cannot be told "
                f"(--price {lacking[0]}=PROMPT/COMPLETION, or [prices])"
            )
    return found
