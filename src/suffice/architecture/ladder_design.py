"""Which small shapes to train: D-optimal choice over size, x, r, KV share, depth and D/N.

A run adds f fᵀ to the information matrix of a response surface for the log of the loss; the design
maximises its determinant, hence minimises the volume of the coefficients' confidence ellipsoid.

    n ln N   t ln D/N   u ln x   v ln r   k ln(kv / h)   w ln L

Reference: Fedorov 1972 (exchange); the prior makes it Bayesian D-optimal (Chaloner and Verdinelli
1995), so that a design with fewer runs than coefficients is defined too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.counts import aspect, mlp_to_attention_ratio, non_embedding_parameters
from suffice.architecture.shape import Shape
from suffice.core.arrays import FloatArray
from suffice.core.errors import ConfigError, NothingFeasible

# Precision of the prior on each standardised coefficient, in units of one run.
PRIOR_RUNS = 0.02
_EXCHANGE_PASSES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignSpace:
    """What may vary, and how far. Bounds on widths keep shapes that a practitioner would build.

    `sizes` count attention and MLP matrices, N. With `counted_vocab` = V they count the output
    matrix too, N + V d: at small sizes a wide shape of equal N has a larger head, and what the head
    is worth would be taken for the effect of x. Tokens per parameter are per unit of size.
    """

    sizes: tuple[float, ...]
    tokens_per_parameter: tuple[float, ...]
    head_dim: int = 32
    multiple: int = 32
    x: tuple[float, float] = (0.05, 0.25)
    r: tuple[float, float] = (0.4, 6.0)
    kv_shares: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    layers: tuple[int, int] = (2, 12)
    attention_per_hidden: tuple[float, float] = (0.5, 4.0)
    size_tolerance: float = 0.04
    max_tokens: float = math.inf
    counted_vocab: int = 0

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1e4:
            raise ConfigError("sizes must be at least 10K non-embedding parameters")
        if not self.tokens_per_parameter or min(self.tokens_per_parameter) <= 0:
            raise ConfigError("tokens per parameter must be positive")
        if self.head_dim % 2 or self.multiple < 1:
            raise ConfigError("head_dim must be even and the multiple positive")
        if self.counted_vocab < 0:
            raise ConfigError(f"counted_vocab must be 0 or more, got {self.counted_vocab}")

    def size_of(self, shape: Shape) -> int:
        """Parameters of `shape` as `sizes` count them."""
        return int(non_embedding_parameters(shape)) + self.counted_vocab * shape.hidden_size


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignPoint:
    """A shape and a training length, with the size class it was drawn for."""

    shape: Shape
    tokens: int
    size: float

    @property
    def parameters(self) -> int:
        """N, non-embedding."""
        return int(non_embedding_parameters(self.shape))


def candidates(space: DesignSpace, make_shape: Callable[..., Shape]) -> list[DesignPoint]:
    """Every point of `space` on its lattice; `make_shape` gets the dimensions but the vocabulary.

    Raises NothingFeasible if a size has none.
    """
    points: list[DesignPoint] = []
    for size in space.sizes:
        shapes = _shapes_of(space, size, make_shape)
        if not shapes:
            raise NothingFeasible(
                f"no shape of {size:,.0f} parameters lies on the lattice (multiples of "
                f"{space.multiple}, heads of {space.head_dim}): choose a smaller --multiple or "
                "--head-dim, or a larger size"
            )
        points += [
            DesignPoint(shape=shape, tokens=round(ratio * size), size=size)
            for shape in shapes
            for ratio in space.tokens_per_parameter
            if ratio * size <= space.max_tokens or ratio == min(space.tokens_per_parameter)
        ]
    return points


def _shapes_of(space: DesignSpace, size: float, make_shape: Callable[..., Shape]) -> list[Shape]:
    step, head = space.multiple, space.head_dim
    shapes: list[Shape] = []
    low, high = (bound * math.sqrt(size) for bound in space.x)
    for d in range(step * math.ceil(low / step), int(high) + 1, step):
        inner = size - space.counted_vocab * d
        if not low <= d * math.sqrt(size / max(inner, 1.0)) <= high:
            continue
        for depth in range(space.layers[0], space.layers[1] + 1):
            width = inner / (depth * d)
            for heads in range(1, int(space.attention_per_hidden[1] * d / head) + 1):
                if heads * head < space.attention_per_hidden[0] * d:
                    continue
                for share in space.kv_shares:
                    kv = heads * share
                    if kv < 1 or kv != int(kv) or heads % int(kv):
                        continue
                    attention = 2 * head * (heads + kv)
                    f = step * round((width - attention) / 3 / step)
                    if f < step or not space.r[0] <= 3 * f / attention <= space.r[1]:
                        continue
                    shape = make_shape(
                        hidden_size=d, intermediate_size=f, num_hidden_layers=depth,
                        num_attention_heads=heads, num_key_value_heads=int(kv), head_dim=head,
                    )  # fmt: skip
                    if abs(space.size_of(shape) / size - 1) <= space.size_tolerance:
                        shapes.append(shape)
    return shapes


# Those that a form of ours or a published one has: a level per scale (n, t, n t), curves in x, r
# and depth, the KV share, x times r (joint form) and x times depth (width per layer).
FEATURES = ("1", "n", "t", "u", "u^2", "v", "v^2", "k", "w", "w^2", "u v", "u w", "n t")


def coordinates(points: Sequence[DesignPoint]) -> FloatArray:
    """Rows (n, t, u, v, k, w), one per point; n and t by the nominal size."""
    rows = [
        (
            math.log(p.size),
            math.log(p.tokens / p.size),
            math.log(float(aspect(p.shape))),
            math.log(float(mlp_to_attention_ratio(p.shape))),
            math.log(p.shape.num_key_value_heads / p.shape.num_attention_heads),
            math.log(p.shape.num_hidden_layers),
        )
        for p in points
    ]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 6)


def features(standardised: FloatArray) -> FloatArray:
    """Response-surface terms in the order of FEATURES."""
    n, t, u, v, k, w = standardised.T
    one = np.ones_like(n)
    return np.column_stack([one, n, t, u, u**2, v, v**2, k, w, w**2, u * v, u * w, n * t])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardisation:
    """Shift and scale that bring the candidates' range of each coordinate to [-1, 1]."""

    middle: FloatArray
    half_range: FloatArray

    @classmethod
    def of(cls, raw: FloatArray) -> Standardisation:
        """From the extremes of `raw`; a coordinate that does not vary stays at 0."""
        low, high = raw.min(axis=0), raw.max(axis=0)
        half = np.where(high - low > 1e-3, (high - low) / 2, 1.0)
        return cls(middle=(low + high) / 2, half_range=half)

    def apply(self, raw: FloatArray) -> FloatArray:
        """Standardised coordinates."""
        standardised: FloatArray = (raw - self.middle) / self.half_range
        return standardised


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Chosen points, and how much the coefficients' uncertainty shrank.

    `log_det` is the log determinant of the information matrix (prior included), `start_log_det`
    that of what was measured before. `efficiency` is the D-efficiency relative to the best random
    design of equal counts among 200: exp of the log-determinant difference per coefficient.
    """

    points: tuple[DesignPoint, ...]
    log_det: float
    start_log_det: float
    efficiency: float


def choose(
    space: DesignSpace,
    pool: Sequence[DesignPoint],
    counts: Sequence[int],
    *,
    measured: Sequence[DesignPoint] = (),
    cost: Callable[[DesignPoint], float] = lambda _: 1.0,
    seed: int = 0,
) -> Design:
    """D-optimal design with `counts[i]` runs at `space.sizes[i]`, given what is `measured`.

    Greedy by information per root of cost, then exchanges among points of one size that raise the
    determinant without raising the cost. Distinct points, ties by `seed`.
    """
    raw = coordinates(pool)
    scale = Standardisation.of(np.vstack([raw, coordinates(measured)]))
    rows = features(scale.apply(raw))
    prior = PRIOR_RUNS * np.eye(rows.shape[1])
    before = features(scale.apply(coordinates(measured)))
    start = prior + before.T @ before
    costs = np.array([cost(p) for p in pool])
    sizes = np.array([space.sizes.index(p.size) for p in pool])
    random = np.random.default_rng(seed)
    order = random.permutation(len(pool))
    rows, costs, sizes = rows[order], costs[order], sizes[order]
    chosen = _greedy(rows, costs, sizes, start, list(counts))
    chosen = _exchange(rows, costs, sizes, start, chosen)
    log_det = _log_det(start, rows[chosen])
    best_random = max(
        _log_det(start, rows[_random_choice(sizes, counts, random)]) for _ in range(200)
    )
    picked = [pool[int(order[i])] for i in chosen]
    return Design(
        points=tuple(sorted(picked, key=lambda p: (p.size, p.tokens))),
        log_det=log_det,
        start_log_det=_log_det(start, rows[:0]),
        efficiency=math.exp((log_det - best_random) / rows.shape[1]),
    )


def allotment(
    space: DesignSpace, pool: Sequence[DesignPoint], runs: int, cost: Callable[[DesignPoint], float]
) -> list[int]:
    """Runs per size, in proportion to the inverse root of a run's mean cost; at least two each."""
    means = [np.mean([cost(p) for p in pool if p.size == size]) for size in space.sizes]
    weights = np.array([1 / math.sqrt(mean) for mean in means])
    counts = np.maximum(2, np.floor(runs * weights / weights.sum())).astype(int)
    counts[0] += max(0, runs - int(counts.sum()))
    return [int(count) for count in counts]


def _greedy(
    rows: FloatArray, costs: FloatArray, sizes: NDArray[np.int_], start: FloatArray, left: list[int]
) -> list[int]:
    inverse = np.linalg.inv(start)
    chosen: list[int] = []
    for _ in range(sum(left)):
        spread = np.einsum("ij,jk,ik->i", rows, inverse, rows)
        score = np.log1p(spread) / np.sqrt(costs)
        score[np.array(left)[sizes] <= 0] = -np.inf
        score[chosen] = -np.inf
        best = int(np.argmax(score))
        if not np.isfinite(score[best]):
            raise NothingFeasible("the lattice has fewer shapes than runs: ask for fewer runs")
        chosen.append(best)
        left[sizes[best]] -= 1
        inverse = _with(np.asarray(inverse, dtype=np.float64), rows[best])
    return chosen


def _exchange(
    rows: FloatArray, costs: FloatArray, sizes: NDArray[np.int_], start: FloatArray,
    chosen: list[int],
) -> list[int]:  # fmt: skip
    chosen = list(chosen)
    for _ in range(_EXCHANGE_PASSES):
        changed = False
        for position, old in enumerate(chosen):
            others = rows[[i for i in chosen if i != old]]
            inverse = np.linalg.inv(start + others.T @ others)
            spread = np.einsum("ij,jk,ik->i", rows, inverse, rows)
            allowed = (sizes == sizes[old]) & (costs <= costs[old] * 1.001)
            allowed[chosen] = False
            allowed[old] = True
            best = int(np.argmax(np.where(allowed, spread, -np.inf)))
            if best != old and spread[best] > spread[old] * (1 + 1e-9):
                chosen[position] = best
                changed = True
        if not changed:
            break
    return chosen


def _with(inverse: FloatArray, row: FloatArray) -> FloatArray:
    """Inverse after adding row rowᵀ (Sherman and Morrison)."""
    moved = inverse @ row
    updated: FloatArray = inverse - np.outer(moved, moved) / (1 + row @ moved)
    return updated


def _log_det(start: FloatArray, rows: FloatArray) -> float:
    return float(np.linalg.slogdet(start + rows.T @ rows)[1])


def _random_choice(
    sizes: NDArray[np.int_], counts: Sequence[int], random: np.random.Generator
) -> NDArray[np.intp]:
    parts = [
        random.choice(np.flatnonzero(sizes == i), size=count, replace=False)
        for i, count in enumerate(counts)
        if count
    ]
    return np.concatenate(parts)


def repeats(points: Sequence[DesignPoint], shapes: int) -> list[DesignPoint]:
    """Points to repeat with other seeds: at the smallest size, the middle one and the outermost."""
    if shapes < 1:
        return []
    smallest = min(p.size for p in points)
    own = [p for p in points if p.size == smallest]
    cheapest = min(p.tokens for p in own)
    own = [p for p in own if p.tokens == cheapest] or own
    raw = coordinates(own)
    distance = np.linalg.norm(Standardisation.of(raw).apply(raw)[:, 2:], axis=1)
    ranked = [own[int(i)] for i in np.argsort(distance)]
    return ranked[:1] + ranked[::-1][: max(0, min(shapes, len(own)) - 1)]


def with_tokens(point: DesignPoint, tokens: int) -> DesignPoint:
    """The same shape trained for another number of tokens."""
    return replace(point, tokens=tokens)
