"""From a run store to the table that a law is fitted on, and the noise of repeated seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import chi2

from suffice.architecture.runs import RunsTable
from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import DIMENSIONS

# Tuning runs answer another question than shape, and picks are what a law is judged by.
# What a size counts: attention and MLP matrices, or the output matrix as well (N + V d).
Counted = Literal["matrices", "head"]
# Sizes of one class have no gap wider than this, in ln.
SIZE_GAP = 0.15
LAW_PURPOSES = frozenset({"design", "repeat", "held-out", "check"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedNoise:
    """Standard deviation of the loss of one shape over seeds, nats, pooled over shapes.

    `low` and `high` are the two-sided 90 % interval of a variance with `degrees_of_freedom`.
    `shapes` are (label, losses).
    """

    sd_nats: float
    low: float
    high: float
    degrees_of_freedom: int
    shapes: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCheck:
    """Losses (nats) of one shape at several factors of the ladder's learning rate."""

    label: str
    losses: tuple[tuple[float, float], ...]

    @property
    def best_factor(self) -> float:
        """The factor of the lowest loss."""
        return min(self.losses, key=lambda pair: pair[1])[0]

    @property
    def given_up_nats(self) -> float:
        """What the ladder's own rate (factor 1) loses against the best one tried."""
        losses = dict(self.losses)
        return losses[1.0] - min(losses.values())


def law_records(
    store: Path, *, learning_rate_factor: float = 1.0, purposes: Collection[str] = LAW_PURPOSES
) -> list[RunRecord]:
    """Finished runs of `store` at one factor of the ladder's rate that say something about shape.

    Raises TableError if there are none, or if they come from several recipes or data sets.
    """
    if not store.exists():
        raise TableError(
            f"run store {str(store)!r} does not exist: train with `suffice ladder run`"
        )
    records = [
        r
        for r in RunStore(store).read()
        if r.status == "finished"
        and r.learning_rate_factor == learning_rate_factor
        and r.purpose in purposes
    ]
    if not records:
        raise TableError(
            f"run store {str(store)!r} holds no finished run to fit a law on, at "
            f"{learning_rate_factor:g} times the ladder's learning rate"
        )
    for what in ("recipe", "data"):
        found = sorted({getattr(r, what) for r in records})
        if len(found) > 1:
            raise TableError(
                f"run store {str(store)!r} mixes runs of {len(found)} {what} hashes "
                f"({', '.join(found)}): their losses cannot be compared; keep one store for each"
            )
    return records


def runs_table(
    records: Sequence[RunRecord], *, source: str = "run store", counted: Counted = "matrices",
    correct_size: bool = False,
) -> RunsTable:  # fmt: skip
    """The columns of `records` that laws are written in, one row per run.

    Shapes of one size differ in it by some per cent; with `correct_size` their losses are brought
    to the mean size of their scale (`size_exponent`). With `counted` "head" a scale is one of equal
    N + V d, and N goes with x inside it by design.
    """
    classes = size_classes(records, counted)
    losses = [math.nan if r.loss is None else r.loss for r in records]
    notes: tuple[str, ...] = ()
    if correct_size:
        exponent = size_exponent(classes, losses)
        factors = np.exp(-exponent * classes.deviations)
        losses = [loss * float(factor) for loss, factor in zip(losses, factors, strict=True)]
        most = 100 * float(np.abs(factors - 1).max())
        notes = (
            f"losses are brought to the mean size of their scale, by an exponent of {exponent:.3f} "
            f"of size: at most {most:.2f} %",
        )
    rows = [
        {
            "N": r.non_embedding_parameters,
            "D": r.tokens,
            "loss": loss,
            **({"scale": label} if counted == "head" else {}),
            "x": r.x,
            "r": r.r,
            "seed": r.seed,
            **{name: getattr(r, name) for name in DIMENSIONS if name != "vocab_size"},
        }
        for r, loss, label in zip(records, losses, classes.labels, strict=True)
    ]
    digest = hashlib.sha256("\n".join(sorted(f"{r.run_id} {r.loss}" for r in records)).encode())
    table = RunsTable.from_rows(rows, source=source, sha256=digest.hexdigest())
    return replace(table, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeClasses:
    """Runs by equal size and tokens: `deviations` are ln size less the mean of the class."""

    labels: tuple[str, ...]
    numbers: np.ndarray
    deviations: FloatArray
    log_sizes: FloatArray
    log_tokens: FloatArray


def size_classes(records: Sequence[RunRecord], counted: Counted) -> SizeClasses:
    """The classes of `records`: equal tokens, and sizes without a gap wider than 16 %."""
    sizes = np.log([
        r.non_embedding_parameters + (r.vocab_size * r.hidden_size if counted == "head" else 0)
        for r in records
    ])  # fmt: skip
    tokens = np.array([r.tokens for r in records])
    order = np.lexsort((sizes, tokens))
    gaps = (np.diff(sizes[order]) > SIZE_GAP) | (np.diff(tokens[order]) != 0)
    numbers = np.empty(len(records), dtype=np.intp)
    numbers[order] = np.r_[0, np.cumsum(gaps)]
    means = np.bincount(numbers, sizes) / np.bincount(numbers)
    names = [f"{np.exp(means[k]):09.0f} for {int(tokens[numbers == k][0])}"
             for k in range(len(means))]  # fmt: skip
    return SizeClasses(
        labels=tuple(names[k] for k in numbers),
        numbers=numbers,
        deviations=sizes - means[numbers],
        log_sizes=means,
        log_tokens=np.log([float(tokens[numbers == k][0]) for k in range(len(means))]),
    )


def size_exponent(classes: SizeClasses, losses: Sequence[float]) -> float:
    """d ln L / d ln size at equal tokens, from the mean losses of the classes.

    Where tokens grow with size throughout, half of the slope along them: published exponents of
    size and tokens differ by a tenth. 0 with one class.
    """
    level = np.bincount(classes.numbers, np.log(losses)) / np.bincount(classes.numbers)
    size, tokens = (v - v.mean() for v in (classes.log_sizes, classes.log_tokens))
    if np.ptp(size) < SIZE_GAP:
        return 0.0
    columns = np.stack([size, tokens], axis=1)
    if np.ptp(tokens) < SIZE_GAP:
        columns = size[:, None]
    elif len(size) < 3 or abs(np.corrcoef(size, tokens)[0, 1]) > 0.99:
        return float(size @ (level - level.mean()) / (size @ size)) / 2
    return float(np.linalg.lstsq(columns, level - level.mean(), rcond=None)[0][0])


def seed_noise(records: Sequence[RunRecord]) -> SeedNoise | None:
    """The spread over seeds, or None where no shape was repeated."""
    repeated = {
        label: tuple(losses)
        for label, losses in _grouped(records).items()
        if len(losses) > 1
    }  # fmt: skip
    freedom = sum(len(losses) - 1 for losses in repeated.values())
    if not freedom:
        return None
    squares = sum(float(np.var(losses, ddof=0)) * len(losses) for losses in repeated.values())
    sd = math.sqrt(squares / freedom)
    return SeedNoise(
        sd_nats=sd,
        low=sd * math.sqrt(freedom / float(chi2.ppf(0.95, freedom))),
        high=sd * math.sqrt(freedom / float(chi2.ppf(0.05, freedom))),
        degrees_of_freedom=freedom,
        shapes=tuple(sorted(repeated.items())),
    )


def rate_checks(store: Path) -> tuple[RateCheck, ...]:
    """Shapes that were trained at more than one learning rate, factor 1 among them."""
    found: dict[str, dict[float, float]] = {}
    for r in RunStore(store).read():
        mine = r.purpose in LAW_PURPOSES and r.seed == 0
        if mine and r.status == "finished" and r.loss is not None:
            found.setdefault(run_label(r), {})[r.learning_rate_factor] = r.loss
    return tuple(
        RateCheck(label=label, losses=tuple(sorted(losses.items())))
        for label, losses in sorted(found.items())
        if len(losses) > 1 and 1.0 in losses
    )


def typical_loss(
    store: Path, parameters: float, tokens: float, *, learning_rate_factor: float = 1.0
) -> float | None:
    """Median loss (nats) of the ladder's runs within 10 % of this size and budget, if there are.

    Of those at `learning_rate_factor` times the ladder's rate.
    """
    losses = [
        r.loss
        for r in RunStore(store).read()
        if r.loss is not None
        and r.learning_rate_factor == learning_rate_factor
        and abs(r.non_embedding_parameters / parameters - 1) <= 0.1
        and abs(r.tokens / tokens - 1) <= 0.1
    ]
    return float(np.median(losses)) if losses else None


def run_label(r: RunRecord) -> str:
    """Hidden size / MLP width / layers / heads : KV heads @ tokens."""
    return (
        f"{r.hidden_size}/{r.intermediate_size}/{r.num_hidden_layers}/"
        f"{r.num_attention_heads}:{r.num_key_value_heads} @ {r.tokens / 1e6:.2g}M"
    )


def _grouped(records: Sequence[RunRecord]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for r in records:
        if r.loss is not None:
            groups.setdefault(run_label(r), []).append(r.loss)
    return groups
