"""Random halves of recorded questions: what was certified on one half, seen on the other.

40 % of the calibrating half fits the predictor and lays the path, 60 % certifies. `ours` is the
last setting that is shown; `naive` (the plug-in rule) is the cheapest setting of the same path
whose observed drop on the certifying questions is within the limit. Where nothing is certified the
safe arm answers: such a split counts with no drop and no saving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from recorded import ROUTED_STRONG, ROUTED_WEAK, as_models, routellm, zeroeval
from suffice.recipes.calibrate.arms import Candidate, Proposal, Safe, Table

from suffice.evals.statistics.binomial import clopper_pearson
from suffice.evals.traces import TraceSet
from suffice.policies import prompt_features
from suffice.policies.models import models_of
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate import fit
from suffice.recipes.calibrate.certify import Step, shown_steps
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.families import lay_path
from suffice.recipes.calibrate.play import TokenWeights
from suffice.recipes.calibrate.prepare import Split, usable_weights

FOUR_O, O1 = "gpt-4o-2024-08-06", "o1-mini-2024-09-12"
MINI, QWEN = "gpt-4o-mini-2024-07-18", "Qwen2.5-7B-Instruct"
LLAMA, GEMMA = "Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it"
STRONG_WEIGHT = 25.0  # a strong model's token in tokens of a cheap one; an assumption, said aloud
# Fewer than ship, for speed: out of fold on the fitting questions of MMLU, 512 dimensions rank
# "only the strong one is right" no better than 64 do (AUC .62 and .63 on two splits either way).
DIMENSIONS, STEPS = 64, 12
LIMITS = (0.01, 0.02, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What stands in front of which strong model, on which questions, at which limits."""

    name: str
    read: Callable[[Path], TraceSet]
    cheap: str
    strong: str
    limits: tuple[float, ...] = LIMITS
    clusters: int | None = None  # None: by the number of fitting questions
    routed: bool = False  # the prompt alone decides, so the weak model is not asked first


def _pair(
    name: str, tasks: tuple[str, ...], pair: tuple[str, str], strong: str, **options: object
) -> Setup:
    """Two cheap models that agree, in front of a strong one, on ZeroEval's questions."""

    def read(folder: Path) -> TraceSet:
        return as_models(*zeroeval(folder / "zeroeval_matrix", tasks), (*pair, strong))

    return Setup(
        name=name, read=read, cheap=f"agreement:models={'+'.join(pair)}", strong=strong, **options
    )


def _routed(name: str, folder_name: str) -> Setup:
    return Setup(
        name=name,
        read=lambda folder: routellm(folder, folder_name),
        cheap=f"single@{ROUTED_WEAK}",
        strong=ROUTED_STRONG,
        clusters=1,
        routed=True,
    )


_MIXTURE = ("gsm", "math-l5", "crux")
_MIXED_PAIR = (MINI, "Qwen2-72B-Instruct")
SETS = {
    "gsm": _pair("gsm, overall", ("gsm",), (LLAMA, GEMMA), FOUR_O, limits=(0.02,)),
    "one-threshold": _pair(
        "mixture, one threshold", _MIXTURE, _MIXED_PAIR, O1, limits=(0.02,), clusters=1
    ),
    "by-cluster": _pair(
        "mixture, by cluster", _MIXTURE, _MIXED_PAIR, O1, limits=(0.02,), clusters=6
    ),
    "math-l5": _pair("MATH level 5", ("math-l5",), (QWEN, MINI), O1),
    "crux": _pair("CRUX, 4o-mini pair", ("crux",), (MINI, "Qwen2.5-32B-Instruct"), O1),
    "crux-small": _pair("CRUX, 7B pair", ("crux",), (QWEN, LLAMA), FOUR_O),
    "routellm-gsm8k": _routed("GSM8K, routed", "routellm_gsm8k"),
    "routellm-mmlu": _routed("MMLU, routed", "routellm_mmlu"),
}


def splits(folder: Path, count: int, name: str) -> list[dict]:
    """One row per limit of a set's `count` random halves."""
    setup = SETS[name]
    remember_prompts()
    traces = setup.read(folder)
    # Where a router keeps a call off the strong arm it saves what that costs beyond the weak one:
    # the weak one's price is the floor that everything is counted from.
    priced = ((ROUTED_WEAK, 0.0), (setup.strong, 1.0))
    priced = priced if setup.routed else ((setup.strong, STRONG_WEIGHT),)
    weights = usable_weights(traces, TokenWeights(priced))
    table = Table.of(traces, weights)
    config = CalibrateConfig(
        max_drop=max(setup.limits),
        clusters=setup.clusters,
        mixed=True,
        dimensions=DIMENSIONS,
        steps=STEPS,
    )
    proposal = _gate(table, setup.cheap, f"single@{setup.strong}")
    halves = Halves(proposal, [traces.questions[q].messages_json for q in table.questions])
    dataset = np.array([traces.questions[q].dataset for q in table.questions])
    runs: dict[float, list[dict]] = {limit: [] for limit in setup.limits}
    for seed in range(count):
        planned = halves.planned(replace(config, seed=seed))
        for limit in setup.limits:
            runs[limit].append(_split(planned, replace(config, seed=seed, max_drop=limit), dataset))
    safe, cheap = proposal.safe.outcomes, proposal.table.play(proposal.policy)
    facts = {
        "n": len(table.questions), "cheap": setup.cheap, "strong": setup.strong,
        "cheap_accuracy": float(cheap.correct.mean()),
        "strong_accuracy": float(safe.correct.mean()),
        "strong_weight": STRONG_WEIGHT, "cost_unit": weights.unit,
    }  # fmt: skip
    found = []
    for limit, each in runs.items():
        found.append(facts | _summary(setup, each, limit))
        print(found[-1], flush=True)
    return found


def remember_prompts() -> None:
    """Every split looks at the same prompts: their counts and forms are worked out once."""
    if not hasattr(fit.form, "cache_info"):
        prompt_features.hashed_counts = lru_cache(maxsize=None)(prompt_features.hashed_counts)
        fit.hashed_counts = prompt_features.hashed_counts
        fit.form = lru_cache(maxsize=None)(fit.form)
        fit.WORD_PENALTIES = (1e6, 10.0)  # a coarser search, 40 fits a split otherwise


def _gate(table: Table, cheap: str, strong: str) -> Proposal:
    cache: dict[str, object] = {}

    class Cached(type(table)):  # plays every policy once for all splits
        def play(self, policy):
            key = repr(policy)
            if key not in cache:
                cache[key] = super().play(policy)
            return cache[key]

    kept = Cached(traces=table.traces, recorded=table.recorded, weights=table.weights,
                  questions=table.questions)  # fmt: skip
    policy, safe = parse_policy(cheap), parse_policy(strong)
    return Proposal(
        table=kept,
        safe=Safe(text=strong, models=models_of(safe), outcomes=kept.play(safe), votes=None),
        text=cheap, policy=policy, models=models_of(policy), is_gate=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """A predictor fitted on one division, and its questions: fitting, certifying, tested."""

    candidate: Candidate
    certify: np.ndarray
    test: np.ndarray


class Halves:
    """Random divisions of a set's questions; equal prompts stay together."""

    def __init__(self, proposal: Proposal, prompts: list[str]) -> None:
        self._proposal = proposal
        groups: dict[str, list[int]] = {}
        for number, prompt in enumerate(prompts):
            groups.setdefault(prompt, []).append(number)
        self._groups = list(groups.values())

    def planned(self, config: CalibrateConfig) -> Planned:
        """The division of a seed, with what the fitting questions make of it."""
        order = np.random.default_rng(config.seed).permutation(len(self._groups))
        half = len(order) // 2
        quarter = half * 2 // 5
        fitting, certify, test = (
            np.array([i for group in part for i in self._groups[group]])
            for part in (order[:quarter], order[quarter:half], order[half:])
        )
        # The test half is judged like the certifying one; the path only sees the fitting questions.
        questions = self._proposal.table.questions
        both = np.concatenate((certify, test))
        split = Split(fit=questions[fitting], certify=questions[both])
        candidate = self._proposal.planned(split, config)
        assert candidate is not None, "all fitting answers are right, or all wrong"
        return Planned(candidate, certify, test)


def _split(planned: Planned, config: CalibrateConfig, dataset: np.ndarray) -> dict:
    candidate, tested = planned.candidate, len(planned.certify)
    path = lay_path(candidate.fit, candidate.fit_safe_cost, candidate.clusters, net=True,
                    steps=config.steps, limit=config.max_drop)  # fmt: skip
    mask = np.arange(tested + len(planned.test)) < tested
    steps = [candidate.certify.step(setting) for setting in path]
    shown = shown_steps([step.within(mask) for step in steps], config)
    naive = [i for i, s in enumerate(steps) if s.within(mask).pairs.drop <= config.max_drop]
    out: dict = {"certified": bool(shown)}
    for label, number in (("ours", shown - 1), ("naive", naive[-1] if naive else -1)):
        if number < 0:
            out[label] = NOTHING
            continue
        fitted = candidate.fit.step(path[number])
        out[label] = _seen(candidate, steps[number], fitted, ~mask, dataset[planned.test])
    return out


NOTHING = {"drop": 0.0, "whole": 0.0, "saving": 0.0, "stopped": 0.0, "by_set": {}}


def _seen(
    candidate: Candidate, step: Step, fitted: Step, test: np.ndarray, names: np.ndarray
) -> dict:
    """A setting on the test half; its drop on all questions, the fitting ones out of fold."""
    seen, safe_cost = step.within(test), candidate.certify_safe_cost[test]
    lost = step.harmed.sum() - step.helped.sum() + fitted.harmed.sum() - fitted.helped.sum()
    return {
        "drop": seen.pairs.drop,
        "whole": float(lost) / (len(step.harmed) + len(fitted.harmed)),
        "saving": 1.0 - float(seen.cost.sum() / safe_cost.sum()),
        "stopped": float(seen.stopped.mean()),
        "by_set": {n: seen.within(names == n).pairs.drop for n in sorted(set(names.tolist()))},
    }


def _summary(setup: Setup, runs: list[dict], limit: float) -> dict:
    found = {"name": setup.name, "splits": len(runs), "max_drop": limit,
             "certified": sum(run["certified"] for run in runs)}  # fmt: skip
    # Of a strong call's price, the weak call's is not saved.
    scale = 1.0 - 1.0 / STRONG_WEIGHT if setup.routed else 1.0
    for label in ("ours", "naive"):
        each = [run[label] for run in runs]
        late = sum(one["drop"] > limit for one in each)
        whole = sum(one["whole"] > limit for one in each)
        rate = clopper_pearson(late, len(each), 0.95)
        saving = np.array([one["saving"] for one in each]) * scale
        sets = sorted({n for one in each for n in one["by_set"]})
        found[label] = {
            "over_on_test_half": late, "over_interval": [rate.low, rate.high],
            "over_on_all_questions": whole,
            "mean_drop": float(np.mean([one["drop"] for one in each])),
            "mean_saving": float(saving.mean()),
            "saving_range": np.quantile(saving, [0.025, 0.975]).tolist(),
            "mean_stopped": float(np.mean([one["stopped"] for one in each])),
            "mean_drop_by_set": {
                n: float(np.mean([one["by_set"].get(n, 0.0) for one in each])) for n in sets
            },
        }  # fmt: skip
    return found
