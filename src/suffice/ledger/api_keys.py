"""API keys: what they look like, how they are kept, what each may use.

A key is `sk-suffice-ID-SECRET`. ID is public and finds the row; SECRET is 256 random bits, of which
only the SHA-256 is kept. A slow hash such as scrypt protects secrets that people choose, because
those can be guessed; nobody guesses 256 random bits, and a fast hash keeps the check at a
microsecond for every request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

from suffice.core.errors import InputError, UnknownName
from suffice.ledger.store import KEYS_VERSION, Store

PREFIX = "sk-suffice-"
_SHAPE = re.compile(rf"{PREFIX}([a-z0-9]{{10}})-([A-Za-z0-9_-]{{43}})")
_NO_DIGEST = hashlib.sha256(b"no key has this secret").hexdigest()
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"

BudgetWindow = Literal["hour", "day", "month", "total"]
WINDOWS: tuple[str, ...] = get_args(BudgetWindow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a key may use; None is unlimited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None  # in each process of the gateway
    budget_tokens: int | None = None
    budget_usd: float | None = None
    budget_window: BudgetWindow = "month"

    def __post_init__(self) -> None:
        for name in (
            "requests_per_minute", "tokens_per_minute", "parallel_requests", "budget_tokens",
            "budget_usd",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name.replace('_', ' ')} must be more than 0, got {value}")
        if self.budget_window not in WINDOWS:
            raise InputError(
                f"budget window {self.budget_window!r} is unknown; write {', '.join(WINDOWS)}"
            )

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return (
            self.requests_per_minute is not None
            or self.tokens_per_minute is not None
            or self.parallel_requests is not None
            or self.budget_tokens is not None
            or self.budget_usd is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key, without its secret."""

    id: str
    name: str
    digest: str
    admin: bool = False
    audit: bool = False  # may judge answers under a certificate
    created_s: float = 0.0
    revoked_s: float | None = None
    expires_s: float | None = None
    models: tuple[str, ...] = ()  # names that it may ask for, * as in file names; (): all
    limits: Limits = Limits()
    # The secret before the last rotation, and until when it is taken too.
    previous_digest: str | None = None
    previous_until_s: float | None = None

    def may_ask(self, model: str) -> bool:
        """Whether this key may name `model` in a request."""
        return not self.models or any(fnmatchcase(model, each) for each in self.models)

    def is_live(self, now_s: float) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)

    def __repr__(self) -> str:  # not even the digest belongs into a log
        return f"Key(id={self.id!r}, name={self.name!r}, admin={self.admin})"


def make_key(
    name: str,
    *,
    admin: bool = False,
    audit: bool = False,
    limits: Limits | None = None,
    models: Sequence[str] = (),
    expires_s: float | None = None,
) -> tuple[Key, str]:
    """A new key and its text, which is not kept anywhere and cannot be shown again."""
    if not name.strip():
        raise InputError("a key needs a name, so that it can be told from others")
    if not all(model.strip() for model in models):
        raise InputError("models: a name is empty; leave models out for all of them")
    identity = "".join(secrets.choice(_ID_LETTERS) for _ in range(10))
    secret = secrets.token_urlsafe(32)
    key = Key(
        id=identity,
        name=name.strip(),
        digest=_digest(secret),
        admin=admin,
        audit=audit,
        created_s=time.time(),
        limits=limits or Limits(),
        models=tuple(models),
        expires_s=expires_s,
    )
    return key, f"{PREFIX}{identity}-{secret}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Keyring:
    """The keys that are known now; looking one up takes the same time whether it exists or not."""

    def __init__(
        self, keys: tuple[Key, ...] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives Unix time in seconds."""
        self.keys = keys
        self._clock = clock
        self._by_id = {key.id: key for key in keys}

    def __bool__(self) -> bool:
        """Whether any key was ever made; revoked ones count, or revoking the last would open up."""
        return bool(self.keys)

    def find(self, text: str) -> Key | None:
        """The key whose text this is; None for a wrong, revoked or expired one."""
        match = _SHAPE.fullmatch(text)
        identity, secret = match.groups() if match else ("", "")
        key = self._by_id.get(identity)
        digest, now_s = _digest(secret), self._clock()
        before = key.previous_digest if key else None
        same = hmac.compare_digest(digest, key.digest if key else _NO_DIGEST)
        same_before = hmac.compare_digest(digest, before or _NO_DIGEST)
        if key is None or not key.is_live(now_s):
            return None
        until_s = key.previous_until_s
        return key if same or (same_before and until_s is not None and now_s < until_s) else None


_COLUMNS = (
    "id, name, digest, admin, created_s, revoked_s, requests_per_minute, tokens_per_minute, "
    "budget_tokens, budget_usd, budget_window, audit, parallel_requests, models, expires_s, "
    "previous_digest, previous_until_s"
)


_MARKS = ", ".join("?" * len(_COLUMNS.split(",")))


def load_ring(store: Store) -> Keyring:
    """Every key of the ledger, in the order they were made."""
    rows = store.database.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_s, id")
    return Keyring(
        tuple(
            Key(
                id=row[0],
                name=row[1],
                digest=row[2],
                admin=bool(row[3]),
                audit=bool(row[11]),
                created_s=row[4],
                revoked_s=row[5],
                models=tuple(json.loads(row[13])) if row[13] else (),
                expires_s=row[14],
                previous_digest=row[15],
                previous_until_s=row[16],
                limits=Limits(
                    requests_per_minute=row[6],
                    tokens_per_minute=row[7],
                    budget_tokens=row[8],
                    budget_usd=row[9],
                    budget_window=row[10] or "month",
                    parallel_requests=row[12],
                ),
            )
            for row in rows
        )
    )


def add_key(store: Store, key: Key) -> None:
    """Keep `key`; gateways on this ledger know it within a second."""
    limits = key.limits
    with store.database.transaction():
        store.database.execute(
            f"INSERT INTO keys ({_COLUMNS}) VALUES ({_MARKS})",
            (
                key.id, key.name, key.digest, int(key.admin), key.created_s, key.revoked_s,
                limits.requests_per_minute, limits.tokens_per_minute, limits.budget_tokens,
                limits.budget_usd, limits.budget_window, int(key.audit),
                limits.parallel_requests, json.dumps(key.models) if key.models else None,
                key.expires_s, key.previous_digest, key.previous_until_s,
            ),
        )  # fmt: skip
        _changed(store)


def revoke_key(store: Store, named: str) -> Key:
    """Revoke the key with this id, or with this name if only one has it. It is not deleted."""
    revoked = replace(_named(store, named), revoked_s=time.time())
    with store.database.transaction():
        store.database.execute(
            "UPDATE keys SET revoked_s = ? WHERE id = ?", (revoked.revoked_s, revoked.id)
        )
        _changed(store)
    return revoked


def rotate_key(store: Store, named: str, *, grace_s: float = 0.0) -> tuple[Key, str]:
    """A new secret for a key: id, limits and what it has used stay.

    The old secret is taken for `grace_s` seconds more.
    """
    if not grace_s >= 0:
        raise InputError(f"grace must be 0 s or more, got {grace_s:g}")
    old, secret = _named(store, named), secrets.token_urlsafe(32)
    key = replace(
        old,
        digest=_digest(secret),
        previous_digest=old.digest,
        previous_until_s=time.time() + grace_s,
    )
    with store.database.transaction():
        store.database.execute(
            "UPDATE keys SET digest = ?, previous_digest = ?, previous_until_s = ? WHERE id = ?",
            (key.digest, key.previous_digest, key.previous_until_s, key.id),
        )
        _changed(store)
    return key, f"{PREFIX}{key.id}-{secret}"


def _named(store: Store, named: str) -> Key:
    """The key with this id, or with this name if only one has it; revoked ones are not found."""
    live = [key for key in load_ring(store).keys if key.revoked_s is None]
    found = [key for key in live if named in (key.id, key.name)]
    if not found:
        raise UnknownName.of("key", named, [k.name for k in live], "— suffice keys list")
    if len(found) > 1:
        ids = ", ".join(key.id for key in found)
        raise InputError(f"{len(found)} keys are named {named!r}: name one by its id: {ids}")
    return found[0]


def _changed(store: Store) -> None:
    store.database.execute("UPDATE shared SET value = value + 1 WHERE name = ?", (KEYS_VERSION,))
