"""The policy file of a calibration: the rule, what it is about, what was tested, what it costs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from suffice.evals.statistics.calibration import brier_score, expected_calibration_error
from suffice.evals.statistics.ranking import auc
from suffice.policies.certified import Exits
from suffice.policies.models import models_of
from suffice.policies.policy_file import (
    Certificate,
    Data,
    Expected,
    Group,
    OptionCost,
    PolicyFile,
    PredictorQuality,
    Range,
    Target,
    Tested,
    sealed,
)
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.about import about_of
from suffice.recipes.calibrate.certify import RuleEffect, Test, monitors, saving_of, tested
from suffice.recipes.calibrate.fitted import FittedOption, QuestionSplit
from suffice.recipes.calibrate.gates_and_samplers import Setting
from suffice.recipes.calibrate.grouped import Grouped
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.ranking import Bench, ShownRule
from suffice.recipes.calibrate.spending import Spending, tokens_by_model
from suffice.recipes.calibrate.wording import assumptions, statement, typical_words

_ACCEPT = re.compile(r"([:,])accept=[^,@]+(,?)")


def file_of(ground: Inputs, bench: Bench, choice: ShownRule, split: QuestionSplit) -> PolicyFile:
    """The file of a chosen rule."""
    chain, step, test = bench.chains[choice.chain], bench.step(choice), bench.test_of(choice.chain)
    rule = chain.rules[choice.rule]
    index = chain.index
    alone = bool(len(index) == len(ground.questions))
    certificate = _certificate(
        ground, test, step, fit_questions=0 if alone else len(split.fit),
        confidence=1.0 - choice.level,
        path={
            "path": chain.name,
            "path_share": round(bench.share(choice.chain), 6),
            "path_steps": len(chain),
            "shown_steps": choice.shown[choice.chain],
            "rules_tested": bench.rules,
        },
    )  # fmt: skip
    spending = chain.spent(choice.rule)
    if chain.fitted is not None:
        candidate, path = chain.fitted
        setting = path[choice.rule]
        return _fitted_file(ground, test, candidate, setting, step, certificate, spending)
    option = option_of(rule)
    models = tuple(dict.fromkeys((*models_of(parse_policy(rule)), *ground.baseline.models)))
    group = Group(
        sampler=rule,
        fit_questions=certificate.data.fit_questions,
        tested=certificate.tested,
    )
    accuracy = float(ground.played(option).correct[index].mean())
    certificate = certificate.model_copy(
        update={"expected": certificate.expected.model_copy(update={"option_accuracy": accuracy})}
    )
    own = ground.played(option).at(index)
    return sealed(
        PolicyFile(
            option=option,
            baseline=ground.baseline.text,
            models=models,
            about=_about(ground, models),
            certificate=certificate,
            costs=_costs(ground, index, step, spending, (option, accuracy, own.spending)),
            groups=(group,),
            monitors=monitors(
                step,
                None,
                bench.rules,
                bench.test,
                ground.config.max_drop,
                answers=ground.has_answers,
            ),
            predictor=None,
        )
    )


def option_of(rule: str) -> str:
    """The rule without what stands behind it: the option alone, as --policy takes it."""
    first = rule.partition(" > ")[0]
    return _ACCEPT.sub(lambda m: m[1] if m[2] else "", first)


def grouped_file(ground: Inputs, found: Grouped, test: Test) -> PolicyFile:
    """The file of rules that hold in every question group."""
    candidate, setting, step = found.candidate, found.setting, found.step
    assert setting is not None
    assert step is not None
    certificate = _certificate(
        ground, test, step, fit_questions=len(candidate.split.fit), confidence=1.0 - found.alpha,
        path={
            "path": f"{candidate.text}, a path for each question group",
            "path_steps": found.rules,
            "shown_steps": found.shown,
            "rules_tested": found.rules,
        },
    )  # fmt: skip
    spending = candidate.certify.spending(setting)
    return _fitted_file(
        ground, test, candidate, setting, step, certificate, spending,
        fallbacks=found.fallbacks, alpha=found.alpha,
    )  # fmt: skip


def _fitted_file(  # noqa: PLR0917 - two callers, all of it in hand
    ground: Inputs, test: Test, candidate: FittedOption, setting: Setting, step: RuleEffect,
    certificate: Certificate, spending: Spending, *, fallbacks: tuple[str, ...] = (),
    alpha: float | None = None,
) -> PolicyFile:  # fmt: skip
    split, config = candidate.split, ground.config
    words = typical_words(
        ground.prompts(split.fit),
        candidate.fit.group,
        candidate.groups,
    )
    fitted = candidate.fitted
    level = config.alpha if alpha is None else alpha
    gated = candidate.sure is not None
    needs_predictor = fitted is not None and (gated or candidate.groups > 1)
    groups = tuple(
        Group(
            **_choice(choice, candidate),
            centroid=tuple(fitted.centroids[number].tolist())
            if fitted is not None and needs_predictor
            else (),
            words=words[number],
            fit_questions=int((candidate.fit.group == number).sum()),
            tested=_inside(step, candidate.group == number, test, 1.0 - level),
            fallback=(fallbacks[number] if fallbacks else "")
            or ("" if choice != candidate.closed else "the baseline is best here"),
        )
        for number, choice in enumerate(setting)
    )
    own = ground.played(candidate.text).at(split.certify) if gated else None
    accuracy = None if own is None else float(own.correct.mean())
    expected = certificate.expected.model_copy(
        update={"option_accuracy": certificate.expected.accuracy if accuracy is None else accuracy}
    )
    certificate = certificate.model_copy(
        update={"expected": expected, "predictor": _quality(candidate)}
    )
    models = tuple(dict.fromkeys((*candidate.models, *ground.baseline.models)))
    return sealed(
        PolicyFile(
            option=candidate.text.partition(" > ")[0],
            baseline=ground.baseline.text,
            models=models,
            about=_about(ground, models),
            certificate=certificate,
            costs=_costs(
                ground, split.certify, step, spending,
                None if own is None or accuracy is None
                else (candidate.text, accuracy, own.spending),
            ),
            groups=groups,
            monitors=monitors(
                step, candidate.sure, certificate.rules_tested, test, ground.config.max_drop,
                answers=ground.has_answers,
            ),
            predictor=fitted.table if fitted is not None and needs_predictor else None,
        )
    )  # fmt: skip


def _certificate(
    ground: Inputs, test: Test, step: RuleEffect, *, fit_questions: int, confidence: float,
    path: dict[str, Any],
) -> Certificate:  # fmt: skip
    config, n = ground.config, len(step.harmed)
    baseline = float(step.baseline_right.mean())
    drop = float(step.losses("drop").mean())
    return Certificate(
        id="",
        statement=statement(ground.baseline.text, n, test.kind, config),
        data=Data(
            digest=ground.traces.digest,
            datasets=ground.traces.datasets,
            questions=n + fit_questions,
            recorded=ground.questions.rows,
            fit_questions=fit_questions,
            certify_questions=n,
            plays=step.harmed.shape[1],
            seed=config.seed,
            tries=config.tries,
            licence=str(getattr(ground.traces.information, "licence", "")),
        ),
        target=Target(
            max_drop=config.max_drop,
            confidence=config.confidence,
            loss=test.loss,
            method=config.method,
            test=test.kind,
            scope=config.scope,
        ),
        tested=tested(step, test, confidence, config.max_drop),
        expected=Expected(
            baseline_accuracy=baseline,
            accuracy=baseline - drop,
            option_accuracy=baseline - drop,
            stopped=float(step.stopped.mean()),
            saving=saving_of(step, config.confidence, config.seed),
            cost_unit=ground.tariff.unit,
        ),
        assumptions=assumptions(config),
        **path,
    )


def _about(ground: Inputs, models: tuple[str, ...]) -> Any:
    recorded = [copy for copies in ground.questions.copies for copy in copies]
    return about_of(ground.traces, recorded, models, ground.config.prices)


def _costs(
    ground: Inputs, index: Any, step: RuleEffect, spending: Spending,
    option: tuple[str, float, Spending] | None,
) -> tuple[OptionCost, ...]:  # fmt: skip
    """Baseline, certified policy, and the option alone: means per request."""
    traces = ground.traces
    known = {
        "prompts": not bool(np.isnan(traces.prompt_tokens).any()),
        "completions": not bool(np.isnan(traces.completion_tokens).any()),
    }
    standard = ground.played(ground.baseline.text).at(index)
    drop = float(step.losses("drop").mean())
    right = float(step.baseline_right.mean())
    rows = [
        ("baseline", ground.baseline.text, right, standard.spending),
        ("certified", "certified", right - drop, spending),
    ]
    if option is not None:
        rows.append(("option", *option))
    return tuple(
        OptionCost(
            role=role,  # type: ignore[arg-type] # the three words above
            option=text,
            accuracy=accuracy,
            cost=float(ground.tariff.cost(spent).mean()),
            by_model=tokens_by_model(spent, **known),
        )
        for role, text, accuracy, spent in rows
    )


def _choice(choice: Any, candidate: FittedOption) -> dict[str, Any]:
    if isinstance(choice, Exits):
        return {"accept": choice.accept, "hopeless": choice.hopeless}
    sampler = candidate.sampler(choice)
    return {} if sampler is None else {"sampler": sampler}


def _inside(step: RuleEffect, mask: Any, test: Test, confidence: float) -> Tested:
    if not mask.any():
        return Tested(n=0, stopped=0, harmed=0, helped=0)
    return tested(step.within(mask), test, confidence)


def _quality(candidate: FittedOption) -> PredictorQuality | None:
    predicted, right = candidate.sure, candidate.option_right
    if predicted is None or right is None:
        return None
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
