from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from suffice.architecture.ladder_design import DesignSpace  # noqa: E402
from suffice.core.errors import InputError  # noqa: E402
from suffice.recipes.ladder.data import DataConfig, make_data  # noqa: E402
from suffice.recipes.ladder.events import Events  # noqa: E402
from suffice.recipes.ladder.plan import Plan, PlanConfig, make_plan  # noqa: E402
from suffice.recipes.ladder.run import (  # noqa: E402
    best_factor,
    here,
    run_ladder,
)
from suffice.training.pretrain.run_store import RunRecord, RunStore  # noqa: E402
from suffice.training.pretrain.trainer import Machine, failed_record  # noqa: E402
from suffice.training.rung import LadderRung, Recipe  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for i in range(60):
        (folder / f"{i}.txt").write_text(f"rung {i} of a ladder of shapes. " * 10)
    config = DataConfig(sources=(str(folder),), tokenizer="bytes", validation_share=0.2)
    make_data(config, folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def plan() -> Plan:
    space = DesignSpace(
        sizes=(1e4, 2e4), tokens_per_parameter=(0.05,), head_dim=8, multiple=8, layers=(1, 3),
        x=(0.1, 0.5),
    )  # fmt: skip
    recipe = Recipe(
        sequence_length=16, aimed_steps=8, evaluation_sequences=4, peak_learning_rate=1e-3
    )
    return make_plan(
        PlanConfig(
            space=space,
            recipe=recipe,
            vocab_size=257,
            runs=4,
            repeated_shapes=1,
            seeds=2,
            check=False,
        )
    )


def _train(plan: Plan, data: Path, store: RunStore, said: list[str]) -> int:
    events = Events(say=said.append)
    runner = here(data, Machine(), threads=1, events=events)
    return len(run_ladder(plan, data, store, runner, events=events).made)


def test_a_second_run_does_nothing(plan: Plan, data: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    said: list[str] = []
    # A run that is named twice, for two purposes, is made once.
    twice = replace(plan, rungs=(*plan.rungs, replace(plan.rungs[-1], purpose="pick")))
    assert _train(twice, data, store, said) == len(plan.rungs)
    before = store.path.read_bytes()
    assert _train(plan, data, store, said) == 0
    assert store.path.read_bytes() == before
    assert {record.status for record in store.read()} == {"finished"}


def test_all_other_rungs_train_at_the_tuned_rate(plan: Plan, data: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    _train(plan, data, store, [])
    records = store.read()
    factor = best_factor([r for r in records if r.purpose == "tune"])
    wanted = float(f"{plan.recipe.peak_learning_rate * factor:.1e}")
    assert {r.peak_learning_rate for r in records if r.purpose != "tune"} == {wanted}


class _Stopped(Exception):
    pass


def test_a_stopped_ladder_goes_on_where_it_was(plan: Plan, data: Path, tmp_path: Path) -> None:
    whole, parts = RunStore(tmp_path / "whole.jsonl"), RunStore(tmp_path / "parts.jsonl")
    _train(plan, data, whole, [])

    def stop_after(count: int) -> Callable[[RunRecord], None]:
        left = [count]

        def record(_: RunRecord) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise _Stopped

        return record

    for count in (3, len(plan.rungs) - 5):
        events = Events(record=stop_after(count))
        with pytest.raises(_Stopped):
            run_ladder(
                plan, data, parts, here(data, Machine(), threads=1, events=events), events=events
            )
    _train(plan, data, parts, [])
    assert [(r.run_id, r.loss) for r in parts.read()] == [(r.run_id, r.loss) for r in whole.read()]


def test_a_failed_run_is_tried_again_and_the_ladder_goes_on(
    plan: Plan, data: Path, tmp_path: Path
) -> None:
    store = RunStore(tmp_path / "runs.jsonl")
    tunes = [r for r in plan.rungs if r.purpose == "tune"]

    def breaks_the_second(
        rungs: Sequence[LadderRung], recipe: Recipe, keep: Callable[[RunRecord], None]
    ) -> None:
        train = here(data, Machine(), threads=1, events=Events())
        for number, rung in enumerate(rungs):
            if number == 1:
                keep(failed_record(rung, recipe, _fingerprint(data), 1.0, "killed"))
            else:
                train([rung], recipe, keep)

    outcome = run_ladder(plan, data, store, breaks_the_second, events=Events())
    # A tuning run is missing, so the rest waits for it.
    assert len(outcome.made) == len(tunes) and len(outcome.left) == 1
    outcome = run_ladder(plan, data, store, here(data, Machine(), threads=1, events=Events()),
                         events=Events())  # fmt: skip
    assert not outcome.left


def _fingerprint(data: Path) -> str:
    from suffice.training.pretrain.shards import read_manifest

    return read_manifest(data).fingerprint


def test_data_with_another_vocabulary_is_refused(plan: Plan, data: Path, tmp_path: Path) -> None:
    shape = replace(plan.rungs[0].shape, vocab_size=300)
    other = replace(plan, rungs=(replace(plan.rungs[0], shape=shape),))
    with pytest.raises(InputError, match="--vocab-size 257"):
        _train(other, data, RunStore(tmp_path / "runs.jsonl"), [])


def _tuning(losses: dict[float, list[float | None]], template: RunRecord) -> list[RunRecord]:
    return [
        replace(template, hidden_size=16 * (shape + 1), learning_rate_factor=factor, loss=loss)
        for factor, values in losses.items()
        for shape, loss in enumerate(values)
    ]


def test_the_best_factor_is_the_parabolas_lowest_point(plan: Plan) -> None:
    template = failed_record(plan.rungs[0], plan.recipe, "data", 1.0, "")
    factors = (0.25, 0.5, 1.0, 2.0, 4.0)
    # Two shapes of different level whose best rates straddle sqrt(2).
    losses: dict[float, list[float | None]] = {
        f: [3.0 + (log(f) - log(2) / 2) ** 2, 4.0 + (log(f) - log(2) / 2) ** 2] for f in factors
    }
    assert best_factor(_tuning(losses, template)) == pytest.approx(2**0.5)
    # A factor that breaks one shape loses, however good for the other.
    losses[2.0] = [1.0, None]
    assert best_factor(_tuning(losses, template)) == 1.0
    assert best_factor(_tuning({1.0: [3.0], 2.0: [2.0]}, template)) == 2.0
    with pytest.raises(InputError, match="every learning rate"):
        best_factor(_tuning({1.0: [None], 2.0: [None]}, template))
    with pytest.raises(InputError, match="share no learning-rate factor"):
        best_factor([
            replace(template, hidden_size=16, learning_rate_factor=1.0),
            replace(template, hidden_size=32, learning_rate_factor=2.0),
        ])  # fmt: skip
