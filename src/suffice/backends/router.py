"""Which of several equal upstreams takes a request: the one that knows its conversation, unless
that one is busier than its share, slow, or down.

A conversation's upstream is found by weighted rendezvous hashing of what stands for the
conversation (`Affinity.key`) and remembered. It is left only

- for load: an upstream takes at most `spill_factor` times its share of what is in flight, rounded
  up (consistent hashing with bounded loads, arXiv:1608.01350). The next turn of a conversation,
  which has nothing else in flight, is allowed more, since its prompt is in that upstream's cache;
- for a full engine: its own metrics say that requests wait there, or that its KV cache is full;
- for slowness: a request has waited there for its first byte longer than `slow_s` and longer than
  `slow_factor` times what requests have lately waited elsewhere, and later requests were answered
  elsewhere meanwhile;
- for a failure: refused, broken and silent connections.

An upstream that failed or was slow is left alone for a time that doubles while it goes on, and then
gets one request at a time until it answers one well. Nothing here does input or output or reads a
clock but the one it is given. Times are seconds.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated

from annotated_types import Ge, Gt

from suffice.core.errors import InputError
from suffice.core.settings import STRICT, About

# Engines run small batches at nearly the speed of a single request: below so many requests in
# flight a warm cache is worth more than an even load.
WARM_FLOOR = 8
WARM_FACTOR = 1.5
# A prompt of this size may wait twice as long for its first byte as a short one, and so on.
SIZE_BYTES = 16 * 2**10
# Half of what was waited is forgotten after so long, and four times the wait itself.
HALF_LIFE_S = 30.0
LONGEST_AVOID_S = 60.0
# What an engine says of itself is believed for so long.
REPORT_S = 5.0
FULL_KV = 0.95
_MOST_REMEMBERED = 65_536
_MOST_LOOKED_AT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingConfig:
    """How requests are spread over upstreams that serve the same model."""

    __pydantic_config__ = STRICT
    spill_factor: Annotated[
        float, Ge(1), About("times its share of what is in flight, that an upstream may take")
    ] = 1.25
    avoid_s: Annotated[float, Gt(0), About("an upstream that failed is left alone, at first")] = 5.0
    slow_s: Annotated[float, Gt(0), About("a shorter wait for a first byte is never slow")] = 0.5
    slow_factor: Annotated[
        float, Gt(0), About("times what others have lately waited, that is slow")
    ] = 2.0
    engine_metrics: Annotated[
        bool, About("ask engines' /metrics, where several serve a model, how busy they are")
    ] = True
    metrics_s: Annotated[float, Gt(0), About("how often at most")] = 1.0
    models_s: Annotated[float, Gt(0), About("how often upstreams are asked what they serve")] = 60.0

    def __post_init__(self) -> None:
        if not self.spill_factor >= 1:
            raise InputError(f"routing: spill_factor must be 1 or more, got {self.spill_factor}")
        for name in ("avoid_s", "slow_s", "slow_factor", "metrics_s", "models_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"routing: {name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """What a request has in common with others that want the same upstream.

    `later` says that it is not the first turn of its conversation; `size_bytes` is about that of
    its prompt; `streamed` whether its first byte is that of a stream or of a whole answer.
    """

    key: bytes = b""
    later: bool = False
    size_bytes: int = 0
    streamed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What an engine says of itself; `kv_usage` is the used share of its KV cache."""

    running: int
    waiting: int
    kv_usage: float | None = None

    @property
    def full(self) -> bool:
        """Whether another request would have to wait."""
        return self.waiting > 0 or (self.kv_usage is not None and self.kv_usage >= FULL_KV)


class Lease:
    """One request (or sample) on one upstream, from its sending to its end."""

    __slots__ = ("_router", "affinity", "answered", "began_s", "ended", "name", "peers")

    def __init__(
        self, router: Router, name: str, peers: Sequence[str], affinity: Affinity, began_s: float
    ) -> None:
        self._router = router
        self.name = name
        self.peers = peers  # all that could have taken it
        self.affinity = affinity
        self.began_s = began_s
        self.answered = False
        self.ended = False

    def first_byte(self) -> None:
        """The upstream has begun to answer."""
        if not self.answered and not self.ended:
            self.answered = True
            self._router.answered(self)

    def end(self) -> None:
        """It is over, however it ended."""
        if not self.ended:
            self.ended = True
            self._router.ended(self)


class _Peak:
    """The longest wait of late: the largest value, halved after `HALF_LIFE_S` and four times it."""

    __slots__ = ("_at_s", "_value_s")

    def __init__(self) -> None:
        self._value_s = 0.0
        self._at_s = 0.0

    def at(self, now_s: float) -> float:
        """Its value now."""
        return self._value_s * math.exp2((self._at_s - now_s) / (HALF_LIFE_S + 4.0 * self._value_s))

    def see(self, value_s: float, now_s: float) -> None:
        """Another wait."""
        if value_s >= self.at(now_s):
            self._value_s, self._at_s = value_s, now_s


@dataclass(slots=True)
class _Upstream:
    weight: float
    in_flight: int = 0
    waiting: dict[Lease, None] = field(default_factory=dict)  # in the order of their beginnings
    newest_answered_s: float = -math.inf  # the latest beginning of a request that it has answered
    streams_peak: _Peak = field(default_factory=_Peak)
    answers_peak: _Peak = field(default_factory=_Peak)
    avoid_until_s: float = -math.inf
    strikes: int = 0  # failures and slow answers since it last did well
    load: EngineLoad | None = None
    load_at_s: float = -math.inf
    others: int = 0  # requests on the engine that are not ours, by its last report

    def peak(self, streamed: bool) -> _Peak:
        return self.streams_peak if streamed else self.answers_peak


class Router:
    """The order in which upstreams are tried, from what is known of them."""

    def __init__(
        self,
        weights: Mapping[str, float],
        config: RoutingConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`weights` by the upstreams' names; one of weight 0 is the last resort of the others."""
        for name, weight in weights.items():
            if not (weight >= 0 and math.isfinite(weight)):
                raise InputError(f"upstream {name}: weight must be 0 or more, got {weight}")
        self.config = config or RoutingConfig()
        self._clock = clock
        self._upstreams = {name: _Upstream(weight) for name, weight in weights.items()}
        self._homes: OrderedDict[bytes, str] = OrderedDict()
        self._in_flight: dict[bytes, int] = {}  # by key
        self.alone = Lease(self, next(iter(weights), ""), (), Affinity(), 0.0)
        self.alone.answered = self.alone.ended = True  # for an upstream without equals

    def in_flight(self, name: str) -> int:
        """Requests of ours on an upstream."""
        return self._upstreams[name].in_flight

    def avoided(self, name: str) -> bool:
        """Whether an upstream is left alone now."""
        upstream = self._upstreams[name]
        now_s = self._clock()
        return now_s < upstream.avoid_until_s or self._lags(name, now_s)

    def order(self, affinity: Affinity, names: Sequence[str]) -> list[str]:
        """`names` in the order to try; the first is where the request belongs now."""
        if len(names) == 1:
            return list(names)
        now_s = self._clock()
        ranked = self._ranked(affinity.key, names)
        home = self._homes.get(affinity.key)
        if home is not None and home in names:
            ranked.remove(home)
            ranked.insert(0, home)
        sound = [name for name in ranked if self._is_sound(name, now_s)] or ranked
        wanted = [name for name in sound if self._upstreams[name].weight] or sound
        free = self._free(wanted, affinity, home, now_s)
        rank = {name: number for number, name in enumerate(ranked)}

        def place(name: str) -> tuple[int, float, int]:
            if name in free:
                return 0, 0.0, rank[name]
            if name in wanted:  # the least busy of those that have their share
                return 1, self._relative(name, now_s), rank[name]
            return (2 if name in sound else 3), 0.0, rank[name]

        return sorted(ranked, key=place)

    def begin(self, affinity: Affinity, name: str, peers: Sequence[str] = ()) -> Lease:
        """A request goes to an upstream now; `peers` are all that could have taken it."""
        upstream = self._upstreams[name]
        lease = Lease(self, name, peers, affinity, self._clock())
        upstream.in_flight += 1
        upstream.waiting[lease] = None
        key = affinity.key
        if len(self._upstreams) > 1 and key:
            running = self._in_flight.get(key, 0)
            self._in_flight[key] = running + 1
            if not running or key not in self._homes:
                self._remember(key, name)
        return lease

    def answered(self, lease: Lease) -> None:
        """A request's first byte has come (`Lease.first_byte`)."""
        upstream = self._upstreams[lease.name]
        upstream.waiting.pop(lease, None)
        upstream.newest_answered_s = max(upstream.newest_answered_s, lease.began_s)
        now_s = self._clock()
        waited_s = now_s - lease.began_s
        if self._is_late(lease, now_s):
            self._strike(upstream, now_s, waited_s)
        else:
            upstream.strikes = 0
            upstream.avoid_until_s = -math.inf
        upstream.peak(lease.affinity.streamed).see(waited_s / _scale(lease.affinity), now_s)

    def ended(self, lease: Lease) -> None:
        """A request is over (`Lease.end`)."""
        upstream = self._upstreams[lease.name]
        upstream.in_flight -= 1
        if lease in upstream.waiting:
            del upstream.waiting[lease]
            now_s = self._clock()
            if self._is_late(lease, now_s):  # what a client did not wait for tells as much
                self._strike(upstream, now_s, now_s - lease.began_s)
        key = lease.affinity.key
        if key in self._in_flight:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]

    def failed(self, name: str) -> None:
        """An upstream refused, broke or kept silent."""
        upstream = self._upstreams[name]
        self._strike(upstream, self._clock(), self.config.avoid_s)

    def reported(self, name: str, load: EngineLoad | None) -> None:
        """What an engine says of itself; None if it says nothing."""
        upstream = self._upstreams[name]
        upstream.load, upstream.load_at_s = load, self._clock()
        told = 0 if load is None else load.running + load.waiting
        upstream.others = max(0, told - upstream.in_flight)

    # --- what is known of an upstream

    def _is_sound(self, name: str, now_s: float) -> bool:
        upstream = self._upstreams[name]
        if now_s < upstream.avoid_until_s:
            return False
        if upstream.strikes and upstream.in_flight:
            return False  # it has its one trial already
        return not self._lags(name, now_s)

    def _lags(self, name: str, now_s: float) -> bool:
        """Whether a request waits there for longer than it would have elsewhere."""
        waiting = islice(self._upstreams[name].waiting, _MOST_LOOKED_AT)
        return any(self._is_late(lease, now_s) for lease in waiting)

    def _is_late(self, lease: Lease, now_s: float) -> bool:
        """Whether a request has waited longer than its like, as far as others can tell."""
        waited_s, config = now_s - lease.began_s, self.config
        if waited_s <= config.slow_s:
            return False
        longest_s, overtaken = 0.0, False
        for name in lease.peers:
            other = self._upstreams[name]
            if name == lease.name or now_s < other.avoid_until_s:
                continue
            longest_s = max(longest_s, other.peak(lease.affinity.streamed).at(now_s))
            overtaken = overtaken or other.newest_answered_s >= lease.began_s
        limit_s = max(config.slow_s, config.slow_factor * longest_s) * _scale(lease.affinity)
        return overtaken and waited_s > limit_s

    def _strike(self, upstream: _Upstream, now_s: float, for_s: float) -> None:
        """Leave an upstream alone, the longer the more often; once for all that fail together."""
        if now_s >= upstream.avoid_until_s:
            upstream.strikes += 1
        factor = 2.0 ** min(upstream.strikes - 1, 10)
        wait_s = min(LONGEST_AVOID_S, min(for_s, self.config.avoid_s) * factor)
        upstream.avoid_until_s = max(upstream.avoid_until_s, now_s + wait_s)

    # --- load

    def _load(self, name: str, now_s: float) -> int:
        upstream = self._upstreams[name]
        fresh = now_s - upstream.load_at_s < REPORT_S
        return upstream.in_flight + (upstream.others if fresh else 0)

    def _relative(self, name: str, now_s: float) -> float:
        return (self._load(name, now_s) + 1) / (self._upstreams[name].weight or 1e-9)

    def _is_full(self, name: str, now_s: float) -> bool:
        upstream = self._upstreams[name]
        fresh = upstream.load is not None and now_s - upstream.load_at_s < REPORT_S
        return fresh and upstream.load is not None and upstream.load.full

    def _free(
        self, names: Sequence[str], affinity: Affinity, home: str | None, now_s: float
    ) -> set[str]:
        """Those of `names` that may take one more."""
        loads = {name: self._load(name, now_s) for name in names}
        weight = sum(self._upstreams[name].weight for name in names) or 1.0
        share = (sum(loads.values()) + 1) / weight
        alone = not self._in_flight.get(affinity.key, 0)
        warm = home if home in names else names[0] if affinity.later else None
        free = set()
        for name in names:
            fair = share * (self._upstreams[name].weight or 1.0)
            most = math.ceil(self.config.spill_factor * fair - 1e-9)
            if name == warm and alone:
                most = max(most, WARM_FLOOR, math.ceil(WARM_FACTOR * fair))
            if loads[name] < most:
                free.add(name)
        not_full = {name for name in free if not self._is_full(name, now_s)}
        return not_full or free

    # --- hashing

    def _ranked(self, key: bytes, names: Sequence[str]) -> list[str]:
        """By weighted rendezvous: each is first for its share of the keys."""

        def score(name: str) -> float:
            digest = hashlib.blake2b(name.encode() + b"\x00" + key, digest_size=8).digest()
            uniform = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
            return -self._upstreams[name].weight / math.log(uniform)

        return sorted(names, key=score, reverse=True)

    def _remember(self, key: bytes, name: str) -> None:
        self._homes[key] = name
        self._homes.move_to_end(key)
        if len(self._homes) > _MOST_REMEMBERED:
            self._homes.popitem(last=False)


def _scale(affinity: Affinity) -> float:
    return 1.0 + affinity.size_bytes / SIZE_BYTES
