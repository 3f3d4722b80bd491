"""Fit a law to a table of runs and keep everything that the result rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from suffice.architecture.fitting.alarms import (
    RowResidual,
    contradictions,
    drifts,
    misfit_warnings,
    unit_warnings,
    worst_rows,
)
from suffice.architecture.fitting.certificate import (
    domain_of,
    noise_of,
    not_modelled_by,
    optimum_warnings,
)
from suffice.architecture.fitting.checks import (
    check_choices,
    check_leaning,
    check_numbers,
    check_size,
)
from suffice.architecture.fitting.constrain import constrain
from suffice.architecture.fitting.estimates import (
    CoefficientEstimate,
    constraint_text,
    estimates,
    lowest_points,
    method_text,
    zero_widths,
)
from suffice.architecture.fitting.evaluation import Evaluation, evaluate
from suffice.architecture.fitting.identify import data_warnings, solution_warnings
from suffice.architecture.fitting.problem import (
    OptimalLoss,
    Problem,
    build_problem,
    largest_size,
    shape_clusters,
)
from suffice.architecture.fitting.small_sample import small_sample_stretch, stretched
from suffice.architecture.fitting.solve import Method, Solution, bootstrap, solve
from suffice.architecture.fitting.turning_point import TurningPoint
from suffice.architecture.laws import (
    AbsoluteLaw,
    ConditionalLaw,
    Family,
    Provenance,
    build_law,
    load_family,
)
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError, TableError

Cluster = Literal["run", "shape"]
Holdout = Literal["largest"]
ParameterCount = Literal["non-embedding", "total"]

DEFAULT_DELTA = 1e-3
# Below this many clusters a bootstrap has too few distinct resamples to trust its tails.
_FEW_CLUSTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutResult:
    """The largest scale, predicted by a fit that never saw it."""

    scale: str
    coefficients: Mapping[str, float]
    evaluation: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted law with the runs, predictions and residuals behind it.

    `law` carries the bootstrap draws, the range of the runs as its domain and the scatter of its
    residuals as noise. `residuals` = measured − predicted loss, nats. `optimal_losses` are L_opt
    by scale for conditional laws. `objective` is what the method minimises, at the fit (`delta`
    belongs to it); `worst` are the rows that the law misses by most. `lowest`: where the curves of
    a conditional law have their lowest points, by a test and intervals of the right size.
    """

    law: AbsoluteLaw | ConditionalLaw
    runs: RunsTable
    method: Method
    coefficients: tuple[CoefficientEstimate, ...]
    confidence: float
    predicted: FloatArray = field(repr=False)
    residuals: FloatArray = field(repr=False)
    objective: float
    delta: float
    worst: tuple[RowResidual, ...]
    evaluation: Evaluation
    holdout: HoldoutResult | None
    optimal_losses: Mapping[str, float]
    warnings: tuple[str, ...]
    bootstrap: int
    bootstrap_failed: int
    cluster: Cluster
    pinned: tuple[str, ...] = ()
    free_levels: bool = False
    held: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    lowest: tuple[TurningPoint, ...] = ()

    def evaluate(self, runs: RunsTable) -> Evaluation:
        """The law on other runs; a conditional law takes L_opt from them."""
        problem = build_problem(runs, self.law.family)
        theta = np.array(self.law.coefficients)
        return evaluate(problem, problem.predict(theta[None])[0])

    def interval(self, name: str) -> tuple[float, float] | None:
        """Bootstrap interval of the coefficient `name`."""
        found = next(c for c in self.coefficients if c.name == name)
        return None if found.low is None or found.high is None else (found.low, found.high)


def fit(
    runs: RunsTable,
    law: str | Family,
    *,
    method: Method = "huber",
    weights: FloatArray | None = None,
    delta: float = DEFAULT_DELTA,
    bootstrap_draws: int = 1000,
    cluster: Cluster = "shape",
    confidence: float = 0.9,
    holdout: Holdout | None = None,
    optimal_loss: OptimalLoss = "best",
    seed: int = 0,
    name: str | None = None,
    parameter_count: ParameterCount | None = None,
    held: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
    above: float = 1.0,
) -> Fit:
    """Fit the family `law` to `runs`.

    Args:
        runs: the table; a family needs the columns of its `variables` and `loss`.
        law: a registered family's name, or a family.
        method: see `suffice.architecture.fitting.solve`.
        weights: one per run; without, the table's `weight` column, else equal.
        delta: where Huber's loss turns linear, in ln loss.
        bootstrap_draws: resamples for the intervals; 0 for none.
        cluster: resample whole shapes (runs of one shape are not independent) or single runs.
        confidence: of the two-sided intervals.
        holdout: "largest" also fits without the largest scale and predicts it.
        optimal_loss: of conditional laws, where the table has no `loss_opt`: the best run of each
            scale, or a free level per scale.
        seed: of the resamples and sampled permutations.
        name: of the resulting law.
        parameter_count: which parameters the table's N counts; None is "non-embedding" for
            conditional laws, whose x asks for it, and "as given" for others.
        held: coefficients that are given and not fitted.
        tied: coefficients that equal another one.
        above: how much more a run counts that is predicted too high than one too low; beyond 1 the
            law leans to the lower edge of the runs, where good recipes are. Not with least squares.

    Raises:
        TableError: a column is missing or the runs are fewer than the free coefficients.
        InputError: an argument is outside what is allowed.
    """
    family = load_family(law) if isinstance(law, str) else law
    check_choices(method, cluster, holdout, optimal_loss)
    check_numbers(delta, bootstrap_draws, confidence)
    check_leaning(above, method)
    constraint = constrain(family, held, tied)
    counted = _counted(family, parameter_count)
    problem = build_problem(
        runs, constraint.family, weights=weights, optimal_loss=optimal_loss, above=above
    )
    check_size(problem, runs)
    drifting = drifts(problem, runs)
    solution = solve(problem, method, delta=delta)
    predicted = problem.predict(solution.theta[None])[0]
    if not np.isfinite(predicted).all():
        raise TableError(f"{runs.source}: no finite fit of {family.name} to these runs exists")
    draws, failed = _draws(
        problem, solution, method, delta, _resamples(runs, cluster, bootstrap_draws, seed)
    )
    if draws is not None:
        units = len(np.unique(shape_clusters(runs))) if cluster == "shape" else len(runs)
        stretch = small_sample_stretch(problem, units, confidence)
        draws = stretched(constraint.family, solution.theta, draws, stretch)
    fitted = build_law(
        family,
        name=name or f"{family.name} fitted on {runs.source}",
        coefficients=tuple(float(v) for v in constraint.expand(solution.theta)),
        provenance=Provenance(
            source=f"fitted by suffice on {runs.source}",
            fitted_on=f"{len(runs)} runs, {problem.num_scales} scales",
            method=method_text(method, delta, above) + constraint_text(constraint),
        ),
        parameter_count=counted,
        domain=domain_of(problem, runs),
        not_modelled=not_modelled_by(family),
        noise=noise_of(problem, predicted),
        draws=None if draws is None else constraint.expand(draws),
    )
    evaluation = evaluate(problem, predicted, seed=seed)
    coefficients = estimates(constraint, solution, draws, confidence)
    law_e = fitted.coefficient("E") if "E" in family.parameters else None
    warnings = [
        *runs.notes,
        *unit_warnings(runs, law_e),
        *misfit_warnings(evaluation),
        *contradictions(problem, runs, predicted, family.variables),
        *drifting,
        *data_warnings(problem),
        *solution_warnings(problem, solution, method),
        *zero_widths(coefficients),
    ]
    if failed:
        warnings.append(f"{failed} of {bootstrap_draws} bootstrap fits found no finite minimum")
    clusters = len(np.unique(shape_clusters(runs))) if cluster == "shape" else len(runs)
    if draws is not None and clusters < _FEW_CLUSTERS:
        warnings.append(
            f"{clusters} {cluster}s to resample are few: intervals are widened for it (Student's t "
            "and degrees of freedom), which made-up runs bear out and yours may not"
        )
    warnings += optimum_warnings(fitted, confidence)
    result = Fit(
        law=fitted,
        runs=runs,
        method=method,
        coefficients=coefficients,
        confidence=confidence,
        predicted=predicted,
        residuals=problem.loss - predicted,
        objective=solution.objective,
        delta=delta,
        worst=worst_rows(problem, runs, predicted),
        evaluation=evaluation,
        holdout=_held_out(problem, runs, method, delta, seed) if holdout else None,
        optimal_losses=_optimal_losses(problem, solution),
        warnings=tuple(warnings),
        bootstrap=0 if draws is None else len(draws),
        bootstrap_failed=failed,
        cluster=cluster,
        pinned=solution.pinned,
        free_levels=problem.free_levels,
        held=constraint.held,
        tied=constraint.tied,
        lowest=lowest_points(problem, confidence),
    )
    return replace(result, law=replace(fitted, diagnostics=diagnostics(result)))


def diagnostics(result: Fit) -> dict[str, Any]:
    """What a law file keeps of the fit: method, errors, intervals and the runs' digest."""
    evaluation = result.evaluation
    return {
        "method": result.method,
        "delta": result.delta if result.method == "huber" else None,
        "objective": result.objective,
        "bootstrap": result.bootstrap,
        "optimal_loss_from": "levels of the fit" if result.free_levels else "the best runs",
        "tokens_assumed": result.runs.assumed_tokens,
        "r_squared": evaluation.r_squared,
        "worst_rows": [[each.row, each.log_residual] for each in result.worst],
        "pinned": list(result.pinned),
        "held": dict(result.held),
        "tied": dict(result.tied),
        "lowest_points": {
            point.variable: {
                "value": point.value,
                "low": point.low,
                "high": point.high,
                "p_u_shape": point.p_u_shape,
                "located": point.located,
            }
            for point in result.lowest
        },
        "unidentified": [c.name for c in result.coefficients if c.unidentified],
        "runs": len(result.runs),
        "runs_sha256": result.runs.sha256,
        "mse": evaluation.mse,
        "log_rmse": evaluation.log_rmse,
        "regret_nats": evaluation.regret_nats,
        "confidence": result.confidence,
        "cluster": result.cluster,
        "intervals": {c.name: [c.low, c.high] for c in result.coefficients},
        "optimal_losses": dict(result.optimal_losses),
        "warnings": list(result.warnings),
        "holdout": None
        if result.holdout is None
        else {
            "scale": result.holdout.scale,
            "mse": result.holdout.evaluation.mse,
            "spearman": result.holdout.evaluation.spearman.rho,
            "n": result.holdout.evaluation.n,
            "regret_nats": result.holdout.evaluation.regret_nats,
        },
    }


def _counted(family: Family, given: str | None) -> str:
    if given not in (None, "non-embedding", "total"):
        raise InputError(f"parameter count {given!r} must be non-embedding or total")
    return given or ("non-embedding" if family.conditional else "as given")


def _resamples(runs: RunsTable, cluster: Cluster, draws: int, seed: int) -> FloatArray:
    """How often each run enters each resample, (draws, runs)."""
    groups = shape_clusters(runs) if cluster == "shape" else np.arange(len(runs), dtype=np.intp)
    number = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(number, np.full(number, 1.0 / number), size=draws)
    result: FloatArray = counts[:, groups].astype(np.float64)
    return result


def _draws(
    problem: Problem, solution: Solution, method: Method, delta: float, resamples: FloatArray
) -> tuple[FloatArray | None, int]:
    if not len(resamples):
        return None, 0
    found = bootstrap(problem, solution, method, resamples * problem.weights, delta=delta)
    good = np.isfinite(found).all(axis=1)
    if good.sum() < 2:
        return None, int((~good).sum())
    return found[good], int((~good).sum())


def _held_out(
    problem: Problem, runs: RunsTable, method: Method, delta: float, seed: int
) -> HoldoutResult:
    chosen, name = largest_size(runs, problem)
    if (~chosen).sum() <= problem.family.num_free:
        raise TableError(
            f"without the largest scale ({name}) {int((~chosen).sum())} runs remain, too few for "
            f"{problem.family.num_free} free coefficients"
        )
    # The level of an unseen scale cannot be fitted: both sides use the best measured run.
    trained = solve(replace(problem.take(~chosen), free_levels=False), method, delta=delta)
    held = replace(problem.take(chosen), free_levels=False)
    predicted = held.predict(trained.theta[None])[0]
    return HoldoutResult(
        scale=name,
        coefficients=dict(zip(problem.family.parameters, trained.theta.tolist(), strict=True)),
        evaluation=evaluate(held, predicted, seed=seed),
    )


def _optimal_losses(problem: Problem, solution: Solution) -> dict[str, float]:
    if not problem.family.conditional:
        return {}
    reference = problem.factor if problem.family.target == "ratio" else problem.offset
    count = len(problem.family.parameters)
    losses = {}
    for number, name in enumerate(problem.scale_names):
        chosen = reference[problem.scale_of == number]
        level = float(np.exp(solution.theta[count + number])) if problem.free_levels else 1.0
        losses[name] = level * float(chosen[0])
    return losses
