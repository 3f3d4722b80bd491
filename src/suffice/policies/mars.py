"""MARS: probe running traces, stop all of them once none can be expected to overturn the vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import ClassVar, Literal

from suffice.core.coverage import Exit
from suffice.core.decisions import (
    Actions,
    Answer,
    BasePolicy,
    Cancel,
    ChunkSeen,
    Evidence,
    Need,
    Sample,
    SampleFailed,
    SampleFinished,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.policies.answer_stability import asked_for_answer, spoken
from suffice.policies.confidence_signals import (
    Window,
    lowest_group,
    scaled_window,
    threshold_keeping,
)
from suffice.policies.deepconf import TOP_LOGPROBS
from suffice.policies.sampling_state import (
    PATIENCE,
    Pool,
    Seen,
    at_least,
    is_count,
    is_share,
    one_sample,
    option,
    step_alone,
    why_alone,
)
from suffice.policies.switch_margin import (
    Course,
    SwitchModel,
    Vote,
    Whole,
    calibrated_gamma,
    fit_switches,
    leader_is_safe,
)
from suffice.policies.votes import weighted_tally


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A trace that runs, or ran in the warm-up."""

    sample: int
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    due: int  # tokens at which it is asked next
    probe: int | None = None  # the probe in flight
    asked: int | None = None  # the last probe that gave an answer
    fresh: tuple[float, ...] = ()  # confidences since the last probe
    course: Course = field(default_factory=Course)
    window: Window | None = None  # once the warm-up has set its size


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """State: the traces, and what the warm-up has taught."""

    pool: Pool
    prompt: str
    traces: tuple[Tracked, ...] = ()
    drawn: int = 0  # traces; the pool numbers probes too
    silent: bool = False  # a probe was refused for the budget: no more of them
    warm: tuple[tuple[int, Sequence[float]], ...] = ()  # confidences of warm-up traces
    known: bool = False  # the warm-up is over
    model: SwitchModel | None = None
    gamma: float = 1.0
    threshold: float | None = None
    size: int = 0
    usual: float = 1.0  # weight of a trace of which nothing is known yet
    first: str | None = None  # what the warm-up voted for


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginStop(BasePolicy):
    """Ask running traces for their answers; stop all once the leader's margin outlasts switches.

    After `warmup` whole traces, probed every `chunk` tokens, a logistic model says how likely a
    trace will change its answer. Further traces run at once and are probed likewise, and the vote
    ends when the leader is safe against every challenger (suffice.policies.switch_margin). Beneath
    it, `on=deepconf` weighs traces by confidence and cancels those below the warm-up's threshold;
    `on=votes` counts heads. Probes are paid for like any other token.
    """

    max_samples: int = option(64, "traces at most (the paper: 512)")
    warmup: int = option(16, "whole traces that teach the rule")
    chunk: int = option(512, "tokens between probes")
    on: Literal["deepconf", "votes"] = option("deepconf", "what is stopped: deepconf or votes")
    keep: float = option(0.9, "share of traces that would pass (deepconf)")
    consensus: float = option(0.95, "share of finished weight that ends the vote as well")
    gamma: float | None = option(
        None, "share of the worst case held against the leader; none: from the warm-up, .5 to 1"
    )
    parallel: int = option(64, "traces in flight after the warm-up")
    probe_tokens: int = option(20, "tokens a probe may draw")
    probe: str | None = option(None, "text that asks for the answer; by answer format by default")
    think_open: str = option("<think>\n", "text that opens the model's think block")
    think_close: str = option("\n</think>\n\n", "text that closes it")

    name: ClassVar[str] = "mars"
    paper: ClassVar[str] = "2606.12935"

    @property
    def needs(self) -> frozenset[Need]:
        """Prefill for probes, log-probabilities for what lies beneath."""
        return frozenset({"prefill", "logprobs"} if self.on == "deepconf" else {"prefill"})

    def __post_init__(self) -> None:
        is_count("warmup", self.warmup, 1)
        is_count("max_samples", self.max_samples, self.warmup)
        is_count("parallel", self.parallel, 1)
        is_share("keep", self.keep)
        is_share("consensus", self.consensus)
        at_least("chunk", self.chunk, 1)
        at_least("probe_tokens", self.probe_tokens, 1)
        if self.gamma is not None:
            is_share("gamma", self.gamma)
        if self.on not in ("deepconf", "votes"):
            raise InputError(f"on must be deepconf or votes, got {self.on!r}")

    def start(self, request: Request) -> tuple[Margins, Actions]:
        asked = self.probe or asked_for_answer(request)
        note = why_alone(request)
        if note is not None:
            pool, actions = one_sample(note, top_logprobs=self._logprobs)
            return Margins(pool=pool, prompt=asked), actions
        return self._launch(Margins(pool=Pool(), prompt=asked), self.warmup)

    def step(self, state: Margins, evidence: Evidence) -> tuple[Margins, Actions]:
        if state.pool.alone:
            pool, actions = step_alone(state.pool, evidence)
            return replace(state, pool=pool), actions
        match evidence:
            case ChunkSeen() if evidence.sample in state.pool.running:
                return self._follow(state, evidence)
            case SampleFinished() if evidence.sample in state.pool.running:
                return self._finish(state, evidence)
            case SampleFailed() if evidence.sample in state.pool.running:
                pool = state.pool.settle(evidence)
                return self._go_on(_without(replace(state, pool=pool), evidence.sample))
            case SampleFinished() | SampleFailed():
                return self._hear(state, evidence)
            case _:
                return state, ()

    @property
    def _logprobs(self) -> int | None:
        return TOP_LOGPROBS if self.on == "deepconf" else None

    def _launch(self, state: Margins, count: int) -> tuple[Margins, Actions]:
        pool, actions = state.pool.launch(count, top_logprobs=self._logprobs)
        numbers = pool.running[len(state.pool.running) :]
        window = Window(size=state.size) if state.size else None
        fresh = tuple(Tracked(sample=n, due=self.chunk, window=window) for n in numbers)
        drawn = state.drawn + len(numbers)
        return replace(state, pool=pool, traces=state.traces + fresh, drawn=drawn), actions

    def _follow(self, state: Margins, chunk: ChunkSeen) -> tuple[Margins, Actions]:
        """A running trace has drawn further tokens: it may be cancelled, or asked."""
        trace = _trace(state, chunk.sample)
        window = None if trace.window is None else trace.window.extend(chunk.confidences)
        trace = replace(
            trace,
            text=trace.text + chunk.text,
            reasoning=trace.reasoning + chunk.reasoning_text,
            tokens=trace.tokens + chunk.tokens,
            fresh=(*trace.fresh, *chunk.confidences),
            window=window,
        )
        state = _with(state, trace)
        lowest = None if window is None else window.lowest
        if state.threshold is not None and lowest is not None and lowest < state.threshold:
            pool = state.pool.drop(trace.sample)
            why = f"confidence {lowest:.3f} below {state.threshold:.3f}"
            state, more = self._go_on(_without(replace(state, pool=pool), trace.sample))
            return state, (Cancel(sample=trace.sample, why=why), *more)
        if trace.tokens < trace.due or trace.probe is not None or state.silent:
            return state, ()
        return self._ask(state, trace)

    def _ask(self, state: Margins, trace: Tracked) -> tuple[Margins, Actions]:
        number = state.pool.launched
        level = sum(trace.fresh) / len(trace.fresh) if trace.fresh else 0.0
        course = trace.course
        course = replace(
            course,
            positions=(*course.positions, trace.tokens),
            levels=(*course.levels, level),
        )
        asked = replace(
            trace,
            due=(trace.tokens // self.chunk + 1) * self.chunk,
            probe=number,
            fresh=(),
            course=course,
        )
        state = _with(replace(state, pool=replace(state.pool, launched=number + 1)), asked)
        so_far = spoken(trace.reasoning, trace.text, self.think_open, self.think_close)
        probe = Sample(
            samples=(number,),
            preface=so_far,
            prefill=state.prompt,
            max_tokens=self.probe_tokens,
            temperature=0.0,
            purpose="probe",
        )
        return state, (probe,)

    def _hear(
        self, state: Margins, evidence: SampleFinished | SampleFailed
    ) -> tuple[Margins, Actions]:
        """A probe has ended."""
        number = evidence.sample
        trace = next((each for each in state.traces if each.probe == number), None)
        if isinstance(evidence, SampleFailed) and evidence.reason == "budget":
            state = replace(state, silent=True)
        if trace is None:
            return state, ()
        answer = evidence.answer if isinstance(evidence, SampleFinished) else None
        asked = trace.asked if answer is None else number
        heard = replace(trace, probe=None, asked=asked, course=trace.course.probed(answer))
        return self._go_on(_with(state, heard))

    def _finish(self, state: Margins, evidence: SampleFinished) -> tuple[Margins, Actions]:
        if not state.known:
            warm = (*state.warm, (evidence.sample, evidence.confidences))
            pool = state.pool.settle(evidence)
            return self._go_on(replace(state, pool=pool, warm=warm))
        signal = None
        if self.on == "votes":
            signal = 1.0
        elif evidence.confidences:
            signal = lowest_group(evidence.confidences, state.size)
        pool = state.pool.settle(evidence, signal)
        return self._go_on(_without(replace(state, pool=pool), evidence.sample))

    def _go_on(self, state: Margins) -> tuple[Margins, Actions]:
        """End the warm-up, the vote, or draw on."""
        pool = state.pool
        if len(pool.seen) >= PATIENCE and pool.is_mute:
            return state, () if pool.running else pool.mute(self.max_samples)
        if not state.known:
            if pool.running or any(each.probe is not None for each in state.traces):
                return state, ()
            state = self._learn(state)
        ended = self._decided(state)
        if ended:
            return state, ended
        left = 0 if state.pool.closed else self.max_samples - state.drawn
        count = min(left, self.parallel - len(state.pool.running))
        state, drawn = self._launch(state, count)
        if drawn or state.pool.running:
            return state, drawn
        return state, self._vote(state, "every trace has ended", "safe")

    def _learn(self, state: Margins) -> Margins:
        """The warm-up is over: weights, threshold, the model of switches, γ."""
        traces = [confidences for _, confidences in state.warm if confidences]
        seen, threshold, size = state.pool.seen, None, 0
        if self.on == "deepconf" and traces:
            size = scaled_window(median(len(each) for each in traces))
            known = dict(state.warm)
            signals = {n: lowest_group(c, size) for n, c in known.items() if c}
            threshold = threshold_keeping(list(signals.values()), self.keep)
            seen = tuple(replace(each, signal=signals.get(each.sample)) for each in seen)
        elif self.on == "votes":
            seen = tuple(replace(each, signal=1.0) for each in seen)
        state = replace(
            state, pool=replace(state.pool, seen=seen), threshold=threshold, size=size,
            known=True, warm=(),
        )  # fmt: skip
        courses = {each.sample: each.course for each in state.traces}
        warm = [
            Whole(course=courses[each.sample], final=each.answer, weight=each.signal)
            for each in seen
            if each.sample in courses and _votes(state, each) and each.signal is not None
        ]
        model = fit_switches([each.course for each in warm], [each.final for each in warm])
        gamma = self.gamma
        if gamma is None:
            gamma = 1.0 if model is None else calibrated_gamma(warm, model)
        weights = [each.weight for each in warm]
        sums = weighted_tally((each.final, each.weight) for each in warm)
        return replace(
            state, traces=(), model=model, gamma=gamma, usual=max(weights, default=1.0),
            first=sums[0][0] if sums else None,
        )  # fmt: skip

    def _decided(self, state: Margins) -> Actions:
        """The answer, if the vote cannot be expected to change; nothing else."""
        finished = [_vote(each) for each in state.pool.seen if _votes(state, each)]
        sums = weighted_tally((vote.answer, vote.weight) for vote in finished)
        if sums and sums[0][1] >= self.consensus * sum(weight for _, weight in sums):
            return self._vote(state, f"consensus of {self.consensus:.0%} of the weight")
        if state.model is None or not state.traces:
            return ()
        running = [self._standing(state, each) for each in state.traces]
        to_come = 0 if state.pool.closed else self.max_samples - state.drawn
        unseen = [Vote(answer=None, weight=state.usual, q=1.0 / state.gamma)] * to_come
        leader = leader_is_safe([*finished, *running, *unseen], state.gamma)
        early = any(len(each.course.answers) < 2 for each in state.traces)
        if leader is None or (early and leader != state.first):
            return ()
        votes = [*finished, *running]
        total = sum(vote.weight for vote in votes if vote.answer is not None)
        share = sum(vote.weight for vote in votes if vote.answer == leader) / total
        why = f"the margin is safe against {len(running) + to_come} traces that may switch"
        ended = [each for each in state.pool.seen if each.answer == leader]
        sample = ended[0].sample if ended else self._asked(state, leader)
        if sample is None:
            return ()
        return (Answer(sample=sample, why=why, measure=share, exit="accepted"),)

    def _standing(self, state: Margins, trace: Tracked) -> Vote:
        """What a running trace says, with its weight so far."""
        lowest = None if trace.window is None else trace.window.lowest
        weight = state.usual if lowest is None else lowest
        course = trace.course
        answer = course.answers[-1] if course.answers else None
        # A probe in flight has no answer yet: the course as of the last that came back.
        settled = replace(
            course,
            positions=course.positions[: len(course.answers)],
            levels=course.levels[: len(course.answers)],
        )
        assert state.model is not None
        q = 1.0 if answer is None else state.model.q(settled)
        return Vote(answer=answer, weight=weight, q=q)

    @staticmethod
    def _asked(state: Margins, answer: str) -> int | None:
        """A probe that gave the answer, where no whole trace did."""
        return next(
            (
                each.asked
                for each in state.traces
                if each.asked is not None and each.course.answers[-1:] == (answer,)
            ),
            None,
        )

    def _vote(self, state: Margins, why: str, exit: Exit = "accepted") -> Actions:
        """Answer by the finished traces that vote."""
        voters = [each for each in state.pool.seen if _votes(state, each)]
        sums = weighted_tally((each.answer, each.signal or 0.0) for each in voters)
        if not sums or sums[0][1] <= 0:
            return state.pool.majority(f"{why}; no confident trace answered", exit=exit)
        answer, weight = sums[0]
        share = weight / sum(each for _, each in sums)
        best = max(
            (each for each in voters if each.answer == answer),
            key=lambda each: (each.signal or 0.0, -each.sample),
        )
        return (Answer(sample=best.sample, why=why, measure=share, exit=exit),)


def _vote(seen: Seen) -> Vote:
    return Vote(answer=seen.answer, weight=seen.signal or 0.0)


def _votes(state: Margins, seen: Seen) -> bool:
    """Whether a finished trace votes: it has a signal, at or above the threshold."""
    if seen.signal is None:
        return False
    return state.threshold is None or seen.signal >= state.threshold


def _trace(state: Margins, sample: int) -> Tracked:
    return next(each for each in state.traces if each.sample == sample)


def _with(state: Margins, trace: Tracked) -> Margins:
    traces = tuple(trace if each.sample == trace.sample else each for each in state.traces)
    return replace(state, traces=traces)


def _without(state: Margins, sample: int) -> Margins:
    return replace(state, traces=tuple(each for each in state.traces if each.sample != sample))
