"""Made populations of questions with known truth, and recordings drawn from them, as files are.

`false_certificates` calibrates on many recordings and counts those whose certified rule loses more
than its limit on the population: the whole of `suffice calibrate`, tested from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.core.prices import Prices
from suffice.evals.statistics.binomial import at_least_p_value
from suffice.evals.trace_files import trace_set
from suffice.evals.traces import Question, Trace, TraceSet, messages_json
from suffice.policies.policy_file import PolicyFile, predictor_of
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.fit import predictions
from suffice.recipes.calibrate.ground import Ground
from suffice.recipes.calibrate.options import played
from suffice.recipes.calibrate.run import Survey, survey

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRICES = Prices.parse(["small=0/1", "large=0/10"])
WRONG_ANSWERS = 4
WORDS = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Population:
    """Kinds of questions; each kind has rates of its own at which models are right.

    `sure` is the small model's token probability on questions of a kind: what a router sees.
    """

    name: str
    share: FloatArray
    small: FloatArray
    large: FloatArray | None  # None: one model alone
    sure: FloatArray | None
    own: float  # concentration of a question's own rate about its kind's; 0: always or never right
    questions: int
    copies: int = 1
    samples: int = 1
    config: CalibrateConfig

    def draw(self, generator: np.random.Generator, *, distinct: bool = False) -> TraceSet:
        """A recording. With `distinct` each copy gets a prompt of its own, as another question."""
        kind = generator.choice(len(self.share), size=self.questions, p=self.share)
        rates = {"small": self._own(self.small[kind], generator)}
        if self.large is not None:
            rates["large"] = self._own(self.large[kind], generator)
        traces = []
        # Of as many digits in every recording: a predictor looks at the prompt's form.
        named = 100_000 + generator.choice(900_000, self.questions, replace=False)
        for number in range(self.questions):
            words = " ".join(generator.choice(WORDS, 4))
            for copy in range(self.copies):
                told = f", take {copy}" if distinct else ""
                question = Question(
                    dataset="made",
                    name=f"q{number}-{copy}",
                    messages_json=messages_json(f"Question {named[number]} about {words}{told}?"),
                )
                for model, rate in rates.items():
                    traces += self._samples(
                        question, model, float(rate[number]), int(kind[number]), generator
                    )
        return trace_set(traces)

    def _own(self, mean: FloatArray, generator: np.random.Generator) -> FloatArray:
        if np.isinf(self.own):
            return mean
        if self.own == 0.0:
            return (generator.random(mean.shape) < mean).astype(np.float64)
        a, b = mean * self.own, (1.0 - mean) * self.own
        inside = (a > 0.0) & (b > 0.0)
        found = mean.copy()
        found[inside] = generator.beta(a[inside], b[inside])
        return found

    def _samples(
        self, question: Question, model: str, rate: float, kind: int,
        generator: np.random.Generator,
    ) -> list[Trace]:  # fmt: skip
        found = []
        for sample in range(self.samples):
            right = bool(generator.random() < rate)
            sure = self.sure is not None and model == "small"
            level = np.log(self.sure[kind]) if sure and self.sure is not None else -0.1
            found.append(
                Trace(
                    question=question,
                    model=model,
                    sample=sample,
                    answer="right" if right else f"wrong {generator.integers(WRONG_ANSWERS)}",
                    correct=right,
                    prompt_tokens=0,
                    completion_tokens=20,
                    logprobs=np.array([level] * 2 * sure, dtype=np.float16),
                )
            )
        return found


class Truth:
    """What rules really lose, on many fresh questions of a population; each worked out once."""

    def __init__(self, population: Population, *, questions: int, seed: int = 12345) -> None:
        generator = np.random.default_rng(seed)
        fresh = Population(
            **{
                name: getattr(population, name)
                for name in ("name", "share", "small", "large", "sure", "own", "samples", "config")
            },
            questions=questions,
        )
        self.ground = Ground.of(fresh.draw(generator), population.config)
        self._known: dict[str, float] = {}

    def loss(self, file: PolicyFile) -> float:
        """True loss of a policy file's rule, in the loss that it bounds."""
        group = file.groups[0]
        if group.sampler is not None:
            found = self._known.get(group.sampler)
            if found is None:
                right = played(parse_policy(group.sampler), self.ground.plays, "small").correct
                found = self._known[group.sampler] = self._lost(file, right)
            return found
        return self._lost(file, self._gated(file))

    def _gated(self, file: PolicyFile) -> NDArray[np.bool_]:
        """What the thresholds of a gate make of every play."""
        ground, group = self.ground, file.groups[0]
        assert file.predictor is not None
        predictor = predictor_of(file.predictor, [each.centroid for each in file.groups])
        option = played(parse_policy(file.option), ground.plays, "small")
        baseline = ground.played(ground.baseline.text)
        prompts = ground.prompts(np.arange(len(ground.questions)))
        _, sure, rescue = predictions(predictor, prompts, option.confidence)
        stands = np.zeros(sure.shape, dtype=bool)
        if group.accept is not None:
            stands |= sure >= group.accept
        if group.hopeless is not None:
            stands |= rescue <= group.hopeless
        right: NDArray[np.bool_] = np.where(stands, option.correct, baseline.correct)
        return right

    def _lost(self, file: PolicyFile, right: NDArray[np.bool_]) -> float:
        standard = self.ground.played(self.ground.baseline.text).correct
        if file.certificate.target.loss == "harm":
            return float((standard & ~right).mean())
        return float(standard.mean() - right.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Calibrations of one population."""

    population: str
    repetitions: int
    certified: int
    false: int
    p_value: float  # of "at most alpha are false", exact binomial
    mean_saving: float  # of the certified ones


def false_certificates(
    population: Population, truth: Truth, repetitions: int, *, seed: int = 0,
    distinct: bool = False, spare: float = 0.0,
    calibrate: Callable[[TraceSet, CalibrateConfig], Survey] = survey,
) -> Counted:  # fmt: skip
    """How many of so many calibrations certify a rule that loses more than its limit.

    `spare` is what the truth may err by, having been seen on fresh questions only.
    """
    config = population.config
    certified = false = 0
    saved = 0.0
    for repetition in range(repetitions):
        generator = np.random.default_rng((seed, repetition))
        found = calibrate(population.draw(generator, distinct=distinct), config)
        if found.file is None:
            continue
        certified += 1
        saved += found.file.certificate.expected.saving.estimate
        false += truth.loss(found.file) > config.max_drop + spare
    return Counted(
        population=population.name + (", every copy a row" if distinct else ""),
        repetitions=repetitions,
        certified=certified,
        false=false,
        p_value=at_least_p_value(false, repetitions, config.alpha),
        mean_saving=saved / max(1, certified),
    )


def populations() -> tuple[Population, ...]:
    """Shapes of recordings: independent, copied, sampled, voted on, fitted."""
    levels = np.array([0.99, 0.95, 0.88, 0.82, 0.76, 0.65, 0.4])
    share = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05])
    small = np.array([0.97, 0.93, 0.85, 0.75, 0.6, 0.45, 0.2])
    large = np.array([0.97, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8])
    singles = {"share": share, "small": small, "large": large, "sure": levels}
    alone = {"prices": PRICES, "fitted": False, "options": ("single@small",)}
    vote_share = np.array([0.45, 0.25, 0.3])
    return (
        Population(
            name="independent questions, drop", **singles, own=np.inf, questions=300,
            config=CalibrateConfig(max_drop=0.03, **alone),
        ),
        Population(
            name="independent questions, harm", **singles, own=np.inf, questions=300,
            config=CalibrateConfig(max_drop=0.05, loss="harm", **alone),
        ),
        Population(
            name="40 prompts x 12 copies", **singles, own=0.0, questions=40, copies=12,
            config=CalibrateConfig(max_drop=0.1, **alone),
        ),
        Population(
            name="8 samples of each, averaged", **singles, own=2.0, questions=200, samples=8,
            config=CalibrateConfig(max_drop=0.03, **alone),
        ),
        Population(
            name="votes of 12, ended early", share=vote_share,
            small=np.array([0.97, 0.7, 0.45]), large=None, sure=None, own=6.0, questions=150,
            samples=12, config=CalibrateConfig(max_drop=0.03),
        ),
        Population(
            name="several options, shared error", **singles, own=4.0, questions=200, samples=4,
            config=CalibrateConfig(max_drop=0.04, prices=PRICES, fitted=False),
        ),
        Population(
            name="fitted gate", **singles, own=np.inf, questions=300,
            config=CalibrateConfig(
                max_drop=0.03, prices=PRICES, options=("single@small",), dimensions=16, groups=1,
            ),
        ),
    )  # fmt: skip
