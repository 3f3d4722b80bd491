"""How much any vote or router could gain on these samples, before one is built.

Whatever chooses among recorded answers is wrong where all of them are: with β the rate of such
questions, no vote, router or cascade over them is right more often than 1 - β (2606.27288). Exact
bounds over distinct questions: of β, and of the rate at which the baseline is wrong and any
recorded sample is right, which is all that there is to gain over it.

Where a model errs the same way again and again its vote is worse than one sample (2608.11403): a
vote is advised against where it is shown to lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from suffice.core.arrays import BoolArray
from suffice.evals.statistics.binomial import Interval, lower_bound, upper_bound
from suffice.evals.statistics.bootstrap import percentile_interval, question_weights
from suffice.evals.traces.trace_set import TraceSet
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.stopping_times import votes_of

LEAST_SAMPLES_TO_VOTE = 3
LARGEST_VOTE = 40
DRAWS = 2000

ShownGain = Literal["gains", "no difference shown", "hurts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteOf:
    """One model's vote against one sample of it, paired by question."""

    model: str
    samples: int
    single: float  # accuracy of one sample
    vote: float
    gain: Interval  # over resampled questions
    lowered: float  # share of questions whose chance of a right answer the vote lowers
    raised: float
    verdict: ShownGain


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What is certified about everything that chooses among the recorded answers."""

    questions: int
    samples: int  # of every question, all models together
    baseline: str
    baseline_accuracy: float
    all_wrong: int  # questions
    beta_low: float  # the rate of such questions is at least this, at the confidence
    most_accuracy: float  # 1 - beta_low
    rescuable: int  # questions that the baseline gets wrong and any sample gets right
    most_gain: float  # the largest gain over the baseline that is not excluded
    confidence: float
    votes: tuple[VoteOf, ...]


def ceiling_of(traces: TraceSet, config: CalibrateConfig) -> Ceiling:
    """The ceiling of a recording."""
    ground = Inputs.of(traces, config)
    plays = ground.plays
    right = np.concatenate(
        [traces.correct[plays.rows(model)[:, 0]] == 1.0 for model in traces.models], axis=1
    )
    any_right: BoolArray = np.any(right, axis=1)
    baseline = ground.played(ground.baseline.text).correct[:, 0]
    n, wrong = len(any_right), int((~any_right).sum())
    rescuable = int((any_right & ~baseline).sum())
    beta = lower_bound(wrong, n, config.confidence)
    return Ceiling(
        questions=n,
        samples=right.shape[1],
        baseline=ground.baseline.text,
        baseline_accuracy=float(baseline.mean()),
        all_wrong=wrong,
        beta_low=beta,
        most_accuracy=1.0 - beta,
        rescuable=rescuable,
        most_gain=upper_bound(rescuable, n, config.confidence),
        confidence=config.confidence,
        votes=tuple(
            _vote_of(ground, model)
            for model in traces.models
            if ground.samples(model) >= LEAST_SAMPLES_TO_VOTE
        ),
    )


def _vote_of(ground: Inputs, model: str) -> VoteOf:
    rows = ground.plays.rows(model)[:, 0, :LARGEST_VOTE]
    right = ground.traces.correct[rows] == 1.0
    single = right.mean(axis=1)
    vote = votes_of(ground.traces, rows).right[:, -1].astype(np.float64)
    config = ground.config
    weights = question_weights(len(single), DRAWS, config.seed)
    gained = vote - single
    gain = percentile_interval(
        float(gained.mean()), weights @ gained / len(gained), config.confidence
    )
    verdict: ShownGain = "no difference shown"
    if gain.low > 0.0:
        verdict = "gains"
    elif gain.high < 0.0:
        verdict = "hurts"
    return VoteOf(
        model=model,
        samples=rows.shape[1],
        single=float(single.mean()),
        vote=float(vote.mean()),
        gain=gain,
        lowered=float((gained < 0.0).mean()),
        raised=float((gained > 0.0).mean()),
        verdict=verdict,
    )
