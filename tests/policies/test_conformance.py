"""Registered policies, wrappers, and certified policies over composed baselines conform."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import hypothesis
import pytest

from suffice.core.decisions import (
    Answer,
    ChunkSeen,
    Escalate,
    Sample,
    SampleFailed,
    SampleFinished,
    WholeSamples,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.gateway.certificates.guarded_policy import GuardedPolicy
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.certificates.live_policy import LivePolicy
from suffice.gateway.certificates.live_ways import Ways
from suffice.gateway.certificates.monitors import Monitors
from suffice.gateway.config import GatewayConfig, LiveConfig
from suffice.policies.auto import Auto, RatedPolicy
from suffice.policies.cascade import Cascade, Rung
from suffice.policies.certified import Certified, Exits, Gate, Guarantee
from suffice.policies.live.state import ShadowSeen, after
from suffice.policies.monitor import Judged, Monitor
from suffice.policies.registry import POLICIES, parse_policy
from suffice.policies.thinking import Overrides
from suffice.policies.tool_plan.choose import Choose
from suffice.policies.wrapper import Choice, Composed, InOrder, Weighed, Wrapper
from suffice.recipes.calibrate.evaluate_options import Ends
from suffice.testing.live_worlds import live
from suffice.testing.policy_conformance import (
    CHECKS,
    PolicyConformance,
    Watched,
    check_policy,
)
from suffice.testing.policy_worlds import COMPARABLE, FREE_FORM, NeverEnds, Run, World, by_hand
from tests.policies.baselines import BASELINES
from tests.policies.test_certified import predictor

REGISTERED = [
    "single",
    "single:logprobs=no",
    "self_consistency:samples=7",
    "self_consistency:samples=9,stop_when_decided=yes",
    "adaptive_consistency:max_samples=12",
    "adaptive_consistency:max_samples=12,criterion=dirichlet,ahead=3",
    "adaptive_consistency:max_samples=6,escalate_below=.9",
    "two_sided:max_samples=12,patience=4,hopeless=.4",
    "vote_table:answer=-+2+00",
    "vote_table:answer=-+2+3+3,escalate=-+-+1",
    "esc:window=3,max_samples=10",
    "deepconf:max_samples=14,warmup=4,parallel=3,keep=.5",
    "deepconf:max_samples=9,warmup=2,parallel=4,keep=.2,consensus=1,largest_window=9",
    "deepconf_offline:samples=6,keep=.5",
    "cite:max_samples=12,level=.2",
    "cite:max_samples=9,pilot=2",
    "cot_pot:max_samples=9",
    "cot_pot:max_samples=6,program_model=b",
    "dart:stages=6+20",
    "dart:drafts=3,stages=10,fallback=think,think_model=b",
    "dart:switch=no,draft_model=a,think_model=b",
    "hesitation:words=so,most=4",
    "mars:max_samples=9,warmup=3,chunk=7,keep=.5,parallel=3",
    "mars:max_samples=8,warmup=3,chunk=9,on=votes,consensus=1,gamma=.7",
    "best_of_n:samples=5,weighted=true",
    "best_of_n:samples=8,wave=2,enough=.8",
    "short_m_at_k:k=5,m=2",
    "answer_stability:k=2,chunk=5",
    "revise_once",
    "sequential_revision:revisions=4,until_stable=yes",
    "no_thinking:samples=3",
    "no_thinking:samples=3,begin=yes",
    "budget_forcing:budget=12,least=4",
    "difficulty_binned:pilot=3,edges=.5+.9,more=2+4+0",
    "agreement:models=a+b",
    "react:max_turns=3",
    "rewoo",
    "dag",
    "futures",
    "program",
    "program:direct=yes",
    "abstraction",
    "react:after_results=guarded",
    "choose",
    "auto",
    "agreement:models=a+b,accept=.9 > adaptive_consistency:max_samples=6,accept=.9@b > single@c",
    "single:accept=.9 > deepconf:max_samples=8,warmup=3,parallel=2,keep=.4@b",
]
OPTIONS = {
    "one sample": "single@small",
    "agreement": "agreement:models=small+tiny",
    "a vote": "adaptive_consistency:max_samples=5@small",
    "a cascade": "single:accept=.7@tiny > adaptive_consistency:max_samples=5@small",
}


def certified(
    option: str, baseline: str, sampler: str | None = None, *, exits: Exits | None = None
) -> Certified:
    """A certified policy with two question groups of one rule."""
    rule = Exits(accept=0.8, hopeless=0.05) if exits is None else exits
    own = None if sampler is None else parse_policy(sampler)
    judge = predictor()
    return Certified(
        cheap=parse_policy(option),
        safe=parse_policy(baseline),
        clusters=(rule, rule),
        samplers=(own, own),
        predictor=judge,
        guarantee=Guarantee(id="c", statement="", max_drop=0.01, confidence=0.95, method="fst"),
        monitors=(
            Monitor(quantity="stopped", low=0.0, high=1.0),
            Monitor(quantity="drop", low=-1.0, high=0.01),
        ),
    )


def nested(depth: int) -> Cascade:
    """A cascade of cascades."""
    inner: Any = parse_policy("adaptive_consistency:max_samples=4@big")
    for number in range(depth):
        first = Rung(policy=parse_policy(f"single@m{number}"), accept=0.7)
        inner = Cascade(rungs=(first, Rung(policy=inner)))
    return inner


CERTIFIED = {
    **{
        f"{option} > {baseline}": certified(OPTIONS[option], BASELINES[baseline])
        for option in OPTIONS
        for baseline in BASELINES
        if option in ("one sample", "a cascade") or baseline in ("a cascade", "an adaptive vote")
    },
    "one sample > cascade of cascades": replace(
        certified("single@small", "single@big"), safe=nested(3)
    ),
    "a rule of its own": certified(
        "single@small", "self_consistency:samples=6@big",
        "adaptive_consistency:max_samples=6@big",
    ),
    "a rule that hands on": certified(
        "single@small", "self_consistency:samples=6@big",
        "vote_table:answer=-+2+3+3,escalate=-+-+-1@big > single@huge",
    ),
    "a rule before a cascade": certified(
        "single@small", BASELINES["a cascade"], f"single:accept=.7@small > {BASELINES['a cascade']}"
    ),
    "nothing but the baseline": certified("single@small", "single@big", exits=Exits()),
    "a rule alone": certified("single@small", "single@big", "single@small"),
}  # fmt: skip
INSIDE = {
    "a vote": "adaptive_consistency:max_samples=6",
    "confident traces": "deepconf:max_samples=8,warmup=3,parallel=2,keep=.4",
    "probes": "answer_stability:k=2,chunk=5",
}


def live_certificate(cheap: str, agreeing: int) -> LivePolicy:
    """A live certificate after so many shadowed requests, whose two answers agreed."""
    config = GatewayConfig(
        live=LiveConfig(safe="single@big", cheap=(cheap,), target=0.2), answer_format="number"
    )
    ways = Ways.of(config)
    assert ways is not None
    control = LiveControl(config, ways)
    for _ in range(agreeing):
        seen = ShadowSeen(differs=(False,), share=control.rule.share, u=0.5)
        control.state, _ = after(control.state, seen, control.rule)
    assert (control.answering is None) == (agreeing == 0)
    return LivePolicy(control=control)


def wrapped(name: str) -> dict[str, Any]:
    """A policy in every wrapper."""
    inner = parse_policy(INSIDE[name])
    off = GuardedPolicy.over(certified("single@small", INSIDE[name] + "@big"), Monitors())
    assert isinstance(off, GuardedPolicy)
    for _ in range(40):
        off.monitor.observe(Judged(harmed=True, helped=False))
    return {
        "Rewired": Overrides(inner=inner, model="other"),
        "Gate": Gate(inner=inner, exits=Exits(accept=0.6), predictor=predictor()),
        "Cascade": Cascade(rungs=(Rung(policy=inner, accept=0.8), Rung(policy=inner))),
        "Auto": Auto(arms=(RatedPolicy(policy=inner, quality=0.9, cost=1.0),)),
        "Certified": certified(INSIDE[name] + "@small", INSIDE[name] + "@big"),
        "Guard": GuardedPolicy.over(certified(INSIDE[name] + "@small", "single@big"), Monitors()),
        "Guard, switched off": off,
        "Live, not certified": live_certificate(INSIDE[name] + "@small", 0),
        "Live, switched on": live_certificate(INSIDE[name] + "@small", 200),
        "Ends": Ends(inner=inner),
        "Weighed": Weighed(inner=inner),
        "InOrder": InOrder(inner=inner),
        "Watched": Watched(inner=inner),
    }


WRAPPED = {f"{w} of {n}": policy for n in INSIDE for w, policy in wrapped(n).items()}
WRAPPED["Choose"] = Choose()


class TestRegistered(PolicyConformance):
    policies: ClassVar = {text: parse_policy(text) for text in REGISTERED}


class TestWrapped(PolicyConformance):
    # `Ends` looks at ends alone, whatever is inside; `Watched` collects as it goes.
    policies: ClassVar = {
        name: policy
        for name, policy in WRAPPED.items()
        if not name.startswith(("Ends", "Watched")) or name.endswith("a vote")
    }
    examples: ClassVar[int] = 5


class TestCertified(PolicyConformance):
    policies: ClassVar = CERTIFIED
    examples: ClassVar[int] = 5


def test_the_suite_has_every_registered_policy_and_every_wrapper():
    named = {text.partition(":")[0].partition("@")[0] for text in REGISTERED}
    # A cascade is written as its steps, a certified policy is a file.
    missing = set(POLICIES) - named - {"cascade", "certified"}
    assert not missing, f"add each to REGISTERED above, as --policy takes it: {missing}"

    def below(base: type) -> set[str]:
        found = set()
        for each in base.__subclasses__():
            found |= {each.__name__} | below(each)
        return found

    bases = {"Wrapper", "Choice"}
    here = {type(policy).__name__ for policy in WRAPPED.values()}
    assert below(Composed) | below(Wrapper) | below(Choice) <= here | bases


@pytest.mark.parametrize("name", CERTIFIED)
def test_the_exit_of_a_certified_policy_says_who_was_asked(name):
    """In any order: the baseline's answer is `safe` and nobody else's is; words say nothing."""
    policy = CERTIFIED[name]
    baseline, exits = {"big", "mid", "m0", "m1", "m2"}, Counter()
    for seed in range(12):
        for request in (COMPARABLE, FREE_FORM):
            world, order = World(seed), [(seed * 7 + n * 5) % 64 for n in range(60)]
            for run in (by_hand(policy, world, order, request=request),
                        live(policy, world, order, request=request)):  # fmt: skip
                found = run.outcome
                if found is None:
                    continue
                assert found.certificate is not None
                asked = {launch.draw.model for launch in run.launches}
                if request is FREE_FORM:
                    assert (found.certificate.status, found.exit) == ("not covered", "safe")
                    assert asked <= baseline
                    continue
                assert found.certificate.status == "valid"
                if "a rule" in name:  # its samples may be the baseline's own
                    continue
                assert (found.exit == "safe") == bool(asked & baseline)
                exits[found.exit] += 1
    if "a rule" not in name and "nothing" not in name:
        assert set(exits) >= {"accepted", "safe"}  # both were tried


def decided(run: Run) -> tuple[object, ...]:
    """What a policy decided. An outcome's own confidence counts what else had ended by then."""
    found = run.outcome
    if found is None:
        return (type(run.error),)
    return found.sample, found.measure, found.exit, found.escalated


@pytest.mark.parametrize("name", CERTIFIED)
def test_a_certified_policy_decides_alike_in_whatever_order_its_samples_end(name):
    """As at calibration, where samples end in the order in which they were drawn."""
    policy = CERTIFIED[name]
    if not policy.waits_for_ends:
        pytest.skip("it acts on running samples")
    for seed in range(10):
        world, rng = World(seed), random.Random(seed)
        orders = [[rng.randrange(64) for _ in range(120)] for _ in range(4)]
        assert len({decided(by_hand(policy, world, order)) for order in orders}) == 1


def test_without_an_order_some_rules_do_not():
    """What `InOrder` is for: a rule that ends while samples run sees the quick ones."""
    rule = parse_policy("two_sided:max_samples=12,patience=4,hopeless=.4")
    unlike = 0
    for seed in range(20):
        world, rng = World(seed, answers="123456789"), random.Random(seed)
        orders = [[rng.randrange(64) for _ in range(120)] for _ in range(6)]
        unlike += len({decided(by_hand(rule, world, order)) for order in orders}) > 1
        assert len({decided(by_hand(InOrder(inner=rule), world, o)) for o in orders}) == 1
    assert unlike > 0


def test_a_rule_whose_end_is_not_the_baseline_never_says_safe():
    for name in ("a rule that hands on", "a rule alone"):
        exits = {
            run.outcome.exit
            for seed in range(40)
            if (run := by_hand(CERTIFIED[name], World(seed, 0.0, 0.0, "123456789"))).outcome
        }
        assert "last" in exits
        assert "safe" not in exits


# --- the suite finds what is wrong


@dataclass(frozen=True)
class Bad(WholeSamples):
    """One sample, with a fault of its choice."""

    fault: str
    name: str = "bad"
    needs: frozenset = frozenset()

    def start(self, request: Request):
        count = 3 if self.fault == "forgets the first" else 1
        return ([] if self.fault == "mutable state" else 0), (Sample(samples=tuple(range(count))),)

    def step(self, state, evidence):
        if self.fault == "never ends" and isinstance(evidence, SampleFinished):
            number = state + 1
            return number, (Sample(samples=(number,)),)
        if self.fault == "acts on tokens" and isinstance(evidence, ChunkSeen):
            return state, (Answer(sample=0, why="seen enough"),)
        if not isinstance(evidence, SampleFinished | SampleFailed):
            return state, ()
        if isinstance(evidence, SampleFailed):
            return state, (Escalate(why="the sample failed"),)
        sure = 2.0 if self.fault == "sure beyond 1" else 0.5
        if self.fault == "random":
            sure = random.random()
        why = "" if self.fault == "silent" else "done"
        return state, (Answer(sample=evidence.sample, why=why, probability=sure),)


@pytest.fixture
def first_failure_is_enough():
    """No smaller example is looked for: that is most of the time, and nobody reads it here."""
    profile = hypothesis.settings.get_current_profile_name()
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("first failure", phases=phases)
    hypothesis.settings.load_profile("first failure")
    yield
    hypothesis.settings.load_profile(profile)


@pytest.mark.parametrize(
    "fault", ["mutable state", "acts on tokens", "sure beyond 1", "random", "silent"]
)
def test_a_faulty_policy_does_not_pass(fault, first_failure_is_enough):
    with pytest.raises((AssertionError, InputError)):
        check_policy(Bad(fault), examples=30)


def test_a_policy_that_never_ends_is_found():
    with pytest.raises(NeverEnds):
        by_hand(Bad("never ends"), World(1, fail=0.0))


def test_a_sound_policy_passes():
    check_policy(Bad("none"))
    assert len(CHECKS) == 5
