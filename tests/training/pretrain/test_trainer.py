from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from suffice.core.errors import CorruptData  # noqa: E402
from suffice.training.pretrain import trainer  # noqa: E402
from suffice.training.pretrain.trainer import (  # noqa: E402
    Machine,
    Tick,
    TrainingData,
    evaluation_steps,
    load_training_data,
    train_rung,
)
from suffice.training.rung import LadderRung, Recipe, ladder_shape  # noqa: E402

RECIPE = Recipe(
    sequence_length=32, aimed_steps=60, min_batch_sequences=4, evaluation_sequences=16,
    peak_learning_rate=2e-3,
)  # fmt: skip
RUNG = LadderRung(
    shape=ladder_shape(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=257,
    ),
    tokens=60 * 4 * 32,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(data_folder: Path) -> TrainingData:
    torch.set_num_threads(1)
    return load_training_data(data_folder, "cpu")


class _Killed(Exception):
    pass


def test_a_rung_learns_and_its_record_adds_up(data: TrainingData) -> None:
    record = train_rung(RUNG, RECIPE, data, Machine())
    assert record.status == "finished"
    assert (record.tokens, record.steps, record.batch_tokens) == (7680, 60, 128)
    # Words of a small vocabulary: far below the 5.5 nats of a uniform guess.
    assert record.loss is not None and record.loss < 3.5
    assert record.loss_per_byte == record.loss / data.bytes_per_token
    assert record.evaluations[-1] == (7680, record.loss)
    assert record.epochs == pytest.approx(7680 / len(data.train), abs=1e-4)
    assert record.error is None and record.resumes == 0


def test_seeds_differ_and_equal_seeds_do_not(data: TrainingData) -> None:
    first, again, other = (
        train_rung(replace(RUNG, seed=seed), RECIPE, data, Machine()) for seed in (0, 0, 1)
    )
    assert first.loss == again.loss
    assert first.loss != other.loss


def test_a_killed_run_goes_on_bit_by_bit(data: TrainingData, tmp_path: Path) -> None:
    curves: dict[str, list[float]] = {}
    kept = trainer._Loop.run

    def remember(name: str) -> Any:
        def run(self: Any, progress: Any, checkpoint: Any) -> Any:
            result = kept(self, progress, checkpoint)
            curves[name] = self.stepper.losses.tolist()
            return result

        return run

    def kill_at(step: int) -> Any:
        def tick(progress: Tick) -> None:
            if progress.step >= step:
                raise _Killed

        return tick

    machine = Machine(work=tmp_path, checkpoint_every_s=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer._Loop, "run", remember("whole"))
        whole = train_rung(RUNG, RECIPE, data, Machine())
    for step in (26, 51):
        with pytest.raises(_Killed):
            train_rung(RUNG, RECIPE, data, machine, tick=kill_at(step))
    assert len(list(tmp_path.glob("*.pt"))) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer._Loop, "run", remember("resumed"))
        resumed = train_rung(RUNG, RECIPE, data, machine)
    assert curves["resumed"] == curves["whole"]
    assert resumed.loss == whole.loss
    assert resumed.evaluations == whole.evaluations
    assert resumed.resumes == 2
    assert not list(tmp_path.glob("*.pt"))


def test_a_damaged_checkpoint_is_named(data: TrainingData, tmp_path: Path) -> None:
    path = tmp_path / f"{RUNG.run_id(RECIPE, data.fingerprint)}.pt"
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(CorruptData, match="delete it"):
        train_rung(RUNG, RECIPE, data, Machine(work=tmp_path))


def test_divergence_is_a_record(data: TrainingData) -> None:
    wild = replace(RECIPE, peak_learning_rate=50.0, gradient_clip=1e9)
    record = train_rung(RUNG, wild, data, Machine())
    assert record.status == "diverged"
    assert record.loss is None and record.loss_per_byte is None


def test_not_a_number_is_a_record(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Any, *_: Any, **__: Any) -> None:
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(float("nan"))

    monkeypatch.setattr(trainer, "initialise", broken)
    record = train_rung(RUNG, RECIPE, data, Machine())
    assert (record.status, record.loss, record.train_loss) == ("diverged", None, None)


def test_lack_of_memory_is_a_record(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB\nmore text")

    monkeypatch.setattr(trainer, "build_model", full)
    record = train_rung(RUNG, RECIPE, data, Machine())
    assert (record.status, record.error) == ("out_of_memory", "tried to allocate 80 GiB")


def test_the_split_into_micro_batches_changes_rounding_alone(data: TrainingData) -> None:
    whole, parts = (
        train_rung(RUNG, RECIPE, data, Machine(micro_batch_sequences=size)) for size in (4, 1)
    )
    assert whole.loss == pytest.approx(parts.loss, abs=2e-3)


def test_bf16_is_close_to_fp32(data: TrainingData) -> None:
    exact = train_rung(RUNG, RECIPE, data, Machine())
    rounded = train_rung(RUNG, replace(RECIPE, precision="bf16"), data, Machine())
    assert exact.loss == pytest.approx(rounded.loss, abs=0.03)
    assert exact.loss != rounded.loss


def test_an_export_is_written_when_asked(data: TrainingData, tmp_path: Path) -> None:
    record = train_rung(RUNG, RECIPE, data, Machine(export=tmp_path))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / record.run_id)
    assert model.config.hidden_size == 32


def test_the_loss_of_a_run_is_the_mean_of_its_last_evaluations(data: TrainingData) -> None:
    averaged = replace(RECIPE, decay_evaluations=3)
    assert evaluation_steps(averaged, RUNG.tokens) == [54, 57, 60]
    record = train_rung(RUNG, averaged, data, Machine())
    tokens, losses = zip(*record.evaluations, strict=True)
    assert tokens == (54 * 128, 57 * 128, 60 * 128) and len(set(losses)) == 3
    assert record.loss == pytest.approx(sum(losses) / 3, rel=1e-12)
    single = train_rung(RUNG, RECIPE, data, Machine())
    assert single.loss == pytest.approx(losses[-1], rel=1e-12)


def test_held_out_loss_is_measured_on_a_grid_of_tokens() -> None:
    recipe = Recipe(aimed_steps=1000)
    per_step = recipe.batch_sequences(30_000_000) * 256
    tokens = [step * per_step for step in evaluation_steps(recipe, 30_000_000)]
    # 1M is under a twentieth of the run; the rest lies on powers of two, to a step.
    assert len(tokens) == 5
    for seen, wanted in zip(tokens, (2e6, 4e6, 8e6, 16e6, 30e6), strict=True):
        assert abs(seen - wanted) <= per_step
    assert evaluation_steps(recipe, 1000) == [1]


class _FakeGraph:
    """Stands for a CUDA graph on a machine without a GPU: replaying repeats the recorded call."""

    def __init__(self) -> None:
        self.call: Any = None

    def replay(self) -> None:
        self.call()


def test_recording_a_graph_leaves_no_trace(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext
    from types import SimpleNamespace

    from suffice.training.model import LossFunction, build_model
    from suffice.training.optimiser import build_optimiser, initialise
    from suffice.training.pretrain.stepper import Stepper

    def made() -> tuple[Any, Stepper]:
        model = build_model(RUNG.shape)
        initialise(model, RECIPE, 2, seed=0)
        stepper = Stepper(
            model=model,
            optimiser=build_optimiser(model, RECIPE, 1.0, torch.device("cpu")),
            loss_of=LossFunction(model, sequence_length=32, compiled=False),
            recipe=RECIPE,
            ids=data.train,
            order=trainer.window_order(len(data.train), RECIPE, RUNG.tokens, 0),
            micro_batch_sequences=2,
        )
        return model, stepper

    _, plain = made()
    plain.advance(20)
    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    model, graphed = made()
    before = [weight.clone() for weight in model.parameters()]
    graphed.capture()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert isinstance(graphed._graph, _FakeGraph)
    graphed._graph.call = graphed._advance_once
    graphed.advance(20)
    assert graphed.losses.tolist() == plain.losses.tolist()
