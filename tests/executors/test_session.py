"""Budgets, receipts and contract errors, without a loop or a clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from suffice.backends.protocol import Chunk
from suffice.core.completions import Budget, Cost, Usage
from suffice.core.decisions import Answer, BasePolicy, Cancel, Escalate, Sample, SampleFailed
from suffice.core.errors import (
    BudgetTooSmall,
    InputError,
    NoAnswer,
    PolicyMisbehaved,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamTimeout,
)
from suffice.core.requests import (
    ImagePart,
    Message,
    OpaquePart,
    Request,
    Sampling,
    TextPart,
    Tool,
)
from suffice.executors.budget_account import IMAGE_TOKENS, bound_prompt_tokens
from suffice.executors.running_sample import Launch
from suffice.executors.session import Session
from suffice.policies.fixed import SelfConsistency, Single

REQUEST = Request(
    messages=(Message(role="user", content="2+2?"),), model="m", answer_format="number"
)


@dataclass
class Scripted(BasePolicy):
    """Begins with `first`; gives `then` to evidence number `at`, and keeps what it saw."""

    first: tuple
    then: tuple = ()
    at: int = 0
    name: str = "scripted"
    needs: frozenset = frozenset()
    saw: list = field(default_factory=list)

    def start(self, request):
        return 0, self.first

    def step(self, state, evidence):
        self.saw.append(evidence)
        return state + 1, self.then if state == self.at else ()


def tokens(count, *, end=False, prompt=10, total=None):
    usage = Usage(prompt_tokens=prompt, completion_tokens=total or count) if end else None
    return Chunk(
        text="x" * count, token_count=count, finish_reason="stop" if end else None, usage=usage
    )


def grants(commands):
    return [c.draw.sampling.max_tokens for c in commands if isinstance(c, Launch)]


def begin(policy, *, budget=None, request=REQUEST, **how):
    session = Session(policy, request, budget=budget, **how)
    return session, session.start(0.0)


def test_samples_without_a_limit_share_what_is_left():
    _, commands = begin(SelfConsistency(samples=4), budget=Budget(completion_tokens=10))
    assert grants(commands) == [2, 2, 3, 3]


def test_whole_samples_start_and_the_rest_is_refused():
    request = replace(REQUEST, sampling=Sampling(max_tokens=40))
    policy = Scripted(first=(Sample(samples=(0, 1, 2)),))
    session, commands = begin(policy, budget=Budget(completion_tokens=100), request=request)
    assert grants(commands) == [40, 40]
    (refused,) = policy.saw
    assert isinstance(refused, SampleFailed)
    assert (refused.sample, refused.reason) == (2, "budget")
    assert "20 of 100" in refused.message
    assert session.is_running(1)


def test_the_first_sample_is_cut_rather_than_refused():
    request = replace(REQUEST, sampling=Sampling(max_tokens=400))
    _, commands = begin(Single(), budget=Budget(completion_tokens=100), request=request)
    assert grants(commands) == [100]


def test_tokens_that_a_sample_did_not_draw_are_free_again():
    policy = Scripted(
        first=(Sample(samples=(0,), max_tokens=90),), then=(Sample(samples=(1,), max_tokens=90),)
    )
    session, _ = begin(policy, budget=Budget(completion_tokens=100))
    session.chunk(0, tokens(5, end=True), 1.0)
    assert grants(session.finish(0, 1.0, answer=None)) == []  # the ChunkSeen used its one answer
    session, _ = begin(replace(policy, at=1, saw=[]), budget=Budget(completion_tokens=100))
    session.chunk(0, tokens(5, end=True), 1.0)
    assert grants(session.finish(0, 1.0, answer=None)) == [90]


@pytest.mark.parametrize("budget", [Budget(completion_tokens=0), Budget(samples=0)])
def test_a_budget_too_small_for_any_sample_is_an_error(budget):
    with pytest.raises(BudgetTooSmall, match="raise the budget"):
        begin(SelfConsistency(samples=3), budget=budget)


def test_an_engine_that_ignores_its_limit_is_stopped():
    policy = Scripted(first=(Sample(samples=(0,), max_tokens=4),))
    session, _ = begin(policy)
    assert session.chunk(0, tokens(3), 1.0) == []
    session.chunk(0, tokens(3), 1.0)
    assert session.is_complete(0)  # the driver closes its stream
    assert session.completion_of(0).finish_reason == "length"


def priced(model, usage):
    return Cost(tokens=usage.total_tokens, usd=usage.completion_tokens / 64)


def test_money_buys_tokens():
    _, commands = begin(Single(), budget=Budget(usd=25 / 64), cost_model=priced)
    assert grants(commands) == [25]
    _, shared = begin(SelfConsistency(samples=5), budget=Budget(usd=25 / 64), cost_model=priced)
    assert grants(shared) == [5] * 5
    with pytest.raises(BudgetTooSmall, match=r"of \$0.00781"):
        begin(Single(), budget=Budget(usd=1 / 128), cost_model=priced)
    with pytest.raises(InputError, match="needs a price for model 'm'"):
        begin(Single(), budget=Budget(usd=1.0))


def test_time_is_up():
    session, _ = begin(SelfConsistency(samples=3), budget=Budget(elapsed_s=5.0))
    session.chunk(0, tokens(3, end=True), 1.0)
    session.finish(0, 1.0, answer="4")
    session.chunk(1, tokens(2), 2.0)
    assert not session.decided
    session.tick(5.0)
    outcome = session.outcome(5.0)
    assert (outcome.sample, outcome.why, outcome.escalated) == (0, "time budget reached", True)
    assert outcome.samples_cancelled == 2
    partial, _ = begin(Single(), budget=Budget(elapsed_s=5.0))
    partial.chunk(0, tokens(2), 2.0)
    partial.tick(6.0)
    completion = partial.outcome(6.0).completion
    assert (completion.text, completion.finish_reason) == ("xx", "length")
    silent, _ = begin(Single(), budget=Budget(elapsed_s=5.0))
    silent.tick(6.0)
    with pytest.raises(NoAnswer, match="time budget reached"):
        silent.outcome(6.0)


def test_the_receipt_adds_up():
    session, _ = begin(SelfConsistency(samples=3))
    for sample, (answer, count) in enumerate([("4", 6), ("5", 2), ("4", 4)]):
        session.chunk(sample, tokens(count, end=True), 1.0 + sample)
        session.finish(sample, 1.0 + sample, answer=answer)
    outcome = session.outcome(3.0, overhead_s=0.001)
    assert outcome.usage == Usage(prompt_tokens=30, completion_tokens=12)
    assert outcome.cost.tokens == 42
    assert outcome.votes == (("4", 2), ("5", 1))
    assert outcome.tokens_by_sample == ((0, 6), (1, 2), (2, 4))
    assert outcome.confidence == pytest.approx(2 / 3)
    assert outcome.accepted_usage == Usage(prompt_tokens=10, completion_tokens=6)
    assert outcome.saved is None  # nobody has compared it with a baseline
    assert outcome.records[1].ttft_s == 2.0
    assert outcome.elapsed_s == 3.0


def test_a_cancelled_sample_is_paid_for_with_its_siblings_prompt():
    policy = Scripted(first=(Sample(samples=(0, 1)),), then=(Cancel(sample=1, why="enough"),))
    session, _ = begin(policy)
    session.chunk(1, tokens(0), 0.5)  # a first, empty chunk: the policy cancels
    session.chunk(0, tokens(5, end=True), 1.0)
    session.finish(0, 1.0, answer="4")
    outcome = session.outcome(1.0)
    assert outcome.records[1].status == "cancelled"
    assert outcome.records[1].reason == "enough"
    assert outcome.usage == Usage(prompt_tokens=20, completion_tokens=5)
    assert outcome.why == "the policy stopped without an answer"


def test_an_answer_put_together_from_several_samples():
    policy = Scripted(
        first=(Sample(samples=(0,)),), then=(Answer(sample=0, why="early", text="so: 4"),)
    )
    session, _ = begin(policy)
    session.chunk(0, tokens(3), 1.0)
    completion = session.outcome(1.0).completion
    assert (completion.text, completion.finish_reason) == ("so: 4", "stop")


def test_failures_are_evidence_and_then_errors():
    session, _ = begin(SelfConsistency(samples=2))
    session.fail(0, UpstreamRefused("no route"), 1.0)
    session.fail(1, UpstreamRefused("no route"), 1.0)
    with pytest.raises(UpstreamRefused, match="no route"):
        session.outcome(1.0)
    mixed, _ = begin(SelfConsistency(samples=2))
    mixed.fail(0, UpstreamTimeout("slow"), 1.0)
    mixed.fail(1, UpstreamDisconnected("gone"), 1.0)
    with pytest.raises(NoAnswer, match="sample 0: slow; sample 1: gone"):
        mixed.outcome(1.0)
    one, _ = begin(SelfConsistency(samples=2))
    one.fail(0, UpstreamTimeout("slow"), 1.0)
    one.chunk(1, tokens(1, end=True), 1.0)
    one.finish(1, 1.0, answer="4")
    outcome = one.outcome(1.0)
    assert outcome.sample == 1
    assert outcome.records[0].status == "failed"
    assert outcome.records[0].reason == "slow"


def test_nothing_extractable_gives_the_last_sample_and_says_so():
    session, _ = begin(SelfConsistency(samples=2))
    for sample in (0, 1):
        session.chunk(sample, tokens(3, end=True), 1.0)
        session.finish(sample, 1.0, answer=None)
    outcome = session.outcome(1.0)
    assert outcome.escalated
    assert "no sample gave an answer" in outcome.why
    assert outcome.confidence is None


def test_broken_contracts_are_named():
    with pytest.raises(PolicyMisbehaved, match="drew sample 0 twice"):
        begin(Scripted(first=(Sample(samples=(0, 0)),)))
    session, _ = begin(Scripted(first=(Sample(samples=(0,)), Answer(sample=7, why="?"))))
    with pytest.raises(PolicyMisbehaved, match="sample 7, which it never drew"):
        session.outcome(1.0)
    nothing, _ = begin(Scripted(first=(Sample(samples=(0,)), Escalate(why="hard"))))
    with pytest.raises(NoAnswer, match="hard"):
        nothing.outcome(1.0)
    early, _ = begin(Single())
    with pytest.raises(PolicyMisbehaved, match="too early"):
        early.outcome(1.0)
    with pytest.raises(InputError, match="budget samples"):
        Budget(samples=-1)


def test_samples_differ_by_seed_and_wishes_meet_the_request():
    sampling = Sampling(seed=7, max_tokens=50, stop=("END",), temperature=0.7)
    request = replace(REQUEST, sampling=sampling)
    action = Sample(samples=(3,), max_tokens=90, stop=("END", "Q:"), top_logprobs=20)
    _, commands = begin(Scripted(first=(action,)), request=request)
    (launch,) = commands
    assert launch.draw.sampling == Sampling(
        seed=10, max_tokens=50, stop=("END", "Q:"), temperature=0.7, top_logprobs=20
    )
    _, without = begin(Scripted(first=(action,)), request=request, logprobs=False)
    assert without[0].draw.sampling.top_logprobs is None


def test_the_prompt_bound_covers_everything_that_is_sent():
    message = Message(
        role="user", content=(TextPart(text="é" * 10), ImagePart(url="data:image/png;base64,"))
    )
    request = Request(messages=(message,), model="m", tools=(Tool(name="f", parameters_json="{}"),))
    assert bound_prompt_tokens(request) >= 20 + IMAGE_TOKENS + 3


def test_a_part_that_is_not_modelled_counts_by_its_bytes_too():
    part = OpaquePart(json=json.dumps("d" * 29_000))
    request = replace(REQUEST, messages=(Message(role="user", content=(part,)),))
    assert bound_prompt_tokens(request) >= 29_000 + IMAGE_TOKENS


@pytest.mark.parametrize(
    "more",
    [
        {"extra_json": '{"documents": "' + "d" * 9000 + '"}'},
        {"response_format_json": '{"schema": "' + "d" * 9000 + '"}'},
        {"messages": (Message(role="user", content="2+2?", name="d" * 9000),)},
        {"messages": (Message(role="user", content="?", json=json.dumps({"x": "d" * 9000})),)},
        {"messages": (Message(role="user", content="\ud800" * 3000),)},
    ],
)
def test_the_prompt_bound_covers_what_a_template_may_render(more):
    assert bound_prompt_tokens(replace(REQUEST, **more)) >= 9000


def test_text_that_no_engine_counted_is_booked_at_its_most():
    # An engine that neither counts nor sends log-probabilities, cancelled before its usage came.
    policy = Scripted(
        first=(Sample(samples=(0,), max_tokens=50),),
        then=(Cancel(sample=0), Sample(samples=(1,), max_tokens=70)),
    )
    session, _ = begin(policy, budget=Budget(completion_tokens=100))
    assert grants(session.chunk(0, Chunk(text="several tokens in a chunk, 38 bytes"), 1.0)) == []
    assert isinstance(policy.saw[-1], SampleFailed)
    session, _ = begin(replace(policy, saw=[]), budget=Budget(completion_tokens=110))
    assert grants(session.chunk(0, Chunk(text="several tokens in a chunk, 38 bytes"), 1.0)) == [70]
