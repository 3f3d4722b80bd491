"""What each key has used, here and in all processes, and whether it may go on.

A request is admitted from memory: the totals that the database confirmed last, plus what this
process has counted since. Totals are exchanged about four times a second, so several processes
together can pass a limit by what they admit in that time, no more. A running request counts as one
of the key's usual size until its true size is known.

A rate is counted in slices of five seconds over the last minute; a slice counts until all of it is
older than a minute. A budget is counted over an hour, a day or a month (UTC), or in total.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import add
from typing import Any

from suffice.ledger.api_keys import Key, Limits
from suffice.ledger.records import SLICE, Used, Watched, Window
from suffice.ledger.replicated import Replicated

MINUTE_S = 60
SLICE_S = 5
# Totals of a key are asked for while it was used here within this time.
ACTIVE_S = 120.0
# Weight of the last request in the mean size of a key's requests.
NEWEST = 0.2

# Use by (kind, start) of its window.
_Counts = dict[tuple[str, int], Used]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaExceeded:
    """Why a request is refused: the limit that is reached."""

    # requests_per_minute, tokens_per_minute, parallel_requests, budget_tokens, budget_usd
    what: str
    message: str
    retry_after_s: int | None  # None: waiting does not help


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Where a key stands with one of its limits per minute."""

    unit: str  # requests, tokens
    limit: int
    remaining: int
    reset_s: float  # until all of the limit is free again


@dataclass(slots=True)
class _Account:
    """One key's use, by window."""

    key: Key
    use: Replicated[tuple[str, int], Used]
    touched_s: float = 0.0
    running: int = 0
    mean_tokens: float = 0.0
    mean_usd: float = 0.0

    def count(self, now_s: float, used: Used) -> None:
        """Add `used` to the windows that hold this moment."""
        for window in (_slice(now_s), _budget_window(self.key.limits, now_s)):
            self.use.add(window, used)

    def total(self, window: tuple[str, int]) -> Used:
        """Everything known about one window."""
        return self.use.value(window, Used())

    def slices(self, now_s: float) -> tuple[dict[int, float], dict[int, float]]:
        """Requests and tokens of the last minute, by the start of each slice."""
        oldest_s = now_s - MINUTE_S - SLICE_S
        requests: dict[int, float] = {}
        tokens: dict[int, float] = {}
        for (kind, start_s), used in self.use.parts():
            if kind == SLICE and start_s > oldest_s:
                requests[start_s] = requests.get(start_s, 0.0) + used.requests
                tokens[start_s] = tokens.get(start_s, 0.0) + used.tokens
        return requests, tokens

    def forget(self, now_s: float) -> None:
        """Drop slices that no longer matter."""
        oldest_s = now_s - MINUTE_S - SLICE_S
        old = [w for w in self.use.confirmed if w[0] == SLICE and w[1] <= oldest_s]
        for window in old:
            del self.use.confirmed[window]


class Meter:
    """Use by key: `admit` and `settle` on the event loop, `take` and `confirm` by the writer."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix time in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._before: dict[str, _Counts] = {}  # confirmed before the key was first used here

    def admit(self, key: Key) -> QuotaExceeded | None:
        """Count a request of `key` in, or say which limit it would pass."""
        now_s = self._clock()
        with self._lock:
            account = self._account(key)
            account.touched_s = now_s
            refused = _refusal(account, now_s) if key.limits.any else None
            if refused is None:
                account.count(now_s, Used(requests=1))
                account.running += 1
        return refused

    def admit_free(self, key: Key) -> QuotaExceeded | None:
        """The same for a call that draws no tokens: only the rate of requests binds it."""
        now_s = self._clock()
        with self._lock:
            account = self._account(key)
            account.touched_s = now_s
            refused = _too_many(account, now_s)
            if refused is None:
                account.count(now_s, Used(requests=1))
        return refused

    def settle(self, key: Key, *, tokens: int, usd: float) -> None:
        """A request of `key` has ended and took this much."""
        with self._lock:
            account = self._accounts[key.id]
            account.running -= 1
            account.mean_tokens += NEWEST * (tokens - account.mean_tokens)
            account.mean_usd += NEWEST * (usd - account.mean_usd)
            if tokens or usd:
                account.count(self._clock(), Used(tokens=tokens, usd=usd))

    def left(self, key: Key) -> tuple[int | None, float | None]:
        """Tokens and USD of the key's budget that are not spent; None without a budget."""
        limits = key.limits
        if limits.budget_tokens is None and limits.budget_usd is None:
            return None, None
        used = self.used(key)
        tokens = (
            None if limits.budget_tokens is None else max(0, limits.budget_tokens - used.tokens)
        )
        usd = None if limits.budget_usd is None else max(0.0, limits.budget_usd - used.usd)
        return tokens, usd

    def rates(self, key: Key) -> list[Rate]:
        """Where `key` stands with its limits per minute."""
        limits = key.limits
        wanted = (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute))
        if all(limit is None for _, limit in wanted):
            return []
        now_s = self._clock()
        with self._lock:
            both = self._account(key).slices(now_s)
        found = []
        for (unit, limit), counts in zip(wanted, both, strict=True):
            if limit is not None:
                newest_s = max((at for at, count in counts.items() if count), default=None)
                reset_s = 0.0 if newest_s is None else newest_s + SLICE_S + MINUTE_S - now_s
                left = max(0, limit - round(sum(counts.values())))
                found.append(Rate(unit=unit, limit=limit, remaining=left, reset_s=reset_s))
        return found

    def used(self, key: Key) -> Used:
        """What `key` used in its budget's window."""
        with self._lock:
            return self._account(key).total(_budget_window(key.limits, self._clock()))

    def take(self) -> tuple[dict[Window, Used], list[Watched]]:
        """What is to be written, and whose totals are wanted; `confirm` must follow."""
        now_s = self._clock()
        taken: dict[Window, Used] = {}
        watched: list[Watched] = []
        with self._lock:
            for key_id, account in self._accounts.items():
                sent = account.use.take()
                taken |= {Window(key_id, *at): used for at, used in sent.items()}
                if sent or now_s - account.touched_s < ACTIVE_S:
                    account.forget(now_s)
                    budget = _budget_window(account.key.limits, now_s)
                    since_s = _slice(now_s)[1] - MINUTE_S - SLICE_S
                    watched.append(Watched(Window(key_id, *budget), since_s))
        return taken, watched

    def confirm(self, totals: Mapping[Window, Used]) -> None:
        """The database holds what was taken, and these are its totals over all processes."""
        by_key: dict[str, _Counts] = {}
        for window, used in totals.items():
            by_key.setdefault(window.key_id, {})[window.kind, window.start_s] = used
        with self._lock:
            for key_id, account in self._accounts.items():
                account.use.confirm(by_key.pop(key_id, {}))
            for key_id, counts in by_key.items():
                self._before.setdefault(key_id, {}).update(counts)

    def _account(self, key: Key) -> _Account:
        account = self._accounts.get(key.id)
        if account is None:
            account = _Account(key, Replicated(add, self._before.pop(key.id, {})))
            self._accounts[key.id] = account
        elif account.key is not key:
            account.key = key  # its limits may have changed
        return account


def shown(key: Key, meter: Meter) -> dict[str, Any]:
    """A key as lists show it: never with its secret or its hash."""
    used = meter.used(key)
    return {
        "id": key.id,
        "name": key.name,
        "admin": key.admin,
        "audit": key.audit,
        "models": list(key.models),
        "created_s": key.created_s,
        "expires_s": key.expires_s,
        "revoked_s": key.revoked_s,
        **asdict(key.limits),
        "used_requests": used.requests,
        "used_tokens": used.tokens,
        "used_usd": used.usd,
    }


def _refusal(account: _Account, now_s: float) -> QuotaExceeded | None:
    limits = account.key.limits
    parallel = limits.parallel_requests
    if parallel is not None and account.running >= parallel:
        return QuotaExceeded(
            what="parallel_requests",
            message=f"key {account.key.name!r} may have {parallel} requests at a time",
            retry_after_s=1,
        )
    refused = _too_many(account, now_s)
    if refused is None and limits.tokens_per_minute is not None:
        _, tokens = account.slices(now_s)
        newest_s = _slice(now_s)[1]
        running = account.running * account.mean_tokens
        tokens[newest_s] = tokens.get(newest_s, 0.0) + running
        more = max(1.0, account.mean_tokens)
        limit = limits.tokens_per_minute
        refused = _over(account, "tokens", limit, tokens, more=more, now_s=now_s)
    return refused or _over_budget(account, limits, now_s)


def _too_many(account: _Account, now_s: float) -> QuotaExceeded | None:
    """The refusal if one more request does not fit into the minute."""
    limit = account.key.limits.requests_per_minute
    if limit is None:
        return None
    requests, _ = account.slices(now_s)
    return _over(account, "requests", limit, requests, more=1.0, now_s=now_s)


def _over(
    account: _Account,
    unit: str,
    limit: int,
    counts: dict[int, float],
    *,
    more: float,
    now_s: float,
) -> QuotaExceeded | None:
    """The refusal if `more` does not fit into the minute; a larger one than all of it may alone."""
    excess = sum(counts.values()) + min(more, float(limit)) - limit
    if excess <= 0.0:
        return None
    wait_s = float(MINUTE_S)
    for start_s in sorted(counts):  # the oldest slices leave first
        excess -= counts[start_s]
        wait_s = start_s + SLICE_S + MINUTE_S - now_s
        if excess <= 0.0:
            break
    return QuotaExceeded(
        what=f"{unit}_per_minute",
        message=f"key {account.key.name!r} is limited to {limit} {unit} per minute",
        retry_after_s=max(1, math.ceil(wait_s)),
    )


def _over_budget(account: _Account, limits: Limits, now_s: float) -> QuotaExceeded | None:
    tokens, usd = limits.budget_tokens, limits.budget_usd
    if tokens is None and usd is None:
        return None
    window = _budget_window(limits, now_s)
    used = account.total(window)
    if tokens is not None and used.tokens + account.running * account.mean_tokens >= tokens:
        what, shown = "budget_tokens", f"{used.tokens} of {tokens} tokens"
    elif usd is not None and used.usd + account.running * account.mean_usd >= usd:
        what, shown = "budget_usd", f"${used.usd:.4g} of ${usd:.4g}"
    else:
        return None
    ends_s = _end_s(window)
    when = "in total" if ends_s is None else f"this {window[0]}"
    return QuotaExceeded(
        what=what,
        message=f"key {account.key.name!r} has used {shown} {when}",
        retry_after_s=None if ends_s is None else max(1, math.ceil(ends_s - now_s)),
    )


def _slice(now_s: float) -> tuple[str, int]:
    return SLICE, int(now_s // SLICE_S) * SLICE_S


def _budget_window(limits: Limits, now_s: float) -> tuple[str, int]:
    kind = limits.budget_window
    if kind == "total":
        return kind, 0
    if kind == "month":
        return kind, _month_of(int(now_s // 86400))
    length_s = 3600 if kind == "hour" else 86400
    return kind, int(now_s // length_s) * length_s


@lru_cache(maxsize=4)
def _month_of(day: int) -> int:
    """Unix time at which the month of that day (counted from 1970) began."""
    today = datetime.fromtimestamp(day * 86400, UTC)
    return int(datetime(today.year, today.month, 1, tzinfo=UTC).timestamp())


def _end_s(window: tuple[str, int]) -> float | None:
    """Unix time at which the window's budget is new again."""
    kind, start_s = window
    if kind == "total":
        return None
    if kind != "month":
        return start_s + (3600.0 if kind == "hour" else 86400.0)
    first = datetime.fromtimestamp(start_s, UTC)
    year, month = first.year + first.month // 12, first.month % 12 + 1
    return datetime(year, month, 1, tzinfo=UTC).timestamp()
