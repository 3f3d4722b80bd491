"""The gateway's settings: a TOML file (or command-line options) to frozen values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, TypeAdapter, ValidationError, model_validator

from suffice.architecture.catalog import load_model
from suffice.architecture.counts import WeightDtype
from suffice.backends.mode_tokens import mode_tokens_of
from suffice.backends.router import RoutingConfig
from suffice.core.completions import Budget
from suffice.core.errors import ConfigError, InputError
from suffice.core.files import read_toml
from suffice.core.prices import Prices
from suffice.core.settings import STRICT, About
from suffice.core.thinking import ModeTokens
from suffice.core.urls import address_of, checked_url
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.config_errors import (
    NotValid,
    Place,
    Problem,
    lines_of,
    problem_at,
    problems_of,
)
from suffice.gateway.config_sections import (
    AutoConfig,
    ComparisonConfig,
    KeysConfig,
    LedgerConfig,
    LedgerTable,
    LiveConfig,
    LogConfig,
    TracesConfig,
)
from suffice.gateway.cors import CorsConfig
from suffice.gateway.fallbacks import Fallback, fallbacks_of
from suffice.gateway.wire.headers import HeadersConfig
from suffice.hardware import load_hardware
from suffice.policies.policy_table import is_policy_file, policy_table
from suffice.throughput.pricing import OwnModel
from suffice.throughput.serving import Serving

# What `policy` may be besides the name of a policy: pass requests through untouched.
BYPASS = "bypass"
# A client names its own policy and options; this is what bounds them unless the operator says so.
DEFAULT_BUDGET = Budget(samples=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """What a file and the program say of an upstream alike."""

    url: Annotated[
        str,
        AfterValidator(checked_url),
        About("any server with OpenAI's API", example="http://localhost:8000/v1"),
    ]
    name: Annotated[
        str | None, About("in messages and metrics; else host and port", example="vllm-0")
    ] = None
    max_connections: Annotated[
        int, Ge(1), About("connections to it at once; more requests wait for one")
    ] = 2048
    connect_s: Annotated[float, Gt(0), About("to open a connection")] = 5.0
    first_byte_s: Annotated[
        float, Gt(0), About("silence before a stream; queueing and prefill are in it")
    ] = 120.0
    silence_s: Annotated[float, Gt(0), About("silence between two pieces of a stream")] = 60.0
    answer_s: Annotated[
        float, Gt(0), About("a whole answer that is not streamed; not tried again after that")
    ] = 600.0
    weight: Annotated[
        float, Ge(0), About("share among upstreams of the same model; 0: only if no other can")
    ] = 1.0
    models: Annotated[tuple[str, ...], About("what it serves, if it has no /v1/models to ask")] = ()
    base_path: Annotated[
        str | None,
        About("stands for /v1; else as the URL says, or /v1", example="/v1beta/openai"),
    ] = None
    api_key_header: Annotated[
        str | None, About("header of its key; else Authorization: Bearer", example="api-key")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig(UpstreamSettings):
    """One OpenAI-compatible server. The key is read from the environment, never from a file.

    Raises InputError on a URL that is none, or that has a secret in it.
    """

    api_key: str | None = field(default=None, repr=False)
    cost: OwnModel | None = None  # of its models, for FLOPs and GPU-seconds
    mode_tokens: ModeTokens | None = None  # its model chooses by them whether it thinks

    def __post_init__(self) -> None:
        checked_url(self.url)


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
class ModelsConfig:
    """`[models]`: which model may answer a request for another. None may by default."""

    __pydantic_config__ = STRICT
    may_answer_for: Annotated[
        dict[str, tuple[str, ...]],
        About(
            "a model, and those whose requests a policy may let it answer",
            example={"Qwen/Qwen3-8B": ["Qwen/Qwen3-32B"]},
        ),
    ] = field(default_factory=dict, hash=False)

    def allows(self, answering: str, asked: str) -> bool:
        """Whether a request for `asked` may be answered by `answering`."""
        return answering == asked or asked in self.may_answer_for.get(answering, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings:
    """What a file and the program say alike."""

    host: Annotated[str, About("other addresses: make keys first (suffice keys add)")] = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65535), About("0 takes a free one")] = 8080
    policy: Annotated[
        str | None,
        About(
            "answers requests for an upstream's own model: a policy or a policy file; "
            "else they pass through",
            example="adaptive_consistency",
        ),
    ] = None
    model: Annotated[
        str | None,
        About("what suffice/<policy> runs on; else the first upstream's first", example="qwen3-8b"),
    ] = None
    answer_format: Annotated[
        str | None,
        About("how answers are compared if a request does not say", example="number"),
    ] = None
    scorer: Annotated[
        str | None,
        About("verifier for best_of_n, as module:function", example="my_package.verify:score"),
    ] = None
    audit_share: Annotated[
        float,
        Ge(0),
        Le(1),
        About("share of the answers under a certificate that the baseline gives too, e.g. 0.01"),
    ] = 0.0
    keep_alive_s: Annotated[
        float, Gt(0), About("between two comments of a stream that has nothing to send yet")
    ] = 5.0
    max_body_bytes: Annotated[int, Gt(0), About("of a request's body")] = 32 * 2**20
    max_choices: Annotated[int, Ge(1), About("n of a request that a policy answers")] = 16
    unstreamed_tokens: Annotated[
        int,
        Ge(0),
        About(
            "samples limited to so many tokens are asked for without a stream where nothing acts "
            "on one before its end; 0: all are streamed"
        ),
    ] = 1024
    workers: Annotated[int, Ge(1), Le(256), About("processes that share the port")] = 1
    allowed_hosts: Annotated[
        tuple[str, ...], About("names besides loopback's, while no keys are asked for")
    ] = ()
    models: ModelsConfig = field(default_factory=ModelsConfig)
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    fallback: tuple[Fallback, ...] = ()
    headers: HeadersConfig = field(default_factory=HeadersConfig)
    cors: CorsConfig = field(default_factory=CorsConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)
    log: LogConfig = field(default_factory=LogConfig)
    traces: TracesConfig = field(default_factory=TracesConfig)
    auto: AutoConfig = field(default_factory=AutoConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    live: LiveConfig = field(default_factory=LiveConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig(SharedSettings):
    """Everything that `create_app` needs to know.

    `policy` answers requests that name an upstream's model; None passes them through. `model` is
    what `suffice/<policy>` runs on, by default the first upstream's first. `policies` are tables
    of the operator's own, as `suffice.policies.registry.build_policy` reads them. `budget` bounds
    every request that a policy answers; requests can only lower it. `scorer`: see
    suffice.executors.scorer. `baseline` is the policy that answers are compared with; None: see
    suffice.gateway.baselines.
    """

    upstreams: tuple[UpstreamConfig, ...] = ()
    budget: Budget = DEFAULT_BUDGET
    baseline: str | None = None
    prices: Prices = field(default_factory=Prices)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)


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

    Paths of policy files are relative to `folder`. Raises NotValid with every mistake.
    """
    try:
        file = _FILE.validate_python(dict(tables))
    except ValidationError as error:
        raise NotValid(source, problems_of(error, ConfigFile, text)) from None
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
        raise NotValid(source, problems)
    assert ledger is not None
    shared = {each.name: getattr(file, each.name) for each in fields(SharedSettings)}
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
