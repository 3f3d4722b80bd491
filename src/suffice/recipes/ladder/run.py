"""Train what a plan asks for and the store does not hold yet: first the tuning, then the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from suffice.core.errors import InputError
from suffice.recipes.ladder.events import Events
from suffice.recipes.ladder.plan import Plan
from suffice.training.pretrain.distributed import run_distributed
from suffice.training.pretrain.pool import PoolConfig, limit_threads, run_pool
from suffice.training.pretrain.ray_runner import RayConfig, run_on_ray
from suffice.training.pretrain.run_store import RunRecord, RunStore
from suffice.training.pretrain.shards import read_manifest
from suffice.training.pretrain.trainer import Machine, load_training_data, train_rung
from suffice.training.rung import LadderRung, Recipe

TUNE = "tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRun:
    """How a call ended: the recipe used after tuning, runs made now, rungs still to do."""

    recipe: Recipe
    made: tuple[RunRecord, ...]
    left: tuple[LadderRung, ...]


Runner = Callable[[Sequence[LadderRung], Recipe, Callable[[RunRecord], None]], None]


def run_ladder(
    plan: Plan,
    data_folder: Path,
    store: RunStore,
    runner: Runner,
    *,
    events: Events,
    also_done: Iterable[RunRecord] = (),
) -> LadderRun:
    """Run all rungs of `plan` that neither `store` nor `also_done` holds; append each to `store`.

    Rungs of purpose "tune" go first and set the learning rate of all others: every other rung
    trains at the plan's rate times the factor that was best on average over the tuning shapes.
    """
    manifest = read_manifest(data_folder)
    for rung in plan.rungs:
        if rung.shape.vocab_size != manifest.vocab_size:
            raise InputError(
                f"the plan is for {rung.shape.vocab_size} ids and the data in "
                f"{str(data_folder)!r} has {manifest.vocab_size}: plan again with "
                f"--vocab-size {manifest.vocab_size}"
            )
    made: list[RunRecord] = []

    def keep(record: RunRecord) -> None:
        store.append(record)
        made.append(record)
        events.record(record)

    known = [*also_done, *store.read()]
    with store.writing():
        tuning = [rung for rung in plan.rungs if rung.purpose == TUNE]
        recipe, left = plan.recipe, _missing(tuning, plan.recipe, manifest.fingerprint, known)
        if left:
            events.say(f"tuning the learning rate: {len(left)} runs")
            events.stage(left, recipe)
            runner(left, recipe, keep)
        left = _missing(tuning, recipe, manifest.fingerprint, [*known, *made])
        if left:
            events.say(f"{len(left)} tuning runs are left: repeat the command")
            return LadderRun(recipe=recipe, made=tuple(made), left=tuple(left))
        if tuning:
            recipe = tuned(recipe, [*known, *made], tuning, manifest.fingerprint)
            events.say(f"peak learning rate {recipe.peak_learning_rate:g} at fan-in "
                       f"{recipe.base_fan_in}")  # fmt: skip
        others = [rung for rung in plan.rungs if rung.purpose != TUNE]
        left = _missing(others, recipe, manifest.fingerprint, known)
        events.say(f"{len(others)} rungs planned, {len(others) - len(left)} done")
        if left:
            events.stage(left, recipe)
            runner(left, recipe, keep)
        left = _missing(others, recipe, manifest.fingerprint, [*known, *made])
    return LadderRun(recipe=recipe, made=tuple(made), left=tuple(left))


def tuned(
    recipe: Recipe, records: Sequence[RunRecord], tuning: Sequence[LadderRung], fingerprint: str
) -> Recipe:
    """`recipe` at the learning rate that the tuning runs favour, to two significant digits."""
    ids = {rung.run_id(recipe, fingerprint) for rung in tuning}
    factor = best_factor([record for record in records if record.run_id in ids])
    peak = float(f"{recipe.peak_learning_rate * factor:.1e}")
    return replace(recipe, peak_learning_rate=peak)


def best_factor(records: Sequence[RunRecord]) -> float:
    """Learning-rate factor with the least mean excess loss over shapes.

    The excess of a shape is its loss minus its own best. Around the best factor of the grid a
    parabola in the factor's logarithm is fitted through three points. A factor at which any shape
    diverged is never chosen.
    """
    shapes: dict[tuple[int, ...], dict[float, float]] = {}
    for record in records:
        key = (record.hidden_size, record.intermediate_size, record.num_hidden_layers,
               record.num_attention_heads, record.num_key_value_heads, record.tokens)  # fmt: skip
        loss = math.inf if record.loss is None else record.loss
        shapes.setdefault(key, {})[record.learning_rate_factor] = loss
    factors = sorted(set.intersection(*(set(losses) for losses in shapes.values())))
    if not factors:
        raise InputError("the tuning runs share no learning-rate factor: plan them again")
    excess = [
        float(np.mean([losses[f] - min(losses.values()) for losses in shapes.values()]))
        for f in factors
    ]
    best = int(np.argmin(excess))
    if not math.isfinite(excess[best]):
        raise InputError("every learning rate of the tuning broke a shape: plan with a lower one")
    if not 0 < best < len(factors) - 1 or not np.isfinite(excess[best - 1 : best + 2]).all():
        return factors[best]
    around = [math.log(f) for f in factors[best - 1 : best + 2]]
    a, b, _ = np.polyfit(around, excess[best - 1 : best + 2], 2)
    return math.exp(-b / (2 * a)) if a > 0 else factors[best]


def _missing(
    rungs: Sequence[LadderRung], recipe: Recipe, fingerprint: str, records: Iterable[RunRecord]
) -> list[LadderRung]:
    done = {record.run_id for record in records if record.status != "failed"}
    left: list[LadderRung] = []
    for rung in rungs:
        # A plan may name a run twice, as a held-out shape and as a pick: it is made once.
        run_id = rung.run_id(recipe, fingerprint)
        if run_id not in done:
            left.append(rung)
            done.add(run_id)
    return left


def here(data_folder: Path, machine: Machine, *, threads: int, events: Events) -> Runner:
    """Rungs one after another in this process."""

    def run(rungs: Sequence[LadderRung], recipe: Recipe, keep: Callable[[RunRecord], None]) -> None:
        limit_threads(threads)
        data = load_training_data(data_folder, machine.device)
        for rung in rungs:
            keep(train_rung(rung, recipe, data, machine, tick=events.tick))

    return run


def pooled(data_folder: Path, machine: Machine, config: PoolConfig, *, events: Events) -> Runner:
    """Rungs in `config.workers` processes; a deadline counts from now, over all stages."""
    begun = time.monotonic()

    def run(rungs: Sequence[LadderRung], recipe: Recipe, keep: Callable[[RunRecord], None]) -> None:
        left_s = config.deadline_s
        if left_s is not None:
            left_s -= time.monotonic() - begun
        # Long rungs first, so that none starts when the others are about to end; but size by size,
        # so that a deadline costs the largest size and not some of each.
        ordered = sorted(rungs, key=lambda r: (round(math.log2(r.parameters)), -r.tokens))
        run_pool(
            ordered, recipe, data_folder, machine, replace(config, deadline_s=left_s),
            on_record=keep, on_tick=events.tick,
        )  # fmt: skip

    return run


def on_cluster(data_folder: Path, machine: Machine, config: RayConfig, *, events: Events) -> Runner:
    """Rungs as tasks of a Ray cluster."""

    def run(rungs: Sequence[LadderRung], recipe: Recipe, keep: Callable[[RunRecord], None]) -> None:
        events.say(f"{len(rungs)} rungs go to Ray")
        run_on_ray(rungs, recipe, data_folder, machine, config, on_record=keep)

    return run


def over_ranks(data_folder: Path, machine: Machine, *, threads: int, events: Events) -> Runner:
    """Rungs one after another, each over all processes that torchrun started."""

    def run(rungs: Sequence[LadderRung], recipe: Recipe, keep: Callable[[RunRecord], None]) -> None:
        run_distributed(
            rungs, recipe, data_folder, machine,
            threads=threads, on_record=keep, on_tick=events.tick,
        )  # fmt: skip

    return run
