"""MARS's rule: may the traces that still run overturn the vote? (2606.12935)

    q_j   probability that trace j ends with another answer than it has now
    w_j   its weight in the vote
    M_k   weight of the leader less that of challenger k
    γ     share of the worst case that is held against the leader, 1 all of it

Reference: 2606.12935 and its repository's derivation; the fit and all code are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.serial import stored
from suffice.policies.votes import weighted_tally

RIDGE = 0.02  # of the slopes, as in the paper's code (its penalty is .01 Σ β²)
INTERCEPT_RIDGE = 1e-3  # without it a warm-up that never switched has no finite fit
LEAST_GAMMA = 0.5


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What a trace says now: its answer, its weight, and how likely it will say another thing."""

    answer: str | None
    weight: float
    q: float = 0.0  # 0: it has ended


def leader_is_safe(votes: Sequence[Vote], gamma: float = 1.0) -> str | None:
    """The leading answer if no challenger is expected to overtake it, else None.

    Formula: M_k > Σ_j q_j c_jk for every k, with c_jk = 2 γ w_j where j votes for the leader, -w_j
    where it votes for k (leaving k can only help), γ w_j else. An answer nobody has given is a
    challenger too.
    """
    sums = weighted_tally((vote.answer, vote.weight) for vote in votes)
    if not sums or sums[0][1] <= 0:
        return None
    leader, weight = sums[0]
    worst = sum(_cost(vote, leader, None, gamma) for vote in votes)
    if weight <= worst:
        return None
    for challenger, theirs in sums[1:]:
        if weight - theirs <= sum(_cost(vote, leader, challenger, gamma) for vote in votes):
            return None
    return leader


def _cost(vote: Vote, leader: str, challenger: str | None, gamma: float) -> float:
    if vote.answer == leader:
        return 2.0 * gamma * vote.weight * vote.q
    if vote.answer is not None and vote.answer == challenger:
        return -vote.weight * vote.q
    return gamma * vote.weight * vote.q


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A trace's probes: tokens at each, what it said then, and how confident it was (nats)."""

    positions: tuple[int, ...] = ()
    answers: tuple[str | None, ...] = ()
    levels: tuple[float, ...] = ()

    def probed(self, answer: str | None) -> Course:
        """The course with the answer of the probe that was in flight."""
        return replace(self, answers=(*self.answers, answer))

    def features(self, at: int) -> tuple[float, ...]:
        """(position, confidence, changes so far, probes in a row that agree, confidence gained)."""
        said = self.answers[: at + 1]
        changes = sum(a != b for a, b in pairwise(said))
        row = next((n for n, each in enumerate(reversed(said)) if each != said[-1]), len(said))
        gained = self.levels[at] - self.levels[at - 1] if at else 0.0
        return (float(self.positions[at]), self.levels[at], float(changes), float(row), gained)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchModel:
    """Logistic model of q on five features of a trace, fitted on whole ones."""

    means: tuple[float, ...]
    scales: tuple[float, ...]
    slopes: tuple[float, ...]
    intercept: float

    def q(self, course: Course) -> float:
        """Probability that the trace ends with another answer than at its last probe; 1 without."""
        if not course.answers:
            return 1.0
        x = np.asarray(course.features(len(course.answers) - 1))
        scaled = (x - np.asarray(self.means)) / np.asarray(self.scales)
        z = self.intercept + float(scaled @ np.asarray(self.slopes))
        return float(1.0 / (1.0 + np.exp(-np.clip(z, -50.0, 50.0))))


def fit_switches(courses: Sequence[Course], finals: Sequence[str | None]) -> SwitchModel | None:
    """The model of the probes of whole traces with their final answers; None without a probe.

    Maximum likelihood with a ridge, by Newton's method.
    """
    rows, labels = [], []
    for course, final in zip(courses, finals, strict=True):
        for at, answer in enumerate(course.answers):
            rows.append(course.features(at))
            labels.append(float(answer != final))
    if not rows:
        return None
    x, y = np.asarray(rows, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    means, scales = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-10)
    design = np.column_stack([np.ones(len(x)), (x - means) / scales])
    beta = _newton(design, y)
    return SwitchModel(
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        slopes=tuple(beta[1:].tolist()),
        intercept=float(beta[0]),
    )


def _newton(design: FloatArray, y: FloatArray) -> FloatArray:
    penalty = np.diag([INTERCEPT_RIDGE, *[RIDGE] * (design.shape[1] - 1)])
    beta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -50.0, 50.0)))
        gradient = design.T @ (p - y) + penalty @ beta
        hessian = (design * (p * (1.0 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, gradient)
        size = float(np.abs(step).max())
        beta = beta - step * min(1.0, 5.0 / max(size, 1e-300))
        if size < 1e-10:
            break
    return beta


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A warm-up trace as it turned out."""

    course: Course
    final: str | None
    weight: float


def calibrated_gamma(warm: Sequence[Whole], model: SwitchModel) -> float:
    """The smallest γ down to which the rule, run over the warm-up, gives the answer of γ = 1.

    One over the root of the traces that ran where γ = 1 stopped is added, since few traces have few
    challengers; never below 1/2. Reference: the repository's calibration (z = 1, floor .5).
    """
    found = {gamma: _stop(warm, model, gamma) for gamma in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)}
    reference, running = found[1.0]
    least = 1.0
    for gamma, (answer, _) in found.items():  # from 1 downwards
        if answer != reference:
            break
        least = gamma
    return max(LEAST_GAMMA, min(1.0, least + 1.0 / math.sqrt(max(1, running))))


def _stop(warm: Sequence[Whole], model: SwitchModel, gamma: float) -> tuple[str | None, int]:
    """(answer, traces still running) where the rule would have stopped the warm-up."""
    last = max((len(each.course.answers) for each in warm), default=0)
    for at in range(last):
        votes = [_vote_at(each, at, model) for each in warm]
        leader = leader_is_safe(votes, gamma)
        if leader is not None:
            return leader, sum(vote.q > 0 for vote in votes)
    sums = weighted_tally((each.final, each.weight) for each in warm)
    return (sums[0][0] if sums else None), 0


def _vote_at(trace: Whole, at: int, model: SwitchModel) -> Vote:
    course = trace.course
    if at >= len(course.answers):
        return Vote(answer=trace.final, weight=trace.weight)
    cut = Course(
        positions=course.positions[: at + 1],
        answers=course.answers[: at + 1],
        levels=course.levels[: at + 1],
    )
    return Vote(answer=cut.answers[-1], weight=trace.weight, q=model.q(cut))
