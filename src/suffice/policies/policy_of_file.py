"""The policy that a policy file describes, and what it may be used on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.core.requests import Sampling
from suffice.core.savings import Promise
from suffice.policies.certified import Certified, Exits, Guarantee
from suffice.policies.monitor import Monitor
from suffice.policies.policy_file import (
    About,
    HeadTable,
    OptionCost,
    Parse,
    PolicyFile,
    PredictorTable,
)
from suffice.policies.predictor import Head, Predictor
from suffice.policies.prompt_features import Featuriser
from suffice.policies.subject import Subject


def certified_policy(file: PolicyFile, parse: Parse) -> Certified:
    """The policy that a file describes; `parse` reads its arms."""
    certificate, saving = file.certificate, file.certificate.expected.saving
    return Certified(
        cheap=parse(file.option),
        safe=parse(file.baseline),
        clusters=tuple(
            Exits(accept=group.accept, hopeless=group.hopeless) for group in file.groups
        ),
        samplers=tuple(
            None if group.sampler is None else parse(group.sampler) for group in file.groups
        ),
        predictor=None
        if file.predictor is None
        else predictor_of(file.predictor, [group.centroid for group in file.groups]),
        guarantee=Guarantee(
            id=certificate.id,
            statement=certificate.statement,
            max_drop=certificate.target.max_drop,
            confidence=certificate.target.confidence,
            method=certificate.target.method,
        ),
        models=file.models,
        promise=Promise(
            baseline=file.baseline,
            saved=saving.estimate,
            low=saving.low,
            high=saving.high,
            confidence=saving.confidence,
            unit=certificate.expected.cost_unit,
        ),
        prices=Prices.of_table(file.about.prices, where="about.prices"),
        unasked_tokens=unasked_tokens(file),
        unasked_questions=certificate.tested.stopped,
        subject=subject_of(file.about),
        monitors=tuple(
            Monitor(quantity=each.quantity, low=each.low, high=each.high) for each in file.monitors
        ),
    )


def unasked_tokens(file: PolicyFile) -> float | None:
    """Completion tokens of the baseline where the certified policy did not ask it, in the mean.

    Formula: (mean over all questions - mean of what the certified policy drew of the baseline's
    models) / share answered without the baseline. None where the option asks those models too, or
    the recording counts no tokens.
    """
    rows = {each.role: each for each in file.costs}
    stopped = file.certificate.expected.stopped
    if not {"baseline", "certified", "option"} <= rows.keys() or stopped <= 0.0:
        return None
    models = {each.model for each in rows["baseline"].by_model}
    if models & {each.model for each in rows["option"].by_model}:
        return None
    everywhere = _drawn(rows["baseline"], models)
    asked = _drawn(rows["certified"], models)
    if everywhere is None or asked is None:
        return None
    return max(0.0, everywhere - asked) / stopped


def _drawn(cost: OptionCost, models: set[str]) -> float | None:
    """Completion tokens of some models per request; None where one is not counted."""
    drawn = [each.completion_tokens for each in cost.by_model if each.model in models]
    return None if None in drawn else float(sum(tokens or 0.0 for tokens in drawn))


def predictor_of(table: PredictorTable, centroids: Any) -> Predictor:
    """The predictor behind its numbers."""

    def head(of: HeadTable | None) -> Head | None:
        if of is None:
            return None
        return Head(words=np.array(of.words), dense=np.array(of.dense), intercept=of.intercept)

    return Predictor(
        featuriser=Featuriser(len(table.idf), np.array(table.idf)),
        centroids=np.array(centroids, dtype=np.float64).reshape(-1, len(table.idf)),
        mean=np.array(table.mean),
        scale=np.array(table.scale),
        right=head(table.right),
        rescue=head(table.rescue),
    )


def subject_of(about: About) -> Subject:
    """What the certificate is about, as requests are held against it."""
    named = {
        name: getattr(about, name) for name in (each.name for each in fields(Subject))
        if name != "sampling"
    }  # fmt: skip
    drawn: dict[str, Any] = dict(about.sampling)
    return Subject(**named, sampling=Sampling(**drawn))


def check_models(file: PolicyFile, served: Mapping[str, Any] | tuple[str, ...], where: str) -> None:
    """Raise InputError unless every model of the certificate is among `served`."""
    lacking = [model for model in file.models if model not in served]
    if lacking:
        raise InputError(
            f"the policy was calibrated for {', '.join(file.models)}, but {where} has no "
            f"{', '.join(lacking)} (it has {', '.join(served) or 'none'}): calibrate on traces of "
            "the models you serve"
        )
