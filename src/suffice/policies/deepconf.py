"""DeepConf: let token confidence filter, weigh and stop traces (2508.15260)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar, Literal

from suffice.core.coverage import Note
from suffice.core.decisions import (
    Actions,
    Answer,
    BasePolicy,
    Cancel,
    ChunkSeen,
    Evidence,
    Need,
    SampleFailed,
    SampleFinished,
    Trigger,
    WindowBelow,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.policies.confidence_signals import (
    Signal,
    Window,
    lowest_group,
    scaled_window,
    threshold_keeping,
    trace_signal,
)
from suffice.policies.sampling_state import (
    PATIENCE,
    Pool,
    PoolPolicy,
    Seen,
    at_least,
    is_count,
    is_share,
    one_sample,
    option,
    step_alone,
    why_alone,
)
from suffice.policies.votes import weighted_tally

TOP_LOGPROBS = 20  # k of the paper's token confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepConfOffline(PoolPolicy):
    """Draw all, keep the most confident share, vote with confidence as weight."""

    samples: int = option(64, "samples to draw; gains are reported from 64 on")
    keep: float = option(0.9, "share of traces that vote (the paper: .1 or .9; .1 can lose points)")
    signal: Literal["mean", "bottom", "tail", "lowest"] = option(
        "bottom", "trace confidence: mean, bottom (10 % of groups), tail or lowest (group)"
    )
    window: int | None = option(None, "tokens per group; an eighth of the trace by default")

    name: ClassVar[str] = "deepconf_offline"
    paper: ClassVar[str] = "2508.15260"
    needs: ClassVar[frozenset[Need]] = frozenset({"logprobs"})

    def __post_init__(self) -> None:
        is_count("samples", self.samples, 1)
        is_share("keep", self.keep)
        _check_signal(self.signal)
        if self.window is not None:
            at_least("window", self.window, 1)

    @property
    def patience(self) -> None:
        """Their number is fixed."""
        return None

    def alone(self, note: Note) -> tuple[Pool, Actions]:
        """One sample, with its token confidences."""
        return one_sample(note, top_logprobs=TOP_LOGPROBS)

    def opening(self) -> tuple[Pool, Actions]:
        return Pool().launch(self.samples, top_logprobs=TOP_LOGPROBS, whole=True)

    def settle(self, state: Pool, evidence: Evidence) -> Pool:
        """The pool after a sample ended, with its signal."""
        signal = None
        if isinstance(evidence, SampleFinished) and evidence.confidences:
            signal = trace_signal(evidence.confidences, self.signal, self.window)
        return state.settle(evidence, signal)

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        return state, () if state.running else confident_vote(state, self.keep)


def confident_vote(pool: Pool, keep: float, threshold: float | None = None) -> Actions:
    """Answer by weighted vote of the traces above the threshold (of the top `keep` by default)."""
    signals = [seen.signal for seen in pool.seen if seen.signal is not None]
    if not signals:
        return pool.majority("no trace had token confidences: plain majority")
    least = threshold_keeping(signals, keep) if threshold is None else threshold
    sums = vote_weights(pool, least)
    if not sums:
        return pool.majority("no confident trace gave an answer: plain majority")
    answer, weight = sums[0]
    share = weight / sum(value for _, value in sums)
    voters = [
        seen
        for seen in pool.seen
        if seen.answer == answer and seen.signal is not None and seen.signal >= least
    ]
    best = max(voters, key=lambda seen: (seen.signal or 0.0, -seen.sample))
    why = f"confidence-weighted vote, {share:.0%} of the weight"
    return (Answer(sample=best.sample, why=why, measure=share),)


def vote_weights(pool: Pool, least: float) -> tuple[tuple[str, float], ...]:
    """(answer, summed confidence) of the traces whose signal is at least `least`."""
    return weighted_tally(
        (seen.answer, seen.signal)
        for seen in pool.seen
        if seen.signal is not None and seen.signal >= least
    )


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """State: the pool, warm-up traces until the threshold is known, windows of running traces."""

    pool: Pool
    warmup: tuple[Sequence[float], ...] = ()  # confidences, in the order of pool.seen
    threshold: float | None = None
    size: int = 0
    windows: tuple[tuple[int, Window], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepConfOnline(BasePolicy):
    """Warm up, then stop every trace whose confidence falls below what most warm-up traces kept.

    After `warmup` whole traces: threshold = the signal that the top `keep` of them reach; further
    traces, `parallel` at a time, are cancelled when a window of theirs falls below it. Ends when
    the leading answer holds `consensus` of the weight, or at `max_samples`.
    """

    max_samples: int = option(64, "samples at most (B)")
    warmup: int = option(16, "whole traces that set the threshold")
    keep: float = option(0.9, "share of traces that would pass (.9 high, .1 low: can lose points)")
    consensus: float = option(0.95, "share of the weight that ends the vote (tau)")
    parallel: int = option(16, "traces in flight after the warm-up")
    largest_window: int = option(2048, "tokens per group at most; an eighth of a trace below that")

    name: ClassVar[str] = "deepconf"
    paper: ClassVar[str] = "2508.15260"
    needs: ClassVar[frozenset[Need]] = frozenset({"logprobs"})

    def __post_init__(self) -> None:
        is_count("warmup", self.warmup, 1)
        is_count("max_samples", self.max_samples, self.warmup)
        is_share("keep", self.keep)
        is_share("consensus", self.consensus)
        is_count("parallel", self.parallel, 1)
        at_least("largest_window", self.largest_window, 1)

    def start(self, request: Request) -> tuple[Online, Actions]:
        note = why_alone(request)
        if note is not None:
            pool, actions = one_sample(note, top_logprobs=TOP_LOGPROBS)
        else:
            pool, actions = Pool().launch(self.warmup, top_logprobs=TOP_LOGPROBS)
        return Online(pool=pool), actions

    def step(self, state: Online, evidence: Evidence) -> tuple[Online, Actions]:
        if state.pool.alone:
            pool, actions = step_alone(state.pool, evidence)
            return replace(state, pool=pool), actions
        match evidence:
            case ChunkSeen():
                return self._follow(state, evidence)
            case SampleFinished() if state.threshold is None:
                pool = state.pool.settle(evidence)
                warm = (*state.warmup, evidence.confidences)
                return self._go_on(replace(state, pool=pool, warmup=warm))
            case SampleFinished():
                return self._go_on(self._settle(state, evidence))
            case SampleFailed():
                pool = state.pool.settle(evidence)
                return self._go_on(_forget(replace(state, pool=pool), evidence.sample))
            case _:
                return state, ()

    def acts_on(self, state: Online, sample: int) -> Trigger:
        """Windows of running samples, once the warm-up has set the threshold."""
        if state.pool.alone or state.threshold is None or sample not in state.pool.running:
            return "nothing"
        return WindowBelow(size=state.size, threshold=state.threshold)

    def _follow(self, state: Online, chunk: ChunkSeen) -> tuple[Online, Actions]:
        if state.threshold is None or chunk.sample not in state.pool.running:
            return state, ()
        known = dict(state.windows)
        window = known.get(chunk.sample, Window(size=state.size)).extend(chunk.confidences)
        known[chunk.sample] = window
        threshold = state.threshold
        state = replace(state, windows=tuple(known.items()))
        if window.lowest is None or window.lowest >= threshold:
            return state, ()
        stopped = _forget(replace(state, pool=state.pool.drop(chunk.sample)), chunk.sample)
        why = f"confidence {window.lowest:.3f} below {threshold:.3f}"
        state, more = self._go_on(stopped)
        return state, (Cancel(sample=chunk.sample, why=why), *more)

    def _settle(self, state: Online, evidence: SampleFinished) -> Online:
        signal = lowest_group(evidence.confidences, state.size) if evidence.confidences else None
        return _forget(replace(state, pool=state.pool.settle(evidence, signal)), evidence.sample)

    def _go_on(self, state: Online) -> tuple[Online, Actions]:
        """Vote, end or draw on; closes the warm-up when its last trace is in."""
        if len(state.pool.seen) >= PATIENCE and state.pool.is_mute:
            return state, state.pool.mute(self.max_samples)
        if state.threshold is None:
            if state.pool.running:
                return state, ()
            if not any(state.warmup):
                why = "no warm-up trace had token confidences: plain majority"
                return state, state.pool.majority(why)
            state = self._close_warmup(state)
        assert state.threshold is not None
        sums = vote_weights(state.pool, state.threshold)
        total = sum(weight for _, weight in sums)
        if sums and sums[0][1] >= self.consensus * total:
            return state, confident_vote(state.pool, self.keep, state.threshold)
        pool = state.pool
        left = 0 if pool.closed else self.max_samples - pool.launched
        pool, drawn = pool.launch(
            min(left, self.parallel - len(pool.running)), top_logprobs=TOP_LOGPROBS
        )
        state = replace(state, pool=pool)
        if drawn or pool.running:
            return state, drawn
        return state, confident_vote(pool, self.keep, state.threshold)

    def _close_warmup(self, state: Online) -> Online:
        lengths = [len(trace) for trace in state.warmup if trace]
        size = scaled_window(median(lengths), self.largest_window)
        seen: list[Seen] = []
        for each, trace in zip(state.pool.seen, state.warmup, strict=True):
            signal = lowest_group(trace, size) if trace else None
            seen.append(replace(each, signal=signal))
        signals = [each.signal for each in seen if each.signal is not None]
        return replace(
            state,
            pool=replace(state.pool, seen=tuple(seen)),
            threshold=threshold_keeping(signals, self.keep),
            size=size,
            warmup=(),
        )


def _forget(state: Online, sample: int) -> Online:
    kept = tuple((number, window) for number, window in state.windows if number != sample)
    return replace(state, windows=kept)


def _check_signal(signal: Signal) -> None:
    if signal not in ("mean", "bottom", "tail", "lowest"):
        raise InputError(f"signal must be mean, bottom, tail or lowest, got {signal!r}")
