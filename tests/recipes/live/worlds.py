"""Traffic on which live certificates are tried: the chance of a difference, request by request.

A world says before every request, knowing all that was seen, with what chance each candidate will
differ, and with what chance the request is shadowed. `false`: streams in which a candidate was
switched on while the mean chance over all requests so far was the target or more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.policies.live.state import LiveRule
from suffice.recipes.live.streams import Streams

# What a world may know: the number of the request, the streams, and the mean chance so far.
Chance = Callable[[int, Streams, FloatArray, np.random.Generator], FloatArray]
Share = Callable[[int, FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class World:
    """One kind of traffic."""

    name: str
    chance: Chance  # (candidates, streams)
    rule: LiveRule = field(default_factory=lambda: LiveRule(share=1.0))
    share: Share | None = None  # (streams,) from the number and the chance; None: the rule's
    weighted: bool = True  # False: the contrast, every shadowed request counts alike
    keeps: bool = True  # whether the promise is expected to hold


TARGET = 0.05


def constant(*rates: float) -> Chance:
    """The same chances all the time."""

    def chance(i: int, streams: Streams, mean: FloatArray, rng: np.random.Generator) -> FloatArray:
        del i, mean, rng
        return np.repeat(np.array(rates)[:, None], streams.streams, axis=1)

    return chance


def over_time(rate: Callable[[int], float]) -> Chance:
    """A chance that moves with the number of the request."""

    def chance(i: int, streams: Streams, mean: FloatArray, rng: np.random.Generator) -> FloatArray:
        del mean, rng
        return np.full((1, streams.streams), rate(i))

    return chance


def bursts(low: float, high: float, length: float) -> Chance:
    """Stretches of easy and of hard requests, each of a geometric length."""
    hard: dict[int, FloatArray] = {}

    def chance(i: int, streams: Streams, mean: FloatArray, rng: np.random.Generator) -> FloatArray:
        del mean
        if i == 0:
            hard[0] = rng.random(streams.streams) < 0.5
        else:
            hard[0] = hard[0] ^ (rng.random(streams.streams) < 1.0 / length)
        return np.where(hard[0], high, low)[None, :]

    return chance


def repeated(prompts: int, rate: float) -> Chance:
    """The same few prompts again and again, each always alike: a share of them differs."""

    def chance(i: int, streams: Streams, mean: FloatArray, rng: np.random.Generator) -> FloatArray:
        del i, mean, rng  # whoever draws a prompt meets one that differs with this chance
        return np.full((1, streams.streams), round(prompts * rate) / prompts)

    return chance


def adversary(hard: float, *, looks: bool) -> Chance:
    """Easy requests whenever the mean chance stays at the target with them, else hard ones.

    `looks`: only while the evidence is above its beginning; below, hard ones to win back.
    """

    def chance(i: int, streams: Streams, mean: FloatArray, rng: np.random.Generator) -> FloatArray:
        del rng
        easy = mean * i / (i + 1) >= TARGET
        if looks:
            easy &= (streams.log > 0.0) | (mean * i / (i + 1) >= 2.0 * TARGET)
        return np.where(easy, 0.0, hard)

    return chance


def nights(i: int) -> bool:
    """Blocks of 20 requests, hard by day and easy by night."""
    return (i // 20) % 2 == 1


def by_night(i: int, chance: FloatArray) -> FloatArray:
    """Engines are idle by night: everything is shadowed then, a quarter by day."""
    return np.full(chance.shape[1], 1.0 if nights(i) else 0.25)


QUARTER = LiveRule(share=0.25, share_after=0.05)
WORLDS = (
    World(name="independent, at the target", chance=constant(TARGET)),
    World(name="independent, a tenth above", chance=constant(1.1 * TARGET)),
    World(name="bursts of 50, easy and hard", chance=bursts(0.0, 2 * TARGET, 50)),
    World(name="bursts of 500, easy and hard", chance=bursts(0.01, 0.09, 500)),
    World(name="300 prompts again and again", chance=repeated(300, TARGET)),
    World(name="falling from 8 to 5 %", chance=over_time(lambda i: max(0.05, 0.08 - i * 1e-5))),
    World(name="days of 1,000, easy first",
          chance=over_time(lambda i: TARGET * (1 - 0.6 * np.sin(2 * np.pi * i / 1000)))),
    World(name="adversary, easy whenever allowed", chance=adversary(0.5, looks=False)),
    World(name="adversary that reads the evidence", chance=adversary(0.2, looks=True)),
    World(name="share moves with the traffic", share=by_night, rule=QUARTER,
          chance=over_time(lambda i: 0.0 if nights(i) else 2 * TARGET)),
    World(name="the same without weights", share=by_night, rule=QUARTER, weighted=False,
          chance=over_time(lambda i: 0.0 if nights(i) else 2 * TARGET), keeps=False),
    World(name="three candidates, the second at the target",
          rule=LiveRule(share=1.0, candidates=3), chance=constant(0.02, TARGET, 0.08)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Streams in which something was switched on, and in which that was false."""

    promoted: int
    false: int
    streams: int


def try_world(world: World, *, streams: int, requests: int, seed: int) -> Tried:
    """`requests` of every stream, shadowed or not, or fewer if one window is over."""
    rng = np.random.default_rng(seed)
    found = Streams(world.rule, streams)
    total = np.zeros((world.rule.candidates, streams))
    promoted = np.zeros(streams, dtype=bool)
    false = np.zeros(streams, dtype=bool)
    for i in range(requests):
        chance = world.chance(i, found, total / max(1, i), rng)
        total += chance
        share = found.share if world.share is None else world.share(i, chance)
        shadowed = rng.random(streams) < share
        differs = rng.random((1, streams)) < chance  # nested, as thresholds of one policy are
        given = share if world.weighted else found.floor[0]
        on, _ = found.see(differs, rng.random(streams), share=given, shadowed=shadowed)
        promoted |= on.any(axis=0)
        false |= (on & (total / (i + 1) >= TARGET - 1e-12)).any(axis=0)
        if found.seen.max() >= world.rule.window - 1:
            break
    return Tried(promoted=int(promoted.sum()), false=int(false.sum()), streams=streams)
