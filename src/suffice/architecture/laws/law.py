"""A law with its coefficients: what it predicts, how surely, and where it may be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from suffice.architecture.laws.domain import Domain
from suffice.architecture.laws.family import Family
from suffice.architecture.laws.noise import NOISE_FLOOR_NATS, LossNoise
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError

# Functions that give the laws which ship. Law files are made of laws: their module adds its own.
EMBEDDED: list[Callable[[], Iterable[Any]]] = []

_NO_OPTIMUM = (
    "all of a1, a2, b1, b2 must be positive for the law to have a lowest point; {names} {are} not"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where coefficients come from."""

    source: str
    fitted_on: str
    method: str = ""
    accuracy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The shape with the lowest loss under a conditional law.

    `relative_loss` is the law's own L / L_opt there (published sets are off 1 by their rounding);
    None for an additive law that is not anchored, and where further axes were not given.
    """

    x: float
    r: float
    relative_loss: float | None
    reported: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Loss of shapes over the loss of a reference shape, with an interval at `confidence`.

    `low` and `high` are one-sided bounds: each holds with probability `confidence`.
    """

    ratio: FloatArray
    low: FloatArray
    high: FloatArray
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A family with coefficients, in the order of `family.parameters`.

    `draws` are bootstrap coefficients (draws, parameters) of our own fits; published sets have
    none and carry `noise` alone. `parameter_count` says which N the coefficients mean.
    `optimal_loss` is L_opt in nats, for absolute losses of a conditional law.
    """

    name: str
    family: Family
    coefficients: tuple[float, ...]
    provenance: Provenance
    domain: Domain = field(default_factory=Domain)
    parameter_count: str = "non-embedding"
    errata: tuple[str, ...] = ()
    not_modelled: tuple[str, ...] = ()
    noise: LossNoise | None = None
    draws: FloatArray | None = field(default=None, repr=False, compare=False)
    optimal_loss: float | None = None
    reported_optimum: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        wanted = len(self.family.parameters)
        if len(self.coefficients) != wanted:
            raise InputError(
                f"law {self.name!r} needs {wanted} coefficients "
                f"({', '.join(self.family.parameters)}), got {len(self.coefficients)}"
            )
        if self.draws is not None and self.draws.shape[1:] != (wanted,):
            raise InputError(f"law {self.name!r}: draws must be (draws, {wanted})")

    def coefficient(self, name: str) -> float:
        """The coefficient called `name`."""
        return self.coefficients[self.family.parameters.index(name)]

    @property
    def formula(self) -> str:
        """The family's formula."""
        return self.family.formula

    def check(self, *, extrapolate: bool = False, **values: float | FloatArray) -> tuple[str, ...]:
        """Notes on `values` (x=, r=, N=, gqa=, …); raises OutsideValidity outside the evidence."""
        return self.domain.check(
            self.name, extrapolate=extrapolate, others=partial(self._others, values), **values
        )

    def _others(self, values: Mapping[str, float | FloatArray]) -> tuple[str, ...]:
        """Embedded laws of this target whose evidence holds `values`."""
        return tuple(
            law.name
            for embedded in EMBEDDED
            for law in embedded()
            if law.name != self.name
            and law.family.conditional == self.family.conditional
            and bool(np.all(law.domain.contains(**values)))
        )

    def evaluate(self, **variables: float | FloatArray) -> FloatArray:
        """The family's formula at these variables: a loss, a ratio or an excess by its target."""
        return self.family.evaluate(self.coefficients, _floats(variables))

    def evaluate_draws(self, **variables: float | FloatArray) -> FloatArray:
        """The formula under every bootstrap draw, (draws, shapes)."""
        if self.draws is None:
            raise InputError(
                f"law {self.name!r} carries no bootstrap draws: published coefficients came "
                "without covariance; fit a law on runs, or use its noise"
            )
        columns = [column[:, None] for column in self.draws.T]
        arrays = {k: np.atleast_1d(v) for k, v in _floats(variables).items()}
        return self.family.evaluate(columns, arrays)

    def _bounds(self, ratio: FloatArray, sd: FloatArray, confidence: float) -> Comparison:
        quantile = (self.noise or _FLOOR).quantile(confidence)
        return Comparison(
            ratio=ratio,
            low=ratio * np.exp(-quantile * sd),
            high=ratio * np.exp(quantile * sd),
            confidence=confidence,
        )

    def _difference_sd(
        self,
        arrays: Mapping[str, FloatArray],
        versus: Mapping[str, float],
        log_draws: FloatArray | None,
    ) -> FloatArray:
        noise = (self.noise or _FLOOR).difference_sd()
        variance = np.full(np.broadcast_shapes(*(a.shape for a in arrays.values())), noise**2)
        if log_draws is not None:
            variance = variance + np.nanvar(log_draws, axis=0, ddof=1)
        same = np.ones(variance.shape, dtype=bool)
        for name, values in arrays.items():
            same &= np.isclose(values, versus[name], rtol=1e-12, atol=0.0)
        result: FloatArray = np.where(same, 0.0, np.sqrt(variance))
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsoluteLaw(Law):
    """A law that predicts the loss itself, such as Chinchilla or Morph."""

    def compare_at(
        self,
        points: Mapping[str, float | FloatArray],
        versus: Mapping[str, float],
        *,
        confidence: float = 0.9,
    ) -> Comparison:
        """Loss at `points` over the loss at `versus` (variables by name), with an interval."""
        arrays = {k: np.atleast_1d(v) for k, v in _floats(points).items()}
        logs = None
        if self.draws is not None:
            with np.errstate(invalid="ignore"):
                logs = np.log(self.evaluate_draws(**arrays)) - np.log(self.evaluate_draws(**versus))
        ratio = self.evaluate(**arrays) / self.evaluate(**versus)
        return self._bounds(ratio, self._difference_sd(arrays, versus, logs), confidence)

    def loss_bounds(
        self, *, confidence: float = 0.9, **variables: float
    ) -> tuple[float, float] | None:
        """One-sided bounds of the loss of one run there (nats); None where nothing is known of it.

        The spread of the bootstrap draws and the law's noise in quadrature, in ln loss. Published
        sets carry no draws: theirs is the noise alone, where they have one.
        """
        if self.noise is None and self.draws is None:
            return None
        variance = 0.0 if self.noise is None else self.noise.relative_sd**2
        if self.draws is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                logs = np.log(self.evaluate_draws(**variables)[:, 0])
            variance += float(np.nanvar(logs, ddof=1))
        loss = float(self.evaluate(**variables))
        quantile = (self.noise or _FLOOR).quantile(confidence)
        reach = quantile * variance**0.5
        return float(loss * np.exp(-reach)), float(loss * np.exp(reach))

    def loss(
        self, N: float | FloatArray, D: float | FloatArray, **shape: float | FloatArray
    ) -> FloatArray:
        """Loss in nats at `N` parameters and `D` tokens, and the shape variables of the family."""
        return self.evaluate(N=N, D=D, **shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionalLaw(Law):
    """A law relative to the best loss at the same N and D."""

    def relative_loss(
        self, x: float | FloatArray, r: float | FloatArray, **axes: float | FloatArray
    ) -> FloatArray:
        """L / L_opt(N, D): plain arithmetic on arrays, for millions of shapes a second."""
        value = self.family.evaluate(self.coefficients, {"x": x, "r": r, **axes})
        return self._as_ratio(value)

    def relative_loss_draws(
        self, x: float | FloatArray, r: float | FloatArray, **axes: float | FloatArray
    ) -> FloatArray:
        """L / L_opt under every bootstrap draw, (draws, shapes)."""
        return self._as_ratio(self.evaluate_draws(x=x, r=r, **axes))

    def loss(
        self, x: float | FloatArray, r: float | FloatArray, **axes: float | FloatArray
    ) -> FloatArray:
        """Loss in nats; needs `optimal_loss` (see `anchored`)."""
        if self.optimal_loss is None:
            raise InputError(
                f"law {self.name!r} gives losses relative to L_opt(N, D): anchor it at a shape "
                "whose loss is known"
            )
        return self.optimal_loss * self.relative_loss(x, r, **axes)

    def anchored(self, loss: float, x: float, r: float, **axes: float) -> ConditionalLaw:
        """The same law with L_opt such that the shape at (x, r) has `loss` (nats)."""
        if not np.isfinite(loss) or loss <= 0:
            raise InputError(f"a reference loss must be positive, got {loss}")
        value = float(self.family.evaluate(self.coefficients, {"x": x, "r": r, **axes}))
        optimal = loss / value if self.family.target == "ratio" else loss - value
        return replace(self, optimal_loss=optimal)

    def compare(
        self,
        x: float | FloatArray,
        r: float | FloatArray,
        *,
        versus: Mapping[str, float],
        confidence: float = 0.9,
        **axes: float | FloatArray,
    ) -> Comparison:
        """Loss over the loss of the shape at `versus` (x, r and further axes), with an interval."""
        points = {"x": x, "r": r, **axes}
        arrays = {k: np.atleast_1d(v) for k, v in _floats(points).items()}
        ratio = self.relative_loss(**arrays) / self.relative_loss(**versus)
        return self._bounds(ratio, self.difference_sd(arrays, versus), confidence)

    def difference_sd(
        self, points: Mapping[str, float | FloatArray], versus: Mapping[str, float]
    ) -> FloatArray:
        """Standard deviation of ln(loss at points / loss at `versus`); 0 for the same shape.

        The spread of the bootstrap draws and the law's noise, in quadrature; without noise in the
        law, what repeated runs differ by.
        """
        arrays = {k: np.atleast_1d(v) for k, v in _floats(points).items()}
        logs = None
        if self.draws is not None:
            with np.errstate(invalid="ignore"):
                there = self.relative_loss_draws(**{k: float(v) for k, v in versus.items()})
                logs = np.log(self.relative_loss_draws(**arrays)) - np.log(there)
        return self._difference_sd(arrays, versus, logs)

    def optimum(self, **axes: float) -> Optimum:
        """The shape with the lowest loss: x* = a2/a1, r* = b2/b1; raises InputError if none.

        `axes` are the values of variables besides x and r, for families that have them.
        """
        reason = self.no_optimum_reason()
        if reason is not None:
            raise InputError(f"law {self.name!r} has no optimum: {reason}")
        x = self.coefficient("a2") / self.coefficient("a1")
        r = self.coefficient("b2") / self.coefficient("b1")
        if "c" in self.family.parameters and self.coefficient("c"):
            x, r = self._lowest_point_near(x, r)
        known = self.family.target == "ratio" or self.optimal_loss is not None
        known &= set(self.family.variables) <= {"x", "r", *axes}
        value = float(self.relative_loss(x, r, **axes)) if known else None
        return Optimum(x=x, r=r, relative_loss=value, reported=self.reported_optimum)

    def no_optimum_reason(self) -> str | None:
        """Why the law has no lowest point, or None when it has one."""
        if not {"a1", "b1"} <= set(self.family.parameters):
            return f"family {self.family.name} has no curve in x and r"
        flat = [name for name in ("a1", "a2", "b1", "b2") if self.coefficient(name) <= 0]
        if flat:
            return _NO_OPTIMUM.format(names=", ".join(flat), are="are" if flat[1:] else "is")
        return None

    def optimum_draws(self) -> FloatArray:
        """(x*, r*) of every bootstrap draw, (draws, 2), before any interaction; NaN where none."""
        if self.draws is None:
            raise InputError(f"law {self.name!r} carries no bootstrap draws")
        a1, a2, b1, b2 = (
            self.draws[:, self.family.parameters.index(n)] for n in ("a1", "a2", "b1", "b2")
        )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = np.where((a1 > 0) & (a2 > 0), a2 / a1, np.nan)
            r = np.where((b1 > 0) & (b2 > 0), b2 / b1, np.nan)
        return np.stack([x, r], axis=1)

    def _as_ratio(self, value: FloatArray) -> FloatArray:
        if self.family.target == "ratio":
            return value
        if self.optimal_loss is None:
            raise InputError(
                f"law {self.name!r} adds nats to L_opt(N, D): anchor it at a shape whose loss is "
                "known before asking for ratios"
            )
        ratio: FloatArray = 1.0 + value / self.optimal_loss
        return ratio

    def _lowest_point_near(self, x: float, r: float) -> tuple[float, float]:
        from scipy.optimize import minimize  # noqa: PLC0415 — half a second that most uses never need

        def value(point: FloatArray) -> float:
            at = {"x": np.exp(point[0]), "r": np.exp(point[1])}
            return float(self.family.evaluate(self.coefficients, at))

        start = np.log([x, r])
        limit = [(v - np.log(5.0), v + np.log(5.0)) for v in start]
        found = minimize(value, start, method="L-BFGS-B", bounds=limit, tol=1e-14)
        if any(np.isclose(found.x, edge).any() for edge in np.transpose(limit)):
            raise InputError(
                f"law {self.name!r} has no optimum: its interaction c = {self.coefficient('c'):.3g}"
                " outweighs the two curves"
            )
        return float(np.exp(found.x[0])), float(np.exp(found.x[1]))


def build_law(family: Family, **fields: Any) -> AbsoluteLaw | ConditionalLaw:
    """A law of the class that fits the family's target."""
    kind = ConditionalLaw if family.conditional else AbsoluteLaw
    return kind(family=family, **fields)


_FLOOR = LossNoise(
    # Two runs differ by about NOISE_FLOOR_NATS at a loss near 3: one run by that over √2.
    relative_sd=NOISE_FLOOR_NATS / 3.0 / 2**0.5,
    degrees_of_freedom=None,
    basis="repeats of one run only (arXiv:2412.04403); the law's misfit is not included",
)


def _floats(values: Mapping[str, float | FloatArray]) -> dict[str, FloatArray]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
