"""A simulation of replicas under random arrivals, pass by pass: it checks what the formulas say.

Every replica works in passes. A pass gives each running sequence its next tokens and computes as
much of the waiting prompts, in order of arrival, as the token budget has room for. A request goes
to the replica with the fewest sequences, running and waiting. What a pass takes comes from the load
curve; when prompts meet, wait and are put behind each other is what is simulated.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.throughput.load_curve import LoadCurve
from suffice.throughput.workload import Workload

# Requests that fill the replicas.
WARM_UP = 0.25


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SimulatedLoad:
    """Times of the requests behind the warm-up, in seconds."""

    replicas: int
    ttft_s: FloatArray
    tpot_s: FloatArray

    def within(self, max_ttft_s: float | None, max_tpot_s: float | None) -> tuple[float, float]:
        """Share of requests within each limit; 1 where there is none."""
        ttft = 1.0 if max_ttft_s is None else float(np.mean(self.ttft_s <= max_ttft_s))
        tpot = 1.0 if max_tpot_s is None else float(np.mean(self.tpot_s <= max_tpot_s))
        return ttft, tpot

    def quantiles(self, share: float) -> tuple[float, float]:
        """TTFT and TPOT that `share` of the requests stay within."""
        return _quantile(self.ttft_s, share), _quantile(self.tpot_s, share)


def simulate_load(
    curve: LoadCurve,
    workload: Workload,
    *,
    rate_per_s: float,
    replicas: int,
    requests: int,
    seed: int = 0,
    warm_up: float = WARM_UP,
) -> SimulatedLoad:
    """`requests` requests at `rate_per_s` for all replicas together, Poisson.

    The share `warm_up` of them fills the replicas and is not counted.
    """
    if not rate_per_s > 0 or replicas < 1 or requests < 1:
        raise InputError("a simulation needs a positive rate, replicas and requests")
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1.0 / rate_per_s, requests)).tolist()
    weights = np.array([c.weight for c in workload.classes], dtype=float)
    chosen = random.choice(len(weights), size=requests, p=weights / weights.sum())
    costs = _PassCosts.of(curve)
    machines = [_Replica(costs) for _ in range(replicas)]
    done: list[_Request] = []
    prompt = curve.scenario.prompt_tokens / workload.mean_input_tokens
    for number, (arrival_s, kind) in enumerate(zip(arrivals, chosen.tolist(), strict=True)):
        for machine in machines:
            if machine.now_s < arrival_s:
                machine.run_until(arrival_s)
        lengths = workload.classes[kind]
        request = _Request(
            number=number,
            arrival_s=arrival_s,
            prompt_tokens=max(1, round(lengths.input_tokens * prompt)),
            output_tokens=lengths.output_tokens,
        )
        loads = [each.load() for each in machines]
        machines[loads.index(min(loads))].submit(request)
        done.append(request)
    for machine in machines:
        machine.run_until(math.inf)
    counted = done[int(warm_up * requests) :]
    return SimulatedLoad(
        replicas=replicas,
        ttft_s=np.array([r.first_s - r.arrival_s for r in counted]),
        tpot_s=np.array([r.tpot_s for r in counted if r.output_tokens > 1] or [0.0]),
    )


def _quantile(values: FloatArray, share: float) -> float:
    """The value that `share` of them stay within, by a line between two (numpy's own method).

    numpy.quantile imports masked arrays, which takes longer than the whole simulation of a machine.
    """
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


@dataclass(slots=True)
class _Request:
    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    computed: int = 0  # of its prompt
    extra_s: float = 0.0  # the engine's handling, when others were running
    first_s: float = 0.0
    end_s: float = 0.0

    @property
    def tpot_s(self) -> float:
        return (self.end_s - self.first_s) / (self.output_tokens - 1)


class _PassCosts(NamedTuple):
    """What passes take, as plain numbers: they are asked for tens of thousands of times."""

    step_s: list[float]  # by running sequences
    budget: float  # tokens of a pass, of all attention replicas
    accepted: float  # tokens of a step
    arrival_s: float  # an engine's handling of a request, for each that runs
    prompt_tokens: float
    alone_s: float
    shared_s: float
    least_s: float
    saved_s: float
    together: bool  # whether one replica or stage does all of a pass

    @classmethod
    def of(cls, curve: LoadCurve) -> _PassCosts:
        s = curve.scenario
        most = int(curve.batch[-1])
        return cls(
            step_s=np.interp(np.arange(most + 1), curve.batch, curve.step_s).tolist(),
            budget=float(s.max_batched_tokens * s.data_parallel),
            accepted=float(s.accepted),
            arrival_s=float(s.arrival_s),
            prompt_tokens=float(s.prompt_tokens),
            alone_s=curve.prefill_alone_s,
            shared_s=curve.prefill_shared_s,
            least_s=float(curve.prefill.least_s[0]),
            saved_s=float(s.mixed) * curve.step_alone_s,
            together=float(s.data_parallel * s.pipeline_parallel) == 1.0,
        )


@dataclass(slots=True)
class _Replica:
    """Passes of one replica; while nothing comes or ends, all passes take equally long."""

    costs: _PassCosts
    now_s: float = 0.0
    steps: int = 0
    _waiting: deque[_Request] = field(default_factory=deque)
    _ends: list[tuple[int, int, _Request]] = field(default_factory=list)

    def load(self) -> int:
        return len(self._waiting) + len(self._ends)

    def submit(self, request: _Request) -> None:
        self.now_s = max(self.now_s, request.arrival_s)
        # `first_s` was fitted where a prompt's own pass had no step in it: here it has one.
        request.extra_s = self.costs.arrival_s * len(self._ends)
        self._waiting.append(request)

    def run_until(self, end_s: float) -> None:
        """Whole passes that begin before `end_s`."""
        most = len(self.costs.step_s) - 1
        while self.now_s < end_s:
            if self._waiting and len(self._ends) < most:
                self._prompts(most - len(self._ends))
            elif self._ends:
                self._decode(end_s)
            else:
                return

    def _decode(self, end_s: float) -> None:
        step_s = self.costs.step_s[len(self._ends)]
        steps = self._ends[0][0] - self.steps
        if end_s < self.now_s + steps * step_s:
            asked = math.ceil((end_s - self.now_s) / step_s)  # at least 1: now is before the end
            steps = min(steps, asked)
        self.now_s += steps * step_s
        self._advance(steps)

    def _advance(self, steps: int) -> None:
        self.steps += steps
        while self._ends and self._ends[0][0] <= self.steps:
            request = heapq.heappop(self._ends)[2]
            request.end_s = self.now_s

    def _prompts(self, room: int) -> None:
        """One pass with a piece of the waiting prompts, and a step of what is running."""
        running = len(self._ends)
        budget = self.costs.budget - running
        finished: list[_Request] = []
        computed = 0.0
        while self._waiting and budget > computed and len(finished) < room:
            request = self._waiting[0]
            piece = min(request.prompt_tokens - request.computed, budget - computed)
            computed += piece
            request.computed += math.ceil(piece)
            if request.computed >= request.prompt_tokens:
                finished.append(self._waiting.popleft())
        self.now_s += self._pass_s(computed, running)
        self._advance(1 if running else 0)
        for request in finished:
            request.first_s = self.now_s + request.extra_s
            steps = math.ceil((request.output_tokens - 1) / self.costs.accepted)
            if steps == 0:
                request.end_s = request.first_s
                continue
            heapq.heappush(self._ends, (self.steps + steps, request.number, request))

    def _pass_s(self, tokens: float, running: int) -> float:
        costs = self.costs
        prompts = tokens / costs.prompt_tokens
        alone_s = costs.alone_s * min(1.0, prompts)
        # What remains of a prompt that one pass had no room for takes no longer than it is.
        shared_s = max(prompts * costs.shared_s, costs.least_s)
        if not costs.together:
            # Replicas and stages take a prompt each; one by itself is no faster for that.
            shared_s = max(shared_s, alone_s)
        if not running:
            return max(alone_s, shared_s)
        return shared_s + costs.step_s[running] - min(costs.saved_s, shared_s)
