"""`suffice ladder train-pick`: whether a law's pick holds what it predicts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from suffice.cli.ladder_view import Progress
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.measure import batch_sizes
from suffice.cli.options import AsJson, LadderStore
from suffice.core.errors import InputError
from suffice.core.files import write_json
from suffice.core.quantities import parse_count

if not HELP_ONLY:
    from suffice.architecture.catalog import load_shape
    from suffice.architecture.counts import non_embedding_parameters
    from suffice.architecture.hf_config import config_from_shape
    from suffice.architecture.law_file import load_law
    from suffice.architecture.laws import ConditionalLaw
    from suffice.architecture.shape import Shape
    from suffice.recipes.design import DesignConfig, design
    from suffice.recipes.design.output import write_run
    from suffice.recipes.ladder.pick import (
        PickResult,
        Timed,
        as_rung_shape,
        judge,
        named,
        pick_plan,
        read_shape,
        same_ratios,
        search_space,
    )
    from suffice.recipes.ladder.plan import Plan
    from suffice.recipes.ladder.table import typical_loss
    from suffice.throughput.engines.choose import EngineOptions, make_engine
    from suffice.throughput.engines.protocol import Lengths
    from suffice.throughput.measure import Measurement, MeasurePlan, begin_run, paired_ratios
    from suffice.throughput.records import ResultFile, read_samples
    from suffice.training.extras import require_torch
    from suffice.training.pretrain.run_store import RunStore
    from suffice.training.pretrain.shards import read_manifest
    from suffice.training.rung import Recipe, law_coordinates


_TIMING = "Throughput"


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
    vocabulary = read_manifest(data).vocab_size
    space = search_space(
        found_law, parse_count(size, what="--size"), head_dim=head_dim, multiple=multiple,
        tolerance=tolerance,
    )  # fmt: skip
    theirs = (
        read_shape(reference, vocabulary)
        if reference
        else same_ratios(_load(like), space, vocab_size=vocabulary)
    )
    budget = parse_count(tokens, what="--tokens")
    mine = (
        read_shape(pick, vocabulary)
        if pick
        else _designed(
            found_law, theirs, space, budget, hardware=hardware, confidence=confidence,
            lengths=(input_tokens, output_tokens), store=store, out=out,
            factor=learning_rate_factor,
        )
    )  # fmt: skip
    for name, shape in (("pick", mine), ("reference", theirs)):
        write_json(out / f"{name}.json", _config(shape))
        if not as_json:
            typer.echo(f"{name}: {_line(shape)}")
    _train(
        mine, theirs, data=data, store=store, plan=plan, tokens=round(budget), seeds=seeds,
        factor=learning_rate_factor, workers=workers, threads=threads, device=device, quiet=as_json,
    )  # fmt: skip
    timed = _timed(
        mine, theirs, batch=batch, lengths=(input_tokens, output_tokens), repeat=repeat,
        clock=clock, device=device, threads=threads, out=out, quiet=as_json,
    )  # fmt: skip
    result = judge(
        RunStore(store).read(), mine, theirs, found_law, confidence=confidence, timed=timed,
        learning_rate_factor=learning_rate_factor,
    )  # fmt: skip
    result.save(out / "train-pick.json")
    _print_pick(result, out, as_json)


def _load(name: str) -> Shape:
    return load_shape(name)


def _config(shape: Shape) -> dict[str, Any]:
    return config_from_shape(shape)


def _line(shape: Shape) -> str:
    at = law_coordinates(shape)
    return (
        f"hidden {shape.hidden_size}, MLP {shape.intermediate_size}, {shape.num_hidden_layers} "
        f"layers, heads {shape.num_attention_heads}/{shape.num_key_value_heads}, N "
        f"{int(non_embedding_parameters(shape)):,}, x {at['x']:.3f}, r {at['r']:.2f}, KV share "
        f"{at['kv_share']:g}"
    )


def _designed(
    law: ConditionalLaw, reference: Shape, space: dict[str, Any], tokens: float, *,
    hardware: str, confidence: float, lengths: tuple[int, int], store: Path, out: Path,
    factor: float,
) -> Shape:  # fmt: skip
    """The shape that a design picks in place of `reference`; its report goes to `out`/design."""
    result = design(
        DesignConfig(
            # A design's notes start at 1M tokens; at equal N the budget changes no pick.
            like=reference, law=law, tokens=max(tokens, 1e6), hardware=hardware,
            confidence=confidence,
            input_tokens=lengths[0], output_tokens=lengths[1],
            reference_loss=typical_loss(
                store, space["parameters"], tokens, learning_rate_factor=factor
            ), **space,
        )
    )  # fmt: skip
    write_run(result, out / "design")
    return as_rung_shape(result.recommended.shape, reference.vocab_size)


def _train(
    mine: Shape, theirs: Shape, *, data: Path, store: Path, plan: Path | None, tokens: int,
    seeds: int, factor: float, workers: int, threads: int, device: str, quiet: bool,
) -> None:  # fmt: skip
    from suffice.recipes.ladder.run import run_ladder  # noqa: PLC0415 - torch
    from suffice.recipes.ladder.runner import devices_of, runner_for  # noqa: PLC0415 - torch
    from suffice.training.pretrain.trainer import Machine  # noqa: PLC0415 - torch

    ladder = None if plan is None else Plan.load(plan)
    asked = pick_plan(
        mine, theirs, recipe=Recipe() if ladder is None else ladder.recipe, tokens=tokens,
        seeds=seeds, flops_per_s=2e10 if ladder is None else ladder.flops_per_s,
        learning_rate_factor=factor,
    )  # fmt: skip
    if ladder is not None:
        # A tuned ladder trains at the rate that its tuning runs chose; they are in the store.

        tuning = tuple(rung for rung in ladder.rungs if rung.purpose == "tune")
        asked = replace(asked, rungs=(*tuning, *asked.rungs))
    devices = devices_of(device)
    on_gpu = devices[0].startswith("cuda")
    machine = Machine(
        device=devices[0], compiled=on_gpu, cuda_graph=on_gpu, work=store.with_suffix(".work")
    )
    with Progress(quiet=quiet) as events:
        runner = runner_for(
            data, machine, events, asked, devices=devices, workers=workers, threads=threads,
            ray=None, gpus_per_rung=0.0, deadline_s=None,
        )  # fmt: skip
        run_ladder(asked, data, RunStore(store), runner, events=events)


def _timed(
    mine: Shape, theirs: Shape, *, batch: str, lengths: tuple[int, int], repeat: int, clock: str,
    device: str, threads: int, out: Path, quiet: bool,
) -> list[Timed]:  # fmt: skip
    """Both shapes on the torch engine in turn; samples go to `out`/throughput.jsonl."""
    if not batch.strip():
        return []

    options: Any = {"clock": clock, "device": None if device == "auto" else device}
    engine = make_engine("torch", EngineOptions(dtype="fp32", threads=threads, **options))
    shapes = named(mine, theirs)
    asked = MeasurePlan(
        shapes=shapes, lengths=Lengths(input_tokens=lengths[0], output_tokens=lengths[1]),
        batches=batch_sizes(batch), repeats=repeat, prefill_repeats=1, dtype="fp32",
    )  # fmt: skip
    path = out / "throughput.jsonl"
    run, environment, _ = begin_run(
        engine, ResultFile(path), command=" ".join(["suffice", *sys.argv[1:]])
    )
    samples = Measurement(
        engine, ResultFile(path), run=run, environment=environment, held=read_samples(path),
        progress=(lambda _: None) if quiet else (lambda text: typer.echo(text, err=True)),
    ).carry_out(asked)  # fmt: skip
    found = []
    for size in asked.batches:
        ratio = paired_ratios(samples, *shapes, size)
        if ratio is None:
            typer.echo(f"no timing at batch {size}: {path} says why", err=True)
        else:
            found.append(
                Timed(
                    batch=size, input_tokens=lengths[0], output_tokens=lengths[1],
                    ratio=ratio.median, least=ratio.least, largest=ratio.largest,
                    repeats=ratio.n, where=f"{environment.device}, torch, {clock} clock",
                )
            )  # fmt: skip
    return found


def _print_pick(result: PickResult, out: Path, as_json: bool) -> None:
    if as_json:
        typer.echo((out / "train-pick.json").read_text(encoding="utf-8"))
        return
    for sentence in result.sentences():
        typer.echo(sentence)
    typer.echo(f"result: {out / 'train-pick.json'}")
