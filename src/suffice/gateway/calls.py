"""One call to the gateway as it goes on, and the hooks that watch it, refuse it or add routes.

A hook sees a call in this order; whatever it raises (a `SufficeError`) becomes the client's answer:

    admit       headers are known, the body is unread     keys, rate limits
    authorize   the body is understood                    budgets, what a key may ask for
    happened    an event of the executor, one sample's    live views
    began       the first byte of the answer left         latency
    ended       always, exactly once, whatever happened   ledger, metrics, logs
    audited     later: the baseline has answered it too   ledger, metrics
    shadowed    later: it was answered the other way too  ledger, metrics

`happened`, `began` and `ended` are called on the response path and must not block or raise.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute

from suffice.core.completions import Budget, Outcome, Usage
from suffice.executors.engine_time import TimedSamples
from suffice.executors.live import Event
from suffice.gateway.endpoints import Endpoint
from suffice.gateway.observe.live_samples import LiveSamples
from suffice.ledger.api_keys import Key
from suffice.ledger.records import AuditRow
from suffice.ledger.shadows import ShadowRow

if TYPE_CHECKING:
    from suffice.gateway.certificates.live_control import LiveControl
    from suffice.gateway.certificates.monitors import Monitors
    from suffice.gateway.config import GatewayConfig
    from suffice.gateway.wire.openapi import Described


# Identifiers are unique, not secret: a generator that was seeded by the system is enough.
IDS = random.Random()


def new_id() -> str:
    """An identifier: the second, then 64 random bits.

    Rows that are written together lie together in the ledger's index, which costs a third less
    than identifiers that are random from their first digit.
    """
    return f"req-{int(time.time()):08x}{IDS.getrandbits(64):016x}"


@dataclass(slots=True, kw_only=True)
class Call:
    """What is known of one call so far; times are seconds since it began, None until they come."""

    path: str
    endpoint: Endpoint | None = None  # of an engine; None: one of the gateway's own
    query: str = ""  # what goes upstream of the client's query parameters
    headers: Sequence[tuple[bytes, bytes]] = ()  # names in lower case
    client: str | None = None  # address that the connection came from
    id: str = field(default_factory=new_id)
    own_id: str | None = None  # what the client calls it, if that can be kept
    began_unix_s: float = field(default_factory=time.time)
    began_s: float = field(default_factory=time.perf_counter)
    principal: str | None = None  # whose key it is; set by the hook that checks keys
    # Understood from the body, before `authorize`.
    body: bytes = b""
    value: dict[str, Any] = field(default_factory=dict)
    model: str = ""  # as the client wrote it
    target: str = ""  # the upstream's model that a policy asks where it names none
    arm: str = ""  # the policy's name, or "bypass"
    stream: bool = False
    may_ask: Callable[[str], bool] | None = None  # of a key that is not for all models
    # Every model that the client itself named: asked for, wished for, of a policy that it wrote.
    named: tuple[str, ...] = ()
    budget: Budget | None = None  # a hook may bound in `authorize` what a policy spends
    priority: int = 0  # smaller goes first, as in vLLM; a hook may change it in `authorize`
    # How it was answered.
    upstream: str | None = None  # what passes through went to it
    # Where the newest sample of a policy went, by the model that was asked.
    sampled_by: Mapping[str, str] = field(default_factory=dict)
    answered_by: str | None = None  # the model whose answer was sent, as its upstream calls it
    retries: int = 0
    fallback: str | None = None  # "asked -> answering; why", where another model answers
    cache: str | None = None  # "hit" or "miss" where the cache was asked
    status: int = 0  # 0: nothing was sent; 499: the client left before anything was
    error: str | None = None  # code of the error object that was sent, also inside a stream
    complete: bool = False  # the answer was sent to its end
    left: bool = False  # the client went away before the answer, or the error, was sent whole
    # Answers of the baseline under the same certificate right before this one; None: the baseline
    # gave this one too, or no certificate covers it.
    zeros: int | None = None
    outcomes: list[Outcome] = field(default_factory=list)  # one per choice, where a policy ran
    usage: Usage | None = None  # all samples of all choices; bypass: if the upstream told
    usage_refused: bool = False  # the upstream told a usage that cannot be
    pieces: int = 0  # about the completion tokens of what passed through, where usage is None
    # Samples, by choice, whose request was with an engine; what passes through is sample 0 of 0.
    reached: dict[int, set[int]] = field(default_factory=dict)
    sent_bytes: int = 0
    kept: bytearray | None = None  # the answer's bytes; a hook that wants them sets bytearray()
    queued_s: float = 0.0
    rates: Mapping[str, str] = field(default_factory=dict)  # x-ratelimit-*, of the client's key
    first_byte_s: float | None = None
    ended_s: float | None = None
    afterwards: Callable[[], None] | None = None  # done once its client is served
    timed: TimedSamples | None = None  # under a live certificate: what engines worked on it
    # Of the hooks that control access and record.
    admitted: bool = False
    key: Key | None = None
    traceparent: str | None = None  # the header, as it came
    trace_id: str | None = None
    parent_span: tuple[str, str] | None = None  # trace id and span id of the caller's span
    samples: LiveSamples | None = None  # of a policy, as they run

    @property
    def request_id(self) -> str:
        """What client and engines know it by."""
        return self.own_id or self.id

    def header(self, name: str) -> str | None:
        """The first header of that name (in lower case), None without one."""
        wanted = name.encode()
        for key, value in self.headers:
            if key == wanted:
                return value.decode("latin-1")
        return None

    def heard(self, reached: bool) -> None:
        """What passes through is with its upstream, or is not after all."""
        self.reached[0] = {0} if reached else set()

    @property
    def asker(self) -> str:
        """Whose call it is, where clients share something: the key, else the address."""
        return self.principal or self.client or ""

    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.began_s


class Hook:
    """Base of hooks; every method does nothing."""

    @classmethod
    def does(cls, method: str) -> bool:
        """Whether a method does anything: calling those that do not costs every call a little."""
        return getattr(cls, method) is not getattr(Hook, method)

    async def start(self) -> None:
        """The gateway starts, in its event loop."""

    async def stop(self) -> None:
        """It ends; no call is in flight any more."""

    def routes(self) -> Sequence[BaseRoute]:
        """Routes of the hook's own."""
        return ()

    def described(self) -> Described | None:
        """Those routes for `/openapi.json`."""
        return None

    def not_ready(self) -> str | None:
        """Why `/ready` has to say no; None if nothing speaks against it."""
        return None

    def share(self, monitors: Monitors) -> None:
        """The gateway is made: these are the monitors of its certificates, now and later."""

    def apply(self, config: GatewayConfig) -> None:
        """The settings were read anew; calls in flight end by the old ones."""

    def price(self) -> float | None:
        """Lambda that `auto` chooses by now; None leaves it at its own."""
        return None

    async def admit(self, call: Call) -> None:
        """Refuse by raising; the body is unread."""

    async def authorize(self, call: Call) -> None:
        """Refuse by raising; body, model, arm and stream are known. May set `priority`."""

    def happened(self, call: Call, choice: int, event: Event) -> None:
        """A sample was launched, said something, ended; or the choice was settled."""

    def began(self, call: Call) -> None:
        """The answer's first byte is on its way."""

    async def audited(self, row: AuditRow) -> bool:
        """An audit is over: keep it. Whether the answer had been judged before.

        Raises LedgerError if it cannot be kept; it then counts for nothing.
        """
        del row
        return False

    async def shadowed(self, control: LiveControl, spent: AuditRow, row: ShadowRow | None) -> None:
        """A shadow run is over: keep what it took, and what it showed (None: nothing).

        Raises LedgerError if it cannot be kept; it then counts for nothing.
        """

    def ended(self, call: Call) -> None:
        """The call is over: answered, failed, refused or left by its client."""
