"""Train one rung from nothing, or from its checkpoint, to a record."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn

from suffice.architecture.counts import parameter_counts
from suffice.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from suffice.training.model import LossFunction, build_model, evaluate, save_model
from suffice.training.optimiser import build_optimiser, initialise
from suffice.training.pretrain.batches import epochs, window_order
from suffice.training.pretrain.flops import training_flops
from suffice.training.pretrain.run_store import RunRecord, Status, finite
from suffice.training.pretrain.shards import load_split, read_manifest
from suffice.training.pretrain.stepper import Stepper
from suffice.training.rung import LadderRung, Recipe, dimensions, law_coordinates

EVALUATION_GRID_TOKENS = 1_000_000
# Loss at the start is ln V; a run that is well above it after the warm-up will not come back.
DIVERGED_NATS_ABOVE_START = 1.0
# The losses that are averaged to that of a run come from the last tenth of its steps, where the
# cosine is down to a fortieth of its height above the floor.
FINAL_SHARE = 0.1
_CHUNK_STEPS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Both splits on a device, and what identifies them."""

    train: torch.Tensor
    validation: torch.Tensor
    bytes_per_token: float
    vocab_size: int
    fingerprint: str
    tokenizer_json: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and how a rung runs; none of it changes what is computed beyond rounding.

    `micro_batch_sequences` bounds memory. `work` holds checkpoints; None keeps none.
    """

    device: str = "cpu"
    compiled: bool = False
    cuda_graph: bool = False
    micro_batch_sequences: int = 128
    work: Path | None = None
    checkpoint_every_s: float = 60.0
    export: Path | None = None
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Progress of a run in flight."""

    run_id: str
    step: int
    steps: int
    loss: float
    tokens_per_s: float
    model_flops: float


def load_training_data(folder: Path, device: str) -> TrainingData:
    """Both splits of a data folder, checked against their hashes, on `device`."""
    manifest = read_manifest(folder)
    tokenizer = folder / "tokenizer.json"
    return TrainingData(
        train=_on_device(load_split(folder, manifest, "train"), device),
        validation=_on_device(load_split(folder, manifest, "validation"), device),
        bytes_per_token=manifest.bytes_per_token,
        vocab_size=manifest.vocab_size,
        fingerprint=manifest.fingerprint,
        tokenizer_json=tokenizer.read_text(encoding="utf-8") if tokenizer.exists() else "",
    )


def train_rung(
    rung: LadderRung,
    recipe: Recipe,
    data: TrainingData,
    machine: Machine,
    *,
    tick: Callable[[Tick], None] = lambda _: None,
) -> RunRecord:
    """Train `rung` and return its record; divergence and lack of memory are records, not errors."""
    try:
        return _train(rung, recipe, data, machine, tick=tick)
    except torch.OutOfMemoryError as error:
        message = str(error).splitlines()[0]
    free_memory()
    return _record(rung, recipe, data, machine, "out_of_memory", error=message)


def failed_record(
    rung: LadderRung, recipe: Recipe, data_fingerprint: str, bytes_per_token: float, error: str
) -> RunRecord:
    """The record of a run whose process died."""
    empty = torch.empty(0)
    data = TrainingData(
        train=torch.empty(1), validation=empty, bytes_per_token=bytes_per_token,
        vocab_size=rung.shape.vocab_size, fingerprint=data_fingerprint,
    )  # fmt: skip
    return replace(_record(rung, recipe, data, Machine(), "failed", error=error), epochs=0.0)


def _train(
    rung: LadderRung,
    recipe: Recipe,
    data: TrainingData,
    machine: Machine,
    *,
    tick: Callable[[Tick], None],
) -> RunRecord:
    run_id = rung.run_id(recipe, data.fingerprint)
    device = torch.device(machine.device)
    model = build_model(rung.shape)
    initialise(model, recipe, rung.shape.num_hidden_layers, rung.seed)
    model.to(device).train()
    optimiser = build_optimiser(model, recipe, rung.learning_rate_factor, device, rung.shape)
    compiled = machine.compiled
    if compiled:
        # Each shape compiles once; what earlier shapes left behind would only count as recompiles.
        torch._dynamo.reset()
    loss_of = LossFunction(model, sequence_length=recipe.sequence_length, compiled=compiled)
    stepper = Stepper(
        model=model,
        optimiser=optimiser,
        loss_of=loss_of,
        recipe=recipe,
        ids=data.train,
        order=window_order(len(data.train), recipe, rung.tokens, rung.seed),
        micro_batch_sequences=machine.micro_batch_sequences,
        rank=machine.rank,
        world_size=machine.world_size,
    )
    if machine.cuda_graph and device.type == "cuda" and machine.world_size == 1:
        stepper.capture()
    checkpoint = machine.work / f"{run_id}.pt" if machine.work else None
    progress = Progress(step=0, losses=(), evaluations=(), elapsed_s=0.0, resumes=0)
    if checkpoint and checkpoint.exists():
        progress = load_checkpoint(checkpoint, run_id, model, optimiser)
        progress = replace(progress, resumes=progress.resumes + 1)
        stepper.seek(progress.step, progress.losses)
    loop = _Loop(
        rung=rung,
        recipe=recipe,
        data=data,
        machine=machine,
        run_id=run_id,
        model=model,
        optimiser=optimiser,
        loss_of=loss_of,
        stepper=stepper,
        tick=tick,
    )
    status, progress = loop.run(progress, checkpoint)
    if status == "finished" and machine.export and machine.rank == 0:
        save_model(model, machine.export / run_id, tokenizer_json=data.tokenizer_json)
    record = _record(rung, recipe, data, machine, status, progress=progress)
    if checkpoint and machine.rank == 0:
        checkpoint.unlink(missing_ok=True)
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """Advances in chunks that end where a held-out loss is due, and checkpoints by the clock."""

    rung: LadderRung
    recipe: Recipe
    data: TrainingData
    machine: Machine
    run_id: str
    model: nn.Module
    optimiser: torch.optim.AdamW
    loss_of: LossFunction
    stepper: Stepper
    tick: Callable[[Tick], None]

    @property
    def steps(self) -> int:
        return self.recipe.steps(self.rung.tokens)

    @property
    def batch_tokens(self) -> int:
        return self.recipe.batch_sequences(self.rung.tokens) * self.recipe.sequence_length

    def run(self, progress: Progress, checkpoint: Path | None) -> tuple[Status, Progress]:
        due = evaluation_steps(self.recipe, self.rung.tokens)
        started, saved = time.perf_counter(), time.perf_counter()
        before_s = progress.elapsed_s
        first = step = progress.step
        evaluations = list(progress.evaluations)
        while step < self.steps:
            target = min([s for s in due if s > step] + [step + _CHUNK_STEPS, self.steps])
            self.stepper.advance(target - step)
            step = target
            losses = self.stepper.losses[:step].cpu()
            elapsed_s = before_s + time.perf_counter() - started
            rate = (step - first) * self.batch_tokens / max(elapsed_s - before_s, 1e-9)
            self.tick(
                Tick(
                    run_id=self.run_id,
                    step=step,
                    steps=self.steps,
                    loss=float(losses[-1]),
                    tokens_per_s=rate,
                    model_flops=training_flops(self.rung, self.recipe),
                )
            )
            if step in due:
                evaluations.append((step * self.batch_tokens, self._evaluate()))
            progress = Progress(
                step=step,
                losses=tuple(losses.tolist()),
                evaluations=tuple(evaluations),
                elapsed_s=before_s + time.perf_counter() - started,
                resumes=progress.resumes,
            )
            if self._diverged(losses):
                return "diverged", progress
            overdue = time.perf_counter() - saved >= self.machine.checkpoint_every_s
            if checkpoint and overdue and step < self.steps and self.machine.rank == 0:
                save_checkpoint(checkpoint, self.run_id, self.model, self.optimiser, progress)
                saved = time.perf_counter()
        return "finished", progress

    def _evaluate(self) -> float:
        per_step = self.recipe.batch_sequences(self.rung.tokens) // self.machine.world_size
        batch = min(self.machine.micro_batch_sequences, per_step)
        if not self.machine.compiled and self.machine.device == "cpu":
            batch = 32
        return evaluate(
            self.loss_of, self.data.validation, self.recipe, batch, compiled=self.machine.compiled
        )

    def _diverged(self, losses: torch.Tensor) -> bool:
        warm = round(self.recipe.warmup_share * self.steps)
        limit = float(np.log(self.rung.shape.vocab_size)) + DIVERGED_NATS_ABOVE_START
        recent = losses[-min(len(losses), _CHUNK_STEPS) :]
        return not bool(torch.isfinite(recent).all()) or (
            len(losses) > warm and float(recent.mean()) > limit
        )


def evaluation_steps(recipe: Recipe, tokens: int) -> list[int]:
    """Steps after which held-out loss is measured: at 1M, 2M, 4M, ... tokens, and at the end.

    Counts below a twentieth of the run are left out: evaluating would cost more than training.
    `decay_evaluations` more than one are spread evenly over the last tenth, the end included.
    """
    per_step = recipe.batch_sequences(tokens) * recipe.sequence_length
    last = recipe.steps(tokens)
    grid, count = [], EVALUATION_GRID_TOKENS
    while count < last * per_step:
        step = round(count / per_step)
        if count * 20 >= last * per_step and 0 < step < last:
            grid.append(step)
        count *= 2
    return sorted({*grid, *final_steps(recipe, tokens)})


def final_steps(recipe: Recipe, tokens: int) -> list[int]:
    """Steps whose held-out losses are averaged to the loss of a run, ascending."""
    last, count = recipe.steps(tokens), recipe.decay_evaluations
    gap = FINAL_SHARE * last / max(1, count - 1)
    return sorted({max(1, last - round(gap * back)) for back in range(count)})


def _record(
    rung: LadderRung,
    recipe: Recipe,
    data: TrainingData,
    machine: Machine,
    status: Status,
    *,
    progress: Progress | None = None,
    error: str | None = None,
) -> RunRecord:
    tokens = recipe.trained_tokens(rung.tokens)
    coordinates = law_coordinates(rung.shape)
    wall_s = progress.elapsed_s if progress else 0.0
    done = progress.step if progress else 0
    batch_tokens = recipe.batch_sequences(rung.tokens) * recipe.sequence_length
    averaged = len(final_steps(recipe, rung.tokens))
    loss = None
    if progress and status == "finished":
        loss = float(np.mean([value for _, value in progress.evaluations[-averaged:]]))
    tail = progress.losses[-max(1, len(progress.losses) // 20) :] if progress else ()
    return RunRecord(
        run_id=rung.run_id(recipe, data.fingerprint),
        status=status,
        purpose=rung.purpose,
        **dimensions(rung.shape),
        non_embedding_parameters=rung.parameters,
        total_parameters=parameter_counts(rung.shape).total,
        x=coordinates["x"],
        r=coordinates["r"],
        kv_share=coordinates["kv_share"],
        tokens=tokens,
        steps=recipe.steps(rung.tokens),
        batch_tokens=batch_tokens,
        epochs=round(epochs(len(data.train), recipe, rung.tokens), 4),
        seed=rung.seed,
        learning_rate_factor=rung.learning_rate_factor,
        peak_learning_rate=recipe.peak_learning_rate * rung.learning_rate_factor,
        precision=recipe.precision,
        recipe=recipe.sha256,
        data=data.fingerprint,
        loss=loss,
        loss_per_byte=None if loss is None else loss / data.bytes_per_token,
        train_loss=finite(float(np.mean(tail))) if tail else None,
        evaluations=tuple(
            (t, v) for t, v in (progress.evaluations if progress else ()) if finite(v) is not None
        ),
        model_flops=training_flops(rung, recipe),
        wall_s=round(wall_s, 3),
        tokens_per_s=round(done * batch_tokens / wall_s, 1) if wall_s else 0.0,
        resumes=progress.resumes if progress else 0,
        world_size=machine.world_size,
        device=device_name(machine.device),
        versions={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        finished_at=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        error=error,
    )


def device_name(device: str) -> str:
    """The accelerator's or processor's own name."""
    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(torch.device(device)))
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"


def _on_device(ids: np.ndarray, device: str) -> torch.Tensor:
    # torch has no kernels for uint16 and uint32 that index; int16 would turn ids above 32767 over.
    narrow = np.int16 if int(ids.max(initial=0)) < 1 << 15 else np.int32
    return torch.from_numpy(ids.astype(narrow)).to(device)


def free_memory() -> None:
    """Give back what a finished run held; compiled layers sit in reference cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
