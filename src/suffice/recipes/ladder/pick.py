"""Train the shape that a law picks, and the shape it is to replace, on the same budget.

Both have the same N, see the same tokens by the same recipe, in turn, with several seeds; then
both are timed. What arXiv:2510.18245 shows in its table 1 at 1B, at whatever size is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import (
    aspect,
    mlp_to_attention_ratio,
    non_embedding_parameters,
    query_width,
)
from suffice.architecture.lattice import Lattice, enumerate_lattice, shape_at
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.predict import shape_variables
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, TableError
from suffice.core.files import read_json, write_json
from suffice.recipes.ladder.plan import HELD_OUT, Plan
from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import DIMENSIONS, LadderRung, Recipe, dimensions, ladder_shape

# 2: the predicted interval is two-sided, as the measured one; in 1 it was one-sided at each end.
FORMAT = 2
PICK, REFERENCE = "pick", "reference"
# More references, of the pick's own N or of its parameters in all.
EQUAL_REFERENCE = "equal-reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Decode throughput of the pick over the reference's: median and range over repeats."""

    batch: int
    input_tokens: int
    output_tokens: int
    ratio: float
    least: float
    largest: float
    repeats: int
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PickResult:
    """The comparison. Losses in nats, one per seed; `difference` is pick less reference.

    `low` and `high` bound it two-sidedly at `confidence` (Welch's t). `predicted_ratio` is the
    law's loss of the pick over the reference's, bounded two-sidedly at the same confidence.
    """

    pick: Mapping[str, int]
    reference: Mapping[str, int]
    pick_parameters: int
    reference_parameters: int
    tokens: int
    pick_losses: tuple[float, ...]
    reference_losses: tuple[float, ...]
    difference: float
    low: float
    high: float
    confidence: float
    degrees_of_freedom: float
    predicted_ratio: float
    predicted_low: float
    predicted_high: float
    law: str
    learning_rate_factor: float
    timed: tuple[Timed, ...] = ()

    @property
    def measured_ratio(self) -> float:
        """Mean loss of the pick over the reference's."""
        return float(np.mean(self.pick_losses) / np.mean(self.reference_losses))

    def sentences(self) -> list[str]:
        """The result in words, for the terminal and the report."""
        told = "told apart" if self.low > 0 or self.high < 0 else "not told apart"
        lines = [
            f"Pick {_text(self.pick)}, N {self.pick_parameters:,}; reference "
            f"{_text(self.reference)}, N {self.reference_parameters:,}; {self.tokens:,} tokens "
            f"each, {self.learning_rate_factor:g} times the ladder's learning rate.",
            f"Loss {np.mean(self.pick_losses):.4f} against {np.mean(self.reference_losses):.4f} "
            f"nats over {len(self.pick_losses)} and {len(self.reference_losses)} seeds: "
            f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}] at {self.confidence:.0%} "
            f"(Welch, {self.degrees_of_freedom:.1f} degrees of freedom), {told}.",
            f"The law {self.law} predicted a ratio of {self.predicted_ratio:.4f} "
            f"[{self.predicted_low:.4f}, {self.predicted_high:.4f}] at {self.confidence:.0%}, "
            f"two-sided; measured {self.measured_ratio:.4f}.",
        ]
        lines += [
            f"Decode at batch {t.batch}, {t.input_tokens} in / {t.output_tokens} out: "
            f"{t.ratio:.2f} times the reference's tokens per second ({t.least:.2f} to "
            f"{t.largest:.2f} over {t.repeats} repeats; {t.where})."
            for t in self.timed
        ]
        return lines

    def save(self, path: Path) -> None:
        """Write the result file."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> PickResult:
        """Read a result file; unknown keys are errors."""
        raw = read_json(path, what="result of train-pick")
        known = {f.name for f in fields(cls)} | {"format"}
        if not isinstance(raw, dict) or raw.get("format") != FORMAT or set(raw) != known:
            raise InputError(
                f"{str(path)!r} is not a result of `suffice ladder train-pick`, format {FORMAT}"
            )
        raw.pop("format")
        for name in ("pick_losses", "reference_losses"):
            raw[name] = tuple(raw[name])
        raw["timed"] = tuple(Timed(**row) for row in raw["timed"])
        return cls(**raw)


def search_space(
    law: ConditionalLaw, parameters: float, *, head_dim: int, multiple: int, tolerance: float
) -> dict[str, Any]:
    """Where the law may be asked at this size, as fields of a Lattice or a DesignConfig.

    Raises OutsideValidity where the size is outside the law's evidence.
    """
    law.check(N=parameters)

    def bounds(variable: str, low: float, high: float) -> tuple[float, float]:
        interval = law.domain.interval(variable)
        return (low, high) if interval is None else (interval.low, interval.high)

    share, layers = bounds("kv_share", 0.125, 1.0), bounds("layers", 2.0, 8.0)
    return {
        "parameters": parameters,
        "parameter_tolerance": tolerance,
        "hidden_multiple": multiple,
        "mlp_multiple": multiple,
        "key_value_multiple": 1,
        "x_range": bounds("x", 0.05, 0.25),
        "r_range": bounds("r", 0.5, 5.0),
        "gqa_range": (max(1, round(1 / share[1])), round(1 / share[0])),
        "attention_width_range": (0.5, 3.0),
        "head_dims": (head_dim,),
        "depths": tuple(range(math.ceil(layers[0] - 1e-9), math.floor(layers[1] + 1e-9) + 1)),
    }


def same_ratios(
    like: Shape, space: Mapping[str, Any], *, vocab_size: int
) -> Shape:  # fmt: skip
    """The shape of `space` whose x, r, KV share and attention width are nearest to `like`'s.

    Nearest in the sum of squared logarithms. At a small size a model's own depth seldom fits; it
    follows from the four ratios.
    """
    head_dim = space["head_dims"][0]
    seed = ladder_shape(
        hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, head_dim=head_dim, vocab_size=vocab_size,
    )  # fmt: skip
    grid = enumerate_lattice(seed, Lattice(**space))
    distance = np.zeros(len(grid))
    for here, there in (
        (aspect(grid), aspect(like)),
        (mlp_to_attention_ratio(grid), mlp_to_attention_ratio(like)),
        (grid.num_key_value_heads / grid.num_attention_heads, 1 / like.gqa),
        (query_width(grid) / grid.hidden_size, query_width(like) / like.hidden_size),
    ):
        distance += np.log(np.asarray(here, dtype=np.float64) / float(there)) ** 2
    found = shape_at(grid, int(np.argmin(distance)), seed)
    return as_rung_shape(found, vocab_size)


def as_rung_shape(shape: Shape, vocab_size: int) -> Shape:
    """The same dimensions in the form in which rungs are trained."""
    return ladder_shape(**{**dimensions(shape), "vocab_size": vocab_size})


def read_shape(path: str, vocab_size: int) -> Shape:
    """A shape by name or from a config.json, to be trained as a rung."""
    return as_rung_shape(load_shape(path), vocab_size)


def pick_plan(
    pick: Shape, reference: Shape, *, recipe: Recipe, tokens: int, seeds: int, flops_per_s: float,
    learning_rate_factor: float = 1.0,
) -> Plan:  # fmt: skip
    """Both shapes in turn, seed by seed, so that neighbours in time are compared."""
    if seeds < 2:
        raise InputError(f"{seeds} seed gives no interval: train at least 2 (3 is the default)")
    if pick == reference:
        raise InputError("the pick is the reference itself: there is nothing to compare")
    rungs = [
        LadderRung(
            shape=shape,
            tokens=tokens,
            seed=seed,
            purpose=purpose,
            learning_rate_factor=learning_rate_factor,
        )
        for seed in range(seeds)
        for shape, purpose in ((pick, PICK), (reference, REFERENCE))
    ]
    return Plan(recipe=recipe, rungs=tuple(rungs), flops_per_s=flops_per_s)


def judge(
    records: Sequence[RunRecord],
    pick: Shape,
    reference: Shape,
    law: ConditionalLaw,
    *,
    learning_rate_factor: float = 1.0,
    confidence: float = 0.9,
    timed: Sequence[Timed] = (),
    tokens: int | None = None,
) -> PickResult:
    """The comparison of what was trained, on `tokens` each if given.

    Raises TableError with fewer than two seeds of either.
    """
    mine, theirs = (
        _of(records, shape, learning_rate_factor, tokens) for shape in (pick, reference)
    )
    for what, found in ((PICK, mine), (REFERENCE, theirs)):
        if len(found) < 2:
            raise TableError(
                f"{len(found)} finished runs of the {what}: at least two are needed; repeat the "
                "command, or look for runs that diverged in the store"
            )
    a, b = (np.array([r.loss for r in found], dtype=np.float64) for found in (mine, theirs))
    error, freedom = _welch(a, b)
    quantile = float(stdtrit(freedom, 0.5 + confidence / 2))
    difference = float(a.mean() - b.mean())
    here, there = (
        {name: value for name, value in shape_variables(shape).items()
         if name in law.family.variables}
        for shape in (pick, reference)
    )  # fmt: skip
    # The law's bounds are one-sided: each end at half of what is left out.
    predicted = law.compare(**here, versus=there, confidence=0.5 + confidence / 2)
    return PickResult(
        pick=dimensions(pick),
        reference=dimensions(reference),
        pick_parameters=int(non_embedding_parameters(pick)),
        reference_parameters=int(non_embedding_parameters(reference)),
        tokens=mine[0].tokens,
        pick_losses=tuple(a.tolist()),
        reference_losses=tuple(b.tolist()),
        difference=difference,
        low=difference - quantile * error,
        high=difference + quantile * error,
        confidence=confidence,
        degrees_of_freedom=freedom,
        predicted_ratio=float(predicted.ratio[0]),
        predicted_low=float(predicted.low[0]),
        predicted_high=float(predicted.high[0]),
        law=law.name,
        learning_rate_factor=learning_rate_factor,
        timed=tuple(timed),
    )


def _welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Standard error of the difference of means, and its degrees of freedom."""
    first, second = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if first + second == 0:
        return 0.0, float(len(a) + len(b) - 2)
    freedom = (first + second) ** 2 / (first**2 / (len(a) - 1) + second**2 / (len(b) - 1))
    return float(np.sqrt(first + second)), float(freedom)


def _of(
    records: Sequence[RunRecord], shape: Shape, factor: float, tokens: int | None
) -> list[RunRecord]:
    # A run that the ladder held out, or trained as another reference, is not made again.
    wanted = dimensions(shape)
    return [
        r
        for r in records
        if r.status == "finished"
        and r.purpose in (PICK, REFERENCE, EQUAL_REFERENCE, HELD_OUT)
        and tokens in (None, r.tokens)
        and r.learning_rate_factor == factor
        and {name: getattr(r, name) for name in DIMENSIONS} == wanted
    ]


def _text(shape: Mapping[str, int]) -> str:
    return (
        f"{shape['hidden_size']} wide, MLP {shape['intermediate_size']}, "
        f"{shape['num_hidden_layers']} layers, {shape['num_attention_heads']} heads over "
        f"{shape['num_key_value_heads']} KV"
    )


def named(pick: Shape, reference: Shape) -> tuple[Shape, Shape]:
    """Both with names, for measurements."""
    return replace(pick, name=PICK), replace(reference, name=REFERENCE)
