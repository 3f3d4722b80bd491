"""The loss a law predicts for a shape, and against another shape, with what must be said of it."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.architecture.counts import (
    aspect,
    mlp_to_attention_ratio,
    non_embedding_parameters,
    parameter_counts,
)
from suffice.architecture.laws import AbsoluteLaw, Comparison, ConditionalLaw
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a law says of one shape; losses in nats.

    `loss` is None for a conditional law without a known loss to hang on. `loss_low` and
    `loss_high` are one-sided bounds of an absolute law's, None where it carries neither draws nor
    noise. `x` and `r` are None where no shape was given. `relative_loss` is over
    the law's optimum at the same N and D, None for absolute laws. `versus_ratio` with its
    one-sided bounds is over the loss of the shape compared with. `notes` belong to every output.
    """

    shape: str
    parameters: int
    tokens: float | None
    x: float | None
    r: float | None
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    relative_loss: float | None
    versus: str | None
    versus_ratio: float | None
    versus_low: float | None
    versus_high: float | None
    confidence: float
    notes: tuple[str, ...]
    not_modelled: tuple[str, ...]


def shape_variables(shape: Shape, *, parameter_count: str = "non-embedding") -> dict[str, float]:
    """The variables that laws are written in, by name."""
    total = parameter_counts(shape).total
    return {
        "N": float(
            non_embedding_parameters(shape) if parameter_count == "non-embedding" else total
        ),
        "x": float(aspect(shape)),
        "r": float(mlp_to_attention_ratio(shape)),
        "gqa": float(shape.gqa),
        "kv_share": shape.num_key_value_heads / shape.num_attention_heads,
        "hidden_size": float(shape.hidden_size),
        "layers": float(shape.num_hidden_layers),
        "width_per_layer": shape.hidden_size / shape.num_hidden_layers,
    }


def predict(
    law: AbsoluteLaw | ConditionalLaw,
    shape: Shape,
    *,
    tokens: float | None = None,
    versus: Shape | None = None,
    versus_loss: float | None = None,
    confidence: float = 0.9,
    extrapolate: bool = False,
) -> Prediction:
    """The prediction of `law` for `shape` trained on `tokens`.

    Args:
        law: absolute or conditional.
        shape: the shape to predict for.
        tokens: training tokens; needed by absolute laws, checked against the evidence by others.
        versus: a shape to compare with.
        versus_loss: its measured loss in nats; makes a conditional law's losses absolute.
        confidence: of the one-sided bounds on the comparison.
        extrapolate: answer outside the law's evidence, with notes.

    Raises:
        OutsideValidity: the shape, or the one compared with, is outside the law's evidence.
    """
    if versus_loss is not None and versus is None:
        raise InputError("a loss to compare with needs the shape it belongs to: give versus too")
    values = _values(law, shape, tokens)
    notes = list(law.check(extrapolate=extrapolate, **values))
    if versus is not None:
        other = law.check(extrapolate=extrapolate, **_values(law, versus, tokens))
        notes += [f"compared shape: {note}" for note in other]
    if law.parameter_count == "as given":
        notes.append("the law's runs did not say which N they mean; total parameters are used")
    answer = (
        _absolute(law, values, versus, confidence)
        if isinstance(law, AbsoluteLaw)
        else _conditional(law, values, versus, versus_loss, confidence)
    )
    loss, relative, comparison = answer
    bounds = None
    if isinstance(law, AbsoluteLaw):
        bounds = law.loss_bounds(confidence=confidence, **_variables(law, values))
        notes += _bound_notes(law)
    if versus is not None and law.family.conditional:
        notes += _size_notes(values["N"], _values(law, versus, tokens)["N"])
    return Prediction(
        shape=shape.name or str(shape),
        parameters=int(values["N"]),
        tokens=tokens,
        x=values["x"],
        r=values["r"],
        loss=loss,
        loss_low=None if bounds is None else bounds[0],
        loss_high=None if bounds is None else bounds[1],
        relative_loss=relative,
        versus=None if versus is None else versus.name or str(versus),
        versus_ratio=None if comparison is None else float(comparison.ratio[0]),
        versus_low=None if comparison is None else float(comparison.low[0]),
        versus_high=None if comparison is None else float(comparison.high[0]),
        confidence=confidence,
        notes=tuple(notes),
        not_modelled=law.not_modelled,
    )


def predict_size(
    law: AbsoluteLaw | ConditionalLaw,
    *,
    N: float,
    D: float,
    confidence: float = 0.9,
    extrapolate: bool = False,
) -> Prediction:
    """The loss of a law in N and D alone, without a shape; `N` counts what the law's N counts.

    A law of repeated tokens takes all D for distinct here, and says so.

    Raises:
        InputError: the law needs a shape.
        OutsideValidity: N or D is outside the law's evidence.
    """
    repeats = "unique_tokens" in law.family.variables
    if not isinstance(law, AbsoluteLaw) or set(law.family.variables) - {"unique_tokens"} != {
        "N",
        "D",
    }:
        needs = ", ".join(law.family.variables)
        raise InputError(
            f"law {law.name!r} is in {needs}: it needs a shape (--like NAME or --shape config.json)"
        )
    at = {"N": N, "D": D, **({"unique_tokens": D} if repeats else {})}
    notes = [*law.check(extrapolate=extrapolate, N=N, D=D), *_bound_notes(law)]
    if repeats:
        notes.append("all tokens are taken to be distinct: `suffice optimum --unique` has repeats")
    bounds = law.loss_bounds(confidence=confidence, **at)
    return Prediction(
        shape="any",
        parameters=int(N),
        tokens=D,
        x=None,
        r=None,
        loss=float(law.evaluate(**at)),
        loss_low=None if bounds is None else bounds[0],
        loss_high=None if bounds is None else bounds[1],
        relative_loss=None,
        versus=None,
        versus_ratio=None,
        versus_low=None,
        versus_high=None,
        confidence=confidence,
        notes=tuple(notes),
        not_modelled=law.not_modelled,
    )


def _bound_notes(law: AbsoluteLaw) -> list[str]:
    if law.draws is not None:
        return []
    if law.noise is not None:
        return ["the bounds hold the law's scatter alone: its coefficients came without draws"]
    return ["no bounds: the law carries neither bootstrap draws nor a scatter"]


def _values(
    law: AbsoluteLaw | ConditionalLaw, shape: Shape, tokens: float | None
) -> dict[str, float]:
    values = shape_variables(shape, parameter_count=law.parameter_count)
    if tokens is not None:
        values["D"] = values["unique_tokens"] = tokens
        values["tokens_per_parameter"] = tokens / values["N"]
    return values


def _variables(law: AbsoluteLaw | ConditionalLaw, values: dict[str, float]) -> dict[str, float]:
    missing = [name for name in law.family.variables if name not in values]
    if missing:
        what = "training tokens (--tokens)" if missing == ["D"] else ", ".join(missing)
        raise InputError(f"law {law.name!r} needs {what}")
    return {name: values[name] for name in law.family.variables}


def _absolute(
    law: AbsoluteLaw, values: dict[str, float], versus: Shape | None, confidence: float
) -> tuple[float | None, float | None, Comparison | None]:
    here = _variables(law, values)
    loss = float(law.evaluate(**here))
    if versus is None:
        return loss, None, None
    there = _variables(law, _values(law, versus, values.get("D")))
    return loss, None, law.compare_at(here, there, confidence=confidence)


def _conditional(
    law: ConditionalLaw,
    values: dict[str, float],
    versus: Shape | None,
    versus_loss: float | None,
    confidence: float,
) -> tuple[float | None, float | None, Comparison | None]:
    here = _variables(law, values)
    if versus is None:
        loss = None if law.optimal_loss is None else float(law.loss(**here))
        return loss, _over_optimum(law, here), None
    there = _variables(law, _values(law, versus, None))
    if versus_loss is not None:
        law = law.anchored(versus_loss, **there)
    comparison = law.compare(**here, versus=there, confidence=confidence)
    loss = None if law.optimal_loss is None else float(law.loss(**here))
    return loss, _over_optimum(law, here), comparison


def _over_optimum(law: ConditionalLaw, here: dict[str, float]) -> float | None:
    if law.no_optimum_reason() is not None or set(here) != {"x", "r"}:
        return None
    if law.family.target == "excess" and law.optimal_loss is None:
        return None
    best = law.optimum()
    return float(law.relative_loss(**here) / law.relative_loss(best.x, best.r))


def _size_notes(here: float, there: float) -> list[str]:
    if abs(here / there - 1.0) <= 0.02:
        return []
    return [
        f"N differs by {100 * (here / there - 1):+.1f} % between the two shapes: a conditional law "
        "compares shapes of equal N, so the difference in size is not in this ratio"
    ]
