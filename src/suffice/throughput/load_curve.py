"""What a replica does at every number of running sequences, and at every rate of requests.

Two loads: a fixed number of requests in flight, as benchmarks keep, and requests that come at
random at a rate. Under the second one, the running sequences settle where as many leave as come
(Little's law), prompts meet other prompts, and the number of sequences varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from suffice.architecture.model import Model
from suffice.core.arrays import FloatArray
from suffice.throughput.analytic import device_of, scenario
from suffice.throughput.formulas import (
    Capacity,
    Prefill,
    Scenario,
    capacity,
    decode_step,
    prefill,
    steady_state,
)
from suffice.throughput.serving import Serving
from suffice.throughput.stacked_work import repeated
from suffice.throughput.work import Device
from suffice.throughput.workload import Workload

# Every batch up to here, then steps of 4 %.
EVERY_BATCH_TO = 64
GROWTH = 1.04
# Room is kept for this many standard deviations of the number of running sequences.
ROOM_DEVIATIONS = 3.0


class Latency(NamedTuple):
    """Mean times of a request, and the times that the asked share of requests stays within."""

    ttft_s: float
    tpot_s: float
    ttft_within_s: float
    tpot_within_s: float
    running: float  # sequences per replica


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadCurve:
    """One replica by running sequences; `rate_per_s` is requests per second, rising.

    `longest_prefill_s` is the alone time of a prompt that the asked share of prompts stays within.
    """

    device: Device
    scenario: Scenario
    batch: FloatArray
    step_s: FloatArray
    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    rate_per_s: FloatArray
    prefill: Prefill
    step_alone_s: float  # what a step takes whatever the batch
    largest_batch: int
    memory_bytes: float
    longest_prefill_s: float
    prompt_variation: float  # squared coefficient of variation of prompts' times

    @property
    def prefill_alone_s(self) -> float:
        """Time of the mean prompt by itself."""
        return float(self.prefill.alone_s[0])

    @property
    def prefill_shared_s(self) -> float:
        """Time that the mean prompt takes up when others come with it."""
        return float(self.prefill.shared_s[0])

    @property
    def prefill_occupied_s(self) -> float:
        """Time that the mean prompt keeps a replica from anything else."""
        return float(self.prefill.occupied_s[0])

    @property
    def most_per_s(self) -> float:
        """Requests per second at the largest batch."""
        return float(self.rate_per_s[-1])

    def at(self, values: FloatArray, batch: float) -> float:
        """A column at a number of running sequences, between its entries by a line."""
        return float(np.interp(batch, self.batch, values))

    def under_rate(self, rate_per_s: float, *, replicas: int, within: float) -> Latency | None:
        """Times of requests that come at random; None where they come faster than they leave.

        `rate_per_s` is of one replica among `replicas`, each request going to the one with the
        fewest. A request finds as many running as on average and is one more, with many replicas
        less than one more: rate = (B - 1/replicas) / e2e(B). The number of running sequences is
        Poisson over all replicas together.

        Requests go where the fewest are, so a replica that has just taken one takes the next later
        than by chance: with many replicas a request meets half a prompt less than rate x time
        while it runs (as many come as it found: the replica's count moves by single steps), and the
        number of prompts varies as the gaps between them do, by (1 + 1/replicas) / 2 of a Poisson
        number's variance, as in `wait`.
        """
        s = self.scenario
        prompts = self._prompts_under(rate_per_s)
        if prompts is None:
            return None
        pace_s = prompts.pace(self.step_s) / float(s.accepted)
        outputs = float(s.output_tokens) - 1.0
        scale = (1.0 + 1.0 / replicas) / 2.0 + self.prompt_variation
        wait_s = prompts.wait(self.step_s, scale)
        mean = np.maximum(self.batch - 1.0 / replicas, 0.0)
        if prompts.ways == 1.0:
            fewer = (1.0 - 1.0 / replicas) * np.minimum(mean, 0.5)
            spared_s = fewer * prompts.interrupts_s / max(outputs, 1.0)
            pace_s = np.maximum(pace_s - spared_s, self.step_s / float(s.accepted))
        others = 1.0 - np.exp(-mean)
        ttft_s = self.prefill_alone_s + others * (
            wait_s + float(s.first_s) + self.batch * float(s.arrival_s)
        )
        e2e_s = ttft_s + outputs * pace_s
        leaving = np.maximum.accumulate(mean / e2e_s)
        if rate_per_s > leaving[-1]:
            return None
        running = float(np.interp(rate_per_s, leaving, self.batch))
        count = running - 1.0 / replicas
        spread = math.sqrt(count / replicas)
        if running + ROOM_DEVIATIONS * spread > self.largest_batch:
            return None
        deviations = NormalDist().inv_cdf(within)
        high = running + deviations * spread
        tpot_s = self.at(pace_s, running)
        met = rate_per_s * outputs * tpot_s
        varied = met * (1.0 + 1.0 / replicas) / 2.0
        interrupted_s = math.sqrt(varied) * prompts.interrupts_s / max(outputs, 1.0)
        crowded_s = (self.at(pace_s, high) - tpot_s) / deviations
        mean_ttft_s = self.at(ttft_s, running)
        late_s = prompts.late(self.at(self.step_s, high), scale, within)
        late_s -= self.at(wait_s, running)
        late_s += self.longest_prefill_s - self.prefill_alone_s
        return Latency(
            ttft_s=mean_ttft_s,
            tpot_s=tpot_s,
            ttft_within_s=mean_ttft_s + max(late_s, 0.0),
            tpot_within_s=tpot_s + deviations * math.hypot(crowded_s, interrupted_s),
            running=count,
        )

    def _prompts_under(self, rate_per_s: float) -> _Prompts | None:
        """What prompts take of the passes; None where they alone are too many."""
        s = self.scenario
        saved_s = float(s.mixed) * self.step_alone_s
        ways = float(s.data_parallel * s.pipeline_parallel)
        if rate_per_s * self.prefill_occupied_s >= BUSIEST:
            return None
        # A pass with a prompt on one way takes about as long as that prompt alone.
        occupied_s = self.prefill_occupied_s if ways == 1.0 else self.prefill_alone_s
        return _Prompts(
            rate_per_s=rate_per_s,
            shared_s=self.prefill_occupied_s,
            interrupts_s=max(occupied_s - saved_s, 0.0),
            ways=ways,
            crowd=float(s.crowd),
        )


# Beyond this share of its time for prompts a replica's queue has no bound in a bad minute.
BUSIEST = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompts:
    """Random prompts among the passes of a replica.

    With one attention replica and one stage, prompts come one behind the other: they take
    rate x time of all passes. With several, each takes a prompt, and a pass with one prompt takes
    as long as a pass with one on each: whether a pass has prompts depends on whether any came in
    the pass before.
    """

    rate_per_s: float
    shared_s: float  # of a prompt when every way has one
    interrupts_s: float  # by how much a prompt makes a pass longer
    ways: float
    crowd: float

    def pace(self, step_s: FloatArray) -> FloatArray:
        """Time between two steps of a running sequence."""
        if self.ways == 1.0:
            found: FloatArray = step_s / max(1.0 - self.rate_per_s * self.interrupts_s, 1e-3)
            return found
        mean: FloatArray = step_s + self._share(step_s) * self.interrupts_s
        return mean

    def _share(self, step_s: FloatArray) -> FloatArray:
        """Share q of passes with a prompt: 1 - q = q exp(-r (step + t)) + (1 - q) exp(-r step)."""
        short = np.exp(-self.rate_per_s * step_s)
        long = np.exp(-self.rate_per_s * (step_s + self.interrupts_s))
        share: FloatArray = (1.0 - short) / (1.0 - short + long)
        return share

    def wait(self, step_s: FloatArray, scale: float) -> FloatArray:
        """Mean time before a prompt's own pass begins.

        Half a step, and for prompts before it, as in a queue whose gaps vary less the more replicas
        take turns: crowd x scale x busy / (1 - busy). With several ways, what is left of a pass
        under way, and the step that the prompt's own pass carries.
        """
        if self.ways == 1.0:
            busy = self._busy
            found: FloatArray = (
                0.5 * step_s + self.crowd * scale * busy / (1.0 - busy) * self.shared_s
            )
            return found
        share, long = self._share(step_s), step_s + self.interrupts_s
        mean = share * long + (1.0 - share) * step_s
        left: FloatArray = (share * long**2 + (1.0 - share) * step_s**2) / (2.0 * mean)
        left += step_s
        return left

    def late(self, step_s: float, scale: float, within: float) -> float:
        """The wait that the share `within` of prompts stays below; an exponential tail."""
        rest = 1.0 - within
        if self.ways == 1.0:
            busy = self._busy
            wait_s = self.crowd * scale * busy / (1.0 - busy) * self.shared_s
            tail_s = wait_s / busy * math.log(busy / rest) if busy > rest else 0.0
            return max(tail_s, wait_s) + within * step_s
        share = float(self._share(np.array([step_s]))[0])
        long = step_s + self.interrupts_s
        inside = share * long / (share * long + (1.0 - share) * step_s)
        left_s = long * (1.0 - rest / inside) if inside > rest else within * step_s
        return left_s + step_s

    @property
    def _busy(self) -> float:
        return max(min(self.rate_per_s * self.shared_s, BUSIEST), 1e-9)


def load_curve(
    model: Model,
    serving: Serving,
    workload: Workload,
    *,
    random: bool,
    within: float = 0.95,
    planned_output: float = 1.0,
) -> LoadCurve | None:
    """The curve of a replica; None where not even one sequence fits.

    `random`: requests come at random, so none waits for a start; else as many as run are in flight.
    `planned_output`: share of a sequence's output that room is kept for; engines that set
    sequences back when memory runs out manage with half.
    """
    device = device_of(model, serving, workload, planned_output=planned_output)
    s = scenario(serving, workload, None)
    if random:
        s = replace(s, burst=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = capacity(device, s)
    fits = int(room.largest_batch[0])
    most = min(fits, serving.max_batch)
    if most < 1:
        return None
    batch = batches(most)
    steady_room = Capacity(batch, batch, batch, room.memory_bytes)
    rows = repeated(device, len(batch))
    step = decode_step(rows, batch, s)
    once = prefill(rows, step, s)
    steady = steady_state(steady_room, step, once, s, wait_factor=rows.wait_factor)
    longest_s, variation = _prompts(float(once.alone_s[0]), workload, within)
    rate = steady.output_tokens_per_s / s.output_tokens
    return LoadCurve(
        device=device,
        scenario=s,
        batch=batch,
        step_s=step.total_s,
        ttft_s=steady.ttft_s,
        tpot_s=steady.tpot_s,
        e2e_s=steady.e2e_s,
        # A larger batch is never slower; padding may make it look so by a little.
        rate_per_s=np.maximum.accumulate(rate),
        prefill=once,
        step_alone_s=float((step.stream_s + step.fixed_s)[0]),
        largest_batch=fits,
        memory_bytes=float(room.memory_bytes[0]),
        longest_prefill_s=longest_s,
        prompt_variation=variation,
    )


def batches(most: int) -> FloatArray:
    """Numbers of running sequences from 1 to `most`."""
    found = list(range(1, min(most, EVERY_BATCH_TO) + 1))
    while found[-1] < most:
        found.append(min(most, math.ceil(found[-1] * GROWTH)))
    return np.array(found, dtype=float)


def _prompts(alone_s: float, workload: Workload, within: float) -> tuple[float, float]:
    """Alone time that the share `within` of prompts stays below; variation of prompts' times.

    Prompts take about as long as they have tokens: the square in attention is in the mean's time.
    """
    weights = np.array([c.weight for c in workload.classes], dtype=float)
    weights /= weights.sum()
    tokens = np.array([float(c.input_tokens) for c in workload.classes])
    ratio = tokens / float(weights @ tokens)
    order = np.argsort(ratio)
    reached = np.cumsum(weights[order])
    last = min(int(np.searchsorted(reached, within - 1e-9)), len(order) - 1)
    return max(float(ratio[order][last]), 1.0) * alone_s, float(weights @ ratio**2) - 1.0
