"""What holds for every policy: budgets, determinism, states that can be stored, chunking."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.backends.protocol import Chunk
from suffice.core.completions import Budget, Completion, Cost, Outcome, Usage
from suffice.core.decisions import (
    Answer,
    BasePolicy,
    Cancel,
    Escalate,
    Sample,
    SampleFinished,
    Tick,
)
from suffice.core.errors import BudgetTooSmall, NoAnswer, UpstreamDisconnected
from suffice.core.requests import Message, Request, Sampling
from suffice.core.serial import dumps, loads
from suffice.executors.running_sample import Launch
from suffice.executors.session import Session
from suffice.policies.registry import parse_policy

PROMPT_TOKENS = 9
POLICIES = [
    "single",
    "self_consistency:samples=7",
    "self_consistency:samples=9,stop_when_decided=yes",
    "adaptive_consistency:max_samples=12",
    "adaptive_consistency:max_samples=12,criterion=dirichlet,ahead=3",
    "esc:window=3,max_samples=10",
    "deepconf:max_samples=14,warmup=4,parallel=3,keep=.5",
    "deepconf_offline:samples=6,keep=.5",
    "best_of_n:samples=5,weighted=true",
    "best_of_n:samples=8,wave=2,enough=.8",
    "short_m_at_k:k=5,m=2",
    "answer_stability:k=2,chunk=5",
    "revise_once",
    "sequential_revision:revisions=4,until_stable=yes",
    "no_thinking:samples=3",
    "budget_forcing:budget=12,least=4",
    "difficulty_binned:pilot=3,edges=.5+.9,more=2+4+0",
    "auto",
    "agreement:models=a+b",
    "agreement:models=a+b,accept=.9 > adaptive_consistency:max_samples=6,accept=.9@b > single@c",
]
# Their probes and cuts fall where a chunk ends, which is all that a stream shows of the text.
CUT_AT_CHUNKS = ("answer_stability", "budget_forcing")
REQUEST = Request(
    messages=(Message(role="user", content="1+1?"),), model="m", answer_format="number"
)


@dataclass
class World:
    """Recorded samples, the same for the same seed, sample and prefill; some break off."""

    seed: int
    fail: float = 0.1

    def stream(self, launch: Launch) -> list[Chunk]:
        rng = random.Random(f"{self.seed}/{launch.sample}/{launch.draw.model}")
        length = rng.randint(1, 60)
        level = rng.uniform(0.2, 3.0)
        limit = launch.draw.sampling.max_tokens
        shown = length if limit is None else min(length, limit)
        chunks = [
            Chunk(
                text=" so" if i < length - 1 else f" {rng.choice('11123')}",
                token_count=1,
                confidences=(level + rng.uniform(-0.2, 0.2),),
            )
            for i in range(shown)
        ]
        if rng.random() < self.fail:
            return chunks[: len(chunks) // 2]
        usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=shown)
        reason = "stop" if shown == length else "length"
        return [*chunks, Chunk(token_count=0, finish_reason=reason, usage=usage)]

    def score(self, completion: Completion) -> float:
        return random.Random(f"{self.seed}/{completion.text}").random()


def answer_of(completion: Completion) -> str | None:
    last = completion.text.strip().split(" ")[-1]
    return last if last.isdigit() else None


def split(chunk: Chunk, rng: random.Random) -> list[Chunk]:
    """The same text in pieces; the tokens and confidences go with the last."""
    if len(chunk.text) < 2 or rng.random() < 0.5:
        return [chunk]
    at = rng.randint(1, len(chunk.text) - 1)
    return [Chunk(text=chunk.text[:at], token_count=0), replace(chunk, text=chunk.text[at:])]


def join(chunks: list[Chunk]) -> Chunk:
    """Two neighbours as one."""
    a, b = chunks
    return Chunk(
        text=a.text + b.text,
        token_count=(a.token_count or 0) + (b.token_count or 0),
        confidences=a.confidences + b.confidences,
        finish_reason=b.finish_reason,
        usage=b.usage,
    )


def drive(session, world: World, *, cut=None, join_pairs=False, most_steps=20_000) -> Outcome:
    """Samples advance in turn, two recorded chunks each, however these are cut or joined."""
    streams: dict[int, deque[Chunk]] = {}
    order: deque[int] = deque()

    def obey(commands):
        for command in commands:
            if isinstance(command, Launch):
                streams[command.sample] = deque(world.stream(command))
                order.append(command.sample)
            else:
                streams.pop(command.sample, None)

    now = 0.0
    obey(session.start(now))
    for step in range(most_steps):
        if session.decided:
            break
        sample = order.popleft()
        if sample not in streams:
            continue
        now += 0.001
        queue = streams[sample]
        turn = [queue.popleft() for _ in range(min(2, len(queue)))]
        if not turn:
            obey(session.fail(sample, UpstreamDisconnected("gone"), now))
            continue
        if join_pairs and len(turn) == 2:
            turn = [join(turn)]
        pieces = [piece for chunk in turn for piece in (cut(chunk) if cut else [chunk])]
        for piece in pieces:
            if session.is_running(sample):
                obey(session.chunk(sample, piece, now))
        if session.is_complete(sample) and not session.decided:
            completion = session.completion_of(sample)
            found, score = answer_of(completion), world.score(completion)
            obey(session.finish(sample, now, answer=found, score=score))
        elif not session.decided:
            order.append(sample)
            if step % 7 == 0:
                obey(session.tick(now))
    assert session.decided, "the policy never ends"
    return session.outcome(now)


def outcome_of(policy, world, *, budget=None, **how) -> Outcome | str:
    try:
        return drive(Session(policy, REQUEST, budget=budget), world, **how)
    except (NoAnswer, BudgetTooSmall, UpstreamDisconnected) as error:
        return str(error)


@dataclass(frozen=True)
class Stored:
    """A policy whose state goes through JSON text now and then."""

    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def start(self, request):
        state, actions = self.inner.start(request)
        return dumps(state), loads(dumps(actions))

    def acts_on(self, state, sample):
        return self.inner.acts_on(loads(state) if isinstance(state, str) else state, sample)

    def step(self, state, evidence):
        resumed = loads(state) if isinstance(state, str) else state
        state, actions = self.inner.step(resumed, evidence)
        stop_here = isinstance(evidence, Tick | SampleFinished)
        if stop_here:
            assert loads(dumps(evidence)) == evidence
        return (dumps(state) if stop_here else state), actions


seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("text", POLICIES)
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_deterministic_and_resumable_midway(text, seed):
    policy = parse_policy(text)
    first = outcome_of(policy, World(seed))
    assert outcome_of(policy, World(seed)) == first
    assert outcome_of(Stored(policy), World(seed)) == first


@pytest.mark.parametrize("text", [p for p in POLICIES if not p.startswith(CUT_AT_CHUNKS)])
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_decision_and_text_do_not_depend_on_chunking(text, seed):
    policy, world = parse_policy(text), World(seed, fail=0.0)
    rng = random.Random(seed)
    whole = outcome_of(policy, world)
    cut = outcome_of(policy, world, cut=lambda chunk: split(chunk, rng))
    joined = outcome_of(policy, world, join_pairs=True)
    for other in (cut, joined):
        assert (other.completion.text, other.sample, other.why, other.confidence) == (
            whole.completion.text,
            whole.sample,
            whole.why,
            whole.confidence,
        )
    assert cut.usage == whole.usage


@pytest.mark.parametrize("text", POLICIES)
@given(
    seed=seeds,
    tokens=st.none() | st.integers(0, 300),
    samples=st.none() | st.integers(0, 6),
    asked=st.none() | st.integers(1, 80),
)
@settings(max_examples=8, deadline=None)
def test_every_policy_stays_within_its_budget(text, seed, tokens, samples, asked):
    request = replace(REQUEST, sampling=Sampling(max_tokens=asked))
    session = Session(
        parse_policy(text), request, budget=Budget(completion_tokens=tokens, samples=samples)
    )
    try:
        outcome = drive(session, World(seed))
    except (NoAnswer, BudgetTooSmall, UpstreamDisconnected):
        return
    assert_within(outcome, tokens, samples)
    assert outcome.usage == sum((record.usage for record in outcome.records), Usage())


def assert_within(outcome: Outcome, tokens: int | None, samples: int | None) -> None:
    assert tokens is None or outcome.usage.completion_tokens <= tokens
    assert samples is None or outcome.samples_run <= samples


@dataclass(frozen=True)
class Hostile(BasePolicy):
    """Asks for anything, at any time, and never means to stop."""

    seed: int
    name = "hostile"
    needs = frozenset()

    def start(self, request):
        return self._next(0)

    def step(self, state, evidence):
        return self._next(state)

    def _next(self, state):
        asked, steps = state if isinstance(state, tuple) else (0, 0)
        rng = random.Random(f"{self.seed}/{steps}")
        actions = []
        for _ in range(rng.randint(0, 3)):
            kind = rng.random()
            if kind < 0.7:
                count = rng.randint(1, 15)
                ask = rng.choice([None, 1, 7, 10**9])
                actions.append(Sample(samples=tuple(range(asked, asked + count)), max_tokens=ask))
                asked += count
            elif kind < 0.98:
                actions.append(Cancel(sample=rng.randint(-3, 60)))
            elif asked:
                actions.append(Answer(sample=0, why="enough") if asked > 60 else Escalate(why="no"))
        return (asked, steps + 1), tuple(actions)


def priced(model: str, usage: Usage) -> Cost:
    usd = 3e-4 * usage.prompt_tokens + 1e-3 * usage.completion_tokens
    return Cost(tokens=usage.total_tokens, usd=usd)


@given(
    seed=seeds,
    tokens=st.integers(0, 400),
    samples=st.none() | st.integers(1, 20),
    usd=st.none() | st.floats(0.0, 0.5),
    asked=st.none() | st.integers(1, 90),
)
@settings(max_examples=120, deadline=None)
def test_a_hostile_policy_cannot_overspend(seed, tokens, samples, usd, asked):
    budget = Budget(completion_tokens=tokens, samples=samples, usd=usd)
    request = replace(REQUEST, sampling=Sampling(max_tokens=asked))
    session = Session(Hostile(seed), request, budget=budget, cost_model=priced)
    world = World(seed, fail=0.05)
    try:
        outcome = drive(session, world)
    except (NoAnswer, BudgetTooSmall, UpstreamDisconnected):
        return
    assert_within(outcome, tokens, samples)
    assert usd is None or outcome.cost.usd <= usd + 1e-12


@given(seed=seeds, limit=st.floats(0.001, 0.2))
@settings(max_examples=30, deadline=None)
def test_time_budget_ends_a_hostile_policy(seed, limit):
    budget = Budget(elapsed_s=limit, completion_tokens=5_000)
    session = Session(Hostile(seed), REQUEST, budget=budget)
    try:
        outcome = drive(session, World(seed, fail=0.0))
    except (NoAnswer, BudgetTooSmall):
        return
    assert outcome.elapsed_s <= limit + 0.0011  # one step of the driver


@given(
    a=st.tuples(*[st.integers(0, 99)] * 2, *[st.none() | st.integers(0, 9)] * 2),
    b=st.tuples(*[st.integers(0, 99)] * 2, *[st.none() | st.integers(0, 9)] * 2),
)
def test_usage_adds_and_keeps_unknown_apart_from_zero(a, b):
    def usage(values):
        return Usage(
            prompt_tokens=values[0],
            completion_tokens=values[1],
            cached_tokens=values[2],
            reasoning_tokens=values[3],
        )

    total = usage(a) + usage(b)
    assert total == usage(b) + usage(a)
    assert total.total_tokens == usage(a).total_tokens + usage(b).total_tokens
    assert (total.cached_tokens is None) == (a[2] is None and b[2] is None)
    assert (total.reasoning_tokens or 0) == (a[3] or 0) + (b[3] or 0)
