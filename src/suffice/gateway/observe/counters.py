"""Sums over this process's calls: counters for /metrics, and the same by time for the ledger.

Written by the ledger's thread and, for calls that were turned away, by the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from suffice.core.completions import Outcome
from suffice.core.coverage import FUTILE
from suffice.gateway.observe.model_counters import ModelSums, merged_models
from suffice.ledger.latency_histogram import BOUNDS_S, bin_of
from suffice.ledger.migrations import BUCKET_S, TRAFFIC
from suffice.ledger.records import Batch, Entry, RequestRow

# A counter's name with its labels: ("requests", "arm", "esc", "ending", "answered").
Name = tuple[str, ...]
NO_ARM = "none"
# Sums of like requests (same time, arm, ending, status), in this order; see `_fold`.
_SUMS = 10
_COMPARED = 3  # requests, cost, the baseline's cost
PHASES = ("total", "first_byte", "overhead", "queue")
_BINS = len(BOUNDS_S) + 1


class Counters:
    """Counters since the process began, and what is not in the ledger yet.

    A request adds to the sums of those that are like it; counters and traffic are made of those
    sums when somebody reads them. (Each with its own label at every request: 12 of a row's 41
    microseconds.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[Name, float] = {}
        self._times: dict[str, list[float]] = {}  # phase: sum, then a count per bin
        self._models = ModelSums()
        self._traffic: dict[tuple[int, str], list[float]] = {}
        self._latency: dict[tuple[int, str, int], int] = {}
        # What `_fold` has not taken in yet.
        self._alike: dict[tuple[int, str, str, int], list[float]] = {}
        self._compared: dict[tuple[int, str, str, str], list[float]] = {}
        self._timed: dict[int, list[list[float] | None]] = {}

    def add(self, name: Name, value: float = 1.0) -> None:
        """Raise a counter."""
        with self._lock:
            self._raise(name, value)

    def refuse(self, status: int, code: str | None) -> None:
        """Count a call that was turned away before it was admitted."""
        self.add(("requests", "arm", NO_ARM, "ending", "refused", "status", str(status)))
        if code is not None:
            self.add(("errors", "code", code, "model", "", "upstream", ""))

    def count(
        self,
        entry: Entry,
        queued_s: float = 0.0,
        *,
        model: str | None = None,
        upstream: str | None = None,
        sampled_by: Mapping[str, str] | None = None,
    ) -> None:
        """Take a finished request in; `model` and `upstream` are of one that passed through,
        `sampled_by` names the upstream of each model that a policy asked.
        """
        asked = sampled_by or ({model: upstream or ""} if model else {})
        row = entry.request
        arm = row.arm or NO_ARM
        bucket = int(row.started_s // BUCKET_S) * BUCKET_S
        alike = (bucket, arm, row.ending, row.status or 0)
        with self._lock:
            last = self._models.named(asked)
            self._models.count(entry, model=model, asked=asked, last=last[0])
            sums = self._alike.get(alike)
            if sums is None:
                sums = self._alike[alike] = [0.0] * _SUMS
            sums[0] += 1
            sums[1] += row.prompt_tokens or 0
            sums[2] += row.completion_tokens or 0
            sums[3] += row.cached_tokens or 0
            sums[4] += row.reasoning_tokens or 0
            sums[5] += row.elapsed_s
            sums[6] += row.usd or 0.0
            if row.samples is not None:
                sums[7] += row.samples
                sums[8] += row.samples_cancelled or 0
                sums[9] += row.escalated or 0
            if row.saving_basis is not None:
                self._compare(row, bucket, arm)
            if row.error_code is not None:
                who = ("model", last[0], "upstream", last[1])
                self._raise(("errors", "code", row.error_code, *who), 1)
            for sample in entry.samples:
                self._raise(("samples", "status", sample.status, "purpose", sample.purpose), 1)
            if row.ending == "answered":
                self._time(bucket, row, queued_s)

    def count_notes(self, outcomes: Iterable[Outcome]) -> None:
        """Count votes that were paid for and decided nothing."""
        for outcome in outcomes:
            if outcome.note is not None and outcome.note in FUTILE:
                self.add(("futile_votes", "arm", outcome.arm, "note", outcome.note))

    def _raise(self, name: Name, value: float) -> None:
        if value:
            self._counters[name] = self._counters.get(name, 0.0) + value

    def _compare(self, row: RequestRow, bucket: int, arm: str) -> None:
        at = (bucket, arm, str(row.cost_unit), str(row.saving_basis))
        sums = self._compared.setdefault(at, [0.0] * _COMPARED)
        sums[0] += 1
        sums[1] += row.compared_cost or 0.0
        sums[2] += row.baseline_cost or 0.0

    def _time(self, bucket: int, row: RequestRow, queued_s: float) -> None:
        phases = self._timed.get(bucket)
        if phases is None:
            phases = self._timed[bucket] = [None] * len(PHASES)
        times = (row.elapsed_s, row.first_byte_s, row.overhead_s, queued_s)
        for phase, elapsed_s in enumerate(times):
            if elapsed_s is not None:
                sums = phases[phase]
                if sums is None:
                    sums = phases[phase] = [0.0] * (1 + _BINS)
                sums[0] += elapsed_s
                sums[1 + bin_of(elapsed_s)] += 1

    # --- what was counted alike, under its names

    def _fold(self) -> None:
        for (bucket, arm, ending, status), sums in self._alike.items():
            requests, prompt, completion, cached, reasoning, elapsed_s, usd, *drawn = sums
            samples, cancelled, escalated = drawn
            self._raise(("requests", "arm", arm, "ending", ending, "status", str(status)), requests)
            for kind, tokens in (
                ("prompt", prompt), ("completion", completion), ("cached", cached),
                ("reasoning", reasoning),
            ):  # fmt: skip
                self._raise(("tokens", "arm", arm, "kind", kind), tokens)
            self._raise(("usd", "arm", arm), usd)
            self._raise(("escalated", "arm", arm), escalated)
            failed = requests if ending == "failed" else 0.0
            left = requests if ending == "left" else 0.0
            self._add_traffic(
                bucket, arm,
                (requests, failed, left, prompt, completion, samples, cancelled, usd, elapsed_s),
            )  # fmt: skip
        self._alike = {}
        for (bucket, arm, unit, basis), sums in self._compared.items():
            requests, cost, baseline_cost = sums
            self._raise(("baseline_cost", "arm", arm, "unit", unit), baseline_cost)
            self._raise(("compared_cost", "arm", arm, "unit", unit), cost)
            self._raise(("compared", "arm", arm, "basis", basis), requests)
            differs = requests if basis != "same" else 0.0
            estimated = requests if basis == "estimated" else 0.0
            costs = (cost, baseline_cost, 0.0, 0.0) if unit == "usd" else (0.0, 0.0, *sums[1:])
            self._add_traffic(bucket, arm, (differs, estimated, *costs), first=9)
        self._compared = {}
        self._fold_times()

    def _add_traffic(
        self, bucket: int, arm: str, values: Sequence[float], *, first: int = 0
    ) -> None:
        sums = self._traffic.setdefault((bucket, arm), [0.0] * len(TRAFFIC))
        for place, value in enumerate(values, first):
            sums[place] += value

    def _fold_times(self) -> None:
        for bucket, phases in self._timed.items():
            for phase, sums in zip(PHASES, phases, strict=True):
                if sums is None:
                    continue
                total = self._times.setdefault(phase, [0.0])
                total[0] += sums[0]
                for number, count in enumerate(sums[1:]):
                    if count:
                        total.extend([0.0] * (number + 2 - len(total)))
                        total[number + 1] += count
                        at = (bucket, phase, number)
                        self._latency[at] = self._latency.get(at, 0) + int(count)
        self._timed = {}

    def fill(self, batch: Batch) -> None:
        """Hand over what is not in the ledger yet."""
        with self._lock:
            self._fold()
            batch.traffic = {at: tuple(sums) for at, sums in self._traffic.items()}
            batch.latency = self._latency
            self._traffic, self._latency = {}, {}

    def shown(self) -> dict[str, Any]:
        """All counters as a JSON value."""
        with self._lock:
            self._fold()
            return {
                "counters": [[list(name), value] for name, value in self._counters.items()],
                "times": {phase: list(sums) for phase, sums in self._times.items()},
                "models": self._models.shown(),
            }


def merged(states: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of several processes' counters."""
    counters: dict[Name, float] = {}
    times: dict[str, list[float]] = {}
    for state in states:
        for name, value in state["counters"]:
            at = tuple(name)
            counters[at] = counters.get(at, 0.0) + value
        for phase, sums in state["times"].items():
            known = times.setdefault(phase, [])
            known.extend([0.0] * (len(sums) - len(known)))
            for place, value in enumerate(sums):
                known[place] += value
    models = merged_models(state["models"] for state in states if "models" in state)
    return {"counters": counters, "times": times, "models": models}
