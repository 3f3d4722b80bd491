"""A law from a ladder: forms compared, the simplest that wins fitted, its curves read out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from suffice.architecture.fitting import CoefficientEstimate, Fit, fit
from suffice.architecture.fitting.compare import (
    FormResult,
    compare_forms,
    simplest_within_error,
)
from suffice.architecture.fitting.evaluation import RankCorrelation, rank_correlation
from suffice.architecture.fitting.turning_point import LIKELY_LEVEL, TurningPoint
from suffice.architecture.laws import (
    NOISE_FLOOR_NATS,
    ConditionalLaw,
    Domain,
    Interval,
    Provenance,
    load_family,
)
from suffice.architecture.runs import RunsTable
from suffice.core.errors import InputError
from suffice.recipes.ladder.surface import Interaction, interactions, lowest_points
from suffice.recipes.ladder.table import (
    LAW_PURPOSES,
    Counted,
    RateCheck,
    SeedNoise,
    law_records,
    rate_checks,
    runs_table,
    seed_noise,
)
from suffice.training.pretrain.run_store import RunRecord

# What is compared. The published ones first; only forms in x and r can guide a design.
PUBLISHED_FORMS = (
    "chinchilla", "morph", "width-depth",
    "conditional-multiplicative", "conditional-additive", "conditional-joint",
)  # fmt: skip
OUR_FORMS = (
    "conditional-depth-alone", "conditional-depth", "conditional-aspect", "conditional-shape",
    "conditional-product",
)  # fmt: skip
DESIGN_FORMS = (
    "conditional-multiplicative", "conditional-joint", "conditional-depth", "conditional-aspect",
    "conditional-shape", "conditional-product",
)  # fmt: skip

# The one that holds every axis a dense shape has at a fixed N and head size.
WIDEST_FORM = "conditional-shape"
# Runs beyond its coefficients that a form needs to be compared at all.
_MARGIN = 6

# The published optimum (arXiv:2510.18245): x* = .074 to .080, r* = 1.0 to 1.2.
PUBLISHED_OPTIMUM = {"x": 0.08, "r": 1.0}

# A curve c1 ln v + c2 / v per variable; the letter of its two coefficients.
_CURVES = {"x": "a", "r": "b", "layers": "h", "width_per_layer": "h"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the law says of one variable with the others held.

    `best` minimises the loss inside [`low`, `high`], the range of the runs; `best_low`, `best_high`
    are its interval over bootstrap fits, cut at the range. `inside_share` is the share of bootstrap
    fits whose lowest point lies inside it; since coefficients are kept positive, that is half for
    flat truths too. Whether there is a U and where its lowest point lies says `turning`, a test of
    the right size; None where the shapes are too few for it.
    `effect_percent` is the loss at the worst end over that at the best value.
    """

    variable: str
    low: float
    high: float
    best: float
    best_low: float
    best_high: float
    inside_share: float
    effect_percent: float
    turning: TurningPoint | None = None

    @property
    def verdict(self) -> str:
        """One phrase for tables."""
        if self.turning is None:
            return "too few shapes to tell a U-shape"
        if self.turning.p_u_shape <= LIKELY_LEVEL:
            return self.turning.verdict
        if self.inside_share >= 0.5:
            return "no U-shape shown"
        end = "larger" if self.best > (self.low * self.high) ** 0.5 else "smaller"
        return f"no U-shape shown: loss falls towards {end} values"


@dataclass(frozen=True, slots=True, kw_only=True)
class KvEffect:
    """Loss at a quarter of the KV heads over loss with as many KV as query heads, per cent."""

    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderFit:
    """Everything a ladder's runs say about shape.

    `widest` is the form with every axis, for what the chosen one leaves out (`kv` comes from it).
    `random_ranks` is Spearman's rho of the next-size test over the runs drawn at random alone.
    """

    name: str
    records: tuple[RunRecord, ...]
    runs: RunsTable
    forms: tuple[FormResult, ...]
    chosen: str
    fit: Fit
    law: ConditionalLaw
    curves: tuple[Curve, ...]
    widest: Fit | None
    kv: KvEffect | None
    noise: SeedNoise | None
    checks: tuple[RateCheck, ...]
    random_ranks: dict[str, RankCorrelation] = field(default_factory=dict)
    interactions: tuple[Interaction, ...] = ()

    def form(self, name: str) -> FormResult:
        """The comparison's row of the family `name`."""
        return next(form for form in self.forms if form.family == name)

    @property
    def coefficients(self) -> tuple[CoefficientEstimate, ...]:
        """Of the chosen form, with intervals."""
        return self.fit.coefficients


def fit_ladder(
    store: Path,
    *,
    family: str | None = None,
    name: str = "our-ladder",
    bootstrap_draws: int = 1000,
    confidence: float = 0.9,
    compared: Sequence[str] = (*PUBLISHED_FORMS, *OUR_FORMS),
    learning_rate_factor: float = 1.0,
    counted: Counted = "matrices",
    correct_size: bool = True,
    purposes: Collection[str] = LAW_PURPOSES,
    seed: int = 0,
) -> LadderFit:
    """The law of the runs in `store`, by `family` or by the simplest form that wins.

    A form wins if its leave-one-shape-out error is within one standard error of the best form's
    (of their paired difference, over shapes); of these, the one with the fewest coefficients. The
    next-size test plays no part in it. `counted` and `correct_size`: see `runs_table`; `purposes`
    are the runs taken.

    Raises:
        TableError: no run to fit, runs that do not compare, or too few.
        InputError: `family` is no conditional family in x and r.
    """
    if family is not None and family not in DESIGN_FORMS:
        raise InputError(
            f"family {family!r} cannot guide a design: choose one of {', '.join(DESIGN_FORMS)}"
        )
    records = law_records(store, learning_rate_factor=learning_rate_factor, purposes=purposes)
    runs = runs_table(records, source=store.name, counted=counted, correct_size=correct_size)
    # Forms with more coefficients than the runs can carry are left out of the comparison.
    fitting = [f for f in compared if len(runs) > load_family(f).num_free + _MARGIN]
    forms = compare_forms(runs, fitting, seed=seed)
    usable = [form for form in forms if form.family in DESIGN_FORMS]
    if not usable and family is None:
        raise InputError(f"{len(runs)} runs are too few to compare forms: name one with --family")
    chosen = family or simplest_within_error(usable).family
    result = fit(
        runs, chosen, bootstrap_draws=bootstrap_draws, confidence=confidence,
        optimal_loss="free", holdout=None, seed=seed, name=name,
    )  # fmt: skip
    checks = rate_checks(store)
    law = _certified(result, records, forms, checks)
    widest = None
    if len(runs) > load_family(WIDEST_FORM).num_free + _MARGIN:
        widest = fit(
            runs, WIDEST_FORM, bootstrap_draws=bootstrap_draws, confidence=confidence,
            optimal_loss="free", holdout=None, seed=seed,
        )  # fmt: skip
    return LadderFit(
        name=name,
        records=tuple(records),
        runs=runs,
        forms=forms,
        chosen=chosen,
        fit=result,
        law=law,
        curves=_curves(law, lowest_points(runs, law.family, confidence=confidence), confidence),
        widest=widest,
        kv=None if widest is None else _kv_effect(widest, confidence),
        noise=seed_noise(records),
        checks=checks,
        random_ranks=_random_ranks(records, forms, seed),
        interactions=interactions(runs, law.family),
    )  # fmt: skip


def rate_note(checks: Sequence[RateCheck]) -> str | None:
    """A sentence on what the ladder's learning rate costs shapes unevenly; None if it does not.

    What all shapes lose alike is level; what some lose more than others looks like an effect of
    shape.
    """
    lost = [check.given_up_nats for check in checks]
    if not lost or max(lost) - min(lost) <= 2 * NOISE_FLOOR_NATS:
        return None
    return (
        f"the learning rate: at the ladder's own, {len(lost)} shapes that were also trained at "
        f"others lose {min(lost):.3f} to {max(lost):.3f} nats, unevenly, so that part of what the "
        "law says of shape is the recipe's"
    )


def _certified(
    result: Fit,
    records: Sequence[RunRecord],
    forms: Sequence[FormResult],
    checks: Sequence[RateCheck],
) -> ConditionalLaw:
    """The fitted law with where it holds, what it was fitted on and what it leaves out."""
    law = result.law
    assert isinstance(law, ConditionalLaw)
    budgets = np.array([r.tokens / r.non_embedding_parameters for r in records])
    first = records[0]
    extra = Interval(
        variable="tokens_per_parameter", low=float(budgets.min()), high=float(budgets.max()),
        basis="the runs of the fit", enforced=False,
    )  # fmt: skip
    compared = {
        form.family: {
            "free_coefficients": form.free_coefficients,
            "cross_validated_log_rmse": form.cross_validated,
            "next_size": None
            if form.next_size is None
            else {
                "n": form.next_size.n,
                "mse": form.next_size.mse,
                "log_rmse": form.next_size.log_rmse,
                "spearman": form.next_size.spearman.rho,
                "regret_nats": form.next_size.regret_nats,
            },
        }
        for form in forms
    }
    sizes = [r.non_embedding_parameters for r in records]
    return replace(
        law,
        domain=Domain(intervals=(*law.domain.intervals, extra)),
        provenance=Provenance(
            source="our own ladder (`suffice ladder run`, results/ladder)",
            fitted_on=(
                f"{len(records)} runs of {min(sizes):,} to {max(sizes):,} non-embedding parameters,"
                f" {first.head_dim} per head, vocabulary {first.vocab_size}, recipe "
                f"{first.recipe} at {first.learning_rate_factor:g} times its learning rate, data "
                f"{first.data}"
            ),
            method=law.provenance.method,
            accuracy=f"leave-one-shape-out error of ln loss "
            f"{_of(forms, law.family.name):.4f}" if forms else "",
        ),
        not_modelled=(
            *law.not_modelled,
            "head size and vocabulary: one of each in the runs",
            "the embeddings' share of the parameters, which grows with x at so small a size",
            *([] if (note := rate_note(checks)) is None else [note]),
        ),
        diagnostics={**law.diagnostics, "compared": compared},
    )  # fmt: skip


def _of(forms: Sequence[FormResult], name: str) -> float:
    return next((f.cross_validated for f in forms if f.family == name), float("nan"))


def _curves(
    law: ConditionalLaw, points: Sequence[TurningPoint], confidence: float
) -> tuple[Curve, ...]:
    found = {point.variable: point for point in points}
    return tuple(
        replace(_curve(law, variable, confidence), turning=found.get(variable))
        for variable in _CURVES
        if variable in law.family.variables
    )


def _curve(law: ConditionalLaw, variable: str, confidence: float) -> Curve:
    interval = law.domain.interval(variable)
    assert interval is not None
    names = [f"{_CURVES[variable]}{i}" for i in (1, 2)]
    point = np.array([[law.coefficient(name) for name in names]])
    columns = [law.family.parameters.index(name) for name in names]
    draws = point if law.draws is None else law.draws[:, columns]
    low, high = interval.low, interval.high
    best, _ = _lowest(point, low, high)
    found, inside = _lowest(draws, low, high)
    tail = 50 * (1 - confidence)
    ends = np.percentile(found, [tail, 100 - tail])
    c1, c2 = point[0]
    loss = [c1 * np.log(v) + c2 / v for v in (low, high, float(best[0]))]
    return Curve(
        variable=variable,
        low=low,
        high=high,
        best=float(best[0]),
        best_low=float(ends[0]),
        best_high=float(ends[1]),
        inside_share=float(inside.mean()),
        effect_percent=100 * float(max(loss[:2]) - loss[2]),
    )


def _lowest(
    curves: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Lowest point of each c1 ln v + c2 / v inside [low, high], and whether it is no end."""
    c1, c2 = curves.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        stationary = np.where((c1 > 0) & (c2 > 0), c2 / c1, np.where(c2 > 0, np.inf, 0.0))
    inside = (stationary > low) & (stationary < high)
    return np.clip(stationary, low, high), inside


def _kv_effect(widest: Fit, confidence: float) -> KvEffect:
    law = widest.law
    scale = 100 * np.log(4.0)
    g = law.coefficient("g")
    draws = np.array([g]) if law.draws is None else law.draws[:, law.family.parameters.index("g")]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return KvEffect(percent=scale * g, low=scale * float(low), high=scale * float(high))


def _random_ranks(
    records: Sequence[RunRecord], forms: Sequence[FormResult], seed: int
) -> dict[str, RankCorrelation]:
    ranks = {}
    for form in forms:
        test = form.next_size
        if test is None:
            continue
        rows = np.array([records[row].purpose == "held-out" for row in test.rows])
        if rows.sum() > 1:
            ranks[form.family] = rank_correlation(
                test.predicted[rows], test.measured[rows], seed=seed
            )
    return ranks
