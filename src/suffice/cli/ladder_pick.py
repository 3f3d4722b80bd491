"""`suffice ladder train-pick`: whether a law's pick holds what it predicts."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.ladder_view import LadderProgress
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.measure import batch_sizes
from suffice.cli.options import AsJson, LadderStore
from suffice.core.errors import InputError
from suffice.core.files import write_json
from suffice.core.quantities import parse_count

if not HELP_ONLY:
    from suffice.architecture.counts import non_embedding_parameters
    from suffice.architecture.hf_config import config_from_shape
    from suffice.architecture.law_file import load_law
    from suffice.architecture.laws import ConditionalLaw
    from suffice.architecture.shape import Shape
    from suffice.recipes.ladder.pick import PickResult
    from suffice.recipes.ladder.train_pick import TrainPick
    from suffice.throughput.engines.protocol import Lengths
    from suffice.training.extras import require_torch
    from suffice.training.rung import law_coordinates


def train_pick(
    law: Annotated[str, typer.Option()],
    data: Annotated[Path, typer.Option()],
    store: LadderStore,
    size: Annotated[str, typer.Option()],
    tokens: Annotated[str, typer.Option()],
    out: Annotated[Path, typer.Option()],
    plan: Path | None = None,
    pick: str | None = None,
    reference: str | None = None,
    like: str = "meta-llama/Llama-3.2-1B",
    hardware: str = "cpu",
    confidence: float = 0.9,
    seeds: int = 3,
    learning_rate_factor: float = 1.0,
    head_dim: int = 32,
    multiple: int = 16,
    tolerance: float = 0.02,
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    batch: str = "1,16",
    input_tokens: int = 1024,
    output_tokens: int = 128,
    repeat: int = 5,
    clock: str = "wall",
    as_json: AsJson = False,
) -> None:
    """Train a law's pick and a reference of equal N on equal tokens; compare loss and speed.

    Example: [bold]suffice ladder train-pick --law law.json --data data/ --store runs.jsonl
    --size 350K --tokens 1.75M --out pick/[/bold]

    Options:
        law: Conditional law, by name or file.
        data: Folder made by `suffice ladder data`.
        size: N of both shapes, e.g. 350K.
        tokens: Training tokens of each run, e.g. 1.75M.
        out: Folder for configs, result and timings.
        plan: The ladder's plan file, for its recipe.
        pick: config.json of the pick; default: what a design picks.
        reference: config.json of the reference; default: like --like.
        like: Model whose ratios the reference has.
        hardware: Hardware that the pick is to be fast on.
        confidence: That the pick's loss is no higher, and of intervals.
        seeds: Runs of each shape.
        learning_rate_factor: Learning rate over the ladder's: does the answer depend on it?
        head_dim: Head size.
        multiple: Step of hidden and MLP width.
        tolerance: Relative tolerance on N.
        workers: Runs at a time.
        threads: CPU threads each.
        device: cpu, cuda or auto.
    Throughput:
        batch: Batch sizes to time; empty for none.
        input_tokens: Prompt tokens.
        output_tokens: Tokens to generate.
        repeat: Repeats.
        clock: wall, or cpu for shared processors.
    """  # fmt: skip
    found_law = load_law(law)
    if not isinstance(found_law, ConditionalLaw):
        raise InputError(f"law {found_law.name!r} says nothing about shape at equal N")
    require_torch()
    job = TrainPick(
        law=found_law, data=data, store=store, out=out,
        parameters=parse_count(size, what="--size"), tokens=parse_count(tokens, what="--tokens"),
        plan=plan, pick=pick, reference=reference, like=like, hardware=hardware,
        confidence=confidence, seeds=seeds, learning_rate_factor=learning_rate_factor,
        head_dim=head_dim, multiple=multiple, tolerance=tolerance, workers=workers,
        threads=threads, device=device, batches=batch_sizes(batch) if batch.strip() else (),
        lengths=Lengths(input_tokens=input_tokens, output_tokens=output_tokens), repeats=repeat,
        clock=clock,
    )  # fmt: skip
    for name, shape in zip(("pick", "reference"), job.shapes, strict=True):
        write_json(out / f"{name}.json", config_from_shape(shape))
        if not as_json:
            typer.echo(f"{name}: {_line(shape)}")
    job.train(LadderProgress(quiet=as_json))
    warn = partial(typer.echo, err=True)
    timed = job.time(
        " ".join(["suffice", *sys.argv[1:]]),
        progress=(lambda _: None) if as_json else warn,
        warn=warn,
    )
    _print_pick(job.judge(timed), out, as_json)


def _line(shape: Shape) -> str:
    at = law_coordinates(shape)
    return (
        f"hidden {shape.hidden_size}, MLP {shape.intermediate_size}, {shape.num_hidden_layers} "
        f"layers, heads {shape.num_attention_heads}/{shape.num_key_value_heads}, N "
        f"{int(non_embedding_parameters(shape)):,}, x {at['x']:.3f}, r {at['r']:.2f}, KV share "
        f"{at['kv_share']:g}"
    )


def _print_pick(result: PickResult, out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo((out / "train-pick.json").read_text(encoding="utf-8"))
        return
    for sentence in result.sentences():
        typer.echo(sentence)
    typer.echo(f"result: {out / 'train-pick.json'}")
