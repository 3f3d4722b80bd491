"""Settings of what watches the traffic: ledger, keys, log, traces, the price of `auto`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from suffice.ledger.redact import Redactor

# What of a conversation the ledger keeps.
Texts = Literal["none", "prompts", "outputs", "all"]
WhenFull = Literal["serve", "refuse"]
LogFormat = Literal["text", "json", "none"]
LogLevel = Literal["debug", "info", "warning", "error"]
NO_LEDGER = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """Where requests are written and how long they are kept.

    `url` is a file, `postgresql://…`, or "none" for a ledger in memory that ends with the process
    and keeps the last requests only. None leaves the choice to the command line.
    """

    url: str | None = field(default=None, repr=False)  # it may hold a password
    texts: Texts = "none"
    redact: tuple[str, ...] = ()
    retention_days: float | None = 90.0
    text_retention_days: float | None = 30.0
    when_full: WhenFull = "serve"
    queue_rows: int = 50_000
    flush_s: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """Whether a key is asked for; None: as soon as the ledger holds one."""

    required: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The log on standard error; `requests` writes a line per request, never its text."""

    format: LogFormat = "text"
    level: LogLevel = "info"
    requests: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesConfig:
    """OpenTelemetry spans; None sends none. Headers for the collector come from the environment."""

    endpoint: str | None = None
    service_name: str = "suffice"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """How `auto` keeps its mean spend (in samples' worth per request) at a target; None: it does
    not, and its price stays as it is written."""

    spend_target: float | None = None
    price: float = 0.005
    rate: float = 0.0005


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LedgerTable(_Strict):
    """`[ledger]`."""

    url: str | None = None
    url_env: str | None = None
    texts: Texts = "none"
    redact: tuple[str, ...] = ()
    retention_days: float | None = Field(default=90.0, gt=0)
    text_retention_days: float | None = Field(default=30.0, gt=0)
    when_full: WhenFull = "serve"
    queue_rows: int = Field(default=50_000, ge=100)
    flush_s: float = Field(default=0.2, ge=0.01, le=10)

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).password:
            raise ValueError("a password does not belong into a file: name the URL in url_env")
        return url

    def config(self, url: str | None) -> LedgerConfig:
        """The settings; `url` is what the environment said. Raises ConfigError on a bad rule."""
        Redactor(self.redact)
        fields = self.model_dump(exclude={"url_env"})
        return LedgerConfig(**{**fields, "url": url or self.url})


class KeysTable(_Strict):
    """`[keys]`."""

    required: bool | None = None


class LogTable(_Strict):
    """`[log]`."""

    format: LogFormat = "text"
    level: LogLevel = "info"
    requests: bool = True


class TracesTable(_Strict):
    """`[traces]`."""

    endpoint: str | None = None
    service_name: str = "suffice"


class AutoTable(_Strict):
    """`[auto]`."""

    spend_target: float | None = Field(default=None, gt=0)
    price: float = Field(default=0.005, ge=0)
    rate: float = Field(default=0.0005, gt=0)
