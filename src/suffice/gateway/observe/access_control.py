"""Access control as a hook: who may call, within which limits, and for which models.

On the response path it looks a key up and adds to its account; nothing is read from disk.
"""

from __future__ import annotations

from suffice.core.completions import Budget
from suffice.gateway.calls import Call, Hook
from suffice.gateway.config import GatewayConfig
from suffice.gateway.observe.auth import (
    Authenticator,
    admit,
    check_models,
    credentials_of,
    origins_of,
    rate_headers,
)
from suffice.gateway.wire.errors import Refusal
from suffice.ledger.quotas import Meter
from suffice.ledger.writer import Writer

FULL_RETRY_S = 5.0


class AccessControl(Hook):
    """Admits calls by their key; refuses all while the ledger has to record them and cannot."""

    def __init__(
        self, authenticator: Authenticator, meter: Meter, writer: Writer, *, refuse_when_full: bool
    ) -> None:
        """`refuse_when_full`: nothing may be answered that the ledger cannot record."""
        self._authenticator = authenticator
        self._meter = meter
        self._writer = writer
        self._refuse_when_full = refuse_when_full

    def not_ready(self) -> str | None:
        """A full ledger that must not lose anything."""
        if self._refuse_when_full and self._writer.full:
            return "the ledger cannot be written and its queue is full"
        return None

    def apply(self, config: GatewayConfig) -> None:
        """Take over whether keys are asked for; keys themselves are read from the ledger."""
        self._authenticator.required = config.keys.required
        self._authenticator.origins = origins_of(config.cors.origins)

    async def admit(self, call: Call) -> None:
        """Let the call in, or raise Refusal."""
        credentials = credentials_of(call.headers)
        key = self._authenticator.authenticate(credentials)
        if key is not None and key.models:
            call.may_ask = key.may_ask
        if call.endpoint is None:
            return
        if self._refuse_when_full and self._writer.full:
            raise Refusal(
                "the ledger cannot be written, and this gateway answers nothing unrecorded",
                status=503, code="ledger_unavailable", kind="server_error",
                retry_after_s=FULL_RETRY_S,
            )  # fmt: skip
        call.traceparent = credentials.traceparent
        if key is not None:
            call.principal = key.id
            call.rates = rate_headers(self._meter, key)  # those of a refusal too
            admit(self._meter, key)
            call.rates = rate_headers(self._meter, key)
            call.key = key
        call.admitted = True

    async def authorize(self, call: Call) -> None:
        """A key asks for its models; a policy may spend what is left of its budget, no more."""
        key = call.key
        if key is None:
            return
        check_models(key, call.named or (call.target,))
        tokens, usd = self._meter.left(key)
        if tokens is not None or usd is not None:
            call.budget = Budget(completion_tokens=tokens, usd=usd)
