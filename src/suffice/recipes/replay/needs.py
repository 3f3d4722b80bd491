"""What a policy needs of a recording: the gateway's check of an upstream, for recorded samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from suffice.core.arrays import BoolArray
from suffice.core.decisions import AnyPolicy, Need
from suffice.core.errors import LacksCapability
from suffice.evals.traces.trace_set import TraceSet
from suffice.executors.capability_check import refuse_lacking
from suffice.policies.cascade import Cascade
from suffice.policies.fixed import Single
from suffice.policies.models import models_of

# Where a policy's scores come from: a verifier's own, or right and wrong as a perfect one gives.
ScoreSource = Literal["recorded", "perfect"]


def check_recorded(
    policy: AnyPolicy, traces: TraceSet, *, model: str, questions: Sequence[int] | None = None
) -> None:
    """Raise LacksCapability if samples that the policy may draw lack what it reads.

    `model` is asked where the policy names none; `questions` are those that are replayed.
    """
    rows = _rows(policy, traces, model, questions)
    total = int(rows.sum())
    spoken = rows & ~(traces.completion_tokens == 0)
    silent = int((traces.confidences.lengths[spoken] == 0).sum())
    unscored = int((np.isnan(traces.score) & np.isnan(traces.correct))[rows].sum())
    given: dict[Need, bool] = {"logprobs": silent == 0, "prefill": False, "score": unscored == 0}
    remedies: dict[Need, str] = {
        "logprobs": f"{silent} of {total} recorded samples have no token confidences; record with "
        "--top-logprobs 20, or choose a policy that votes (adaptive_consistency)",
        "prefill": "it begins answers for the model, which a recording of finished answers cannot "
        "play; replay a policy that draws whole samples, or try this one live (suffice serve)",
        "score": f"{unscored} of {total} recorded samples have neither a score nor a verdict; "
        "choose a policy that votes, or grade them (suffice traces rejudge)",
    }
    refuse_lacking(policy, given, remedies)
    for single in _judged_by_probability(policy):
        asked = rows & np.isin(traces.arm, _arms(single, traces, model))
        unsure = int((traces.logprobs.lengths[asked & spoken] == 0).sum())
        if unsure:
            raise LacksCapability(
                f"policy {policy.name} lets an answer of one sample stand by its token "
                f"probability, which {unsure} of {int(asked.sum())} recorded samples do not have; "
                "record with --top-logprobs 0 or more, or leave accept= out"
            )


def score_source(policy: AnyPolicy, traces: TraceSet, *, model: str) -> ScoreSource | None:
    """Where the scores come from that a policy reads; None if it reads none."""
    if "score" not in policy.needs:
        return None
    rows = _rows(policy, traces, model, None)
    return "perfect" if np.isnan(traces.score[rows]).any() else "recorded"


def _judged_by_probability(policy: AnyPolicy) -> Iterator[AnyPolicy]:
    """Steps of one sample, whose token probability decides whether it stands."""
    if isinstance(policy, Cascade):
        for rung in policy.rungs:
            if rung.accept is not None and isinstance(_inmost(rung.policy), Single):
                yield rung.policy
    for part in getattr(policy, "parts", ()):
        yield from _judged_by_probability(part)


def _inmost(policy: AnyPolicy) -> AnyPolicy:
    """What a wrapper (@model) is around."""
    parts: tuple[AnyPolicy, ...] = getattr(policy, "parts", ())
    return _inmost(parts[0]) if len(parts) == 1 else policy


def _arms(policy: AnyPolicy, traces: TraceSet, model: str) -> list[int]:
    models = models_of(policy) or (model,)
    return [index for index, arm in enumerate(traces.arms) if arm.model in models]


def _rows(
    policy: AnyPolicy, traces: TraceSet, model: str, questions: Sequence[int] | None
) -> BoolArray:
    rows: BoolArray = np.isin(traces.arm, _arms(policy, traces, model))
    return rows if questions is None else rows & np.isin(traces.question, list(questions))
