"""`suffice calibrate`: choose on one part of the questions, test on the other, write what holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suffice.core.errors import InputError, NothingFeasible
from suffice.core.prices import Prices
from suffice.evals.statistics.calibration import (
    Bin,
    brier_score,
    expected_calibration_error,
    reliability,
)
from suffice.evals.statistics.ranking import auc
from suffice.evals.traces import TraceSet
from suffice.policies.certified import Exits
from suffice.policies.policy_file import (
    Certificate,
    Data,
    Group,
    PolicyFile,
    PredictorQuality,
    Range,
    Target,
    Tested,
    sealed,
)
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.about import about_of
from suffice.recipes.calibrate.arms import Candidate, Table, candidates_of, safe_arm
from suffice.recipes.calibrate.certify import Step, expected, monitors, shown_steps, tested
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.families import (
    Setting,
    Stopping,
    lay_cluster_paths,
    lay_path,
    merged,
)
from suffice.recipes.calibrate.prepare import check_sets, split_questions, usable_weights
from suffice.recipes.calibrate.statement import assumptions, statement, typical_words


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Calibration:
    """The policy file, and what its report draws."""

    file: PolicyFile
    path: tuple[Tested, ...]  # of every setting, on the certifying questions
    saving: tuple[float, ...]  # share of the safe arm's cost, at every setting
    shown: int
    reliability: tuple[Bin, ...]
    considered: tuple[tuple[str, float], ...]  # cheap arms and their saving on the fitting part


def calibrate(traces: TraceSet, config: CalibrateConfig) -> Calibration:
    """The certified policy of recorded traces.

    Raises InputError for data that cannot support a certificate, NothingFeasible if the test shows
    no setting.
    """
    check_sets(traces, config)
    weights = usable_weights(traces, config.weights)
    table = Table.of(traces, weights)
    split = split_questions(traces, table.questions, config)
    safe = safe_arm(table, split, config)
    found = [
        plan
        for candidate in candidates_of(table, safe, split, config)
        if (plan := candidate.planned(split, config)) is not None
    ]
    if not found:
        raise InputError(
            "no cheap arm has both right and wrong answers among the fitting questions: with one "
            "class there is nothing to tell apart; if an arm is always right, serve it alone"
        )
    plans = [(_laid(candidate, config), candidate) for candidate in found]
    considered = tuple(
        (candidate.text, _fit_saving(candidate, path, config)) for path, candidate in plans
    )
    best = max(range(len(plans)), key=lambda i: considered[i][1])
    path, candidate = plans[best]
    return _certified(traces, candidate, path, considered, config)


def _laid(candidate: Candidate, config: CalibrateConfig) -> Any:
    part, cost = candidate.fit, candidate.fit_safe_cost
    net = config.used_loss == "drop"
    if config.scope == "overall":
        return lay_path(
            part, cost, candidate.clusters, net=net, steps=config.steps, limit=config.max_drop
        )
    return lay_cluster_paths(
        part, cost, candidate.clusters, candidate.closed, net=net, steps=config.steps,
        limit=config.max_drop,
    )  # fmt: skip


def _fit_saving(candidate: Candidate, path: Any, config: CalibrateConfig) -> float:
    """Best saving on the fitting questions at an observed loss of at most half the target."""
    settings = path if config.scope == "overall" else [merged_last(path, candidate)]
    best = 0.0
    for setting in settings:
        step = candidate.fit.step(setting)
        lost = step.harmed.sum() - (step.helped.sum() if config.used_loss == "drop" else 0)
        if config.scope == "cluster" or lost <= config.max_drop / 2 * len(step.harmed):
            saved = 1.0 - step.cost.sum() / candidate.fit_safe_cost.sum()
            best = max(best, float(saved))
    return best


def merged_last(paths: Sequence[Sequence[Setting]], candidate: Candidate) -> Setting:
    """The last setting of every cluster's path."""
    return merged([path[-1] if path else None for path in paths], candidate.closed)


def _certified(
    traces: TraceSet,
    candidate: Candidate,
    path: Any,
    considered: tuple[tuple[str, float], ...],
    config: CalibrateConfig,
) -> Calibration:
    part = candidate.certify
    if config.scope == "overall":
        steps = [part.step(setting) for setting in path]
        shown = shown_steps(steps, config)
        setting = path[shown - 1] if shown else None
        fallbacks = [""] * candidate.clusters
        alpha = None
    else:
        alpha = config.alpha / candidate.clusters
        chosen, fallbacks, shown, steps = _by_cluster(candidate, path, config, alpha)
        setting = merged(chosen, candidate.closed) if shown else None
    if setting is None:
        _refuse(candidate, steps, config)
    assert setting is not None
    step = part.step(setting)
    file = _file(traces, candidate, setting, step, fallbacks, (len(steps), shown), config)
    right = candidate.certify_right
    safe_cost = candidate.certify_safe_cost
    return Calibration(
        file=file,
        path=tuple(tested(each, config) for each in steps) if config.scope == "overall" else (),
        saving=tuple(1.0 - float(each.cost.sum() / safe_cost.sum()) for each in steps),
        shown=shown,
        reliability=reliability(right, candidate.certify_cheap_right),
        considered=considered,
    )


def _by_cluster(
    candidate: Candidate, paths: Sequence[Sequence[Setting]], config: CalibrateConfig, alpha: float
) -> tuple[list[Setting | None], list[str], int, list[Step]]:
    part = candidate.certify
    needed = config.rows_needed(alpha)
    chosen: list[Setting | None] = []
    fallbacks: list[str] = []
    tried: list[Step] = []
    total = 0
    for number, path in enumerate(paths):
        mask = part.cluster == number
        steps = [part.step(setting).within(mask) for setting in path]
        if mask.sum() < needed:
            shown, why = 0, f"{int(mask.sum())} certifying questions, {needed} are needed"
        else:
            shown = shown_steps(steps, config, alpha)
            why = "" if shown else "no setting was shown"
        chosen.append(path[shown - 1] if shown else None)
        fallbacks.append(why)
        tried += steps
        total += shown
    return chosen, fallbacks, total, tried


def _refuse(candidate: Candidate, steps: Sequence[Step], config: CalibrateConfig) -> None:
    if not steps:
        raise NothingFeasible(
            f"no setting of {candidate.text} in front of {candidate.safe_text} saves anything on "
            "the fitting questions: try another --cheap arm"
        )
    first = steps[0].pairs
    raise NothingFeasible(
        f"nothing is certified: the safest setting of {candidate.text} loses {first.harmed} and "
        f"gains {first.helped} of {first.n} questions, which does not show a {config.used_loss} "
        f"of at most {config.max_drop:.3g} at {config.confidence:.3g}; allow a larger drop, a "
        "lower confidence, or record more questions"
    )


def _file(  # noqa: PLR0917 - one caller, all of it in hand
    traces: TraceSet, candidate: Candidate, setting: Setting, step: Step,
    fallbacks: Sequence[str], counts: tuple[int, int], config: CalibrateConfig,
) -> PolicyFile:  # fmt: skip
    part = candidate.certify
    certificate = Certificate(
        id="",
        statement=statement(candidate.safe_text, len(step.harmed), config),
        data=Data(
            digest=traces.digest,
            datasets=traces.datasets,
            questions=len(candidate.split.fit) + len(candidate.split.certify),
            fit_questions=len(candidate.split.fit),
            certify_questions=len(candidate.split.certify),
            seed=config.seed,
            licence=str(getattr(traces.information, "licence", "")),
        ),
        target=Target(
            max_drop=config.max_drop,
            confidence=config.confidence,
            loss=config.used_loss,
            method=config.method,
            scope=config.scope,
        ),
        tested=tested(step, config),
        path_steps=counts[0],
        shown_steps=counts[1],
        expected=expected(
            step,
            candidate.certify_safe_right,
            candidate.certify_cheap_right,
            candidate.certify_safe_cost,
            config,
            by_sample=usable_weights(traces, config.weights).by_sample,
        ),
        predictor=_quality(candidate),
        assumptions=assumptions(config),
    )
    words = typical_words(
        [traces.questions[q].prompt for q in candidate.split.fit.tolist()],
        candidate.fit.cluster,
        candidate.clusters,
    )
    alpha = config.alpha / candidate.clusters if config.scope == "cluster" else None
    groups = tuple(
        Group(
            **_choice(choice, candidate),
            centroid=tuple(candidate.fitted.centroids[number].tolist()),
            words=words[number],
            fit_questions=int((candidate.fit.cluster == number).sum()),
            tested=_tested_inside(step, part.cluster == number, config, alpha),
            fallback=fallbacks[number]
            or ("" if choice != candidate.closed else "the safe arm is best here"),
        )
        for number, choice in enumerate(setting)
    )
    gated = candidate.is_gate
    return sealed(
        PolicyFile(
            option=candidate.text,
            baseline=candidate.safe_text,
            models=candidate.models,
            about=about_of(
                traces,
                (*candidate.split.fit.tolist(), *candidate.split.certify.tolist()),
                candidate.models,
                Prices(),
            ),
            certificate=certificate,
            groups=groups,
            monitors=monitors(step, candidate.certify_right if gated else None, counts[0]),
            predictor=candidate.fitted.table,
        )
    )


def _choice(choice: Any, candidate: Candidate) -> dict[str, Any]:
    if isinstance(choice, Exits):
        return {"accept": choice.accept, "hopeless": choice.hopeless}
    if isinstance(choice, Stopping):
        return {"sampler": choice.text(candidate.cap, candidate.models[0])}
    if isinstance(choice, VoteTable):
        sampler = f"{choice.text}@{candidate.models[0]}"
        return {"sampler": f"{sampler} > {candidate.strong}" if candidate.strong else sampler}
    return {}


def _tested_inside(
    step: Step, mask: np.ndarray[Any, np.dtype[np.bool_]], config: CalibrateConfig,
    alpha: float | None,
) -> Tested:  # fmt: skip
    if not mask.any():
        return Tested(n=0, stopped=0, harmed=0, helped=0)
    return tested(step.within(mask), config, alpha)


def _quality(candidate: Candidate) -> PredictorQuality:
    predicted, right = candidate.certify_right, candidate.certify_cheap_right
    area = None
    if 0 < right.sum() < len(right):
        found = auc(predicted, right)
        area = Range(
            estimate=found.estimate, low=found.low, high=found.high, confidence=found.confidence
        )
    return PredictorQuality(
        ece=expected_calibration_error(predicted, right),
        brier=brier_score(predicted, right),
        auc=area,
    )
