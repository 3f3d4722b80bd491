"""What replay came to before it was made fast: every outcome, record, tick and span, as digests.

The digests were taken of revision 20adfc4, whose player booked tokens in smaller steps, and once
more, of equal outcomes, when a field of the outcome went; those of certified policies anew, when
these came to hear of samples' ends in drawing order; then all of equal outcomes without their
words (`why`, `reason`), which may be said better, and that of `agreement`, whose accepted sample no
longer depends on which came first. Floats are compared to nine digits, because
sums over arrays differ in the last bits between machines.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from suffice.core.completions import Budget, Cost, Usage
from suffice.core.errors import BudgetTooSmall, NoAnswer
from suffice.core.requests import Message, Request, Sampling
from suffice.executors.replay import ReplayedSession, play
from suffice.policies.certified import Certified, Exits, Guarantee
from suffice.policies.predictor import EVIDENCE_NAMES, Head, Predictor
from suffice.policies.prompt_features import FORM_NAMES, Featuriser
from suffice.policies.registry import parse_policy
from tests.properties.test_play import POLICIES, recorded

DIGESTS = Path(__file__).with_name("played_outcomes.json")
MORE = (
    "esc:max_samples=40",
    "two_sided:max_samples=20,hopeless=.3,patience=4",
    "single:accept=.9 > adaptive_consistency:max_samples=16",
    "agreement:models=a+b > two_sided:max_samples=9@c",
    "certified gate",
    "certified sampler",
)
BUDGETS = (
    Budget(),
    Budget(completion_tokens=400),
    Budget(samples=5),
    Budget(elapsed_s=20.0),
    Budget(usd=9e-4),
)
REQUEST = Request(
    messages=(Message(role="user", content="Add the numbers of apples and pears"),),
    model="m",
    answer_format="number",
    sampling=Sampling(max_tokens=120),
)


def certified(sampler: bool) -> Certified:
    """A cheap vote behind exits, or a vote of its own; P(right) follows the confidence alone."""
    size = 32
    featuriser = Featuriser(size, np.ones(size))
    dense = np.zeros(len(FORM_NAMES) + len(EVIDENCE_NAMES))
    dense[len(FORM_NAMES)] = 4.0
    vote = parse_policy("two_sided:max_samples=8,patience=3")
    return Certified(
        cheap=parse_policy("adaptive_consistency:max_samples=6@a"),
        safe=parse_policy("self_consistency:samples=5@b"),
        clusters=(Exits() if sampler else Exits(accept=0.8, hopeless=0.1),),
        samplers=(vote,) if sampler else (),
        predictor=Predictor(
            featuriser=featuriser,
            centroids=featuriser.vector(REQUEST.messages[0].text)[None],
            mean=np.zeros(len(dense)),
            scale=np.ones(len(dense)),
            right=Head(words=np.zeros(size), dense=dense, intercept=-2.0),
            rescue=Head(words=np.zeros(size), dense=-dense, intercept=0.0),
        ),
        guarantee=Guarantee(id="abc", statement="", max_drop=0.01, confidence=0.95, method="fst"),
    )


def digest_of(name: str) -> str:
    """SHA-256 over the outcomes of a policy under every budget, six seeds each."""
    policy = (
        certified(name.endswith("sampler")) if name.startswith("certified") else parse_policy(name)
    )
    found = hashlib.sha256()
    for seed in range(6):
        for number, budget in enumerate(BUDGETS):
            request = REQUEST if seed % 3 else replace(REQUEST, sampling=Sampling())
            try:
                played = play(
                    policy,
                    request,
                    lambda launch, seed=seed: recorded(
                        seed, launch.draw.model, launch.sample, seed % 2 == 0
                    ),
                    budget=budget,
                    cost_model=lambda model, usage: Cost(
                        tokens=usage.total_tokens, usd=usage.total_tokens * 1e-6
                    ),
                    extract_cut=lambda said: str(len(said.text)),
                    token_s=0.25 if number != 1 else 0.0,
                    first_ticks=seed % 4,
                )
                told = facts(played)
            except (BudgetTooSmall, NoAnswer) as error:
                told = str(error)
            found.update(re.sub(r"\d+\.\d+(e-?\d+)?", rounded, told).encode())
    return found.hexdigest()


def facts(played: ReplayedSession) -> str:
    """What is compared, field by field: fields that come later do not change a digest."""
    outcome = played.outcome
    said = outcome.completion
    records = [
        (
            *(each.sample, each.model, each.purpose, each.status, tokens(each.usage)),
            *(each.answer, each.score, each.confidence, each.ttft_s, each.e2e_s),
        )
        for each in outcome.records
    ]
    facts = (
        *(said.text, said.finish_reason, tokens(said.usage), len(said.logprobs), outcome.sample),
        *(outcome.arm, outcome.measure, tokens(outcome.usage), outcome.cost.usd),
        *(outcome.elapsed_s, outcome.escalated, records),
        *(played.ticks, [tuple(span) for span in played.spans]),
    )
    return repr(facts)


def tokens(usage: Usage) -> tuple[int, int]:
    """Prompt and completion tokens."""
    return usage.prompt_tokens, usage.completion_tokens


def rounded(number: re.Match[str]) -> str:
    """A float with nine digits."""
    return f"{float(number[0]):.9g}"


@pytest.mark.parametrize("name", [*POLICIES, *MORE])
def test_outcomes_are_those_of_the_slower_player(name):
    assert digest_of(name) == json.loads(DIGESTS.read_text())[name]
