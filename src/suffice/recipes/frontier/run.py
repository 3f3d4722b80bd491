"""`suffice frontier`: every policy's point with its interval, the hull, the oracle, best buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.completions import CostModel, count_tokens_only
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.core.savings import CostUnit
from suffice.evals.router_metrics import non_decreasing_hull
from suffice.evals.statistics.binomial import Interval
from suffice.evals.statistics.bootstrap import of_share, percentile_interval, question_weights
from suffice.evals.traces.trace_set import ANSWER_MODE, MISSING, TraceSet
from suffice.policies.models import models_of
from suffice.policies.policy_file import read_policy_file
from suffice.policies.policy_of_file import certified_policy, check_models
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.chains import unanimous
from suffice.recipes.calibrate.prepare import arm_of, complete
from suffice.recipes.frontier.measure import AXES, Measured, compared, measure
from suffice.recipes.frontier.sweep import sweep
from suffice.recipes.recordings import Source

SAMPLE_COUNTS = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierConfig:
    """Policies (None: a set that fits the traces) and how the intervals are made."""

    policies: tuple[str, ...] = ()
    shuffles: int = 4
    draws: int = 1000
    confidence: float = 0.95
    seed: int = 0
    axis: str | None = None  # on which the best buys are listed; None: the first that is known
    baseline: str | None = None  # what is run today; None: one call of the first recorded model

    def __post_init__(self) -> None:
        if self.axis is not None and self.axis not in AXES:
            raise InputError(f"axis must be one of {', '.join(AXES)}, got {self.axis!r}")
        if self.shuffles < 1 or self.draws < 100:
            raise InputError("a frontier needs at least 1 shuffle and 100 draws")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrontierPoint:
    """A policy's means per question with intervals clustered by question; None where not known."""

    policy: str
    accuracy: Interval
    samples: float
    drawn: Interval  # samples with their interval
    tokens: Interval | None
    flops: Interval | None
    gpu_s: Interval | None
    usd: Interval | None
    measured: Measured
    saved: Interval | None = None  # one minus the cost over the baseline's; None: not compared
    # Accuracy of the shuffled control; None where every question gets the same samples.
    control: Interval | None = None

    def cost(self, axis: str) -> Interval | None:
        """The interval of an axis."""
        found: Interval | None = self.drawn if axis == "samples" else getattr(self, axis)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Buy:
    """The best policy up to a budget, and how often it is that over resampled questions."""

    budget: float
    policy: str
    accuracy: float
    share: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Frontier:
    """Everything that table and plots show."""

    points: tuple[FrontierPoint, ...]
    oracle: FrontierPoint
    questions: int
    axes: tuple[str, ...]  # those known for every policy
    axis: str  # of the best buys
    buys: tuple[Buy, ...]
    datasets: tuple[str, ...]
    one_model: str = ""  # the traces' only model; empty: they hold several
    baseline: str = ""  # what `saved` is against; empty: it cannot be played on these traces
    unit: CostUnit = "tokens"  # what `saved` is counted in: prompt tokens are tokens too

    def hull(self, axis: str) -> tuple[FrontierPoint, ...]:
        """Policies on the non-decreasing convex hull, cheapest first."""
        costs = [_estimate(point, axis) for point in self.points]
        right = [point.accuracy.estimate for point in self.points]
        xs, ys = non_decreasing_hull(costs, right)
        corners = set(zip(xs.tolist(), ys.tolist(), strict=True))
        on: dict[tuple[float, float], FrontierPoint] = {}
        for point, cost in zip(self.points, costs, strict=True):
            place = cost, point.accuracy.estimate
            if place in corners:
                on.setdefault(place, point)  # the first named of several that do the same
        return tuple(on[place] for place in sorted(on))


def frontier(
    traces: TraceSet, config: FrontierConfig, *, cost_model: CostModel = count_tokens_only
) -> Frontier:
    """The frontier of recorded samples."""
    source = Source(traces)
    questions = _asked_of_all(traces)
    texts = config.policies or default_policies(traces, questions.tolist())
    # Fixed models and the budget sweep are always there: what everything else has to beat.
    measured = list(sweep(traces, questions.tolist(), cost_model=cost_model))
    swept = {each.policy for each in measured}
    for text in dict.fromkeys(texts):
        named, policy = policy_of(text, traces)
        if named in swept:
            continue
        measured.append(
            measure(
                named, policy, source, questions,
                cost_model=cost_model, shuffles=config.shuffles, seed=config.seed,
            )
        )  # fmt: skip
    weights = question_weights(len(questions), config.draws, config.seed)
    axes = _axes(measured, config)
    axis = config.axis or axes[0]
    today = _baseline(traces, source, questions.tolist(), config, cost_model, measured)
    points = tuple(_point(each, weights, config, today) for each in measured)
    if axis not in axes:
        why = (
            "the recording does not count the tokens of every sample"
            if "tokens" not in axes
            else "give each a price or a shape"
        )
        raise InputError(
            f"costs in {axis} are not known for every model: {why}, or use --axis {axes[0]}"
        )
    return Frontier(
        points=points,
        oracle=_point(oracle_of(measured, axis), weights, config),
        questions=len(questions),
        axes=axes,
        axis=axis,
        buys=best_buys(measured, weights, axis),
        datasets=traces.datasets,
        one_model=traces.models[0] if len(traces.models) == 1 else "",
        baseline="" if today is None else today.policy,
        unit="usd" if "usd" in axes else "tokens",
    )


def _axes(measured: Sequence[Measured], config: FrontierConfig) -> tuple[str, ...]:
    """Costs that are known for every policy; samples where no tokens were counted, or asked for."""
    known = [axis for axis in AXES if all(each.known(axis) for each in measured)]
    if "tokens" in known and config.axis != "samples":
        known.remove("samples")
    return tuple(known)


def _asked_of_all(traces: TraceSet) -> IntArray:
    """Questions that every arm was recorded on."""
    found = traces.complete_questions(range(len(traces.arms)))
    return found if found.size else complete(traces, traces.models)


def _baseline(  # noqa: PLR0917 - one caller, all of it in hand
    traces: TraceSet, source: Source, questions: Sequence[int], config: FrontierConfig,
    cost_model: CostModel, known: Sequence[Measured],
) -> Measured | None:  # fmt: skip
    """What is run today on the recorded samples; None where nobody said and it was not recorded."""
    try:
        named, policy = policy_of(config.baseline or f"single@{traces.models[0]}", traces)
        for each in known:
            if each.policy == named:
                return each
        return measure(
            named, policy, source, questions,
            cost_model=cost_model, shuffles=config.shuffles, seed=config.seed,
        )  # fmt: skip
    except InputError:
        if config.baseline is not None:
            raise
        return None  # modes were recorded, no plain call: --baseline says what is run today


def policy_of(text: str, traces: TraceSet) -> tuple[str, AnyPolicy]:
    """(name, policy) of a line of text or of a policy file that was calibrated for these models."""
    if text.endswith(".json"):
        file = read_policy_file(Path(text))
        check_models(file, traces.models, "the trace set")
        return f"certified {file.certificate.id}", certified_policy(file, parse_policy)
    if ">" in text or models_of(parse_policy(text)):
        return text, parse_policy(text)
    named, policy, _ = arm_of(text, traces)
    return named, policy


def default_policies(traces: TraceSet, questions: Sequence[int]) -> tuple[str, ...]:
    """Votes, early stopping, agreement and two-model cascades, as far as samples reach."""
    found = []
    accuracy, samples = {}, {}
    answers = bool((traces.answer != MISSING).any())  # verdicts alone leave nothing to vote on
    plain = [arm.model for arm in traces.arms if arm.mode == ANSWER_MODE]
    for model in plain:
        arm = traces.arm_index(model, ANSWER_MODE)
        most = samples[model] = int(traces.count[list(questions), arm].min())
        accuracy[model] = float(np.nanmean(traces.correct[traces.arm == arm]))
        counts = [k for k in SAMPLE_COUNTS if k <= most] or ([most] if most >= 3 else [])
        if not answers:
            counts = []
        found += [f"self_consistency:samples={k}@{model}" for k in counts]
        found += [f"adaptive_consistency:max_samples={k}@{model}" for k in counts]
        if counts:
            top = counts[-1]
            found.append(f"two_sided:max_samples={top}@{model}")
            if top >= 8:
                found.append(f"esc:max_samples={top}@{model}")
            if traces.confidences.lengths.any() and top >= 16:
                warmup = top // 4
                found.append(
                    f"deepconf:max_samples={top},warmup={warmup},parallel={warmup}@{model}"
                )
    ranked = sorted(plain, key=lambda model: accuracy[model])
    if len(ranked) >= 2 and answers:
        weak, strong = ranked[0], ranked[-1]
        found += [f"{unanimous(n)}@{weak} > single@{strong}" for n in (2, 3) if samples[weak] >= n]
        if samples[weak] >= 4:
            cap = min(samples[weak], 8)
            cheap = f"adaptive_consistency:max_samples={cap},accept=.95@{weak}"
            found.append(f"{cheap} > single@{strong}")
    if len(ranked) >= 3 and answers:
        pair = "+".join(ranked[:2])
        found.append(f"agreement:models={pair} > single@{ranked[-1]}")
    return tuple(found)


def oracle_of(measured: Sequence[Measured], axis: str) -> Measured:
    """Per question the policy that is most often right, the cheapest of equals: not attainable."""
    correct = np.stack([each.correct for each in measured])
    cost = np.stack([each.axis(axis) for each in measured])
    best = np.lexsort((cost, -correct), axis=0)[0]
    columns = np.arange(correct.shape[1])

    def pick(name: str) -> FloatArray:
        stacked: FloatArray = np.stack([getattr(each, name) for each in measured])[best, columns]
        return stacked

    return Measured(
        policy="oracle",
        correct=pick("correct"),
        samples=pick("samples"),
        tokens=pick("tokens"),
        flops=pick("flops"),
        gpu_s=pick("gpu_s"),
        usd=pick("usd"),
        all_tokens=pick("all_tokens"),
        models=frozenset().union(*(each.models for each in measured)),
    )


def _point(
    measured: Measured,
    weights: FloatArray,
    config: FrontierConfig,
    baseline: Measured | None = None,
) -> FrontierPoint:
    def interval(values: FloatArray) -> Interval | None:
        if not np.isfinite(values).all():
            return None
        resampled = weights @ values / len(values)
        return percentile_interval(float(values.mean()), resampled, config.confidence)

    accuracy, drawn = interval(measured.correct), interval(measured.samples)
    assert accuracy is not None and drawn is not None
    return FrontierPoint(
        policy=measured.policy,
        accuracy=of_share(accuracy, len(measured.correct)),
        samples=float(measured.samples.mean()),
        drawn=drawn,
        tokens=interval(measured.tokens),
        flops=interval(measured.flops),
        gpu_s=interval(measured.gpu_s),
        usd=interval(measured.usd),
        measured=measured,
        saved=_saved(measured, baseline, weights, config),
        control=None if measured.control is None else interval(measured.control),
    )


def _saved(
    measured: Measured, baseline: Measured | None, weights: FloatArray, config: FrontierConfig
) -> Interval | None:
    """One minus the policy's cost over the baseline's, questions resampled together."""
    costs = None if baseline is None else compared(measured, baseline)
    if costs is None:
        return None
    own, today, _ = costs
    resampled = 1.0 - (weights @ own) / (weights @ today)
    return percentile_interval(1.0 - float(own.sum() / today.sum()), resampled, config.confidence)


def best_buys(
    measured: Sequence[Measured], weights: FloatArray, axis: str, budgets: int = 8
) -> tuple[Buy, ...]:
    """The most accurate policy within each of some budgets, from the cheapest to the dearest."""
    measured = sorted(measured, key=lambda each: each.axis(axis).mean())  # the cheaper of equals
    cost = np.array([each.axis(axis).mean() for each in measured])
    right = np.array([each.correct.mean() for each in measured])
    n = len(measured[0].correct)
    costs = np.stack([weights @ each.axis(axis) / n for each in measured])
    rights = np.stack([weights @ each.correct / n for each in measured])
    found = []
    for budget in np.geomspace(cost.min() * 1.001, cost.max() * 1.001, budgets):
        within = cost <= budget
        best = int(np.argmax(np.where(within, right, -1.0)))
        allowed = np.where(costs <= budget, rights, -1.0)
        share = float((np.argmax(allowed, axis=0) == best).mean())
        found.append(
            Buy(
                budget=float(budget),
                policy=measured[best].policy,
                accuracy=float(right[best]),
                share=share,
            )
        )
    return tuple(found)


def _estimate(point: FrontierPoint, axis: str) -> float:
    interval = point.cost(axis)
    if interval is None:
        raise InputError(f"the cost of {point.policy} in {axis} is not known")
    return interval.estimate
