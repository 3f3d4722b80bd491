"""A family with some of its coefficients held or tied: what a fit then moves, and the way back.

`--fix beta=.37` holds a coefficient, `--tie alpha=beta` makes two of them one. The law that comes
out is of the family itself, with all its coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from suffice.architecture.laws import Family
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """`family` is what a fit moves; `expand` gives the coefficients of `whole` from its own.

    `held` are held by the caller, `tied` maps a coefficient to the one it equals.
    """

    whole: Family
    family: Family
    held: Mapping[str, float]
    tied: Mapping[str, str]

    def expand(self, theta: FloatArray) -> FloatArray:
        """Coefficients (…, whole) from (…, free [+ levels]); levels are dropped."""
        columns = [self._one(name, theta) for name in self.whole.parameters]
        result: FloatArray = np.stack(columns, axis=-1)
        return result

    def source(self, name: str) -> str | None:
        """The fitted coefficient that `name` takes its value from; None where it is held."""
        own = self.tied.get(name, name)
        return None if own in self.held else own

    def _one(self, name: str, theta: FloatArray) -> FloatArray:
        own = self.source(name)
        if own is None:
            return np.full(theta.shape[:-1], self.held[self.tied.get(name, name)])
        column: FloatArray = theta[..., self.family.parameters.index(own)]
        return column


def constrain(
    family: Family, held: Mapping[str, float] | None = None, tied: Mapping[str, str] | None = None
) -> Constraint:
    """`family` with `held` coefficients at their values and each of `tied` equal to its partner.

    Raises InputError for names that the family has not, ties between a factor and an exponent,
    chains, values outside a coefficient's limits, and what would leave nothing to fit.
    """
    held, tied = dict(held or {}), dict(tied or {})
    _check(family, held, tied)
    if not held and not tied:
        return Constraint(whole=family, family=family, held={}, tied={})
    gone = {*held, *tied}
    linear = tuple(name for name in family.linear if name not in gone)
    nonlinear = tuple(name for name in family.nonlinear if name not in gone)
    if not linear:
        raise InputError(
            f"{', '.join(sorted(gone))} leave no factor of {family.name} to fit: hold fewer"
        )
    columns_of = [family.nonlinear.index(name) for name in nonlinear]
    own = Constraint(
        whole=family,
        family=replace(
            family,
            linear=linear,
            nonlinear=nonlinear,
            starts=np.unique(family.starts[:, columns_of], axis=0),
            bounds={name: limits for name, limits in family.bounds.items() if name in nonlinear},
            positive=family.positive - gone,
        ),
        held=held,
        tied=tied,
    )
    return replace(own, family=_with_formula(own))


def _with_formula(own: Constraint) -> Family:
    base, mine = own.whole, own.family

    def evaluate(coefficients: Sequence[Any], variables: Mapping[str, Any]) -> FloatArray:
        values = dict(zip(mine.parameters, coefficients, strict=False))
        return base.evaluate([_value(own, values, name) for name in base.parameters], variables)

    def everything(nonlinear: Sequence[Any], variables: Mapping[str, Any]) -> dict[str, FloatArray]:
        values = {**mine.fixed, **dict(zip(mine.nonlinear, nonlinear, strict=True))}
        bent = [_value(own, values, name) for name in base.nonlinear]
        return dict(zip(base.linear, base.columns(bent, variables), strict=True))

    def columns(nonlinear: Sequence[Any], variables: Mapping[str, Any]) -> list[FloatArray]:
        found = everything(nonlinear, variables)
        return [
            np.sum([found[n] for n in base.linear if own.tied.get(n, n) == name], axis=0)
            for name in mine.linear
        ]

    def constant(nonlinear: Sequence[Any], variables: Mapping[str, Any]) -> FloatArray:
        found = everything(nonlinear, variables)
        first = next(iter(found.values()))
        given = [own.held[own.tied.get(n, n)] * found[n] for n in base.linear
                 if own.source(n) is None]  # fmt: skip
        result: FloatArray = np.sum([np.zeros_like(first), *given], axis=0)
        return result

    anything: Callable[..., FloatArray] | None = constant
    if not any(own.source(name) is None for name in base.linear):
        anything = None
    return replace(mine, evaluate=evaluate, columns=columns, constant=anything)


def _value(own: Constraint, values: Mapping[str, Any], name: str) -> Any:
    partner = own.tied.get(name, name)
    return own.held[partner] if partner in own.held else values[partner]


def _check(family: Family, held: Mapping[str, float], tied: Mapping[str, str]) -> None:
    free = [name for name in family.parameters if name not in family.fixed]
    for name in (*held, *tied, *tied.values()):
        if name not in free:
            raise InputError(
                f"{family.name} has no coefficient {name!r} to hold or tie: choose of "
                f"{', '.join(free)}"
            )
    for name, value in held.items():
        low, high = family.bounds.get(name, (-np.inf, np.inf))
        if name in family.positive:
            low = max(low, 0.0)
        if not (np.isfinite(value) and low <= value <= high):
            raise InputError(f"{name} = {value:g} lies outside what {family.name} allows")
        if family.conditional and name in family.linear:
            raise InputError(
                f"{name} of {family.name} cannot be held: its level moves with L_opt; hold an "
                "exponent, or a coefficient of an absolute law"
            )
    for name, partner in tied.items():
        if partner in tied or name in held or name == partner:
            raise InputError(f"--tie {name}={partner}: tie each coefficient once, to a free one")
        if (name in family.linear) != (partner in family.linear):
            raise InputError(f"--tie {name}={partner}: one is a factor, the other an exponent")
