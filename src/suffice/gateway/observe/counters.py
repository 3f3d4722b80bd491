"""Sums over this process's calls: counters for /metrics, and the same by time for the ledger.

Written by the ledger's thread and, for calls that were turned away, by the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from suffice.core.completions import Outcome
from suffice.core.coverage import FUTILE
from suffice.gateway.observe.model_counters import ModelSums, merged_models
from suffice.ledger.latency_histogram import bin_of
from suffice.ledger.migrations import BUCKET_S, TRAFFIC
from suffice.ledger.records import Batch, Entry

# A counter's name with its labels: ("requests", "arm", "esc", "ending", "answered").
Name = tuple[str, ...]
NO_ARM = "none"


class Counters:
    """Counters since the process began, and what is not in the ledger yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counters: dict[Name, float] = {}
        self.times: dict[str, list[float]] = {}  # phase: sum, then a count per bin
        self.models = ModelSums()
        self._traffic: dict[tuple[int, str], list[float]] = {}
        self._latency: dict[tuple[int, str, int], int] = {}

    def add(self, name: Name, value: float = 1.0) -> None:
        """Raise a counter."""
        with self._lock:
            self.counters[name] = self.counters.get(name, 0.0) + value

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
        with self._lock:
            self._counters(entry, arm, self.models.named(asked))
            self.models.count(entry, model=model, asked=asked)
            bucket = int(row.started_s // BUCKET_S) * BUCKET_S
            sums = self._traffic.setdefault((bucket, arm), [0.0] * len(TRAFFIC))
            differs = row.saving_basis not in (None, "same")
            usd = row.cost_unit == "usd"
            costs = row.compared_cost, row.baseline_cost
            for place, value in enumerate(
                (
                    1, row.ending == "failed", row.ending == "left", row.prompt_tokens,
                    row.completion_tokens, row.samples, row.samples_cancelled, row.usd,
                    row.elapsed_s, differs, row.saving_basis == "estimated",
                    *(costs if usd else (None, None)), *((None, None) if usd else costs),
                )
            ):  # fmt: skip
                if value:
                    sums[place] += value
            if row.ending == "answered":
                self._time(bucket, "total", row.elapsed_s)
                self._time(bucket, "first_byte", row.first_byte_s)
                self._time(bucket, "overhead", row.overhead_s)
                self._time(bucket, "queue", queued_s)

    def count_notes(self, outcomes: Iterable[Outcome]) -> None:
        """Count votes that were paid for and decided nothing."""
        for outcome in outcomes:
            if outcome.note is not None and outcome.note in FUTILE:
                self.add(("futile_votes", "arm", outcome.arm, "note", outcome.note))

    def _counters(self, entry: Entry, arm: str, asked: tuple[str, str]) -> None:
        row = entry.request
        found: list[tuple[Name, float | None]] = [
            (("requests", "arm", arm, "ending", row.ending, "status", str(row.status or 0)), 1),
            (("tokens", "arm", arm, "kind", "prompt"), row.prompt_tokens),
            (("tokens", "arm", arm, "kind", "completion"), row.completion_tokens),
            (("tokens", "arm", arm, "kind", "cached"), row.cached_tokens),
            (("tokens", "arm", arm, "kind", "reasoning"), row.reasoning_tokens),
            (("usd", "arm", arm), row.usd),
            (("escalated", "arm", arm), row.escalated),
        ]
        if row.error_code is not None:
            who = ("model", asked[0], "upstream", asked[1])
            found.append((("errors", "code", row.error_code, *who), 1))
        if row.saving_basis is not None:
            at = ("arm", arm, "unit", str(row.cost_unit))
            found.append((("baseline_cost", *at), row.baseline_cost))
            found.append((("compared_cost", *at), row.compared_cost))
            found.append((("compared", "arm", arm, "basis", row.saving_basis), 1))
        found.extend(
            (("samples", "status", sample.status, "purpose", sample.purpose), 1)
            for sample in entry.samples
        )
        for name, value in found:
            if value:
                self.counters[name] = self.counters.get(name, 0.0) + value

    def _time(self, bucket: int, phase: str, elapsed_s: float | None) -> None:
        if elapsed_s is None:
            return
        number = bin_of(elapsed_s)
        at = (bucket, phase, number)
        self._latency[at] = self._latency.get(at, 0) + 1
        sums = self.times.get(phase)
        if sums is None:
            sums = self.times[phase] = [0.0]
        sums.extend([0.0] * (number + 2 - len(sums)))
        sums[0] += elapsed_s
        sums[number + 1] += 1

    def fill(self, batch: Batch) -> None:
        """Hand over what is not in the ledger yet."""
        with self._lock:
            batch.traffic = {at: tuple(sums) for at, sums in self._traffic.items()}
            batch.latency = self._latency
            self._traffic, self._latency = {}, {}

    def shown(self) -> dict[str, Any]:
        """All counters as a JSON value."""
        with self._lock:
            return {
                "counters": [[list(name), value] for name, value in self.counters.items()],
                "times": {phase: list(sums) for phase, sums in self.times.items()},
                "models": self.models.shown(),
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
