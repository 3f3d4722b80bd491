"""The gateway's settings: a TOML file (or command-line options) to frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from suffice.backends.router import RoutingConfig
from suffice.core.completions import Budget
from suffice.core.prices import Prices
from suffice.core.settings import STRICT, About
from suffice.core.thinking import ModeTokens
from suffice.core.urls import checked_url
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.config_sections import (
    AutoConfig,
    ComparisonConfig,
    KeysConfig,
    LedgerConfig,
    LiveConfig,
    LogConfig,
    TracesConfig,
)
from suffice.gateway.cors import CorsConfig
from suffice.gateway.fallbacks import Fallback
from suffice.gateway.tools import ToolsConfig
from suffice.gateway.wire.headers import HeadersConfig
from suffice.throughput.pricing import OwnModel

# What `policy` may be besides the name of a policy: pass requests through untouched.
BYPASS = "bypass"
# A client names its own policy and options; this is what bounds them unless the operator says so.
DEFAULT_BUDGET = Budget(samples=64, tool_calls=64)


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
    tools: ToolsConfig = field(default_factory=ToolsConfig)


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
