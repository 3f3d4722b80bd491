"""Authentication: API keys, and a loopback that pages of other sites cannot use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from suffice.gateway.wire.errors import Refusal
from suffice.ledger.api_keys import Key, Keyring
from suffice.ledger.quotas import Meter, QuotaExceeded

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TYPES = {"budget_tokens": "insufficient_quota", "budget_usd": "insufficient_quota"}


class Credentials(NamedTuple):
    """The headers that decide."""

    authorization: str | None = None
    host: str | None = None
    origin: str | None = None
    traceparent: str | None = None
    api_key: str | None = None  # where Anthropic's and Azure's clients put it


def credentials_of(headers: Sequence[tuple[bytes, bytes]]) -> Credentials:
    """One walk over the headers; the first of each name counts."""
    found: dict[str, str] = {}
    for given, value in headers:
        name = _FIELDS.get(given)
        if name is not None and name not in found:
            found[name] = value.decode("latin-1")
    return Credentials(**found)


_FIELDS = {
    b"authorization": "authorization",
    b"host": "host",
    b"origin": "origin",
    b"traceparent": "traceparent",
    b"x-api-key": "api_key",
    b"api-key": "api_key",  # Azure's
}


def origins_of(named: Sequence[str]) -> frozenset[str]:
    """Origins as browsers write them."""
    return frozenset(origin.rstrip("/").lower() for origin in named)


class Authenticator:
    """Checks keys and origins; the ring of keys is replaced when it changes."""

    def __init__(
        self,
        *,
        required: bool | None,
        local: bool,
        allowed_hosts: Sequence[str],
        origins: Sequence[str] = (),
    ) -> None:
        """`local`: the gateway listens on loopback only; `origins` of pages that may ask it."""
        self.required = required
        self.origins = origins_of(origins)
        self._local = local
        self._hosts = {*LOOPBACK, *allowed_hosts}
        self.ring = Keyring()

    @property
    def locked(self) -> bool:
        """Whether a key is asked for."""
        return bool(self.ring) if self.required is None else self.required

    def authenticate(self, credentials: Credentials) -> Key | None:
        """The credentials's key; None where none is asked for. Raises Refusal."""
        if not self.locked:
            self._check_origin(credentials)
            return None
        scheme, _, text = (credentials.authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            text = credentials.api_key or ""
        key = self.ring.find(text.strip())
        if key is None:
            raise Refusal(
                "a key is needed: send Authorization: Bearer sk-suffice-… (or x-api-key)"
                if not (credentials.authorization or credentials.api_key)
                else "this key is unknown, revoked or expired",
                status=401,
                code="invalid_api_key",
                kind="authentication_error",
            )
        return key

    def authenticate_admin(self, credentials: Credentials) -> None:
        """Only an admin key may, or anyone on a loopback that has no keys. Raises Refusal."""
        key = self.authenticate(credentials)
        if key is not None and not key.admin:
            raise Refusal(
                f"key {key.name!r} is not an admin key", status=403, code="not_an_admin",
                kind="permission_error",
            )  # fmt: skip
        if key is None and not self._local:
            raise Refusal(
                "without keys this is shown on loopback only: suffice keys add NAME --admin",
                status=403, code="needs_admin_key", kind="permission_error",
            )  # fmt: skip

    def check_auditor(self, key: Key | None) -> None:
        """Only an admin or audit key may, or anyone on a loopback without keys. Raises Refusal."""
        if key is not None and not (key.admin or key.audit):
            raise Refusal(
                f"key {key.name!r} may not audit: suffice keys add NAME --audit", status=403,
                code="not_an_auditor", kind="permission_error",
            )  # fmt: skip
        if key is None and not self._local:
            raise Refusal(
                "without keys audits are taken on loopback only: suffice keys add NAME --audit",
                status=403, code="needs_audit_key", kind="permission_error",
            )  # fmt: skip

    def _check_origin(self, credentials: Credentials) -> None:
        """Without keys, a web page in the user's browser must not be able to spend their tokens.

        A page of another site sends its own Origin; one that was rebound to our address by DNS
        sends its own Host.
        """
        if not self._local:
            return
        if credentials.host is not None and _name_of(f"//{credentials.host}") not in self._hosts:
            raise Refusal(
                f"host {credentials.host!r} is not this gateway; allowed_hosts can add it",
                status=403, code="wrong_host", kind="permission_error",
            )  # fmt: skip
        if credentials.origin is None or credentials.origin.lower() in self.origins:
            return
        if _name_of(credentials.origin) not in self._hosts:
            raise Refusal(
                f"origin {credentials.origin!r} may not use this gateway; allowed_hosts can add it",
                status=403, code="wrong_origin", kind="permission_error",
            )  # fmt: skip


@lru_cache(maxsize=256)
def _name_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def rate_headers(meter: Meter, key: Key) -> dict[str, str]:
    """Where `key` stands with its limits, in OpenAI's headers."""
    found = {}
    for rate in meter.rates(key):
        found[f"x-ratelimit-limit-{rate.unit}"] = str(rate.limit)
        found[f"x-ratelimit-remaining-{rate.unit}"] = str(rate.remaining)
        found[f"x-ratelimit-reset-{rate.unit}"] = f"{math.ceil(rate.reset_s)}s"
    return found


def check_models(key: Key, named: Iterable[str]) -> None:
    """A key for some models asks for no other. Raises Refusal."""
    refused = [model for model in named if not key.may_ask(model)]
    if refused:
        raise Refusal(
            f"key {key.name!r} may not ask for {', '.join(refused)}; it may ask for "
            f"{', '.join(key.models)}",
            status=403, code="model_not_allowed", kind="permission_error",
        )  # fmt: skip


def admit(meter: Meter, key: Key) -> None:
    """Count a request of `key` in. Raises Refusal with an honest Retry-After."""
    _refuse(meter.admit(key))


def admit_judgement(meter: Meter, key: Key) -> None:
    """Count a call of `key` that draws no tokens. Raises Refusal with an honest Retry-After."""
    _refuse(meter.admit_free(key))


def _refuse(exceeded: QuotaExceeded | None) -> None:
    if exceeded is None:
        return
    hint = "" if exceeded.retry_after_s is None else f"; try again in {exceeded.retry_after_s} s"
    quota = _TYPES.get(exceeded.what)
    raise Refusal(
        exceeded.message + hint,
        status=429,
        code=quota or "rate_limit_exceeded",
        kind=quota or "rate_limit_error",
        retry_after_s=exceeded.retry_after_s,
    )
