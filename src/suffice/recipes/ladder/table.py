"""From a run store to the table that a law is fitted on, and the noise of repeated seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from suffice.architecture.runs import RunsTable
from suffice.core.errors import TableError
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.rung import DIMENSIONS

# Tuning runs answer another question than shape, and picks are what a law is judged by.
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


def law_records(store: Path, *, learning_rate_factor: float = 1.0) -> list[RunRecord]:
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
        and r.purpose in LAW_PURPOSES
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


def runs_table(records: Sequence[RunRecord], *, source: str = "run store") -> RunsTable:
    """The columns of `records` that laws are written in, one row per run."""
    rows = [
        {
            "N": r.non_embedding_parameters,
            "D": r.tokens,
            "loss": r.loss,
            "x": r.x,
            "r": r.r,
            "seed": r.seed,
            **{name: getattr(r, name) for name in DIMENSIONS if name != "vocab_size"},
        }
        for r in records
    ]
    digest = hashlib.sha256("\n".join(sorted(f"{r.run_id} {r.loss}" for r in records)).encode())
    return RunsTable.from_rows(rows, source=source, sha256=digest.hexdigest())


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


def typical_loss(store: Path, parameters: float, tokens: float) -> float | None:
    """Median loss (nats) of the ladder's runs within 10 % of this size and budget, if there are."""
    losses = [
        r.loss
        for r in RunStore(store).read()
        if r.loss is not None
        and r.learning_rate_factor == 1.0
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
