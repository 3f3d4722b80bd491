"""Exits by cluster, prompt features within their time, and the two-sided sampler."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.core.completions import Completion, Usage
from suffice.core.decisions import Answer, SampleFinished
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request
from suffice.policies.agreement import Agreement
from suffice.policies.certified import Certified, Exits, Guarantee
from suffice.policies.fixed import Single
from suffice.policies.predictor import EVIDENCE_NAMES, Head, Predictor, evidence
from suffice.policies.prompt_features import FORM_NAMES, Featuriser, form
from suffice.policies.thinking import Overrides
from suffice.policies.two_sided import TwoSided
from tests.policies.scripted import FREE_FORM, Said, play

DIMENSIONS = 64
FEATURES = len(FORM_NAMES) + len(EVIDENCE_NAMES)
SUM = "Add the numbers of apples and pears"
PROOF = "Prove that the operator is compact"


def predictor(slope: float = 4.0) -> Predictor:
    """P(right) follows the confidence alone; two clusters by their words."""
    featuriser = Featuriser(DIMENSIONS, np.ones(DIMENSIONS))
    dense = np.zeros(FEATURES)
    dense[len(FORM_NAMES)] = slope  # confidence
    right = Head(words=np.zeros(DIMENSIONS), dense=dense, intercept=-slope / 2)
    rescue = Head(words=np.zeros(DIMENSIONS), dense=-dense, intercept=0.0)
    return Predictor(
        featuriser=featuriser,
        centroids=np.stack([featuriser.vector(SUM), featuriser.vector(PROOF)]),
        mean=np.zeros(FEATURES),
        scale=np.ones(FEATURES),
        right=right,
        rescue=rescue,
    )


def certified(*clusters: Exits) -> Certified:
    return Certified(
        cheap=Agreement(models=("a", "b")),
        safe=Overrides(inner=Single(), model="big"),
        clusters=clusters,
        predictor=predictor(),
        guarantee=Guarantee(id="abc", statement="", max_drop=0.01, confidence=0.95, method="fst"),
    )


def ask(text: str) -> Request:
    return Request(
        messages=(Message(role="user", content=text),), model="m", answer_format="number"
    )


def says(**by_model: str):
    return lambda launch: Said(by_model[launch.draw.model])


OPEN, SHUT = Exits(accept=0.8), Exits()


def test_agreement_is_accepted_and_disagreement_escalates():
    policy = certified(OPEN, SHUT)
    sure = play(policy, says(a="4", b="4", big="5"), request=ask(SUM))
    assert (sure.answer, sure.drawn) == ("4", 2)
    assert sure.outcome.exit == "accepted"
    unsure = play(policy, says(a="4", b="3", big="5"), request=ask(SUM))
    assert (unsure.answer, unsure.drawn) == ("5", 3)
    assert unsure.outcome.exit == "safe"


def test_a_closed_cluster_and_free_form_text_go_to_the_safe_arm():
    policy = certified(OPEN, SHUT)
    closed = play(policy, says(a="4", b="4", big="5"), request=ask(PROOF))
    assert (closed.answer, closed.drawn) == ("5", 1)
    free = play(policy, says(a="4", b="4", big="5"), request=FREE_FORM)
    assert [launch.draw.model for launch in free.launches] == ["big"]


def test_hopeless_answers_stand_without_asking_the_safe_arm():
    policy = certified(Exits(accept=0.99, hopeless=0.2), SHUT)  # rescue = 1/(1+e^(4c)): c=.5 -> .12
    found = play(policy, says(a="4", b="3", big="5"), request=ask(SUM))
    assert (found.answer, found.drawn) == ("4", 2)
    assert found.outcome.exit == "hopeless"
    silent = play(policy, says(a="-", b="-", big="5"), request=ask(SUM))
    assert silent.answer == "5"  # no answer can stand where none was found


def test_two_sided_gives_in_when_answers_scatter():
    policy = TwoSided(max_samples=20, hopeless=0.25, patience=6)
    scattered = play(policy, [str(i) for i in range(20)])
    assert scattered.drawn <= 12  # those in flight are cancelled
    assert scattered.outcome.exit == "hopeless"
    agreeing = play(policy, ["7"] * 20)
    assert agreeing.drawn == 4
    with pytest.raises(InputError):
        TwoSided(hopeless=0.0)


def test_two_sided_finishes_a_free_form_request_with_one_sample():
    policy = TwoSided()
    state, _ = policy.start(FREE_FORM)
    done = SampleFinished(
        sample=0, completion=Completion(text="a tale", finish_reason="stop", usage=Usage())
    )
    _, (action,) = policy.step(state, done)
    assert isinstance(action, Answer)


def test_features_are_stable_and_bounded():
    featuriser = Featuriser(DIMENSIONS, np.ones(DIMENSIONS))
    vector = featuriser.vector(SUM)
    assert np.linalg.norm(vector) == pytest.approx(1.0)
    np.testing.assert_array_equal(vector, featuriser.vector(SUM))
    assert not featuriser.vector("").any()
    assert len(form("")) == len(FORM_NAMES)
    assert np.isfinite(form("x" * 100_000)).all()
    assert evidence(None)[-1] == 1.0
    assert evidence(1.0)[2] == 1.0
    assert np.isfinite(evidence(0.0)).all()
