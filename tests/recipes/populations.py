"""Made populations of questions with known truth, and recordings drawn from them, as files are.

`false_certificates` calibrates on many recordings and counts those whose certified rule loses more
than its limit on the population: the whole of `suffice calibrate`, tested from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.prices import Prices
from suffice.evals.statistics.binomial import at_least_p_value
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, TraceSet, messages_json
from suffice.policies.policy_file import PolicyFile
from suffice.policies.policy_of_file import predictor_of
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.fit_predictor import predictions
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.run import survey

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
    other: FloatArray | None = None  # a second small model
    told: bool = False  # words of a prompt tell its kind
    config: CalibrateConfig

    def draw(self, generator: np.random.Generator, *, distinct: bool = False) -> TraceSet:
        """A recording. With `distinct` each copy gets a prompt of its own, as another question."""
        kind = generator.choice(len(self.share), size=self.questions, p=self.share)
        rates = {"small": self._own(self.small[kind], generator)}
        if self.large is not None:
            rates["large"] = self._own(self.large[kind], generator)
        if self.other is not None:
            rates["other"] = self._own(self.other[kind], generator)
        traces = []
        # Of as many digits in every recording: a predictor looks at the prompt's form.
        named = 100_000 + generator.choice(900_000, self.questions, replace=False)
        for number in range(self.questions):
            known = WORDS[4 * kind[number] % 8 :][:4] if self.told else WORDS
            words = " ".join(generator.choice(known, 4))
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
        fresh = replace(population, questions=questions, copies=1)
        # Many questions, few plays of each: what a play more would tell is less than what one does.
        config = replace(population.config, plays=2)
        self.ground = Inputs.of(fresh.draw(generator), config)
        self._known: dict[str, float] = {}

    def loss(self, file: PolicyFile) -> float:
        """True loss of a policy file's rule, in the loss that it bounds.

        Where it bounds the loss in every question group: of the group that loses most.
        """
        sampler = file.groups[0].sampler
        if sampler is not None:
            found = self._known.get(sampler)
            if found is None:
                right = self.ground.played(sampler).correct
                found = self._known[sampler] = float(self._lost(file, right).mean())
                if sampler != self.ground.baseline.text:
                    self.ground._played.pop(sampler)  # its loss is all that is asked of it
            return found
        group, right = self._gated(file)
        lost = self._lost(file, right)
        if file.certificate.target.scope == "overall":
            return float(lost.mean())
        return max(float(lost[group == number].mean()) for number in set(group.tolist()))

    def _gated(self, file: PolicyFile) -> tuple[IntArray, NDArray[np.bool_]]:
        """(question group, whether it is right) of what the thresholds of a gate make."""
        ground = self.ground
        assert file.predictor is not None
        predictor = predictor_of(file.predictor, [each.centroid for each in file.groups])
        option, baseline = ground.played(file.option), ground.played(ground.baseline.text)
        prompts = ground.prompts(np.arange(len(ground.questions)))
        group, sure, rescue = predictions(predictor, prompts, option.confidence)
        stands = np.zeros(sure.shape, dtype=bool)
        for number, each in enumerate(file.groups):
            inside = (group == number)[:, None]
            if each.accept is not None:
                stands |= inside & (sure >= each.accept)
            if each.hopeless is not None:
                stands |= inside & (rescue <= each.hopeless)
        right: NDArray[np.bool_] = np.where(stands, option.correct, baseline.correct)
        return group, right

    def _lost(self, file: PolicyFile, right: NDArray[np.bool_]) -> FloatArray:
        """Of every question and play."""
        standard = self.ground.played(self.ground.baseline.text).correct
        plays = min(standard.shape[1], right.shape[1])
        standard, right = standard[:, :plays], right[:, :plays]
        if file.certificate.target.loss == "harm":
            return (standard & ~right).astype(np.float64)
        return standard.astype(np.float64) - right


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Calibrations of one population."""

    repetitions: int
    certified: int
    false: int
    allowed: float  # rate of false ones
    test: str
    mean_saving: float  # of the certified ones

    @property
    def p_value(self) -> float:
        """Of "no more are false than is allowed", exact binomial."""
        return at_least_p_value(self.false, self.repetitions, self.allowed)


def false_certificates(
    population: Population, truth: Truth, repetitions: range, *, seed: int = 0,
    distinct: bool = False,
) -> Counted:  # fmt: skip
    """How many calibrations certify a rule that loses more than its limit.

    What conformal risk control promises is a mean: there each calibration puts one fresh question
    to its rule, and false are those that are harmed.
    """
    config = population.config
    certified = false = 0
    saved, test = 0.0, ""
    for repetition in repetitions:
        generator = np.random.default_rng((seed, repetition))
        found = survey(population.draw(generator, distinct=distinct), config)
        test = found.bench.test.kind
        if found.file is None:
            continue
        certified += 1
        saved += found.file.certificate.expected.saving.estimate
        lost = truth.loss(found.file)
        false += generator.random() < lost if config.method == "crc" else lost > config.max_drop
    return Counted(
        repetitions=len(repetitions),
        certified=certified,
        false=int(false),
        allowed=config.max_drop if config.method == "crc" else config.alpha,
        test=test,
        mean_saving=saved / max(1, certified),
    )


# Populations that are also calibrated with every copy of a question as another question.
CONTRASTS = ("40 prompts x 12 copies",)


def populations() -> tuple[Population, ...]:
    """Shapes of recordings: independent, copied, sampled, voted on, fitted, on the edge."""
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
        *_on_the_edge(alone),
        Population(
            name="harm, 8 samples of each", **singles, own=2.0, questions=200, samples=8,
            config=CalibrateConfig(max_drop=0.05, loss="harm", **alone),
        ),
        Population(
            name="two small models that agree", **singles, own=4.0, questions=300,
            other=np.array([0.96, 0.93, 0.88, 0.8, 0.62, 0.4, 0.3]),
            config=CalibrateConfig(
                max_drop=0.02, fitted=False, options=("agreement:models=small+other",),
                prices=Prices.parse(["large=0/10", "*=0/1"]),
            ),
        ),
        Population(
            name="a vote, unsettled ones to a large model", share=vote_share,
            small=np.array([0.97, 0.7, 0.45]), large=np.array([0.96, 0.8, 0.5]), sure=None, own=4.0,
            questions=200, samples=8,
            config=CalibrateConfig(
                max_drop=0.02, baseline="self_consistency:samples=8@small", large="single@large",
                prices=Prices.parse(["small=0/1", "large=0/5"]),
            ),
        ),
        Population(
            name="in every question group", share=np.array([0.5, 0.5]), told=True,
            small=np.array([0.96, 0.83]), large=np.array([0.97, 0.9]), sure=None, own=np.inf,
            questions=600,
            config=CalibrateConfig(
                max_drop=0.05, scope="group", groups=2, dimensions=16, prices=PRICES,
                options=("single@small",),
            ),
        ),
        Population(
            name="conformal risk control", **singles, own=np.inf, questions=300,
            config=CalibrateConfig(max_drop=0.05, method="crc", **alone),
        ),
    )  # fmt: skip


def _on_the_edge(alone: dict[str, Any]) -> tuple[Population, ...]:
    """One rule, which loses a little more than its limit: every certificate is false."""
    one = {"share": np.array([1.0]), "small": np.array([0.892]), "large": np.array([0.95])}
    return tuple(
        Population(
            name=f"on the edge, {told}", **one, sure=None, questions=questions,
            config=CalibrateConfig(**{"max_drop": 0.05, **alone, **options}), **shape,
        )
        for told, questions, shape, options in (
            ("one sample of each", 300, {"own": np.inf}, {}),
            ("harm by harm", 300, {"own": 0.0}, {"loss": "harm", "max_drop": 0.1}),
            ("copies", 40, {"own": 0.0, "copies": 12}, {"test": "means"}),
            ("8 samples of each", 200, {"own": 2.0, "samples": 8}, {}),
            ("8 samples of each, one tested", 200, {"own": 2.0, "samples": 8}, {"test": "paired"}),
        )
    )  # fmt: skip
