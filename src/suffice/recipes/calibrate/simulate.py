"""Synthetic tasks with known truth: how often does a method certify what is false?

A task has levels of confidence, from the safest down. A threshold lets the cheap arm answer all
levels above it; its true loss is a sum over levels, so a false certificate is known as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.evals.statistics.binomial import at_least_p_value, at_most_p_value
from suffice.evals.statistics.bounded import betting_p_value, hoeffding_bentkus_p_value
from suffice.evals.statistics.paired import Pairs, drop_p_value
from suffice.evals.statistics.sequence import bonferroni, conformal_risk, fixed_sequence

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Task:
    """Levels from safest to riskiest: their share of questions, and the rates inside each."""

    name: str
    share: FloatArray
    harm: FloatArray
    help: FloatArray
    n: int  # certifying questions
    limit: float

    @property
    def true_drop(self) -> FloatArray:
        """True drop of every threshold."""
        return np.cumsum(self.share * (self.harm - self.help))

    @property
    def true_harm(self) -> FloatArray:
        """True harm of every threshold."""
        return np.cumsum(self.share * self.harm)

    def draw(self, generator: np.random.Generator) -> Drawn:
        """One set of certifying questions."""
        level = generator.choice(len(self.share), size=self.n, p=self.share)
        u = generator.random(self.n)
        harmed = u < self.harm[level]
        helped = ~harmed & (u < self.harm[level] + self.help[level])
        return Drawn(level=level, harmed=harmed, helped=helped, levels=len(self.share))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """Questions with their level and what the cheap arm would do to them."""

    level: IntArray
    harmed: NDArray[np.bool_]
    helped: NDArray[np.bool_]
    levels: int

    def counts(self, flags: NDArray[np.bool_]) -> IntArray:
        """Flags among the questions answered at every threshold."""
        return np.cumsum(np.bincount(self.level[flags], minlength=self.levels)).astype(np.int64)

    def losses(self) -> FloatArray:
        """Harm, questions by thresholds."""
        answered = self.level[:, None] <= np.arange(self.levels)
        return (answered & self.harmed[:, None]).astype(np.float64)


Method = Callable[[Task, Drawn, float], int]  # -> how many thresholds are certified


def fst_drop(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with the exact paired test."""
    pairs = zip(drawn.counts(drawn.harmed), drawn.counts(drawn.helped), strict=True)
    tests = (
        drop_p_value(Pairs(n=task.n, harmed=int(a), helped=int(b)), task.limit, alpha)
        for a, b in pairs
    )
    return fixed_sequence(tests, alpha)


def fst_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with Clopper-Pearson's test."""
    counts = drawn.counts(drawn.harmed)
    return fixed_sequence((at_most_p_value(int(c), task.n, task.limit) for c in counts), alpha)


def fst_bentkus(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with Hoeffding and Bentkus' bound."""
    means = drawn.counts(drawn.harmed) / task.n
    tests = (hoeffding_bentkus_p_value(float(m), task.n, task.limit) for m in means)
    return fixed_sequence(tests, alpha)


def fst_betting(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with the betting test."""
    losses = drawn.losses()
    tests = (betting_p_value(losses[:, j], task.limit, alpha) for j in range(drawn.levels))
    return fixed_sequence(tests, alpha)


def bonferroni_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """The riskiest threshold that passes Clopper-Pearson's test at alpha / thresholds."""
    counts = drawn.counts(drawn.harmed).tolist()
    passed = bonferroni([at_most_p_value(c, task.n, task.limit) for c in counts], alpha)
    return max((i + 1 for i, ok in enumerate(passed) if ok), default=0)


def crc_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """Conformal risk control."""
    del alpha
    return conformal_risk(drawn.losses(), task.limit)


def naive_drop(task: Task, drawn: Drawn, alpha: float) -> int:
    """The riskiest threshold whose observed drop is within the limit: no bound at all."""
    del alpha
    observed = (drawn.counts(drawn.harmed) - drawn.counts(drawn.helped)) / task.n
    passed = np.nonzero(observed <= task.limit)[0]
    return int(passed[-1]) + 1 if passed.size else 0


def naive_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """The riskiest threshold whose observed harm is within the limit: no bound at all."""
    del alpha
    passed = np.nonzero(drawn.counts(drawn.harmed) / task.n <= task.limit)[0]
    return int(passed[-1]) + 1 if passed.size else 0


METHODS: Mapping[str, tuple[Method, str]] = {
    "fst drop, exact paired": (fst_drop, "drop"),
    "fst harm, Clopper-Pearson": (fst_harm, "harm"),
    "fst harm, Hoeffding-Bentkus": (fst_bentkus, "harm"),
    "fst harm, betting": (fst_betting, "harm"),
    "Bonferroni harm": (bonferroni_harm, "harm"),
    "conformal risk control": (crc_harm, "mean harm"),
    "naive plug-in, drop": (naive_drop, "drop"),
    "naive plug-in, harm": (naive_harm, "harm"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A method on a task over many repetitions."""

    task: str
    method: str
    loss: str
    repetitions: int
    violations: int  # false certificates; under crc: harmed fresh questions
    allowed: float  # rate of violations that the method promises at most
    p_value: float  # of the null "it keeps its promise", exact binomial
    certified: float  # mean share of thresholds certified

    @property
    def keeps(self) -> bool:
        """Whether the promise is not refuted at 1 %."""
        return self.p_value >= 0.01


def simulate(
    task: Task, method: str, *, repetitions: int, alpha: float = 0.05, seed: int = 0
) -> Verdict:
    """Violations of a method on a task.

    Under conformal risk control, whose promise is on the mean, each repetition puts one fresh
    question to the certified threshold; harmed ones may come at most at the rate `limit`.
    """
    run, loss = METHODS[method]
    generator = np.random.default_rng(seed)
    truth = task.true_drop if loss == "drop" else task.true_harm
    violations, shares = 0, 0.0
    for _ in range(repetitions):
        shown = run(task, task.draw(generator), alpha)
        risk = truth[shown - 1] if shown else 0.0
        shares += shown / len(task.share)
        if loss == "mean harm":
            violations += bool(generator.random() < risk)
        else:
            violations += bool(risk > task.limit * (1.0 + 1e-9))
    allowed = task.limit if loss == "mean harm" else alpha
    return Verdict(
        task=task.name,
        method=method,
        loss=loss,
        repetitions=repetitions,
        violations=violations,
        allowed=allowed,
        p_value=at_least_p_value(violations, repetitions, allowed),
        certified=shares / repetitions,
    )


def tasks() -> tuple[Task, ...]:
    """Tasks that are hard on a certificate: small n, many thresholds, heavy ties, nulls on edge."""
    even = np.full(200, 1 / 200)
    rising = np.linspace(0.0, 0.2, 200) ** 1.5
    edge_share = np.concatenate(([0.5], np.full(199, 0.5 / 199)))
    edge = np.concatenate(([0.0400001], np.zeros(199)))
    # The true drop sits just above the limit at every one of 200 thresholds, and discordance grows.
    hover = np.concatenate(([0.0400001], np.full(199, 0.15)))
    return (
        Task(name="graded, 200 thresholds", share=even, harm=rising, help=rising / 3, n=600,
             limit=0.02),
        Task(name="on the edge, 200 thresholds", share=edge_share, harm=edge, help=0.0 * edge,
             n=400, limit=0.02),
        Task(name="hovering above the limit", share=edge_share, harm=hover,
             help=np.concatenate(([0.0], np.full(199, 0.15))), n=400, limit=0.02),
        Task(name="small n", share=np.full(20, 0.05), harm=np.linspace(0.02, 0.4, 20),
             help=np.full(20, 0.02), n=60, limit=0.1),
        Task(name="heavy ties, 4 levels", share=np.array([0.6, 0.2, 0.15, 0.05]),
             harm=np.array([0.01, 0.0701, 0.3, 0.5]), help=np.array([0.0, 0.0, 0.1, 0.1]), n=300,
             limit=0.02),
    )  # fmt: skip
