"""P(right | prompt, confidence) and P(escalation would help), by cluster of prompts; numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.policies.prompt_features import Featuriser, form

# Confidences of exactly 0 or 1 are common (all agree): their logit must stay finite.
EDGE = 1e-3
EVIDENCE_NAMES = ("confidence", "log odds of it", "it is certain", "it is missing")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Head:
    """One logistic regression over words, form and evidence; features are standardised first."""

    words: FloatArray  # weight per hashed dimension
    dense: FloatArray  # weight per standardised feature: word score, form, evidence
    intercept: float

    def probability(self, words: FloatArray, dense: FloatArray) -> FloatArray:
        """Probability per row; `words` is a matrix of word vectors, `dense` standardised."""
        z = self.intercept + (words @ self.words) + (dense @ self.dense)
        found: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(z, -30.0, 30.0)))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the predictor makes of one answer."""

    cluster: int
    right: float  # P(the answer is right)
    rescue: float  # P(it is wrong and the safe arm is right)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictor:
    """The features, clusters and two heads that a policy file stores."""

    featuriser: Featuriser
    centroids: FloatArray  # clusters by dimensions, each of length 1
    mean: FloatArray  # of the dense features, for standardising
    scale: FloatArray
    right: Head | None = None  # None: the rules need groups alone
    rescue: Head | None = None

    @property
    def heads(self) -> tuple[Head, Head]:
        """Both heads. Raises InputError where the predictor only tells groups."""
        if self.right is None or self.rescue is None:
            raise InputError("this predictor tells question groups alone, it judges no answers")
        return self.right, self.rescue

    def cluster(self, text: str) -> int:
        """The cluster whose direction is nearest."""
        return int(np.argmax(self.centroids @ self.featuriser.vector(text)))

    def judge(self, text: str, confidence: float | None) -> Judgement:
        """Judgement of an answer to `text` that its policy gave with `confidence`."""
        words = self.featuriser.vector(text)[None]
        dense = self.standardised(np.concatenate((form(text), evidence(confidence)))[None])
        right, rescue = self.heads
        return Judgement(
            cluster=int(np.argmax(self.centroids @ words[0])),
            right=float(right.probability(words, dense)[0]),
            rescue=float(rescue.probability(words, dense)[0]),
        )

    def standardised(self, dense: FloatArray) -> FloatArray:
        """Dense features with mean 0 and deviation 1 over the rows it was fitted on, kept in ±6."""
        return np.clip((dense - self.mean) / self.scale, -6.0, 6.0)


def evidence(confidence: float | None) -> FloatArray:
    """The features named in `EVIDENCE_NAMES`."""
    if confidence is None or math.isnan(confidence):
        return np.array([0.0, 0.0, 0.0, 1.0])
    kept = min(max(confidence, EDGE), 1.0 - EDGE)
    return np.array([confidence, math.log(kept / (1.0 - kept)), float(confidence >= 1.0), 0.0])
