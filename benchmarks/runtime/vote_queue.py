"""Votes in waves beside votes at once in a full queue: first come first served, or by their age.

    python benchmarks/runtime/vote_queue.py [--questions 2000] [--seed 1]

A scripted server with as many places as questions in flight, which each sample holds for .6 to 1.4
units of time. Half of the questions draw 16 samples at once; the others draw in waves and stop when
they may. A wave's place in the queue is that of its coming, or that of its question's
(`traffic.priority_by_age`). Printed: median and 95th percentile of the waves' time over those of
the vote at once. A queue and nothing else: no batch that grows slower, no prefill.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from dataclasses import dataclass

PLACES = 64
LATER = 4  # samples of every wave but the first
MOST_WAVES = 5


@dataclass(slots=True)
class Question:
    at_once: bool
    born: float
    waves: list[int]
    left: int = 0


def question(rng: random.Random, first: int, *, at_once: bool, now: float) -> Question:
    if at_once:
        return Question(at_once=True, born=now, waves=[16])
    more = int(rng.random() * min(MOST_WAVES, 1 + (16 - first) // LATER + 1))
    return Question(at_once=False, born=now, waves=[first] + [LATER] * more)


def times(*, by_age: bool, first: int, count: int, seed: int) -> dict[bool, list[float]]:
    """How long the questions took, by whether they drew at once."""
    rng = random.Random(seed)
    now, coming, begun = 0.0, 0, 0
    queue: list[tuple[float, int, Question]] = []
    running: list[tuple[float, int, Question]] = []
    took: dict[bool, list[float]] = {True: [], False: []}

    def ask(asked: Question) -> None:
        nonlocal coming
        asked.left = asked.waves.pop(0)
        for _ in range(asked.left):
            coming += 1
            heapq.heappush(queue, (asked.born if by_age else now, coming, asked))

    def begin() -> None:
        nonlocal begun
        begun += 1
        ask(question(rng, first, at_once=begun % 2 == 0, now=now))

    for _ in range(PLACES):
        begin()
    while running or queue:
        while queue and len(running) < PLACES:
            _, number, asked = heapq.heappop(queue)
            heapq.heappush(running, (now + rng.uniform(0.6, 1.4), number, asked))
        now, _, asked = heapq.heappop(running)
        asked.left -= 1
        if asked.left:
            continue
        if asked.waves:
            ask(asked)
            continue
        took[asked.at_once].append(now - asked.born)
        if begun < count:
            begin()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print("| first wave | served by | median | p95 |\n|--:|---|--:|--:|")
    for first in (4, 8):
        for by_age in (False, True):
            took = times(by_age=by_age, first=first, count=given.questions, seed=given.seed)
            waves, at_once = sorted(took[False]), sorted(took[True])
            middle = statistics.median(waves) / statistics.median(at_once)
            late = waves[int(0.95 * len(waves))] / at_once[int(0.95 * len(at_once))]
            how = "the question's age" if by_age else "coming"
            print(f"| {first} | {how} | {middle:.2f}x | {late:.2f}x |")


if __name__ == "__main__":
    main()
