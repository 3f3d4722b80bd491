"""Made-up samples for policies, and drivers that let them end in any order.

    World      what every sample says, the same for the same seed, model and turn
    by_hand    a policy against a world through `Session`, one event after the other
    replayed   the same through the replay executor
    live       the same through the live loop, whose streams wait for their turn

Orders are lists of numbers: which of the running samples moves next, how far.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from suffice.backends.protocol import Chunk
from suffice.core.completions import (
    Budget,
    Completion,
    FinishReason,
    Outcome,
    TokenLogprob,
    Usage,
)
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import (
    BackendError,
    BudgetTooSmall,
    NoAnswer,
    SufficeError,
    UpstreamDisconnected,
)
from suffice.core.requests import Message, Request, Sampling
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.replay import play
from suffice.executors.running_sample import Launch
from suffice.executors.session import Command, Session, Stop

PROMPT_TOKENS = 9
# Steps after which a policy is taken to never end.
MOST_STEPS = 5_000
COMPARABLE = Request(
    messages=(Message(role="user", content="What is 1+1?"),), model="m", answer_format="number"
)
FREE_FORM = Request(messages=(Message(role="user", content="Tell me a tale."),), model="m")


class NeverEnds(AssertionError):
    """The policy goes on and on."""


@dataclass(frozen=True, slots=True)
class Made:
    """One sample: its tokens' texts, confidences and log-probabilities (nats); how it ends."""

    words: tuple[str, ...]
    confidences: tuple[float, ...]
    logprobs: tuple[float, ...]
    breaks_off: bool
    score: float

    @property
    def answer(self) -> str | None:
        """Its last word, if that is a number."""
        return self.words[-1].strip() if self.words[-1].strip().isdigit() else None

    def chunks(self, sampling: Sampling) -> list[Chunk]:
        """As it streams, a token a chunk, then the end; with what was asked for and no more."""
        most, wished = sampling.max_tokens, sampling.top_logprobs
        shown = len(self.words) if most is None else min(len(self.words), most)
        found = [
            Chunk(
                text=word,
                token_count=1,
                confidences=(level,) if wished else (),
                logprobs=(TokenLogprob(token=word, logprob=drawn),) if wished == 0 else (),
            )
            for word, level, drawn in zip(
                self.words[:shown], self.confidences, self.logprobs, strict=False
            )
        ]
        if self.breaks_off:
            return found[: len(found) // 2]
        usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=shown)
        ended: FinishReason = "stop" if shown == len(self.words) else "length"
        return [*found, Chunk(token_count=0, finish_reason=ended, usage=usage)]


@dataclass(frozen=True, slots=True)
class World:
    """Samples of every model; `answers` are what they may say, the commonest several times.

    `fail`: share of samples that break off. `silent`: share in which no answer is found.
    """

    seed: int
    fail: float = 0.1
    silent: float = 0.1
    answers: str = "11123"

    def sample(self, model: str, turn: int) -> Made:
        """The sample that a model gives at its `turn`-th draw."""
        rng = random.Random(f"{self.seed}/{model}/{turn}")
        length, level = rng.randint(1, 40), rng.uniform(0.2, 3.0)
        surprise = rng.uniform(0.01, 1.2)
        last = "hm" if rng.random() < self.silent else rng.choice(self.answers)
        return Made(
            words=(*(" so" for _ in range(length - 1)), f" {last}"),
            confidences=tuple(level + rng.uniform(-0.2, 0.2) for _ in range(length)),
            logprobs=tuple(-surprise * rng.uniform(0.5, 1.5) for _ in range(length)),
            breaks_off=rng.random() < self.fail,
            score=rng.random(),
        )


def answer_of(completion: Completion) -> str | None:
    """The last word, if it is a number."""
    last = completion.text.strip().split(" ")[-1]
    return last if last.isdigit() else None


def score_of(completion: Completion) -> float:
    """A score that depends on the text alone."""
    return random.Random(completion.text).random()


class Deals:
    """Which draw of its model a launch is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._turns: dict[str, int] = {}

    def __call__(self, model: str) -> Made:
        """The next sample of a model."""
        turn = self._turns[model] = self._turns.get(model, -1) + 1
        return self.world.sample(model, turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of one request: an outcome, or the typed error that took its place."""

    outcome: Outcome | None
    error: SufficeError | None = None
    launches: tuple[Launch, ...] = ()
    ends: tuple[int, ...] = ()  # samples in the order in which they ended or failed

    @property
    def settled(self) -> tuple[object, ...]:
        """What must not depend on who drives: what was answered, why, and how it ended."""
        found = self.outcome
        if found is None:
            return (type(self.error),)
        return (
            found.sample, found.completion.text, found.confidence, found.measure, found.exit,
            found.certificate, found.escalated, found.note,
        )  # fmt: skip


@dataclass(slots=True)
class _Driver:
    """Streams of one session."""

    session: Session
    world: World
    now_s: float = 0.0
    streams: dict[int, deque[Chunk]] = field(default_factory=dict)
    launches: list[Launch] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    _deals: Deals | None = None

    def obey(self, commands: list[Command]) -> None:
        """Begin and stop streams."""
        if self._deals is None:
            self._deals = Deals(self.world)
        stopped = {each.sample for each in commands if isinstance(each, Stop)}
        for command in commands:
            if isinstance(command, Stop):
                self.streams.pop(command.sample, None)
            elif isinstance(command, Launch) and command.sample not in stopped:  # else never sent
                self.launches.append(command)
                made = self._deals(command.draw.model)
                self.streams[command.sample] = deque(made.chunks(command.draw.sampling))

    def move(self, sample: int, chunks: int) -> None:
        """The sample goes on by some chunks; past its last it ends, or breaks off."""
        session = self.session
        for _ in range(chunks):
            queue = self.streams.get(sample)
            if queue is None or session.decided:
                return
            self.now_s += 0.001
            if not queue:
                del self.streams[sample]
                self.ends.append(sample)
                self.obey(session.fail(sample, UpstreamDisconnected("gone"), self.now_s))
                return
            if session.is_running(sample):
                self.obey(session.chunk(sample, queue.popleft(), self.now_s))
            if session.is_complete(sample) and not session.decided:
                self.streams.pop(sample, None)
                self.ends.append(sample)
                said = session.completion_of(sample)
                answer, score = answer_of(said), score_of(said)
                self.obey(session.finish(sample, self.now_s, answer=answer, score=score))


def by_hand(
    policy: AnyPolicy,
    world: World,
    order: Sequence[int] = (),
    *,
    request: Request = COMPARABLE,
    budget: Budget | None = None,
    join: bool = False,
) -> Run:
    """The policy against a world; where the order ends, samples move in turn, two chunks each.

    A number n of the order moves running sample n modulo their count, by up to 3 chunks; every
    eighth is a tick instead. `join`: those two chunks come as one.
    """
    try:
        session = Session(policy, request, budget=budget)
        driver = _Driver(session, world)
        driver.obey(session.start(0.0))
        steps = iter(order)
        for step in range(MOST_STEPS):
            if session.decided:
                break
            number = next(steps, None)
            running = sorted(driver.streams)
            if number is None:
                sample = running[step % len(running)]
                if join:
                    _join(driver.streams[sample], 2)
                driver.move(sample, 1 if join else 2)
            elif number % 8 == 7:
                driver.obey(session.tick(driver.now_s))
            else:
                driver.move(running[number % len(running)], 1 + number % 3)
        else:
            raise NeverEnds(f"policy {policy.name} did not end within {MOST_STEPS} events")
        outcome = session.outcome(driver.now_s)
    except (NoAnswer, BudgetTooSmall, BackendError) as error:
        return Run(outcome=None, error=error)
    return Run(outcome=outcome, launches=tuple(driver.launches), ends=tuple(driver.ends))


def _join(queue: deque[Chunk], count: int) -> None:
    """The next chunks of a stream as one."""
    taken = [queue.popleft() for _ in range(min(count, len(queue)))]
    if taken:
        queue.appendleft(
            Chunk(
                text="".join(each.text for each in taken),
                token_count=sum(each.token_count or 0 for each in taken),
                confidences=tuple(c for each in taken for c in each.confidences),
                logprobs=tuple(token for each in taken for token in each.logprobs),
                finish_reason=taken[-1].finish_reason,
                usage=taken[-1].usage,
            )
        )


def replayed(
    policy: AnyPolicy,
    world: World,
    *,
    request: Request = COMPARABLE,
    budget: Budget | None = None,
    piece: int | None = None,
) -> Run:
    """The policy over recorded samples, in pieces of so many tokens (None: as long as it allows).

    Nothing breaks off in a recording.
    """
    deals, launches = Deals(replace(world, fail=0.0)), []

    def recorded(launch: Launch) -> RecordedSample:
        launches.append(launch)
        made = deals(launch.draw.model)
        return RecordedSample(
            text="".join(made.words),
            tokens=len(made.words),
            prompt_tokens=PROMPT_TOKENS,
            confidences=np.array(made.confidences),
            logprobs=np.array(made.logprobs),
            answer=made.answer,
            score=made.score,
        )

    try:
        outcome = play(
            policy, request, recorded, budget=budget, extract_cut=answer_of, piece=piece,
            token_s=0.001,
        ).outcome  # fmt: skip
    except (NoAnswer, BudgetTooSmall, BackendError) as error:
        return Run(outcome=None, error=error)
    return Run(outcome=outcome, launches=tuple(launches))
