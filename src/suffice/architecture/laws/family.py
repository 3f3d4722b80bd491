"""Families of loss laws: a formula, its parameters and what a fit needs to know about it.

A family is separable: for fixed nonlinear parameters the prediction is linear in the others. That
is what makes a fit start from a small exact problem (variable projection, arXiv:2603.22339). To
add a law, write one `Family` and `register` it; fitting, files and predictions then work with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from suffice.core.arrays import FloatArray
from suffice.core.errors import UnknownName

Variables = Mapping[str, FloatArray]

# What a family's formula gives: the loss itself (nats), the loss over the best loss at the same
# N and D, or the nats above it.
Target = Literal["loss", "ratio", "excess"]
Evaluate = Callable[[Sequence[Any], Mapping[str, Any]], FloatArray]
Constant = Callable[[Sequence[Any], Mapping[str, Any]], FloatArray]
Columns = Callable[[Sequence[Any], Mapping[str, Any]], list[FloatArray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A loss law up to its coefficients.

    `evaluate(coefficients, variables)` broadcasts: a coefficient may be a number or a column of
    draws (draws, 1), a variable an array (shapes,). `columns(nonlinear, variables)` are the
    factors of the linear parameters, in their order: evaluate = Σ linear_i · column_i.
    `fixed` parameters are held during a fit because the data cannot tell them from the others.
    `starts` are nonlinear parameters (starts, nonlinear) from which variable projection begins,
    `bounds` their limits; one without bounds may have any sign. Parameters in `positive` stay at
    zero or above in every method but "lm". `constant(nonlinear, variables)` is what is added to
    the linear part, where some of its coefficients are held.
    """

    name: str
    formula: str
    target: Target
    variables: tuple[str, ...]
    linear: tuple[str, ...]
    nonlinear: tuple[str, ...]
    evaluate: Evaluate
    columns: Columns
    starts: FloatArray = field(repr=False)
    bounds: Mapping[str, tuple[float, float]]
    positive: frozenset[str] = frozenset()
    fixed: Mapping[str, float] = field(default_factory=dict)
    shape_variables: tuple[str, ...] = ()
    constant: Constant | None = None
    reference: str = ""

    @property
    def parameters(self) -> tuple[str, ...]:
        """All coefficients in the order of files and tables: linear, fixed, nonlinear."""
        return (*self.linear, *self.fixed, *self.nonlinear)

    @property
    def num_free(self) -> int:
        """Coefficients that data can determine."""
        return len(self.linear) + len(self.nonlinear)

    @property
    def conditional(self) -> bool:
        """Whether the formula is relative to the best loss at the same N and D."""
        return self.target != "loss"


_FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make `family` known to fits, law files and the command line; returns it."""
    if family.name in _FAMILIES:
        raise ValueError(f"a law family named {family.name!r} is already registered")
    if family.starts.ndim != 2 or family.starts.shape[1] != len(family.nonlinear):
        raise ValueError(f"{family.name!r}: starts must be (starts, {len(family.nonlinear)})")
    _FAMILIES[family.name] = family
    return family


def family_names() -> tuple[str, ...]:
    """Names of all registered families."""
    return tuple(_FAMILIES)


def load_family(name: str) -> Family:
    """The registered family `name`; raises UnknownName with the nearest names."""
    try:
        return _FAMILIES[name]
    except KeyError:
        raise UnknownName.of(
            "law family", name, _FAMILIES, f"— choose from {', '.join(_FAMILIES)}"
        ) from None
