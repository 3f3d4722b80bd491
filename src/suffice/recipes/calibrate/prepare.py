"""Recorded traces made ready: checks, arms, the split by question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.evals.traces import TraceSet
from suffice.policies.models import models_of
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import LEAST_TO_FIT, CalibrateConfig
from suffice.recipes.calibrate.play import Recorded, TokenWeights

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Questions that choose, and questions that test."""

    fit: IntArray
    certify: IntArray


def check_sets(traces: TraceSet, config: CalibrateConfig) -> None:
    """Raise InputError unless the traces are of one data set, or mixed on purpose."""
    if len(traces.datasets) > 1 and not config.mixed:
        raise InputError(
            f"the traces mix {len(traces.datasets)} data sets ({', '.join(traces.datasets)}): a "
            "certificate would be about that mixture; calibrate each alone, or pass --mixed if "
            "your traffic is such a mixture"
        )


def usable_weights(traces: TraceSet, weights: TokenWeights) -> TokenWeights:
    """The weights, by sample where any token count is missing."""
    missing = bool(np.isnan(traces.completion_tokens).any())
    return TokenWeights(weights.weights, by_sample=weights.by_sample or missing)


def arm_of(text: str, traces: TraceSet) -> tuple[str, AnyPolicy, tuple[str, ...]]:
    """(text, policy, models) of an arm; without a model it runs on the traces' only one."""
    policy = parse_policy(text)
    models = models_of(policy)
    if not models:
        if len(traces.models) > 1:
            raise InputError(
                f"arm {text!r} names no model, and the traces hold {len(traces.models)}: write "
                f"{text}@{traces.models[0]} (recorded: {', '.join(traces.models)})"
            )
        text = f"{text}@{traces.models[0]}"
        policy, models = parse_policy(text), (traces.models[0],)
    lacking = [model for model in models if model not in traces.models]
    if lacking:
        raise InputError(
            f"arm {text!r} needs {', '.join(lacking)}, which the traces do not hold (recorded: "
            f"{', '.join(traces.models)})"
        )
    return text, policy, models


def split_questions(traces: TraceSet, questions: IntArray, config: CalibrateConfig) -> Split:
    """Fitting and certifying questions; equal prompts stay together. Refuses too few."""
    needed = config.rows_needed()
    n = len(questions)
    if n < needed + LEAST_TO_FIT:
        what = f"a {config.used_loss} of at most {config.max_drop:.3g} at {config.confidence:.3g}"
        raise InputError(
            f"{n} questions are too few for any certificate: showing {what} takes {needed} "
            f"flawless ones, and {LEAST_TO_FIT} more to fit; record {needed + LEAST_TO_FIT} or "
            f"more (better {2 * needed + LEAST_TO_FIT}), or ask for less"
        )
    groups: dict[str, list[int]] = {}
    for question in questions.tolist():
        groups.setdefault(traces.questions[question].messages_json, []).append(question)
    order = np.random.default_rng(config.seed).permutation(len(groups))
    listed = list(groups.values())
    wanted = max(LEAST_TO_FIT, min(round(config.fit_share * n), n - needed))
    fit: list[int] = []
    certify: list[int] = []
    for index in order.tolist():
        (fit if len(fit) < wanted else certify).extend(listed[index])
    if len(certify) < needed:
        raise InputError(
            f"only {len(certify)} questions are left to certify on, {needed} are needed: equal "
            "prompts stay together, and there are many"
        )
    return Split(fit=np.array(sorted(fit)), certify=np.array(sorted(certify)))


def complete(traces: TraceSet, models: Sequence[str]) -> IntArray:
    """Questions that every one of the models was recorded on."""
    arms = [Recorded(traces).arm(model) for model in dict.fromkeys(models)]
    found = traces.complete_questions(arms)
    if not found.size:
        raise InputError(
            f"no question was recorded for all of {', '.join(models)}: record the arms on the "
            "same questions, a drop is a difference on each"
        )
    return found
