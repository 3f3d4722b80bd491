"""What a fitted law carries besides coefficients: its range, its noise, what it leaves out."""

from __future__ import annotations

import numpy as np

from suffice.architecture.fitting.problem import Problem
from suffice.architecture.laws import (
    NOISE_FLOOR_NATS,
    AbsoluteLaw,
    ConditionalLaw,
    Domain,
    Family,
    Interval,
    LossNoise,
)
from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray

# A law is trusted this far beyond the sizes it was fitted on (arXiv:2510.18245 went 1B to 3B).
_TRUSTED_REACH = 3.0


def domain_of(problem: Problem, runs: RunsTable) -> Domain:
    """The range of the runs, sizes and budgets extended by what a law is trusted for."""
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
    if runs.has("gqa") and not {"gqa", "kv_share"} & problem.variables.keys():
        gqa = runs.column("gqa")
        intervals.append(
            Interval(
                variable="gqa", low=float(gqa.min()), high=float(gqa.max()), enforced=False,
                basis="the runs of the fit; the law does not model GQA",
            )
        )  # fmt: skip
    return Domain(intervals=tuple(intervals))


def not_modelled_by(family: Family) -> tuple[str, ...]:
    """Properties of a shape that no variable of `family` depends on."""
    missing = {
        "gqa": "GQA (query heads per KV head)",
        "num_hidden_layers": "depth at equal N",
        "r": "MLP-to-attention ratio",
        "x": "hidden size at equal N",
    }
    covered = set(family.variables)
    if "width_per_layer" in covered:
        covered |= {"num_hidden_layers", "x"}
    if "layers" in covered:
        covered.add("num_hidden_layers")
    if "kv_share" in covered:
        covered.add("gqa")
    if "hidden_size" in covered:
        covered.add("x")
    return tuple(text for name, text in missing.items() if name not in covered)


def noise_of(problem: Problem, predicted: FloatArray) -> LossNoise:
    """Scatter of the runs about the fit, never below that of repeated runs."""
    residual = np.log(problem.loss) - np.log(np.maximum(predicted, 1e-300))
    levels = problem.num_scales - 1 if problem.free_levels else 0
    freedom = max(1, len(residual) - problem.family.num_free - levels)
    sd = float(np.sqrt((problem.weights * residual**2).sum() / freedom))
    floor = NOISE_FLOOR_NATS / float(problem.loss.mean()) / 2**0.5
    basis = f"residuals of this fit, {freedom} degrees of freedom"
    if sd < floor:
        sd, basis = floor, "noise floor of repeated runs (arXiv:2412.04403), above the residuals"
    return LossNoise(relative_sd=sd, degrees_of_freedom=freedom, basis=basis)


def optimum_warnings(law: AbsoluteLaw | ConditionalLaw, confidence: float) -> list[str]:
    """Sentences about an optimum that is absent, outside the runs, or not located by them."""
    if not isinstance(law, ConditionalLaw) or not ({"a1", "b1"} <= set(law.family.parameters)):
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
