"""Recorded traces made ready: data sets, models, options by name."""

from __future__ import annotations

from collections.abc import Sequence

from suffice.core.arrays import IntArray
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.models import models_of
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import CalibrateConfig


def check_sets(traces: TraceSet, config: CalibrateConfig) -> None:
    """Raise InputError unless the traces are of one data set, or mixed on purpose."""
    if len(traces.datasets) > 1 and not config.mixed:
        raise InputError(
            f"the traces mix {len(traces.datasets)} data sets ({', '.join(traces.datasets)}): a "
            "certificate would be about that mixture; calibrate each alone, or pass --mixed if "
            "your traffic is such a mixture"
        )


def arm_of(text: str, traces: TraceSet) -> tuple[str, AnyPolicy, tuple[str, ...]]:
    """(text, policy, models) of an option; without a model it runs on the traces' only one."""
    policy = parse_policy(text)
    models = models_of(policy)
    if not models:
        if len(traces.models) > 1:
            raise InputError(
                f"option {text!r} names no model, and the traces hold {len(traces.models)}: write "
                f"{text}@{traces.models[0]} (recorded: {', '.join(traces.models)})"
            )
        text = f"{text}@{traces.models[0]}"
        policy, models = parse_policy(text), (traces.models[0],)
    lacking = [model for model in models if model not in traces.models]
    if lacking:
        raise InputError(
            f"option {text!r} needs {', '.join(lacking)}, which the traces do not hold (recorded: "
            f"{', '.join(traces.models)})"
        )
    return text, policy, models


def certifiable_arm_of(text: str, traces: TraceSet) -> tuple[str, AnyPolicy, tuple[str, ...]]:
    """The same; raises InputError for a policy that acts on samples before their ends."""
    found = arm_of(text, traces)
    if not found[1].waits_for_ends:
        raise InputError(
            f"{text!r} acts on samples while they run, and calibration plays them whole: what it "
            "certified would not be what runs; name a policy that waits for its samples' ends"
        )
    return found


def complete(traces: TraceSet, models: Sequence[str]) -> IntArray:
    """Questions that every one of the models was recorded on."""
    arms = [traces.arm_index(model) for model in dict.fromkeys(models)]
    found = traces.complete_questions(arms)
    if not found.size:
        raise InputError(
            f"no question was recorded for all of {', '.join(models)}: record the models on the "
            "same questions, a drop is a difference on each"
        )
    return found
