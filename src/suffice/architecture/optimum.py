"""Where a law in N and D says a budget is best spent: N*, D*, the loss there, how sure each is.

    C = k N D + 2 N T     k FLOPs per token and parameter of training, T tokens served

With T = 0 the law E + A N^-α + B D^-β has its optimum at (arXiv:2203.15556, Eq. 4)

    N* = G (C / k)^a,  D* = (C / k)^b / G,  G = (α A / (β B))^(1 / (α + β)),
    a = β / (α + β),  b = α / (α + β)

Serving costs 2 N a token (arXiv:2401.00448), which asks for smaller models trained for longer.
Where only U tokens are distinct, D of them are worth fewer fresh ones (arXiv:2305.16264, Eq. 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from suffice.architecture.laws import AbsoluteLaw, Law, effective_tokens
from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError

FLOPS_PER_TOKEN = 6.0
SERVING_FLOPS_PER_TOKEN = 2.0
# Repeats that tokens bear under laws that have no such coefficient: R_D* of arXiv:2305.16264.
REPEAT_SCALE = 15.387756
# The search runs over models from a thousand parameters to one token of training.
_LEAST_PARAMETERS = 1e3
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 90
_MOST_FLOPS = 1e32
# Step in ln C for the local exponent of N*.
_EXPONENT_STEP = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with two-sided bounds; None where the law carries no bootstrap draws."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeOptimum:
    """The best use of a training (and serving) budget under a law.

    `exponent` is d ln N* / d ln C there. `loss` in nats. `edge_share`: resamples in which one side
    of the trade costs nothing, so that the optimum lies at the end of the search.
    """

    flops: float
    served_tokens: float
    flops_per_token: float
    N: Estimate
    D: Estimate
    tokens_per_parameter: Estimate
    exponent: Estimate
    loss: Estimate
    confidence: float
    edge_share: float
    notes: tuple[str, ...]


def compute_optimum(
    law: Law,
    flops: float,
    *,
    flops_per_token: float = FLOPS_PER_TOKEN,
    served_tokens: float = 0.0,
    unique_tokens: float | None = None,
    confidence: float = 0.9,
    extrapolate: bool = False,
) -> ComputeOptimum:
    """N* and D* of a budget of `flops` over training and, with `served_tokens`, serving.

    D counts tokens trained on; where it is beyond `unique_tokens`, they repeat.

    Raises:
        InputError: the law is conditional, or needs more than N and D.
        OutsideValidity: the optimum lies outside the law's evidence.
    """
    absolute = _in_size_and_tokens(law)
    for name, value in (("FLOPs", flops), ("FLOPs per token", flops_per_token)):
        if not np.isfinite(value) or value <= 0:
            raise InputError(f"{name} must be positive, got {value:g}")
    if not np.isfinite(served_tokens) or served_tokens < 0:
        raise InputError(f"served tokens must be 0 or more, got {served_tokens:g}")
    if unique_tokens is not None and not (np.isfinite(unique_tokens) and unique_tokens > 0):
        raise InputError(f"unique tokens must be positive, got {unique_tokens:g}")
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence must lie in [0.5, 1), got {confidence}")
    budget = _Budget(flops, flops_per_token, served_tokens, unique_tokens)
    one = np.array([absolute.coefficients])
    drawn = absolute.draws
    n, loss, _ = _lowest(absolute, one, budget)
    exponent = _exponent(absolute, one, budget)
    size, tokens = float(n[0]), float(budget.tokens(n)[0])
    notes = list(absolute.check(extrapolate=extrapolate, N=size, D=tokens))
    if unique_tokens is not None:
        notes.append(
            f"{tokens / unique_tokens:.3g} epochs of {unique_tokens:.3g} tokens: worth "
            f"{float(np.squeeze(budget.fresh(absolute, np.array([tokens]))[0])):.3g} fresh ones"
        )
    edge = 0.0
    bounds: dict[str, tuple[float, float] | tuple[None, None]] = dict.fromkeys(
        ("N", "D", "ratio", "exponent", "loss"), (None, None)
    )
    if drawn is not None:
        rows = drawn[np.isfinite(drawn).all(axis=1)]
        found, losses, at_edge = _lowest(absolute, rows, budget)
        edge = float(at_edge.mean())
        for name, values in (
            ("N", found),
            ("D", budget.tokens(found)),
            ("ratio", budget.tokens(found) / found),
            ("exponent", _exponent(absolute, rows, budget)),
            ("loss", losses),
        ):
            tail = 50.0 * (1.0 - confidence)
            low, high = np.percentile(values, [tail, 100.0 - tail])
            bounds[name] = float(low), float(high)
    else:
        notes.append("the law carries no bootstrap draws: nothing says how sure these are")
    if edge > 0:
        notes.append(
            f"in {100 * edge:.0f} % of the resamples size or tokens cost no loss at all, and the "
            "optimum runs to the end of the search: these runs do not determine it"
        )

    def estimate(name: str, value: float) -> Estimate:
        return Estimate(value=value, low=bounds[name][0], high=bounds[name][1])

    return ComputeOptimum(
        flops=flops,
        served_tokens=served_tokens,
        flops_per_token=flops_per_token,
        N=estimate("N", size),
        D=estimate("D", tokens),
        tokens_per_parameter=estimate("ratio", tokens / size),
        exponent=estimate("exponent", float(exponent[0])),
        loss=estimate("loss", float(loss[0])),
        confidence=confidence,
        edge_share=edge,
        notes=tuple(notes),
    )


def flops_for_loss(
    law: Law,
    loss: float,
    *,
    flops_per_token: float = FLOPS_PER_TOKEN,
    served_tokens: float = 0.0,
    unique_tokens: float | None = None,
) -> float:
    """The least FLOPs, serving included, at which the best use of a budget reaches `loss` nats.

    With `served_tokens` this is arXiv:2401.00448's question: the cheapest model over its life at a
    given quality.

    Raises InputError where no budget reaches it, or the law is not one in N and D.
    """
    absolute = _in_size_and_tokens(law)
    row = np.array([absolute.coefficients])

    def over(log_flops: float) -> float:
        budget = _Budget(float(np.exp(log_flops)), flops_per_token, served_tokens, unique_tokens)
        return float(_lowest(absolute, row, budget)[1][0]) - loss

    per_parameter = flops_per_token + SERVING_FLOPS_PER_TOKEN * served_tokens
    least = float(np.log(per_parameter * _LEAST_PARAMETERS * 10))
    most = float(np.log(_MOST_FLOPS))
    if not np.isfinite(loss) or least >= most or not over(most) < 0 < over(least):
        low, high = (over(at) + loss for at in (most, min(least, most)))
        raise InputError(
            f"a loss of {loss:g} nats: law {law.name!r} gives {low:.3f} at {_MOST_FLOPS:g} FLOPs "
            f"and {high:.3f} for the smallest models; ask for one between"
        )
    return float(np.exp(brentq(over, least, most, xtol=1e-10)))


@dataclass(frozen=True, slots=True)
class _Budget:
    flops: float
    per_token: float
    served: float
    unique: float | None = None

    def variables(self, law: AbsoluteLaw, n: FloatArray) -> dict[str, FloatArray]:
        """What `law` is evaluated at for models of `n` parameters."""
        tokens = self.tokens(n)
        if "unique_tokens" in law.family.variables:
            every = tokens if self.unique is None else np.full_like(tokens, self.unique)
            return {"N": n, "D": tokens, "unique_tokens": every}
        if self.unique is not None:
            tokens = effective_tokens(tokens, self.unique, REPEAT_SCALE)
        return {"N": n, "D": tokens}

    def fresh(self, law: AbsoluteLaw, tokens: FloatArray) -> FloatArray:
        """What `tokens` are worth in tokens seen once."""
        if self.unique is None:
            return tokens
        own = "R" in law.family.parameters
        scale = law.coefficient("R") if own else REPEAT_SCALE
        return effective_tokens(tokens, self.unique, scale)

    @property
    def largest(self) -> float:
        """Parameters at which nothing but one token of training is left."""
        return self.flops / (self.per_token + SERVING_FLOPS_PER_TOKEN * self.served)

    def tokens(self, n: FloatArray) -> FloatArray:
        """Training tokens that a model of `n` parameters has left."""
        result: FloatArray = (self.flops / n - SERVING_FLOPS_PER_TOKEN * self.served) / (
            self.per_token
        )
        return result


def _in_size_and_tokens(law: Law) -> AbsoluteLaw:
    if not isinstance(law, AbsoluteLaw) or set(law.family.variables) - {"unique_tokens"} != {
        "N",
        "D",
    }:
        needs = ", ".join(law.family.variables)
        raise InputError(
            f"law {law.name!r} is in {needs}: an optimum of size and tokens takes a law in N and D "
            "alone, such as besiroglu2024 or a fit of chinchilla"
        )
    return law


def _lowest(
    law: AbsoluteLaw, rows: FloatArray, budget: _Budget
) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """(N, loss, whether at an end) of the lowest loss under each row of coefficients."""
    if budget.largest <= _LEAST_PARAMETERS:
        raise InputError(f"{budget.flops:g} FLOPs train no model worth the name")
    columns = list(rows.T)

    def loss(log_n: FloatArray) -> FloatArray:
        n = np.exp(log_n)
        return law.family.evaluate(columns, budget.variables(law, n))

    low = np.full(len(rows), np.log(_LEAST_PARAMETERS))
    high = np.full(len(rows), np.log(budget.largest))
    at = _golden(loss, low, high)
    span = high - low
    edge = (at - low < 1e-6 * span) | (high - at < 1e-6 * span)
    return np.exp(at), loss(at), edge


def _golden(
    function: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray
) -> FloatArray:
    """Minima of unimodal functions, one a row, by golden sections and a parabola at the end."""
    a, b = low.copy(), high.copy()
    c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    fc, fd = function(c), function(d)
    for _ in range(_STEPS):
        left = fc < fd
        b, a = np.where(left, d, b), np.where(left, a, c)
        c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
        fc, fd = function(c), function(d)
        if float((b - a).max()) < 1e-4:
            break
    middle, step = (a + b) / 2, 1e-3
    f0, f1, f2 = (function(np.clip(middle + s, low, high)) for s in (-step, 0.0, step))
    curvature = f0 - 2 * f1 + f2
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(curvature > 0, step * (f0 - f2) / (2 * curvature), 0.0)
    result: FloatArray = np.clip(middle + np.clip(moved, -step, step), low, high)
    return result


def _exponent(law: AbsoluteLaw, rows: FloatArray, budget: _Budget) -> FloatArray:
    """d ln N* / d ln C by a central difference."""
    sides = [
        _lowest(law, rows, replace(budget, flops=budget.flops * np.exp(s)))[0]
        for s in (-_EXPONENT_STEP, _EXPONENT_STEP)
    ]
    result: FloatArray = np.log(sides[1] / sides[0]) / (2 * _EXPONENT_STEP)
    return result


def other_count(
    parameters: float, counted: str, *, vocab_size: int, aspect: float, embeddings: int = 2
) -> float:
    """N of a model in the other convention: total from non-embedding, or the other way round.

    A model of n non-embedding parameters is d = `aspect` sqrt(n) wide, so that `embeddings`
    matrices of `vocab_size` rows (2, or 1 where they are tied) add a multiple of sqrt(n).
    """
    if counted not in ("total", "non-embedding"):
        raise InputError(
            f"a law that counts parameters {counted!r} has no other count: fit it with "
            "--parameter-count total or non-embedding"
        )
    if vocab_size < 1 or not 0 < aspect < 10 or embeddings not in (1, 2):
        raise InputError(
            f"vocabulary {vocab_size}, aspect {aspect:g}, {embeddings} embedding matrices: a "
            "vocabulary is at least 1, an aspect between 0 and 10, matrices 1 or 2"
        )
    extra = embeddings * vocab_size * aspect
    if counted == "non-embedding":
        return float(parameters + extra * np.sqrt(parameters))
    # n + extra sqrt(n) = parameters
    root = (np.sqrt(extra**2 + 4 * parameters) - extra) / 2
    return float(root**2)
