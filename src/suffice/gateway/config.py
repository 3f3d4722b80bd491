"""The gateway's settings: a TOML file (or command-line options) to frozen values."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from suffice.architecture.catalog import load_shape
from suffice.backends.mode_tokens import mode_tokens_of
from suffice.backends.retry import RetryConfig
from suffice.core.completions import Budget
from suffice.core.errors import ConfigError, InputError
from suffice.core.prices import TokenPrice
from suffice.core.thinking import ModeTokens
from suffice.gateway.config_problems import NotValid, problems_of
from suffice.gateway.sections import (
    AutoConfig,
    AutoTable,
    KeysConfig,
    KeysTable,
    LedgerConfig,
    LedgerTable,
    LogConfig,
    LogTable,
    TracesConfig,
    TracesTable,
)
from suffice.gateway.traffic import CacheConfig, TrafficConfig
from suffice.hardware import load_hardware
from suffice.throughput.pricing import OwnModel
from suffice.throughput.serving import Serving

# What `policy` may be besides the name of a policy: pass requests through untouched.
BYPASS = "bypass"
# A client names its own policy and options; this is what bounds them unless the operator says so.
DEFAULT_BUDGET = Budget(samples=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """One OpenAI-compatible server. The key is read from the environment, never from a file."""

    url: str
    name: str | None = None
    api_key: str | None = field(default=None, repr=False)
    connect_s: float = 5.0
    first_byte_s: float = 120.0
    silence_s: float = 60.0
    cost: TokenPrice | OwnModel | None = None
    mode_tokens: ModeTokens | None = None  # its model chooses by them whether it thinks


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything that `create_app` needs to know.

    `policy` answers requests that name an upstream's model; None passes them through. `model` is
    what `suffice/<policy>` runs on, by default the first upstream's first. `policies` are tables
    of the operator's own, as `suffice.policies.registry.build_policy` reads them. `budget` bounds
    every request that a policy answers; requests can only lower it.
    """

    upstreams: tuple[UpstreamConfig, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    policy: str | None = None
    model: str | None = None
    answer_format: str | None = None
    scorer: str | None = None  # module:function, see suffice.executors.scorer
    budget: Budget = DEFAULT_BUDGET
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    keep_alive_s: float = 5.0
    max_body_bytes: int = 32 * 2**20
    max_choices: int = 16
    workers: int = 1
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    allowed_hosts: tuple[str, ...] = ()  # names besides loopback's, while no keys are asked for
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)
    log: LogConfig = field(default_factory=LogConfig)
    traces: TracesConfig = field(default_factory=TracesConfig)
    auto: AutoConfig = field(default_factory=AutoConfig)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _PriceTable(_Strict):
    prompt_usd: float = Field(ge=0)
    completion_usd: float = Field(ge=0)
    cached_usd: float | None = Field(default=None, ge=0)


class _ModeTokensTable(_Strict):
    """Either the ids, or the folder of the model whose tokenizer has them."""

    think: int | None = Field(default=None, ge=0)
    short: int | None = Field(default=None, ge=0)
    model: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> _ModeTokensTable:
        given = (self.think is not None, self.short is not None)
        if given != (self.model is None,) * 2:
            raise ValueError(
                "give the ids of both tokens, think and short, or model, the folder whose "
                "tokenizer.json has <think> and <short>"
            )
        return self


class _UpstreamTable(_Strict):
    url: str
    name: str | None = None
    api_key_env: str | None = None
    connect_s: float = Field(default=5.0, gt=0)
    first_byte_s: float = Field(default=120.0, gt=0)
    silence_s: float = Field(default=60.0, gt=0)
    usd_per_million_tokens: _PriceTable | None = None
    shape: str | None = None
    hardware: str | None = None
    weight_dtype: Literal["bf16", "fp16", "fp8", "int8", "int4"] = "bf16"
    tensor_parallel: int = Field(default=1, ge=1)
    batch: int | None = Field(default=None, ge=1)
    mode_tokens: _ModeTokensTable | None = None


class _BudgetTable(_Strict):
    completion_tokens: int | None = Field(default=None, ge=0)
    samples: int | None = Field(default=DEFAULT_BUDGET.samples, ge=0)
    elapsed_s: float | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)


class _RetryTable(_Strict):
    attempts: int = Field(default=3, ge=1, le=20)
    base_s: float = Field(default=0.1, ge=0)
    longest_s: float = Field(default=2.0, ge=0)


class _CacheTable(_Strict):
    max_bytes: int = Field(default=0, ge=0)
    max_entry_bytes: int = Field(default=2**20, gt=0)
    ttl_s: float = Field(default=300.0, gt=0)


class _TrafficTable(_Strict):
    max_running: int = Field(default=1024, ge=1)
    max_waiting: int = Field(default=1024, ge=0)
    max_wait_s: float = Field(default=30.0, ge=0)
    header_s: float = Field(default=20.0, gt=0)
    body_s: float = Field(default=120.0, gt=0)
    stall_s: float = Field(default=60.0, gt=0)
    total_s: float | None = Field(default=3600.0, gt=0)
    drain_s: float = Field(default=30.0, ge=0)
    max_header_bytes: int = Field(default=64 * 2**10, ge=1024)
    max_response_bytes: int = Field(default=256 * 2**20, gt=0)
    retry: _RetryTable = _RetryTable()
    cache: _CacheTable = _CacheTable()


class _File(_Strict):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    policy: str | None = None
    model: str | None = None
    answer_format: str | None = None
    scorer: str | None = None
    keep_alive_s: float = Field(default=5.0, gt=0)
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    max_choices: int = Field(default=16, ge=1)
    workers: int = Field(default=1, ge=1, le=256)
    allowed_hosts: tuple[str, ...] = ()
    traffic: _TrafficTable = _TrafficTable()
    ledger: LedgerTable = LedgerTable()
    keys: KeysTable = KeysTable()
    log: LogTable = LogTable()
    traces: TracesTable = TracesTable()
    auto: AutoTable = AutoTable()
    budget: _BudgetTable = _BudgetTable()
    upstream: tuple[_UpstreamTable, ...] = ()
    policies: dict[str, dict[str, Any]] = {}


def load_config(path: Path) -> GatewayConfig:
    """Settings from a TOML file. Raises ConfigError that names every mistake with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"gateway config {str(path)!r} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"gateway config {str(path)!r} cannot be read: {error}") from None
    return config_from(tables, source=str(path), text=text)


def config_from(tables: Mapping[str, Any], *, source: str, text: str = "") -> GatewayConfig:
    """Settings from parsed TOML; `source`, and lines of its `text`, are named in errors."""
    try:
        file = _File.model_validate(dict(tables))
    except ValidationError as error:
        raise NotValid(source, problems_of(error, _File, text)) from None
    return GatewayConfig(
        upstreams=tuple(_upstream(table, source) for table in file.upstream),
        host=file.host,
        port=file.port,
        policy=file.policy,
        model=file.model,
        answer_format=file.answer_format,
        scorer=file.scorer,
        budget=Budget(**file.budget.model_dump()),
        policies=file.policies,
        keep_alive_s=file.keep_alive_s,
        max_body_bytes=file.max_body_bytes,
        max_choices=file.max_choices,
        workers=file.workers,
        traffic=_traffic(file.traffic),
        allowed_hosts=file.allowed_hosts,
        ledger=file.ledger.config(_from_environment(file.ledger.url_env, "ledger.url_env", source)),
        keys=KeysConfig(**file.keys.model_dump()),
        log=LogConfig(**file.log.model_dump()),
        traces=TracesConfig(**file.traces.model_dump()),
        auto=AutoConfig(**file.auto.model_dump()),
    )


def _from_environment(variable: str | None, where: str, source: str) -> str | None:
    value = os.environ.get(variable) if variable else None
    if variable and not value:
        raise ConfigError(
            f"gateway config {source!r}: {where} names the environment variable {variable}, "
            "which is not set"
        )
    return value


def _traffic(table: _TrafficTable) -> TrafficConfig:
    fields = table.model_dump()
    return TrafficConfig(
        **{
            **fields,
            "retry": RetryConfig(**fields["retry"]),
            "cache": CacheConfig(**fields["cache"]),
        }
    )


def _upstream(table: _UpstreamTable, source: str) -> UpstreamConfig:
    key = None
    if table.api_key_env is not None:
        key = os.environ.get(table.api_key_env)
        if not key:
            raise ConfigError(
                f"gateway config {source!r}: upstream {table.url} wants its key in the "
                f"environment variable {table.api_key_env}, which is not set"
            )
    return UpstreamConfig(
        url=table.url,
        name=table.name,
        api_key=key,
        connect_s=table.connect_s,
        first_byte_s=table.first_byte_s,
        silence_s=table.silence_s,
        cost=_cost(table, source),
        mode_tokens=_mode_tokens(table, source),
    )


def _mode_tokens(table: _UpstreamTable, source: str) -> ModeTokens | None:
    given = table.mode_tokens
    if given is None:
        return None
    try:
        if given.model is not None:
            return mode_tokens_of(Path(given.model))
        assert given.think is not None and given.short is not None
        return ModeTokens(think=given.think, short=given.short)
    except InputError as error:
        raise ConfigError(
            f"gateway config {source!r}: upstream {table.url}: mode_tokens: {error}"
        ) from None


def _cost(table: _UpstreamTable, source: str) -> TokenPrice | OwnModel | None:
    if (table.shape is None) != (table.hardware is None):
        raise ConfigError(
            f"gateway config {source!r}: upstream {table.url} needs both shape and hardware "
            "to count FLOPs and GPU-seconds, or neither"
        )
    if table.usd_per_million_tokens is not None:
        if table.shape is not None:
            raise ConfigError(
                f"gateway config {source!r}: upstream {table.url} has a price and a shape; keep one"
            )
        return TokenPrice(**table.usd_per_million_tokens.model_dump())
    if table.shape is None or table.hardware is None:
        return None
    serving = Serving(
        hardware=load_hardware(table.hardware),
        weight_dtype=table.weight_dtype,
        tensor_parallel=table.tensor_parallel,
    )
    return OwnModel(shape=load_shape(table.shape), serving=serving, batch=table.batch)
