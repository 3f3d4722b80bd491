"""Time that engines work on samples, shared among those that run at once.

While k samples of a model run, each is given 1/k of the time: over all samples that is the time in
which the engine had work, whoever had it. A clock for each model runs at 1/k, so that beginning and
ending a sample costs a subtraction (the virtual time of fair queueing, Parekh and Gallager 1993).

What an engine works on beside these samples is not seen, with one exception: other processes of the
gateway say how many samples they run in the mean, once a second, and that is added to k. So one
sample's time is from its launch to its end as seen here, its wait in the engine included, and what
several processes share is right as far as their load is steady over a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from suffice.executors.events import Event, Failed, Finished, Launched, Stopped

MOST_MODELS = 256


@dataclass(slots=True)
class _Engine:
    """One model's clock: what a sample has got that has run since it began."""

    virtual_s: float = 0.0
    running: int = 0
    at_s: float = 0.0  # when it was moved last
    sample_s: float = 0.0  # running samples times seconds, since `taken`
    others: float = 0.0  # samples that other processes run


class EngineTime:
    """The clocks of one process, by model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._engines: dict[str, _Engine] = {}
        self._taken_s = clock()
        self._lock = threading.Lock()  # the ledger's thread takes and hears

    def begin(self, model: str) -> float:
        """A sample starts; keep what this gives for its end."""
        with self._lock:
            engine = self._moved(model)
            engine.running += 1
            return engine.virtual_s

    def end(self, model: str, begun: float) -> float:
        """It has ended: seconds that the engine worked on it."""
        with self._lock:
            engine = self._moved(model)
            engine.running -= 1
            return engine.virtual_s - begun

    def take(self) -> dict[str, float]:
        """Samples that ran in the mean since this was asked last, by model."""
        with self._lock:
            now_s = self._clock()
            span_s, self._taken_s = now_s - self._taken_s, now_s
            found = {}
            for model in list(self._engines):
                engine = self._moved(model)
                if span_s > 0.0 and engine.sample_s:
                    found[model] = engine.sample_s / span_s
                engine.sample_s = 0.0
            return found

    def hear(self, others: Mapping[str, float]) -> None:
        """What other processes run in the mean, by model."""
        with self._lock:
            for model in list(self._engines):
                self._moved(model).others = others.get(model, 0.0)

    def _moved(self, model: str) -> _Engine:
        if model not in self._engines and len(self._engines) >= MOST_MODELS:
            model = ""  # names that clients made up share one
        engine = self._engines.setdefault(model, _Engine())
        now_s = self._clock()
        if engine.running:
            passed_s = now_s - engine.at_s
            engine.virtual_s += passed_s / (engine.running + engine.others)
            engine.sample_s += passed_s * engine.running
        engine.at_s = now_s
        return engine


# Of this process: the engine is the same, whoever asks.
ENGINES = EngineTime()


@dataclass(slots=True, kw_only=True)
class TimedSamples:
    """What engines worked on the samples of one call."""

    engines: EngineTime = field(default_factory=lambda: ENGINES)
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)  # by choice and sample
    _running: dict[tuple[int, int], tuple[str, float]] = field(default_factory=dict)

    def see(self, choice: int, event: Event) -> None:
        """Follow the samples."""
        if isinstance(event, Launched):
            model, sample = event.launch.draw.model, (choice, event.launch.sample)
            self._end(sample)  # of an attempt that was given up: another way answers now
            self._running[sample] = model, self.engines.begin(model)
        elif isinstance(event, Finished | Failed | Stopped):
            self._end((choice, event.sample))

    def close(self) -> None:
        """The call is over, and so is whatever it left running."""
        for sample in list(self._running):
            self._end(sample)

    def _end(self, sample: tuple[int, int]) -> None:
        if sample in self._running:
            took_s = self.engines.end(*self._running.pop(sample))
            self.seconds[sample] = self.seconds.get(sample, 0.0) + took_s

    @property
    def total_s(self) -> float:
        """Of all samples that have ended."""
        return sum(self.seconds.values())
