"""Which policy answers a request: from the model's name, the request's wishes, the operator's.

    suffice/auto        the operator's policy, else `auto`
    suffice/NAME        the operator's table of that name, else the policy of that name
    an upstream's model the operator's policy, else passed through untouched

The request's own `suffice.policy` comes before all of these, and `bypass` as a policy passes
through. A request that wishes for a budget, effort, target or answer format is not passed through:
the upstream would not honour it.

Who asks for a model is answered by that model, or by one that the operator lets answer for it
([models] may_answer_for). An operator's policy that asks others too is for suffice/…: a request for
the model is then passed through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, SufficeError, UnknownName
from suffice.executors.scorer import load_scorer
from suffice.gateway.certificates.guarded_policy import GuardedPolicy
from suffice.gateway.certificates.live_control import LIVE
from suffice.gateway.certificates.live_policy import LivePolicy
from suffice.gateway.certificates.live_ways import Ways
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.config import BYPASS, GatewayConfig
from suffice.gateway.config_errors import BadSetting
from suffice.gateway.wire.requests import NO_WISHES, SufficeFields
from suffice.gateway.wire.safe_regex import check_answer_format
from suffice.policies.auto import Auto
from suffice.policies.fixed import Single
from suffice.policies.models import models_of
from suffice.policies.registry import POLICIES, build_policy, parse_policy
from suffice.policies.tool_plan.react import React

NAMESPACE = "suffice/"
T = TypeVar("T")
AUTO = "auto"
# Policies that cannot run by name alone: they want rungs, a scorer or a list of models.
_NEEDS_MORE = {"cascade", "best_of_n", "agreement", "certified"}
# What a target confidence is called by the policies that stop at one.
_TARGET_OPTIONS = ("threshold", "consensus")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRoute:
    """How to answer: `policy` None passes through; `model` None is the first upstream's first."""

    policy: AnyPolicy | None
    model: str | None
    asked: str | None = None  # the model that the client named; None: it named suffice/…


class PolicyRouter:
    """The operator's policies, built and checked once."""

    plain: AnyPolicy = Single()

    def __init__(self, config: GatewayConfig, monitors: Monitors | None = None) -> None:
        self._config = config
        monitors = monitors or Monitors()
        # Policies are immutable, and the same few are asked for again and again.
        self._parsed = lru_cache(maxsize=256)(parse_policy)
        self.score = None
        if config.scorer is not None:
            self.score = _checked("scorer", load_scorer, config.scorer)
        self._tables = {
            name: GuardedPolicy.over(_checked(f"policies.{name}", build_policy, table), monitors)
            for name, table in config.policies.items()
        }
        ways = Ways.of(config)
        if ways is not None:
            if LIVE in self._tables:
                raise BadSetting(f"policies.{LIVE}", InputError(
                    "the policy of [live] has this name: give the table another"))  # fmt: skip
            kinds = tuple(LivePolicy(control=each) for each in monitors.live_of(config, ways))
            first = kinds[0]
            self._tables[LIVE] = first if len(kinds) == 1 else replace(first, clusters=kinds)
        if config.answer_format is not None:
            _checked("answer_format", check_answer_format, config.answer_format)
        default = config.policy or (LIVE if ways is not None else None)
        self._default = None
        if default is not None and default != BYPASS:
            self._default = _checked("policy", self._named, default)

    def named(self) -> list[tuple[str, AnyPolicy]]:
        """The operator's policies by name, the one for all requests included."""
        found = dict(self._tables)
        if self._default is not None and self._config.policy is not None:
            found.setdefault(self._config.policy, self._default)
        return list(found.items())

    def model_names(self) -> list[str]:
        """Names under `suffice/` that a client may ask for as a model."""
        wanting = _NEEDS_MORE if self.score is None else _NEEDS_MORE - {"best_of_n"}
        named = [name for name in POLICIES if name not in {*wanting, AUTO, *self._tables}]
        return [NAMESPACE + name for name in (AUTO, *self._tables, *named)]

    def choose(
        self, model: str, wishes: SufficeFields, *, price: float | None = None
    ) -> PolicyRoute:
        """How to answer a request for `model` with these wishes. Raises UnknownName.

        `price` is the lambda that a bare `auto` chooses by; one with options keeps its own.
        """
        inside = model.startswith(NAMESPACE)
        if wishes is NO_WISHES and not inside and self._operators(price) is None:
            return PolicyRoute(policy=None, model=model, asked=model)  # as good as always
        target = wishes.model or (self._config.model if inside else model)
        asked = wishes.model or (None if inside else model)
        wished = _given(wishes, "budget", "effort", "target", "answer_format", "tools")
        if wishes.policy == BYPASS:
            if wished:
                raise InputError(
                    f"{wished[0]}: bypass passes a request on as it is, and the upstream would not "
                    "honour it; name a policy, or leave it out"
                )
            return PolicyRoute(policy=None, model=target, asked=asked)
        if isinstance(wishes.policy, str):
            policy: AnyPolicy | None = self._named(wishes.policy, price)
        elif wishes.policy is not None:
            policy = build_policy(wishes.policy)
        elif inside:
            policy = self._of_model(model, price)
        else:
            policy = self._operators(price)
        if asked is not None and not inside and policy is not None:
            policy = self._allowed(policy, asked, wishes)
        if policy is None and wished:
            policy = React() if wishes.tools else self.plain
        if policy is not None and wishes.target is not None:
            policy = aimed(policy, wishes.target)
        return PolicyRoute(policy=policy, model=target, asked=asked)

    def named_by(self, wishes: SufficeFields) -> tuple[str, ...]:
        """Models, or policies of the operator's, that the wishes themselves name."""
        if wishes is NO_WISHES:
            return ()
        found = (wishes.model,) if wishes.model else ()
        if wishes.policy is None or wishes.policy == BYPASS:
            return found
        if isinstance(wishes.policy, str):
            if wishes.policy in self._tables:
                return (*found, NAMESPACE + wishes.policy)
            return (*found, *models_of(self._named(wishes.policy)))
        return (*found, *models_of(build_policy(wishes.policy)))

    def _allowed(self, policy: AnyPolicy, asked: str, wishes: SufficeFields) -> AnyPolicy | None:
        """The policy if all its models may answer for `asked`; the operator's own: None if not.

        Raises InputError for one that the request itself names.
        """
        allows = self._config.models.allows
        if isinstance(policy, LivePolicy) and asked in models_of(policy.control.ways.safe):
            return policy  # the operator named what may take its place
        others = [model for model in models_of(policy) if not allows(model, asked)]
        if not others:
            return policy
        if wishes.policy is None:
            return None
        raise InputError(
            f"policy: {policy.name} asks {', '.join(others)}, and the request is for {asked}: "
            f"name {NAMESPACE}{AUTO} as model, or have the operator allow it (may_answer_for)"
        )

    def _of_model(self, model: str, price: float | None) -> AnyPolicy:
        name = model.removeprefix(NAMESPACE)
        if name == AUTO:
            return self._operators(price) or self._named(AUTO, price)
        if name in self._tables or name in POLICIES:
            return self._named(name)
        raise UnknownName.of("model", model, self.model_names(), "; GET /v1/models lists all")

    def _operators(self, price: float | None) -> AnyPolicy | None:
        return self._named(AUTO, price) if self._config.policy == AUTO else self._default

    def _named(self, text: str, price: float | None = None) -> AnyPolicy:
        if text == AUTO and price is not None and text not in self._tables:
            return Auto(price=price)
        return self._tables[text] if text in self._tables else self._parsed(text)


def _given(wishes: SufficeFields, *names: str) -> list[str]:
    return [name for name in names if getattr(wishes, name) is not None]


def aimed(policy: AnyPolicy, target: float) -> AnyPolicy:
    """`policy` stopping at confidence `target`. Raises InputError if it has no such notion."""
    anything: Any = policy  # every policy is a frozen dataclass of its options
    names = {field.name for field in fields(anything)}
    if "inner" in names:
        return _replaced(anything, "inner", aimed(anything.inner, target))
    for option in _TARGET_OPTIONS:
        if option in names:
            return _replaced(anything, option, target)
    raise InputError(
        f"policy {policy.name} does not stop at a target confidence; adaptive_consistency and "
        "deepconf do"
    )


def _replaced(policy: Any, option: str, value: Any) -> AnyPolicy:
    changed: AnyPolicy = replace(policy, **{option: value})
    return changed


def _checked(where: str, build: Callable[[Any], T], value: Any) -> T:
    try:
        return build(value)
    except SufficeError as error:
        raise BadSetting(where, error) from None
