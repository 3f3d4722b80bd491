"""Settings of what watches the traffic: ledger, keys, log, traces, `auto`, live certificates."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator

from suffice.core.settings import STRICT, About
from suffice.core.urls import checked_url
from suffice.ledger.database import holds_password
from suffice.ledger.redact import Redactor
from suffice.policies.live.labels import Loss, Unlabelled

# What of a conversation the ledger keeps.
Texts = Literal["none", "prompts", "outputs", "all"]
WhenFull = Literal["serve", "refuse"]
LogFormat = Literal["text", "json", "none"]
LogLevel = Literal["debug", "info", "warning", "error"]
LabelsFrom = Literal["auditors", "clients"]
NO_LEDGER = "none"
OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS in the environment has what it asks for"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """Where requests are written and how long they are kept.

    `url` is a file, `postgresql://…`, or "none" for a ledger in memory that ends with the process
    and keeps the last requests only. None leaves the choice to the command line.
    """

    url: Annotated[
        str | None,
        About('a file, postgresql://user@host/database, or "none"', example="ledger.db"),
    ] = field(default=None, repr=False)  # it may hold a password
    texts: Annotated[
        Texts, About("what is kept of a conversation: none, prompts, outputs, all")
    ] = "none"
    redact: Annotated[
        tuple[str, ...],
        About("taken out of kept texts: email, phone, card, iban, key (always), or patterns"),
    ] = ()
    retention_days: Annotated[
        float | None, Gt(0), About("requests are kept so long", example=90)
    ] = 90.0
    text_retention_days: Annotated[
        float | None, Gt(0), About("and their texts so long", example=30)
    ] = 30.0
    when_full: Annotated[
        WhenFull,
        About("serve (and count what is dropped) or refuse (503), if it cannot be written"),
    ] = "serve"
    queue_rows: Annotated[int, Ge(100), About("rows that wait for the database at most")] = 50_000
    flush_s: Annotated[float, Ge(0.01), Le(10), About("between two writes")] = 0.2

    @property
    def keeps_prompts(self) -> bool:
        """Whether what was asked is kept."""
        return self.texts in ("prompts", "all")

    @property
    def keeps_outputs(self) -> bool:
        """Whether what was answered is kept."""
        return self.texts in ("outputs", "all")


def _without_password(url: str | None) -> str | None:
    if url is not None and holds_password(url):
        raise ValueError("a password does not belong into a file: name the URL in url_env")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTable(LedgerConfig):
    """`[ledger]`: the settings, and the environment variable of a URL with a password."""

    __pydantic_config__ = STRICT
    url: Annotated[
        str | None,
        AfterValidator(_without_password),
        About('a file, postgresql://user@host/database, or "none"', example="ledger.db"),
    ] = None
    url_env: Annotated[
        str | None,
        About("environment variable of a URL with a password", example="SUFFICE_LEDGER_URL"),
    ] = None

    def config(self, url: str | None) -> LedgerConfig:
        """The settings; `url` is what the environment said. Raises InputError on a bad rule."""
        Redactor(self.redact)
        plain = {each.name: getattr(self, each.name) for each in fields(LedgerConfig)}
        return LedgerConfig(**{**plain, "url": url or self.url})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """Whether a key is asked for; None: as soon as the ledger holds one."""

    __pydantic_config__ = STRICT
    required: Annotated[
        bool | None, About("ask for keys; else as soon as one was made", example=True)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The log on standard error; `requests` writes a line per request, never its text."""

    __pydantic_config__ = STRICT
    format: Annotated[LogFormat, About("text, json or none")] = "text"
    level: Annotated[LogLevel, About("debug, info, warning or error")] = "info"
    requests: Annotated[bool, About("a line per request, without its text")] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesConfig:
    """OpenTelemetry spans; None sends none. Headers for the collector come from the environment."""

    __pydantic_config__ = STRICT
    endpoint: Annotated[
        str | None,
        AfterValidator(
            lambda url: (
                None
                if url is None
                else checked_url(url, what="traces endpoint", instead=OTLP_HEADERS)
            )
        ),
        About(
            "OpenTelemetry collector (OTLP over HTTP)", example="http://localhost:4318/v1/traces"
        ),
    ] = None
    service_name: Annotated[str, About("the spans' service.name")] = "suffice"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """How `auto` keeps its mean spend (in samples' worth per request) at a target; None: it does
    not, and its price stays as it is written."""

    __pydantic_config__ = STRICT
    spend_target: Annotated[
        float | None,
        Gt(0),
        About("mean samples' worth per request that `auto` keeps to", example=4.0),
    ] = None
    price: Annotated[float, Ge(0), About("its price of a sample to begin with")] = 0.005
    rate: Annotated[float, Gt(0), About("how fast the price moves")] = 0.0005


def _cluster_by(by: str | None) -> str | None:
    if by in (None, "system") or (str(by).startswith("metadata.") and str(by) != "metadata."):
        return by
    raise ValueError(f"must be system or metadata.NAME, got {by!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """`[live]`: a certificate that is earned on traffic; off while `safe` is not given."""

    __pydantic_config__ = STRICT
    safe: Annotated[
        str | None,
        About("what answers until a cheaper way is certified", example="single@Qwen/Qwen3-32B"),
    ] = None
    cheap: Annotated[
        tuple[str, ...],
        About(
            "what may take its place, from the most cautious to the cheapest",
            example=["single@Qwen/Qwen3-8B"],
        ),
    ] = ()
    target: Annotated[
        float, Gt(0), Lt(0.5), About("share of requests that may be answered differently at most")
    ] = 0.05
    confidence: Annotated[float, Ge(0.5), Lt(1), About("of each certificate")] = 0.95
    share: Annotated[
        float, Gt(0), Le(1), About("of requests to shadow while a certificate is sought or doubted")
    ] = 0.25
    share_after: Annotated[float, Gt(0), Le(1), About("and once it is there")] = 0.05
    run_length: Annotated[
        int, Ge(100), About("least mean number of shadowed requests between two false alarms")
    ] = 2000
    window: Annotated[
        int,
        Ge(100),
        About("shadowed requests after which evidence begins anew if it is too little"),
    ] = 4000
    tokens_per_day: Annotated[
        int | None, Ge(0), About("what shadowing may take at most (UTC days)", example=5_000_000)
    ] = None
    shadow_priority: Annotated[
        int | None,
        Ge(1),
        Le(2**53),
        About(
            "added to the `priority` of shadow runs: engines that schedule by it (vLLM: "
            "--scheduling-policy priority) serve clients first; others may refuse it",
            example=1000,
        ),
    ] = None
    shadow_only: Annotated[
        bool, About("compare and report, and let the safe policy answer everything")
    ] = False
    tools: Annotated[
        bool,
        About("shadow requests with function tools too: your engine must not run tools by itself"),
    ] = False
    judge: Annotated[
        str | None,
        About("file of a judge of free text (suffice live judge writes it)", example="judge.json"),
    ] = None
    loss: Annotated[
        Loss,
        About(
            "what the target bounds: differ (answers that differ), or by labels of /v1/feedback "
            "harm (only the safe one right) or net (harm less gain)"
        ),
    ] = "differ"
    unlabelled: Annotated[
        Unlabelled,
        About("differences without a label: lost (always safe) or left_out (labels are random)"),
    ] = "lost"
    cluster_by: Annotated[
        str | None,
        AfterValidator(_cluster_by),
        About(
            "a certificate for each kind of prompt: system (its system message) or metadata.NAME "
            "(what the client says)",
            example="metadata.task",
        ),
    ] = None
    clusters: Annotated[
        int, Ge(2), Le(64), About("kinds at most; by hash, so that two may share a certificate")
    ] = 8
    labels_from: Annotated[
        LabelsFrom,
        About("whose labels count: auditors (admin and audit keys), or clients for their requests"),
    ] = "auditors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonConfig:
    """Limits of comparing expressions (answer format `math`), in processes of their own."""

    __pydantic_config__ = STRICT
    workers: Annotated[
        int, Ge(1), Le(64), About("processes; one client has all but one of them at most")
    ] = 2
    limit_s: Annotated[float, Gt(0), About("one comparison; then the two count as different")] = 2.0
    request_s: Annotated[
        float, Gt(0), About("all of one request, waiting included; then answers compare as text")
    ] = 5.0
    memory_bytes: Annotated[int, Ge(2**28), About("of one process")] = 2**30
