"""Recorded answers as live traffic: how long until a certificate, and what it costs on the way.

Every way is played on every recorded question once per draw; requests are then drawn with
replacement, by many independent seeds at once, through the state machine of policies.live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, NoAnswer
from suffice.core.prices import Prices
from suffice.evals.traces.trace_set import MISSING, TraceSet
from suffice.executors.replay import play
from suffice.policies.live.labels import Loss
from suffice.policies.live.state import LiveRule
from suffice.recipes.live.streams import Streams
from suffice.recipes.recordings import Source
from suffice.recipes.replay.needs import check_recorded
from suffice.recipes.replay.spent import spent_of

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What every way did on every question; arrays are (ways, questions, draws), the safe first.

    `differs` from the safe answer, `right` (NaN: not judged), `cost` (None: costs of several models
    cannot be compared without prices), `reused`: part of the cost that the safe way's own samples
    make up, where the way ends in it.
    """

    names: tuple[str, ...]
    datasets: tuple[str, ...]  # by question
    differs: Bools
    right: FloatArray
    cost: FloatArray | None
    reused: FloatArray
    unit: str

    @classmethod
    def of(
        cls, traces: TraceSet, safe: tuple[str, AnyPolicy], cheap: Sequence[tuple[str, AnyPolicy]],
        *, draws: int = 1, seed: int = 0, prices: Prices | None = None,
    ) -> Pool:  # fmt: skip
        """Plays all of them; deterministic in the seed. Raises InputError, LacksCapability."""
        prices = prices or Prices()
        source = Source(traces)
        ways = (safe, *cheap)
        questions = [
            each for each in range(len(traces.questions))
            if source.request(each).answer_format is not None
        ]  # fmt: skip
        if not questions:
            raise InputError(
                "nothing in this recording can be compared: it has verdicts or free text alone "
                "(suffice traces rejudge FILE --checker number finds answers in texts)"
            )
        for _, policy in ways:
            check_recorded(policy, traces, model=source.model, questions=questions)
        shape = (len(ways), len(questions), draws)
        said = np.full(shape, MISSING, dtype=np.int64)
        right, cost, reused = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        models: set[str] = set()
        for at in np.ndindex(shape):
            way, row, draw = at
            drawer = source.drawer(questions[row], (seed, draw))
            try:
                outcome, _, _ = play(ways[way][1], source.request(questions[row]), drawer)
            except NoAnswer:
                continue
            taken = drawer.rows[outcome.sample]
            said[at], right[at] = traces.answer[taken], traces.correct[taken]
            for model, usage in spent_of(outcome.records):
                models.add(model)
                cost[at] += prices.amount(model, usage)
            if outcome.exit == "safe" and way:  # its last step is the safe way's own answer
                reused[at] = min(cost[at], cost[0, row, draw])
        known = not (prices.lacking(models) if prices else len(models) > 1)
        return cls(
            names=tuple(text for text, _ in ways),
            datasets=tuple(traces.questions[each].dataset for each in questions),
            differs=said != said[0],
            right=right,
            cost=cost if known else None,
            reused=reused,
            unit=prices.unit,
        )

    def losses(self, kind: Loss) -> FloatArray:
        """(candidates, questions, draws): what each loses. Raises InputError without verdicts."""
        if np.isnan(self.right).any():
            raise InputError(
                f"--loss {kind}: some answers of this recording have no verdict "
                "(suffice traces rejudge FILE --checker number)"
            )
        lost = self.right[:1] - self.right[1:]
        lost = np.where(self.differs[1:], lost, 0.0)
        found: FloatArray = lost if kind == "net" else np.maximum(lost, 0.0)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that come: how many, how fast, and of which recorded sets.

    `burst`: requests come that many times as fast in a tenth of the time, and slower else. `mix`,
    `drift`: weights of data sets at the beginning, and at the end (linear in between).
    """

    requests: int = 5000
    rate_per_s: float = 1.0
    burst: float = 1.0
    mix: Mapping[str, float] = field(default_factory=dict)
    drift: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.requests < 1 or self.rate_per_s <= 0.0 or not 1.0 <= self.burst < 10.0:
            raise InputError(
                f"requests must be 1 or more, the rate above 0, burst from 1 to below 10, got "
                f"{self.requests}, {self.rate_per_s:g} and {self.burst:g}"
            )

    def weights(self, datasets: Sequence[str], when: float) -> FloatArray:
        """Chance of each question at `when`, from 0 (begin) to 1 (end)."""
        names = sorted(set(datasets))
        for name in (*self.mix, *self.drift):
            if name not in names:
                raise InputError(f"no data set {name!r} in the recording: it has {names}")
        of = np.array(datasets)
        counts = {name: int((of == name).sum()) for name in names}
        even: Mapping[str, float] = counts
        first = self.mix or even
        last = self.drift or first

        def shares(wanted: Mapping[str, float]) -> dict[str, float]:
            whole = sum(wanted.values())
            return {name: wanted.get(name, 0.0) / whole for name in names}

        begin, end = shares(first), shares(last)
        chance = np.zeros(len(of))
        for name in names:
            share = (1.0 - when) * begin[name] + when * end[name]
            chance[of == name] = share / counts[name]
        found: FloatArray = chance / chance.sum()
        return found

    def seconds(self, rng: np.random.Generator, streams: int) -> FloatArray:
        """(requests, streams): when each request comes."""
        lengths = rng.exponential(1.0 / self.rate_per_s, size=(self.requests, streams))
        if self.burst > 1.0:  # a tenth of the time at burst times the rate, the rest as is left
            calm = (1.0 - 0.1 * self.burst) / 0.9
            in_burst = np.arange(self.requests) % 100 < 10.0 * self.burst
            lengths /= np.where(in_burst, self.burst, calm)[:, None]
        return np.cumsum(lengths, axis=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlay:
    """What happened, by seed. Infinity: not within the requests that were played."""

    requests_to_certificate: FloatArray  # of the first candidate
    shadowed_to_certificate: FloatArray
    seconds_to_certificate: FloatArray
    shadowed: FloatArray  # share of requests
    answered_cheap: FloatArray  # share of requests that a candidate answered
    differed: FloatArray  # share of clients' answers that differ from the safe one
    lost_points: FloatArray  # right answers lost against the safe policy; NaN: not judged
    cost: FloatArray | None  # all of it, shadow runs included, over the safe policy's alone
    shadow_cost: FloatArray | None  # of shadow runs, over the safe policy's
    demotions: FloatArray
    labels_to_certificate: FloatArray  # that the evidence took; 0 where it counts differences


class _Sums:
    """What is added up, by seed."""

    def __init__(self, seeds: int) -> None:
        self.first = np.full((3, seeds), np.inf)
        zero = np.zeros(seeds)
        self.shadowed, self.cheap, self.differed, self.lost = (zero.copy() for _ in range(4))
        self.cost, self.extra, self.safe, self.demoted = (zero.copy() for _ in range(4))
        self.labels, self.labels_first = zero.copy(), np.full(seeds, np.inf)


def play_live(
    pool: Pool, rule: LiveRule, traffic: Traffic, *, seeds: int = 200, seed: int = 0,
    labelled: float = 1.0,
) -> LivePlay:  # fmt: skip
    """`seeds` gateways that meet the same kind of traffic, each with its own draws.

    `labelled`: share of requests of whose answers a label tells which are right, at once; one that
    comes D shadowed requests later puts the certificate off by D at most.
    """
    losses = None if rule.loss == "differ" else pool.losses(rule.loss)
    rng = np.random.default_rng(seed)
    streams, sums = Streams(rule, seeds), _Sums(seeds)
    when_s = traffic.seconds(rng, seeds)
    draws = pool.differs.shape[2]
    steps = np.cumsum(traffic.weights(pool.datasets, 0.0))
    for i in range(traffic.requests):
        if traffic.drift and i % 50 == 0:
            steps = np.cumsum(traffic.weights(pool.datasets, i / traffic.requests))
        at = (
            np.minimum(np.searchsorted(steps, rng.random(seeds)), len(steps) - 1),
            rng.integers(draws, size=seeds),
        )
        way, share = streams.on.copy(), streams.share  # way 0: the safe policy
        shadowed = rng.random(seeds) < share
        sums.shadowed += shadowed
        sums.cheap += way > 0
        sums.differed += pool.differs[(way, *at)]
        sums.lost += pool.right[(0, *at)] - pool.right[(way, *at)]
        if pool.cost is not None:
            sums.cost += pool.cost[(way, *at)]
            sums.safe += pool.cost[(0, *at)]
            sums.extra += np.where(shadowed, _extra(pool.cost, pool.reused, way, at), 0.0)
        differs = pool.differs[1:, at[0], at[1]]
        told = None
        if losses is not None:
            told = rng.random(seeds) < labelled
            asks = np.ones(seeds, dtype=bool) if rule.unlabelled == "left_out" else differs.any(0)
            sums.labels += shadowed & told & asks & np.isinf(sums.first[0])
        on, off = streams.see(
            differs, rng.random(seeds), share=share, shadowed=shadowed, labelled=told,
            losses=None if losses is None else losses[:, at[0], at[1]],
        )  # fmt: skip
        fresh = on[0] & np.isinf(sums.first[0])
        now = np.stack([np.full(seeds, i + 1.0), sums.shadowed, when_s[i]])
        sums.first[:, fresh] = now[:, fresh]
        sums.labels_first[fresh] = sums.labels[fresh]
        sums.demoted += off.any(axis=0)
    return _told(sums, traffic.requests, costs=pool.cost is not None)


def _extra(
    cost: FloatArray, reused: FloatArray, way: NDArray[np.int64], at: tuple[Any, Any]
) -> FloatArray:
    """Cost of a shadow run: the safe policy, if it did not answer, and the next candidate.

    Samples that the answer has drawn are not drawn again; what two candidates share is counted
    twice here.
    """
    following = np.minimum(way + 1, len(cost) - 1)
    more = np.where(following > way, cost[(following, *at)] - reused[(following, *at)], 0.0)
    safe = np.where(way > 0, cost[(0, *at)] - reused[(way, *at)], 0.0)
    found: FloatArray = more + safe
    return found


def _told(sums: _Sums, n: int, *, costs: bool) -> LivePlay:
    return LivePlay(
        requests_to_certificate=sums.first[0],
        shadowed_to_certificate=sums.first[1],
        seconds_to_certificate=sums.first[2],
        shadowed=sums.shadowed / n,
        answered_cheap=sums.cheap / n,
        differed=sums.differed / n,
        lost_points=100.0 * sums.lost / n,
        cost=(sums.cost + sums.extra) / sums.safe if costs else None,
        shadow_cost=sums.extra / sums.safe if costs else None,
        demotions=sums.demoted,
        labels_to_certificate=sums.labels_first,
    )
