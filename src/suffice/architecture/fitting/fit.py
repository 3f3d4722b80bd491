"""Fit a law to a table of runs and keep everything that the result rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from suffice.architecture.fitting.evaluation import Evaluation, evaluate
from suffice.architecture.fitting.identify import data_warnings, solution_warnings
from suffice.architecture.fitting.problem import (
    FloatArray,
    OptimalLoss,
    Problem,
    build_problem,
    shape_clusters,
)
from suffice.architecture.fitting.solve import METHODS, Method, Solution, bootstrap, solve
from suffice.architecture.laws import (
    NOISE_FLOOR_NATS,
    AbsoluteLaw,
    ConditionalLaw,
    Domain,
    Family,
    Interval,
    LossNoise,
    Provenance,
    build_law,
    load_family,
)
from suffice.architecture.runs import RunsTable
from suffice.core.errors import InputError, TableError

Cluster = Literal["run", "shape"]
Holdout = Literal["largest"]
ParameterCount = Literal["non-embedding", "total"]

DEFAULT_DELTA = 1e-3
# A law is trusted this far beyond the sizes it was fitted on (arXiv:2510.18245 went 1B to 3B).
_TRUSTED_REACH = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoefficientEstimate:
    """A coefficient with its two-sided bootstrap interval; None where it was held or pinned."""

    name: str
    value: float
    low: float | None
    high: float | None


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
    by scale for conditional laws.
    """

    law: AbsoluteLaw | ConditionalLaw
    runs: RunsTable
    method: Method
    coefficients: tuple[CoefficientEstimate, ...]
    confidence: float
    predicted: FloatArray = field(repr=False)
    residuals: FloatArray = field(repr=False)
    objective: float
    evaluation: Evaluation
    holdout: HoldoutResult | None
    optimal_losses: Mapping[str, float]
    warnings: tuple[str, ...]
    bootstrap: int
    bootstrap_failed: int
    cluster: Cluster

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

    Raises:
        TableError: a column is missing or the runs are fewer than the free coefficients.
        InputError: an argument is outside what is allowed.
    """
    family = load_family(law) if isinstance(law, str) else law
    _check_choices(method, cluster, holdout, optimal_loss)
    _check_numbers(delta, bootstrap_draws, confidence)
    counted = _counted(family, parameter_count)
    problem = build_problem(runs, family, weights=weights, optimal_loss=optimal_loss)
    _check_size(problem, runs)
    solution = solve(problem, method, delta=delta)
    predicted = problem.predict(solution.theta[None])[0]
    if not np.isfinite(predicted).all():
        raise TableError(f"{runs.source}: no finite fit of {family.name} to these runs exists")
    draws, failed = _draws(
        problem, solution, method, delta, _resamples(runs, cluster, bootstrap_draws, seed)
    )
    count = len(family.parameters)
    fitted = build_law(
        family,
        name=name or f"{family.name} fitted on {runs.source}",
        coefficients=tuple(float(v) for v in solution.theta[:count]),
        provenance=Provenance(
            source=f"fitted by suffice on {runs.source}",
            fitted_on=f"{len(runs)} runs, {problem.num_scales} scales",
            method=_method_text(method, delta),
        ),
        parameter_count=counted,
        domain=_domain(problem, runs),
        not_modelled=_not_modelled(family),
        noise=_noise(problem, predicted),
        draws=None if draws is None else draws[:, :count],
    )
    warnings = [*data_warnings(problem), *solution_warnings(problem, solution, method)]
    if failed:
        warnings.append(f"{failed} of {bootstrap_draws} bootstrap fits found no finite minimum")
    warnings += _optimum_warnings(fitted, confidence)
    result = Fit(
        law=fitted,
        runs=runs,
        method=method,
        coefficients=_estimates(family, solution, draws, confidence),
        confidence=confidence,
        predicted=predicted,
        residuals=problem.loss - predicted,
        objective=solution.objective,
        evaluation=evaluate(problem, predicted, seed=seed),
        holdout=_held_out(problem, method, delta, seed) if holdout else None,
        optimal_losses=_optimal_losses(problem, solution),
        warnings=tuple(warnings),
        bootstrap=0 if draws is None else len(draws),
        bootstrap_failed=failed,
        cluster=cluster,
    )
    return replace(result, law=replace(fitted, diagnostics=diagnostics(result)))


def diagnostics(result: Fit) -> dict[str, Any]:
    """What a law file keeps of the fit: method, errors, intervals and the runs' digest."""
    evaluation = result.evaluation
    return {
        "method": result.method,
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


def _check_choices(method: str, cluster: str, holdout: str | None, optimal_loss: str) -> None:
    if method not in METHODS:
        raise InputError(f"method {method!r} must be one of {', '.join(METHODS)}")
    if cluster not in ("run", "shape"):
        raise InputError(f"cluster {cluster!r} must be run or shape")
    if holdout not in (None, "largest"):
        raise InputError(f"holdout {holdout!r} must be largest or nothing")
    if optimal_loss not in ("best", "free"):
        raise InputError(f"optimal loss {optimal_loss!r} must be best or free")


def _check_numbers(delta: float, draws: int, confidence: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta must lie in (0, 1), got {delta}: it is in units of ln loss")
    if not 0 <= draws <= 100_000:
        raise InputError(f"bootstrap draws must lie in [0, 100000], got {draws}")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence must lie in [0.5, 1), got {confidence}")


def _check_size(problem: Problem, runs: RunsTable) -> None:
    free = problem.family.num_free
    if problem.free_levels:
        free += problem.num_scales - 1
    if len(problem.loss) <= free:
        raise TableError(
            f"{runs.source}: {len(problem.loss)} runs are too few for the {free} free coefficients"
            f" of {problem.family.name}; at least {free + 1} are needed"
        )


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


def _estimates(
    family: Family, solution: Solution, draws: FloatArray | None, confidence: float
) -> tuple[CoefficientEstimate, ...]:
    tail = 50.0 * (1.0 - confidence)
    estimates = []
    for index, name in enumerate(family.parameters):
        low = high = None
        if draws is not None and name not in family.fixed and name not in solution.pinned:
            low, high = (float(v) for v in np.percentile(draws[:, index], [tail, 100.0 - tail]))
        estimates.append(
            CoefficientEstimate(name=name, value=float(solution.theta[index]), low=low, high=high)
        )
    return tuple(estimates)


def _held_out(problem: Problem, method: Method, delta: float, seed: int) -> HoldoutResult:
    size = problem.variables["N"] if "N" in problem.variables else problem.factor + problem.offset
    by_scale = [
        float(size[problem.scale_of == number].mean()) for number in range(problem.num_scales)
    ]
    # Without N in the law the largest scale is the one with the lowest best loss.
    largest = int(np.argmax(by_scale) if "N" in problem.variables else np.argmin(by_scale))
    rest = problem.scale_of != largest
    if rest.sum() <= problem.family.num_free:
        raise TableError(
            f"without the largest scale ({problem.scale_names[largest]}) {int(rest.sum())} runs "
            f"remain, too few for {problem.family.num_free} free coefficients"
        )
    trained = solve(replace(problem.take(rest), free_levels=False), method, delta=delta)
    held = replace(problem.take(~rest), free_levels=False)
    predicted = held.predict(trained.theta[None])[0]
    return HoldoutResult(
        scale=problem.scale_names[largest],
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


def _domain(problem: Problem, runs: RunsTable) -> Domain:
    intervals = []
    for name, column in problem.variables.items():
        low, high, basis = float(column.min()), float(column.max()), "the runs of the fit"
        if name in ("N", "D"):
            low, high = low / _TRUSTED_REACH, high * _TRUSTED_REACH
            basis = f"within {_TRUSTED_REACH:g}x of the runs of the fit"
        intervals.append(Interval(variable=name, low=low, high=high, basis=basis))
    if "N" not in problem.variables and runs.has("N"):
        size = runs.column("N")
        intervals.append(
            Interval(
                variable="N",
                low=float(size.min()) / _TRUSTED_REACH,
                high=float(size.max()) * _TRUSTED_REACH,
                basis=f"within {_TRUSTED_REACH:g}x of the runs of the fit",
            )
        )
    if runs.has("gqa") and "gqa" not in problem.variables:
        gqa = runs.column("gqa")
        intervals.append(
            Interval(
                variable="gqa", low=float(gqa.min()), high=float(gqa.max()), enforced=False,
                basis="the runs of the fit; the law does not model GQA",
            )
        )  # fmt: skip
    return Domain(intervals=tuple(intervals))


def _not_modelled(family: Family) -> tuple[str, ...]:
    missing = {
        "gqa": "GQA (query heads per KV head)",
        "num_hidden_layers": "depth at equal N",
        "r": "MLP-to-attention ratio",
        "x": "hidden size at equal N",
    }
    covered = set(family.variables)
    if "width_per_layer" in covered:
        covered |= {"num_hidden_layers", "x"}
    return tuple(text for name, text in missing.items() if name not in covered)


def _noise(problem: Problem, predicted: FloatArray) -> LossNoise:
    residual = np.log(problem.loss) - np.log(np.maximum(predicted, 1e-300))
    levels = problem.num_scales - 1 if problem.free_levels else 0
    freedom = max(1, len(residual) - problem.family.num_free - levels)
    sd = float(np.sqrt((problem.weights * residual**2).sum() / freedom))
    floor = NOISE_FLOOR_NATS / float(problem.loss.mean()) / 2**0.5
    basis = f"residuals of this fit, {freedom} degrees of freedom"
    if sd < floor:
        sd, basis = floor, "noise floor of repeated runs (arXiv:2412.04403), above the residuals"
    return LossNoise(relative_sd=sd, degrees_of_freedom=freedom, basis=basis)


def _optimum_warnings(law: AbsoluteLaw | ConditionalLaw, confidence: float) -> list[str]:
    if not isinstance(law, ConditionalLaw) or "a1" not in law.family.parameters:
        return []
    reason = law.no_optimum_reason()
    if reason is not None:
        return [f"no optimum: {reason}"]
    warnings = []
    tail = 50.0 * (1.0 - confidence)
    draws = None if law.draws is None else law.optimum_draws()
    for index, (name, factor) in enumerate((("x", "a"), ("r", "b"))):
        best = law.coefficient(f"{factor}2") / law.coefficient(f"{factor}1")
        warnings += [f"the optimum's {note}" for note in law.domain.notes(**{name: best})]
        interval = law.domain.interval(name)
        if draws is None or interval is None:
            continue
        found = draws[np.isfinite(draws[:, index]), index]
        if len(found) < len(draws):
            share = 100.0 * (1.0 - len(found) / len(draws))
            warnings.append(f"{share:.0f} % of the bootstrap fits have no optimum in {name}")
        if not len(found):
            continue
        low, high = np.percentile(found, [tail, 100.0 - tail])
        if not bool(interval.contains(np.array([low, high])).all()):
            warnings.append(
                f"the interval of {name}*, {low:.3g} to {high:.3g}, leaves the runs' range "
                f"[{interval.low:.3g}, {interval.high:.3g}]: these runs do not locate it"
            )
    return warnings


def _method_text(method: Method, delta: float) -> str:
    return {
        "huber": f"Huber (delta {delta:g}) on ln loss, positive coefficients",
        "likelihood": "least absolute deviations of ln loss (likelihood with learned scale)",
        "least_squares": "least squares on loss, positive coefficients",
        "lm": "least squares on loss, coefficients of any sign",
    }[method]
