"""The settings' TOML file: its tables, and the values that they become."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from annotated_types import Ge
from pydantic import TypeAdapter, ValidationError, model_validator

from suffice.architecture.catalog import load_model
from suffice.architecture.counts import WeightDtype
from suffice.backends.mode_tokens import mode_tokens_of
from suffice.core.completions import Budget
from suffice.core.errors import ConfigError, InputError
from suffice.core.files import read_toml
from suffice.core.prices import Prices
from suffice.core.settings import STRICT, About
from suffice.core.thinking import ModeTokens
from suffice.core.urls import address_of
from suffice.gateway.config import (
    DEFAULT_BUDGET,
    GatewayConfig,
    SharedSettings,
    UpstreamConfig,
    UpstreamSettings,
)
from suffice.gateway.config_errors import (
    InvalidConfig,
    Place,
    Problem,
    lines_of,
    problem_at,
    problems_of,
)
from suffice.gateway.config_sections import (
    LedgerTable,
)
from suffice.gateway.fallbacks import fallbacks_of
from suffice.hardware import load_hardware
from suffice.policies.policy_table import is_policy_file, policy_table
from suffice.throughput.pricing import OwnModel
from suffice.throughput.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeTokensTable:
    """Either the ids, or the folder of the model whose tokenizer has them."""

    __pydantic_config__ = STRICT
    think: Annotated[
        int | None, Ge(0), About("id of the token that begins thinking", example=6)
    ] = None
    short: Annotated[int | None, Ge(0), About("id of the one that begins an answer", example=5)] = (
        None
    )
    model: Annotated[
        str | None, About("or the folder whose tokenizer.json has both", example="path/to/model")
    ] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = (self.think is not None, self.short is not None)
        if given != (self.model is None,) * 2:
            raise ValueError(
                "give the ids of both tokens, think and short, or model, the folder whose "
                "tokenizer.json has <think> and <short>"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTable(UpstreamSettings):
    """`[[upstream]]`."""

    __pydantic_config__ = STRICT
    api_key_env: Annotated[
        str | None, About("environment variable of its key", example="UPSTREAM_API_KEY")
    ] = None
    shape: Annotated[
        str | None,
        About("model of one's own, for FLOPs and seconds", example="meta-llama/Llama-3.2-1B"),
    ] = None
    hardware: Annotated[str | None, About("the machine it runs on", example="h100")] = None
    weight_dtype: Annotated[
        WeightDtype | None,
        About(
            "bf16, fp16, fp8, int8, fp4, mxfp4 or int4; else as the model's config says",
            example="fp8",
        ),
    ] = None
    tensor_parallel: Annotated[int, Ge(1), About("devices that share its weights")] = 1
    batch: Annotated[
        int | None, Ge(1), About("sequences that run together; else all that fit", example=32)
    ] = None
    mode_tokens: Annotated[
        ModeTokensTable | None,
        About("of a model that says first whether it thinks", example={"think": 6, "short": 5}),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTable:
    """`[budget]`: bounds every request that a policy answers, all samples together."""

    __pydantic_config__ = STRICT
    completion_tokens: Annotated[int | None, Ge(0), About("drawn at most", example=100_000)] = None
    samples: Annotated[int | None, Ge(0), About("drawn at most", example=64)] = (
        DEFAULT_BUDGET.samples
    )
    elapsed_s: Annotated[
        float | None, Ge(0), About("then it answers with what it has", example=60)
    ] = None
    usd: Annotated[float | None, Ge(0), About("spent at most", example=0.5)] = None
    tool_calls: Annotated[int | None, Ge(0), About("calls of tools that the gateway runs")] = (
        DEFAULT_BUDGET.tool_calls
    )
    tool_s: Annotated[
        float | None, Ge(0), About("seconds of all these calls together", example=120)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTable:
    """`[baseline]`: what answers are compared with, in one of two ways."""

    __pydantic_config__ = STRICT
    policy: Annotated[
        str | None,
        About("what you run today, with its model", example="single@Qwen/Qwen3-32B"),
    ] = None
    model: Annotated[
        str | None, About("or only its model, asked once per request", example="Qwen/Qwen3-32B")
    ] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.policy is not None and self.model is not None:
            raise ValueError("give policy or model, not both: model = M is policy = single@M")
        return self

    @property
    def text(self) -> str | None:
        """The policy, as `--baseline` takes it; None: it follows from the request."""
        return f"single@{self.model}" if self.model is not None else self.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile(SharedSettings):
    """The file's form: prices as text, and the names of secrets in the environment."""

    __pydantic_config__ = STRICT
    upstream: tuple[UpstreamTable, ...] = ()
    prices: Annotated[
        dict[str, str],
        About(
            "PROMPT/COMPLETION[/CACHED] in USD per million tokens, by model; * is every other",
            example={"Qwen/Qwen3-32B": "0.4/1.6/0.1"},
        ),
    ] = field(default_factory=dict)
    baseline: BaselineTable = field(default_factory=BaselineTable)
    budget: BudgetTable = field(default_factory=BudgetTable)
    ledger: LedgerTable = field(default_factory=LedgerTable)
    policies: Annotated[
        dict[str, dict[str, Any] | str],
        About(
            "each becomes a model, here suffice/careful; or the path of a policy file, relative to "
            'this one: careful = "policy.json"',
            example={"careful": {"policy": "adaptive_consistency", "max_samples": 16}},
        ),
    ] = field(default_factory=dict)


_FILE = TypeAdapter(ConfigFile)
T = TypeVar("T")


def load_config(path: Path) -> GatewayConfig:
    """Settings from a TOML file. Raises ConfigError that names every mistake with its line."""
    try:
        tables, text = read_toml(path, what="gateway config")
    except InputError as error:
        raise ConfigError(str(error)) from None
    return config_from(tables, source=str(path), text=text, folder=path.parent)


def config_from(
    tables: Mapping[str, Any], *, source: str, text: str = "", folder: Path = Path()
) -> GatewayConfig:
    """Settings from parsed TOML; `source`, and lines of its `text`, are named in errors.

    Paths of policy files are relative to `folder`. Raises InvalidConfig with every mistake.
    """
    try:
        file = _FILE.validate_python(dict(tables))
    except ValidationError as error:
        raise InvalidConfig(source, problems_of(error, ConfigFile, text)) from None
    lines = lines_of(text)
    problems: list[Problem] = []

    def tried(make: Callable[..., T], *given: Any, at: Place) -> T | None:
        """What `make` makes, or None and its complaint among the problems."""
        try:
            return make(*given)
        except InputError as error:
            problems.append(problem_at(at, str(error), lines))
            return None

    upstreams = [
        tried(_upstream, table, at=("upstream", number))
        for number, table in enumerate(file.upstream)
    ]
    problems += _doubles(file.upstream, lines)
    url = tried(_from_environment, file.ledger.url_env, at=("ledger", "url_env"))
    ledger = tried(file.ledger.config, url, at=("ledger", "redact"))
    prices = tried(Prices.of_table, file.prices, at=("prices",))
    tried(fallbacks_of, file.fallback, at=("fallback",))
    policies = {
        name: tried(policy_table, folder / table, at=("policies", name))
        if isinstance(table, str)
        else table
        for name, table in file.policies.items()
    }
    policy = file.policy
    if policy is not None and is_policy_file(policy):
        path = folder / policy
        policy = path.stem
        if policy in policies:
            what = f"the policy of {path.name} would be named {policy}, as one of [policies] is"
            problems.append(problem_at(("policy",), what, lines))
        policies[policy] = tried(policy_table, path, at=("policy",))
    if problems:
        raise InvalidConfig(source, problems)
    assert ledger is not None
    shared = {each.name: getattr(file, each.name) for each in fields(SharedSettings)}
    if file.tools.servers is not None:  # its path is relative to this file, as policies' are
        servers = str(folder / file.tools.servers)
        shared["tools"] = replace(file.tools, servers=servers)
    if file.live.judge is not None:
        shared["live"] = replace(file.live, judge=str(folder / file.live.judge))
    return GatewayConfig(
        **{**shared, "policy": policy},
        upstreams=tuple(each for each in upstreams if each is not None),
        budget=Budget(**asdict(file.budget)),
        baseline=file.baseline.text,
        prices=prices or Prices(),
        ledger=ledger,
        policies={name: table for name, table in policies.items() if table is not None},
    )


def _from_environment(variable: str | None) -> str | None:
    value = os.environ.get(variable) if variable else None
    if variable and not value:
        raise InputError(f"names the environment variable {variable}, which is not set")
    return value


def _upstream(table: UpstreamTable) -> UpstreamConfig:
    try:
        key = _from_environment(table.api_key_env)
    except InputError as error:
        raise InputError(f"api_key_env {error}") from None
    return UpstreamConfig(
        **{each.name: getattr(table, each.name) for each in fields(UpstreamSettings)},
        api_key=key,
        cost=_own_model(table),
        mode_tokens=_mode_tokens(table.mode_tokens),
    )


def _doubles(upstreams: tuple[UpstreamTable, ...], lines: Mapping[Place, int]) -> list[Problem]:
    """Addresses and names that are given twice."""
    found: list[Problem] = []
    for key, of in (("url", lambda each: address_of(each.url)), ("name", lambda each: each.name)):
        seen: dict[Any, int] = {}
        for number, each in enumerate(upstreams):
            value = of(each)
            first = None if value is None else seen.setdefault(value, number)
            if first not in (None, number):
                what = f"is the same as upstream.{first}.{key}: give each upstream once"
                found.append(problem_at(("upstream", number, key), what, lines))
    return found


def _mode_tokens(given: ModeTokensTable | None) -> ModeTokens | None:
    if given is None:
        return None
    try:
        if given.model is not None:
            return mode_tokens_of(Path(given.model))
        assert given.think is not None and given.short is not None
        return ModeTokens(think=given.think, short=given.short)
    except InputError as error:
        raise InputError(f"mode_tokens: {error}") from None


def _own_model(table: UpstreamTable) -> OwnModel | None:
    if (table.shape is None) != (table.hardware is None):
        raise InputError("needs both shape and hardware to count FLOPs and GPU-seconds, or neither")
    if table.shape is None or table.hardware is None:
        return None
    serving = Serving(
        hardware=load_hardware(table.hardware),
        weight_dtype=table.weight_dtype,
        tensor_parallel=table.tensor_parallel,
    )
    return OwnModel(shape=load_model(table.shape), serving=serving, batch=table.batch)
