"""Synthetic tasks with known truth: how often does a method certify what is false?

A task has levels of confidence, from the safest down. A threshold lets the option answer all levels
above it; its true loss is a sum over levels, so a false certificate is known as such. Questions may
be recorded several times (`plays`: copies, or further samples), and then differ from each other as
`concentration` says: at 0 a question is lost always or never, so that its copies tell nothing new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from compared_tests import betting_p_value, bonferroni, hoeffding_bentkus_p_value

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.evals.statistics.binomial import at_least_p_value, at_most_p_value
from suffice.evals.statistics.bounded import mean_p_value
from suffice.evals.statistics.paired import Pairs, drop_p_value
from suffice.evals.statistics.sequence import conformal_risk, fixed_sequence


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Task:
    """Levels from safest to riskiest: their share of questions, and the rates inside each."""

    name: str
    share: FloatArray
    harm: FloatArray
    help: FloatArray
    n: int  # distinct certifying questions
    limit: float
    plays: int = 1  # of each question: copies, or samples
    concentration: float = math.inf  # of the questions' own rates about their level's

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
        harm = self._rates(self.harm[level], generator)
        # What is not lost may be won.
        helped_of_rest = self.help[level] / np.maximum(1.0 - self.harm[level], 1e-12)
        rest = self._rates(helped_of_rest, generator)
        shape = (self.n, self.plays)
        harmed = generator.random(shape) < harm[:, None]
        helped = ~harmed & (generator.random(shape) < rest[:, None])
        return Drawn(level=level, harmed=harmed, helped=helped, levels=len(self.share))

    def _rates(self, mean: FloatArray, generator: np.random.Generator) -> FloatArray:
        """Each question's own rate."""
        if math.isinf(self.concentration):
            return mean
        a, b = mean * self.concentration, (1.0 - mean) * self.concentration
        inside = (a > 0.0) & (b > 0.0)
        found = mean.copy()
        found[inside] = generator.beta(a[inside], b[inside])
        return found


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """Questions with their level and what the option would do to them, play by play."""

    level: IntArray
    harmed: BoolArray  # questions by plays
    helped: BoolArray
    levels: int

    def counts(self, flags: BoolArray) -> IntArray:
        """Questions flagged in their first play, among those answered at every threshold."""
        inside = self.level[flags[:, 0]]
        return np.cumsum(np.bincount(inside, minlength=self.levels)).astype(np.int64)

    def as_rows(self) -> Drawn:
        """Every play a row of its own, as if each were another question."""
        plays = self.harmed.shape[1]
        return Drawn(
            level=np.repeat(self.level, plays),
            harmed=self.harmed.reshape(-1, 1),
            helped=self.helped.reshape(-1, 1),
            levels=self.levels,
        )

    def losses(self, *, net: bool = False) -> FloatArray:
        """Each question's mean loss at every threshold: questions by thresholds."""
        answered = self.level[:, None] <= np.arange(self.levels)
        lost = self.harmed.mean(axis=1)
        if net:
            lost = lost - self.helped.mean(axis=1)
        found: FloatArray = answered * lost[:, None]
        return found


Method = Callable[[Task, Drawn, float], int]  # -> how many thresholds are certified


def fst_drop(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with the exact paired test, one play of each question."""
    n = len(drawn.level)
    pairs = zip(drawn.counts(drawn.harmed), drawn.counts(drawn.helped), strict=True)
    tests = (
        drop_p_value(Pairs(n=n, harmed=int(a), helped=int(b)), task.limit, alpha) for a, b in pairs
    )
    return fixed_sequence(tests, alpha)


def fst_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with Clopper-Pearson's test, one play of each question."""
    counts = drawn.counts(drawn.harmed)
    n = len(drawn.level)
    return fixed_sequence((at_most_p_value(int(c), n, task.limit) for c in counts), alpha)


def fst_means_drop(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence, betting on each question's mean net loss."""
    losses = drawn.losses(net=True)
    tests = (mean_p_value(losses[:, j], task.limit, alpha) for j in range(drawn.levels))
    return fixed_sequence(tests, alpha)


def fst_means_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence, betting on each question's mean harm."""
    losses = drawn.losses()
    tests = (mean_p_value(losses[:, j], task.limit, alpha) for j in range(drawn.levels))
    return fixed_sequence(tests, alpha)


def fst_bentkus(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with Hoeffding and Bentkus' bound."""
    means = drawn.losses().mean(axis=0)
    n = len(drawn.level)
    tests = (hoeffding_bentkus_p_value(float(m), n, task.limit) for m in means)
    return fixed_sequence(tests, alpha)


def fst_betting(task: Task, drawn: Drawn, alpha: float) -> int:
    """Fixed sequence with the betting test of losses in [0, 1]."""
    losses = drawn.losses()
    tests = (betting_p_value(losses[:, j], task.limit, alpha) for j in range(drawn.levels))
    return fixed_sequence(tests, alpha)


def bonferroni_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """The riskiest threshold that passes Clopper-Pearson's test at alpha / thresholds."""
    counts = drawn.counts(drawn.harmed).tolist()
    n = len(drawn.level)
    passed = bonferroni([at_most_p_value(c, n, task.limit) for c in counts], alpha)
    return max((i + 1 for i, ok in enumerate(passed) if ok), default=0)


def crc_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """Conformal risk control of each question's mean harm."""
    del alpha
    return conformal_risk(drawn.losses(), task.limit)


def rows_drop(task: Task, drawn: Drawn, alpha: float) -> int:
    """The exact paired test with every copy of a question as a row: not valid."""
    return fst_drop(task, drawn.as_rows(), alpha)


def rows_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """Clopper-Pearson's test with every copy of a question as a row: not valid."""
    return fst_harm(task, drawn.as_rows(), alpha)


def naive_drop(task: Task, drawn: Drawn, alpha: float) -> int:
    """The riskiest threshold whose observed drop is within the limit: no bound at all."""
    del alpha
    observed = (drawn.counts(drawn.harmed) - drawn.counts(drawn.helped)) / len(drawn.level)
    passed = np.nonzero(observed <= task.limit)[0]
    return int(passed[-1]) + 1 if passed.size else 0


def naive_harm(task: Task, drawn: Drawn, alpha: float) -> int:
    """The riskiest threshold whose observed harm is within the limit: no bound at all."""
    del alpha
    passed = np.nonzero(drawn.counts(drawn.harmed) / len(drawn.level) <= task.limit)[0]
    return int(passed[-1]) + 1 if passed.size else 0


METHODS: Mapping[str, tuple[Method, str]] = {
    "fst drop, exact paired": (fst_drop, "drop"),
    "fst drop, betting on means": (fst_means_drop, "drop"),
    "fst harm, Clopper-Pearson": (fst_harm, "harm"),
    "fst harm, betting on means": (fst_means_harm, "harm"),
    "fst harm, Hoeffding-Bentkus": (fst_bentkus, "harm"),
    "fst harm, betting": (fst_betting, "harm"),
    "Bonferroni harm": (bonferroni_harm, "harm"),
    "conformal risk control": (crc_harm, "mean harm"),
    "naive plug-in, drop": (naive_drop, "drop"),
    "naive plug-in, harm": (naive_harm, "harm"),
    "every copy a row, drop": (rows_drop, "drop"),
    "every copy a row, harm": (rows_harm, "harm"),
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
        *copied_tasks(),
    )  # fmt: skip


def copied_tasks() -> tuple[Task, ...]:
    """Questions recorded several times: copies that say the same, and samples that differ."""
    first = np.array([0.5, 0.3, 0.2])
    return (
        # A few questions are lost, each in all its copies: 40 questions, whatever the rows say.
        Task(name="40 prompts x 12 copies", share=first, harm=np.array([0.06, 0.2401, 0.4]),
             help=np.zeros(3), n=40, limit=0.1, plays=12, concentration=0.2),
        Task(name="40 prompts x 12 copies, some won", share=first,
             harm=np.array([0.1, 0.31, 0.5]), help=np.array([0.04, 0.07, 0.1]), n=40, limit=0.1,
             plays=12, concentration=0.2),
        # Samples averaged: every question has rates of its own, sixteen plays each.
        Task(name="300 questions x 16 samples", share=first, harm=np.array([0.03, 0.0505, 0.3]),
             help=np.array([0.01, 0.017, 0.05]), n=300, limit=0.02, plays=16, concentration=2.0),
        Task(name="100 questions x 16 samples", share=first, harm=np.array([0.08, 0.12, 0.4]),
             help=np.array([0.01, 0.0332, 0.1]), n=100, limit=0.06, plays=16, concentration=0.5),
        Task(name="mostly single, some copied", share=np.array([1.0]), harm=np.array([0.0501]),
             help=np.array([0.0]), n=150, limit=0.05, plays=3, concentration=0.1),
    )  # fmt: skip
