"""What holds for every policy, as tests to run over one of your own.

    check_policy(Mine())                            raises AssertionError at the first breach

    class TestMine(PolicyConformance):              the same in pytest, a test per promise
        policies = {"pairs": Pairs(), "long pairs": Pairs(most=20)}

A policy is driven by events in orders that hypothesis makes up: by hand through a session, through
the replay executor, and through the live loop. Needs hypothesis, the class also pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suffice.core import serial
from suffice.core.completions import Budget
from suffice.core.coverage import CertificateStatus, Exit
from suffice.core.decisions import (
    Actions,
    AnyPolicy,
    ChunkSeen,
    Evidence,
    SampleFailed,
    SampleFinished,
    Tick,
    ToolFailed,
    ToolFinished,
    Trigger,
    WindowBelow,
)
from suffice.core.requests import Request
from suffice.policies.wrapper import Wrapper
from suffice.testing.live_worlds import in_that_order, live
from suffice.testing.policy_worlds import COMPARABLE, FREE_FORM, Run, World, by_hand, replayed

# Examples of each promise; raise it for a policy under development.
EXAMPLES = 12

worlds = st.builds(
    World,
    seed=st.integers(0, 10_000),
    fail=st.sampled_from([0.0, 0.1, 0.5]),
    silent=st.sampled_from([0.0, 0.1, 0.9]),
    answers=st.sampled_from(["1", "1112", "11123", "123456789"]),
)
orders = st.lists(st.integers(0, 63), max_size=120)
requests = st.sampled_from([COMPARABLE, FREE_FORM])


def _settings(examples: int) -> settings:
    """Time is no matter: a busy machine makes no policy wrong."""
    slow = [HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, suppress_health_check=slow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Wrapper):
    """A policy whose every decision is checked: pure, storable, and as `acts_on` says."""

    stores: bool = True  # states hold a recording's own arrays where it is played
    triggers: set[Trigger] = field(default_factory=set)
    confidences: dict[int, list[float]] = field(default_factory=dict)
    copies: list[Any] = field(default_factory=list)  # the last state, and what was read back of it

    def start(self, request: Request) -> tuple[Any, Actions]:
        """The policy's, asked twice."""
        first, second = self.inner.start(request), self.inner.start(request)
        assert first == second, f"start gave {first}, then {second}: a policy is pure"
        if self.stores:
            self._check_storable(*first)
        return first

    def step(self, state: Any, evidence: Evidence) -> tuple[Any, Actions]:
        """The policy's, asked twice, the second time from a state that was stored."""
        due = self._allowed(state, evidence)
        found = self.inner.step(state, evidence)
        stored = self._read_back(state) if self.stores else state
        again = self.inner.step(stored, evidence)
        assert found == again, f"step gave {found}, then {again}: a policy is pure"
        assert due or not found[1], (
            f"it acted on {evidence} with {found[1]}, although acts_on said {self.triggers}"
        )
        if self.stores:
            self._check_storable(*found)
        return found

    def acts_on(self, state: Any, sample: int) -> Trigger:
        """The policy's."""
        trigger = self.inner.acts_on(state, sample)
        self.triggers.add(trigger)
        assert not self.inner.waits_for_ends or trigger == "nothing", (
            f"waits_for_ends is true, and acts_on says {trigger}"
        )
        return trigger

    def _read_back(self, state: Any) -> Any:
        """The state as it is after it was stored; a state that has not changed is stored once."""
        if not self.copies or self.copies[0] is not state:
            self.copies[:] = state, serial.loads(serial.dumps(state))
        return self.copies[1]

    def _check_storable(self, state: Any, actions: Actions) -> None:
        stored = self._read_back(state)
        assert stored == state, f"{state} is not the same once it was stored"
        if actions:
            stored = serial.loads(serial.dumps(actions))
            assert stored == actions, f"{actions} are not the same once they were stored"

    def _allowed(self, state: Any, evidence: Evidence) -> bool:
        """Whether the policy may act on this."""
        if isinstance(evidence, SampleFinished | SampleFailed | ToolFinished | ToolFailed | Tick):
            return True
        assert isinstance(evidence, ChunkSeen)
        seen = self.confidences.setdefault(evidence.sample, [])
        seen.extend(evidence.confidences)
        trigger = self.acts_on(state, evidence.sample)
        if isinstance(trigger, WindowBelow):
            return _lowest_mean(seen, trigger.size) < trigger.threshold + 1e-9
        return trigger == "everything"


def _lowest_mean(values: list[float], size: int) -> float:
    sums = [sum(values[at : at + size]) for at in range(len(values) - size + 1)]
    return min(sums) / size if sums else float("inf")


def check_facts(run: Run) -> None:
    """An outcome says what it has to, in types."""
    numbers = [launch.sample for launch in run.launches]
    assert len(set(numbers)) == len(numbers), "a sample's number was used twice"
    found = run.outcome
    if found is None:
        return
    assert found.sample in numbers
    assert found.why
    assert found.confidence is None or 0.0 <= found.confidence <= 1.0
    assert found.exit in (None, *get_args(Exit))
    if found.certificate is not None:
        assert found.certificate.status in get_args(CertificateStatus)
        assert found.exit is not None, "what a certificate covers has left by some exit"
        if found.certificate.status != "valid":
            assert found.exit == "safe", "where nothing is covered the baseline answers"


Check = Callable[[AnyPolicy, int], None]


def check_every_order_ends(policy: AnyPolicy, examples: int = EXAMPLES) -> None:
    """Whatever ends first, the request is settled; decisions are pure, and states can be stored."""

    @given(world=worlds, order=orders, request=requests)
    @_settings(examples)
    def check(world: World, order: list[int], request: Request) -> None:
        check_facts(by_hand(Watched(inner=policy), world, order, request=request))

    check()


def check_budgets_hold(policy: AnyPolicy, examples: int = EXAMPLES) -> None:
    """It stays within any budget, and ends."""

    @given(
        world=worlds, order=orders, tokens=st.none() | st.integers(0, 200),
        samples=st.none() | st.integers(0, 6),
    )  # fmt: skip
    @_settings(examples)
    def check(world: World, order: list[int], tokens: int | None, samples: int | None) -> None:
        budget = Budget(completion_tokens=tokens, samples=samples)
        found = by_hand(policy, world, order, budget=budget).outcome
        if found is not None:
            assert tokens is None or found.usage.completion_tokens <= tokens
            assert samples is None or found.samples_run <= samples

    check()


def check_replays_agree(policy: AnyPolicy, examples: int = EXAMPLES) -> None:
    """Played in long pieces it decides as it does token by token: `acts_on` keeps its promise."""

    @given(world=worlds, request=requests, tokens=st.none() | st.integers(1, 200))
    @_settings(examples)
    def check(world: World, request: Request, tokens: int | None) -> None:
        budget = Budget(completion_tokens=tokens)
        watched = Watched(inner=policy, stores=False)
        long = replayed(watched, world, request=request, budget=budget)
        check_facts(long)
        short = replayed(policy, world, request=request, budget=budget, piece=1)
        assert long.settled == short.settled

    check()


def check_live_agrees(policy: AnyPolicy, examples: int = EXAMPLES) -> None:
    """The live loop settles as a session does whose samples end in the same order."""

    @given(world=worlds, order=orders, request=requests)
    @_settings(examples)
    def check(world: World, order: list[int], request: Request) -> None:
        found = live(policy, world, order, request=request)
        check_facts(found)
        if policy.waits_for_ends and found.outcome is not None:
            same = in_that_order(policy, world, found.ends, request=request)
            assert same.settled == found.settled

    check()


def check_chunks_do_not_matter(policy: AnyPolicy, examples: int = EXAMPLES) -> None:
    """A policy that does not act on every chunk decides alike however tokens are cut into them."""

    @given(seed=st.integers(0, 10_000), request=requests)
    @_settings(examples)
    def check(seed: int, request: Request) -> None:
        world, watched = World(seed, fail=0.0), Watched(inner=policy)
        single = by_hand(watched, world, request=request)
        if "everything" not in watched.triggers:
            joined = by_hand(policy, world, request=request, join=True)
            assert joined.settled == single.settled

    check()


CHECKS: dict[str, Check] = {
    "every order ends": check_every_order_ends,
    "budgets hold": check_budgets_hold,
    "replays agree": check_replays_agree,
    "live agrees": check_live_agrees,
    "chunks do not matter": check_chunks_do_not_matter,
}


def check_policy(policy: AnyPolicy, *, examples: int = EXAMPLES) -> None:
    """Every check on one policy; raises AssertionError at the first that fails."""
    for check in CHECKS.values():
        check(policy, examples)


class PolicyConformance:
    """Tests of every promise for each of `policies`; inherit it under a name that pytest collects.

    `examples`: how many worlds each test tries.
    """

    policies: ClassVar[Mapping[str, AnyPolicy]] = {}
    examples: ClassVar[int] = EXAMPLES

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """A test for each policy."""
        if "policy" in metafunc.fixturenames:
            metafunc.parametrize("policy", self.policies.values(), ids=list(self.policies))

    def test_every_order_ends(self, policy: AnyPolicy) -> None:
        """Whatever ends first, the request is settled; pure, storable, as it says."""
        check_every_order_ends(policy, self.examples)

    def test_budgets_hold(self, policy: AnyPolicy) -> None:
        """It stays within any budget."""
        check_budgets_hold(policy, self.examples)

    def test_replays_agree(self, policy: AnyPolicy) -> None:
        """Long pieces are as good as tokens."""
        check_replays_agree(policy, self.examples)

    def test_live_agrees(self, policy: AnyPolicy) -> None:
        """Live as by hand."""
        check_live_agrees(policy, self.examples)

    def test_chunks_do_not_matter(self, policy: AnyPolicy) -> None:
        """However tokens are cut."""
        check_chunks_do_not_matter(policy, self.examples)
