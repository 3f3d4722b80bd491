"""Time on top of a replay: arrivals, replicas that decode in batches, latency, lambda in a queue.

In continuous batching every running sequence draws one token per step, so a request's ticks are
the replica's steps, and a step takes as long as the sequences that run need. Requests go to the
replica with the fewest sequences, wait there in order of arrival until their first samples fit, and
then hold on to it. Prefill of a prompt stops the replica once per request (its samples share it).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.executors.replay import Span
from suffice.recipes.replay.run import ReplayedRequest


class Speed(NamedTuple):
    """How fast a replica is: seconds of a decode step by running sequences (index 0 unused)."""

    step_s: FloatArray  # shape (max_batch + 1,)
    prefill_s_per_token: float
    devices: int  # per replica

    @property
    def max_batch(self) -> int:
        """Sequences that run at once."""
        return len(self.step_s) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRequest:
    """One request in time."""

    answered: ReplayedRequest
    arrival_s: float
    start_s: float
    end_s: float
    price: float | None = None  # lambda when it was decided on

    @property
    def wait_s(self) -> float:
        """Time in the queue."""
        return self.start_s - self.arrival_s

    @property
    def e2e_s(self) -> float:
        """Arrival to answer."""
        return self.end_s - self.arrival_s


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Timeline:
    """All requests in time, and how busy the replicas were."""

    served: tuple[TimedRequest, ...]
    busy_s: float  # summed over replicas
    span_s: float  # first arrival to last answer
    replicas: int
    devices: int  # per replica

    @property
    def gpu_s(self) -> float:
        """Device-seconds of work: time in which a replica ran at least one sequence."""
        return self.busy_s * self.devices

    @property
    def utilisation(self) -> float:
        """Share of the time in which replicas had something to do."""
        return self.busy_s / (self.span_s * self.replicas) if self.span_s else 0.0

    def percentiles(self, name: str, levels: Sequence[float] = (0.5, 0.9, 0.99)) -> list[float]:
        """Percentiles of `e2e_s` or `wait_s`."""
        values = [getattr(each, name) for each in self.served]
        return [float(value) for value in np.quantile(values, levels)]


def poisson(rate_per_s: float, count: int, seed: int) -> FloatArray:
    """Arrival times in seconds of a Poisson process."""
    if not rate_per_s > 0:
        raise InputError(f"the rate must be positive, got {rate_per_s}")
    gaps = np.random.default_rng(seed).exponential(1.0 / rate_per_s, count)
    times: FloatArray = np.cumsum(gaps)
    return times


# The outcome of the n-th request, given how many wait and run ahead of it; and the price it paid.
Decide = Callable[[int, int], tuple[ReplayedRequest, float | None]]


def simulate(arrivals_s: FloatArray, decide: Decide, speed: Speed, replicas: int) -> Timeline:
    """Requests that arrive at `arrivals_s`, served by `replicas` replicas of `speed`."""
    if replicas < 1:
        raise InputError(f"replicas must be 1 or more, got {replicas}")
    machines = [_Replica(speed) for _ in range(replicas)]
    served: list[TimedRequest] = []
    for number, arrival_s in enumerate(arrivals_s.tolist()):
        for machine in machines:
            served.extend(machine.run_until(arrival_s))
        waiting = sum(machine.waiting for machine in machines)
        answered, price = decide(number, waiting)
        machine = min(machines, key=lambda each: each.load)
        machine.submit(_Job(answered, arrival_s, price))
    for machine in machines:
        served.extend(machine.run_until(float("inf")))
    served.sort(key=lambda each: each.arrival_s)
    first_s = float(arrivals_s[0]) if len(arrivals_s) else 0.0
    last_s = max((each.end_s for each in served), default=first_s)
    return Timeline(
        served=tuple(served),
        busy_s=sum(machine.busy_s for machine in machines),
        span_s=last_s - first_s,
        replicas=replicas,
        devices=speed.devices,
    )


@dataclass(slots=True)
class _Job:
    answered: ReplayedRequest
    arrival_s: float
    price: float | None
    start_s: float = 0.0
    begun_tick: int = 0  # of the replica

    @property
    def width(self) -> int:
        """Most sequences at once."""
        return max((change for _, change in _widths(self.answered.spans)), default=1)


def _widths(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """(tick, sequences running from then on), at every change."""
    changes: dict[int, int] = {}
    for start, end in spans:
        if end > start:
            changes[start] = changes.get(start, 0) + 1
            changes[end] = changes.get(end, 0) - 1
    running = 0
    for tick in sorted(changes):
        running += changes[tick]
        yield tick, running


@dataclass(slots=True)
class _Replica:
    """Steps of one replica; between two changes of what runs, all steps take equally long."""

    speed: Speed
    now_s: float = 0.0
    tick: int = 0
    busy_s: float = 0.0
    sequences: int = 0
    _queue: deque[_Job] = field(default_factory=deque)
    _changes: list[tuple[int, int, int]] = field(default_factory=list)  # tick, job, sequences
    _jobs: dict[int, _Job] = field(default_factory=dict)
    _width: dict[int, int] = field(default_factory=dict)
    _numbers: int = 0

    @property
    def waiting(self) -> int:
        """Requests in its queue."""
        return len(self._queue)

    @property
    def load(self) -> int:
        """Sequences running and wanted by the queue."""
        return self.sequences + sum(job.width for job in self._queue)

    def submit(self, job: _Job) -> None:
        """Take a request; it starts at once if there is room."""
        self.now_s = max(self.now_s, job.arrival_s)
        self._queue.append(job)
        self._admit()

    def run_until(self, end_s: float) -> list[TimedRequest]:
        """Advance to `end_s`; gives the requests that were answered."""
        done: list[TimedRequest] = []
        while self._changes:
            tick, number, width = self._changes[0]
            step_s = float(self.speed.step_s[min(self.sequences, self.speed.max_batch)])
            # More sequences than fit take turns: steps get longer in proportion.
            step_s *= max(1.0, self.sequences / self.speed.max_batch)
            need_s = (tick - self.tick) * step_s
            if self.now_s + need_s > end_s:
                # A step that is under way is finished first: what arrives waits for the next.
                self._pass(math.ceil(max(0.0, end_s - self.now_s) / step_s), step_s)
                return done
            heapq.heappop(self._changes)
            self._pass(tick - self.tick, step_s)
            self.sequences += width - self._width[number]
            self._width[number] = width
            if self._ends(number):
                job = self._jobs.pop(number)
                del self._width[number]
                done.append(
                    TimedRequest(
                        answered=job.answered,
                        arrival_s=job.arrival_s,
                        start_s=job.start_s,
                        end_s=self.now_s,
                        price=job.price,
                    )
                )
                self._admit()
        return done

    def _pass(self, steps: int, step_s: float) -> None:
        self.tick += steps
        self.now_s += steps * step_s
        self.busy_s += steps * step_s

    def _ends(self, number: int) -> bool:
        job = self._jobs[number]
        return self.tick - job.begun_tick >= job.answered.ticks

    def _admit(self) -> None:
        """Start waiting requests while they fit; one that never would still runs alone."""
        while self._queue:
            job = self._queue[0]
            first = next((width for _, width in _widths(job.answered.spans)), 1)
            if self.sequences and self.sequences + first > self.speed.max_batch:
                return
            self._queue.popleft()
            job.start_s, job.begun_tick = self.now_s, self.tick
            prefill_s = job.answered.prompt_tokens * self.speed.prefill_s_per_token
            self.now_s += prefill_s
            self.busy_s += prefill_s
            number = self._numbers
            self._numbers += 1
            self._jobs[number], self._width[number] = job, 0
            last = 0
            for tick, width in _widths(job.answered.spans):
                if tick == 0:
                    self._width[number] = width
                    self.sequences += width
                else:
                    heapq.heappush(self._changes, (self.tick + tick, number, width))
                last = tick
            if last < job.answered.ticks or last == 0:
                heapq.heappush(self._changes, (self.tick + job.answered.ticks, number, 0))
