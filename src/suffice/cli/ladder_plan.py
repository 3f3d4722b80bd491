"""`suffice ladder data` and `plan`: text to shards, and which small shapes to train."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from suffice.cli.ladder_view import console as make_console
from suffice.cli.ladder_view import plan_table
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError, TableError
from suffice.core.quantities import (
    format_count,
    format_seconds,
    parse_count,
    parse_duration,
    parse_integer,
)

if not HELP_ONLY:
    from suffice.architecture.catalog import load_shape
    from suffice.architecture.ladder_design import DesignSpace, candidates
    from suffice.architecture.law_file import load_law
    from suffice.recipes.ladder.chosen import equal_references as equal_reference_rungs
    from suffice.recipes.ladder.chosen import far_apart as spread_out
    from suffice.recipes.ladder.chosen import pick_and_reference
    from suffice.recipes.ladder.cost import measured_flops_per_s, named_flops_per_s
    from suffice.recipes.ladder.data import DataConfig, make_data
    from suffice.recipes.ladder.plan import Plan, PlanConfig, add_to_plan, make_plan
    from suffice.recipes.ladder.power import plan_power
    from suffice.training.pretrain.run_store import RunStore
    from suffice.training.pretrain.shards import read_manifest
    from suffice.training.rung import LadderRung, Recipe, ladder_shape


_SPACE = "What may vary"
_RECIPE = "How rungs are trained"
_WHERE = "Where it runs"
DataFolder = Annotated[Path, typer.Option("--data", help="Folder made by `suffice ladder data`.")]


def data(
    text: Annotated[list[str], typer.Option()],
    out: Annotated[Path, typer.Option()],
    tokenizer: str = "bpe",
    vocab_size: int = 2048,
    validation_share: float = 0.01,
    max_bytes: str | None = None,
    text_field: str = "text",
    as_json: AsJson = False,
) -> None:
    """Turn text into packed, hashed token shards with a held-out split by document.

    Example: [bold]suffice ladder data --text docs.jsonl.zst --vocab-size 2048 --out data/[/bold]

    Options:
        text: Text file, JSONL (.gz, .zst), folder of these, or hf:NAME[:SPLIT].
        out: Folder for shards and tokenizer.
        tokenizer: `bpe` trains one, `bytes` needs none, or a tokenizer.json.
        vocab_size: Ids of a trained tokenizer.
        validation_share: Share of documents held out.
        max_bytes: Stop after so much text, e.g. 200M.
        text_field: Field that holds the text.
    """
    config = DataConfig(
        sources=tuple(text),
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        validation_share=validation_share,
        max_bytes=None if max_bytes is None else parse_integer(max_bytes, what="--max-bytes"),
        text_field=text_field,
    )
    manifest = make_data(config, out, say=_quiet if as_json else _say)
    if as_json:
        typer.echo(json.dumps({**asdict(manifest), "fingerprint": manifest.fingerprint}, indent=2))
        return
    for name, split in (("train", manifest.train), ("validation", manifest.validation)):
        typer.echo(
            f"{name}: {split.documents:,} documents, {split.tokens:,} tokens, "
            f"{len(split.shards)} shards"
        )
    typer.echo(
        f"{manifest.vocab_size} ids, {manifest.bytes_per_token:.2f} bytes per token; dropped "
        f"{manifest.repeated_documents} repeated documents and {manifest.repeated_paragraphs} "
        f"paragraphs; fingerprint {manifest.fingerprint}"
    )


def plan(
    sizes: Annotated[str, typer.Option()],
    data: DataFolder,
    out: Annotated[Path, typer.Option()],
    tokens_per_param: str = "20",
    runs: int = 40,
    counts: str | None = None,
    held_out: int = 0,
    budget: str | None = None,
    hardware: str = "here",
    repeat: int = 3,
    seeds: int = 3,
    seeds_each: int = 1,
    learning_rate_factor: float = 1.0,
    tune: bool = True,
    check: bool = True,
    x: str = "0.05:0.2",
    r: str = "0.5:5",
    layers: str = "3:12",
    kv_shares: str = "1,0.5,0.25,0.125",
    head_dim: int = 32,
    multiple: int = 32,
    counted: str = "matrices",
    size_tolerance: float = 0.04,
    max_tokens: str | None = None,
    sequence_length: int = 256,
    schedule: str = "cosine",
    learning_rate: float = 4e-3,
    precision: str = "fp32",
    aimed_steps: int = 1000,
    evaluation_sequences: int = 1024,
    decay_evaluations: int = 1,
    layer_rate_exponent: float = 0.0,
    repeated_kv_rate: bool = False,
    noise: float = 0.5,
    effect: float = 1.5,
    far_apart: str | None = None,
    pick_by: str | None = None,
    like: str = "meta-llama/Llama-3.2-1B",
    equal_references: bool = False,
    add: int | None = None,
    store: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Choose shapes that tell most about the law's coefficients, and say what they cost.

    Example: [bold]suffice ladder plan --sizes 1M,2M,4M --tokens-per-param 20,100 --budget 2h
    --data data/ --out plan.json[/bold]

    Options:
        sizes: Non-embedding parameters, e.g. 1M,2M,4M.
        out: Plan file to write, or to extend with --add.
        tokens_per_param: Training tokens per parameter, e.g. 20,100.
        runs: Designed runs; repeats and checks come on top.
        counts: Designed runs by size instead, e.g. 24,12,4.
        held_out: Runs of the largest size, drawn at random to test the law.
        budget: Limit of the total time, e.g. 2h.
        hardware: `here` measures; or a name (see `suffice hardware`), or FLOP/s: 2e10.
        repeat: Shapes to repeat with other seeds.
        seeds: Seeds of a repeated shape.
        seeds_each: Seeds of every designed shape.
        learning_rate_factor: Plan at, and count as measured, this factor of the rate.
        tune: Find the learning rate first.
        check: Check that it carries over to other widths.
        noise: Scatter of one run in % of the loss, for the power.
        effect: Cost of the worst end in %, for the power.
        far_apart: With --add: held-out shapes, far apart in this law's prediction.
        pick_by: Add this law's best shape of the largest size and one like --like, with
            --seeds-each seeds of both.
        like: Model whose ratios the reference of --pick-by has.
        equal_references: With --pick-by: two more references, of the pick's own N and of its
            parameters in all.
        add: Propose so many more runs from what --store holds.
        store: Runs measured so far.
        device: Device that --hardware here means.
        seed: Seed of what is drawn at random.
    What may vary:
        x: Range of x.
        r: Range of r.
        layers: Depths.
        kv_shares: KV heads over query heads.
        head_dim: Head size.
        multiple: Step of hidden and MLP width.
        counted: What --sizes count: `matrices` of layers, or `head` for the output matrix too.
        size_tolerance: How far N may be off, e.g. .02.
        max_tokens: Longest run, e.g. 100M.
    How rungs are trained:
        sequence_length: Tokens per sequence.
        schedule: cosine or wsd.
        learning_rate: Peak at fan-in 256.
        precision: fp32 or bf16.
        aimed_steps: Steps of a run, about.
        evaluation_sequences: Held-out sequences.
        decay_evaluations: Held-out losses averaged over the last tenth.
        layer_rate_exponent: Rate ~ layers^-this; .5 for Adam.
        repeated_kv_rate: Slower keys and values where shared.
    """
    if counted not in ("matrices", "head"):
        raise InputError(f"--counted {counted!r}: choose matrices or head")
    if equal_references and pick_by is None:
        raise InputError("--equal-references needs --pick-by LAW: they are equal to its pick")
    if far_apart is not None and not add:
        raise InputError("--far-apart LAW needs --add N: how many held-out shapes, e.g. 4")
    manifest = read_manifest(data)
    measured = RunStore(store).read() if store else []
    space = DesignSpace(
        sizes=tuple(sorted(parse_count(s, what="--sizes") for s in sizes.split(","))),
        tokens_per_parameter=_numbers(tokens_per_param, "--tokens-per-param"),
        head_dim=head_dim,
        multiple=multiple,
        x=_range(x, "--x"),
        r=_range(r, "--r"),
        kv_shares=_numbers(kv_shares, "--kv-shares"),
        layers=_integers(layers, "--layers"),
        attention_per_hidden=(0.5, 3.0),
        size_tolerance=size_tolerance,
        max_tokens=float("inf") if max_tokens is None else parse_count(max_tokens),
        counted_vocab=manifest.vocab_size if counted == "head" else 0,
    )
    recipe = Recipe(
        sequence_length=sequence_length,
        schedule=schedule,  # type: ignore[arg-type]
        peak_learning_rate=learning_rate,
        precision=precision,  # type: ignore[arg-type]
        aimed_steps=aimed_steps,
        evaluation_sequences=evaluation_sequences,
        decay_evaluations=decay_evaluations,
        layer_rate_exponent=layer_rate_exponent,
        repeated_kv_rate=repeated_kv_rate,
    )
    config = PlanConfig(
        space=space,
        recipe=recipe,
        vocab_size=manifest.vocab_size,
        runs=runs,
        counts=None if counts is None else tuple(int(v) for v in _numbers(counts, "--counts")),
        held_out_runs=held_out,
        repeated_shapes=repeat,
        seeds=seeds,
        seeds_each=seeds_each,
        learning_rate_factor=learning_rate_factor,
        tune=tune,
        check=check,
        flops_per_s=_speed(hardware, space, recipe, data, manifest.vocab_size, device),
        budget_s=None if budget is None else parse_duration(budget, what="--budget"),
        seed=seed,
    )
    if add is None and pick_by is None:
        result, new = make_plan(config, measured), None
    else:
        old = Plan.load(out)
        own = replace(config, recipe=old.recipe)
        if pick_by is not None:
            law, model = load_law(pick_by), load_shape(like)
            new = pick_and_reference(own, law, model)
            if equal_references:
                new += equal_reference_rungs(own, law, model, new)
        elif far_apart is not None:
            new = spread_out(old, own, load_law(far_apart), add or 0)
        else:
            new = add_to_plan(old, own, measured, add or 0)
        result = replace(old, rungs=(*old.rungs, *new), flops_per_s=config.flops_per_s)
    result.save(out)
    if as_json:
        typer.echo(out.read_text())
        return
    _print_plan(result, new_from=None if new is None else len(result.rungs) - len(new))
    if new is None:
        _print_power(result, noise, effect, seed)
    typer.echo(f"plan: {out}")


def _speed(
    hardware: str, space: DesignSpace, recipe: Recipe, data: Path, vocab_size: int, device: str
) -> float:
    if hardware != "here":
        try:
            return float(hardware)
        except ValueError:
            return named_flops_per_s(hardware)
    points = candidates(space, partial(ladder_shape, vocab_size=vocab_size))
    rungs = [
        LadderRung(shape=p.shape, tokens=p.tokens) for p in points[:: max(1, len(points) // 50)]
    ]
    return measured_flops_per_s(rungs, recipe, data, device, threads=1)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    return tuple(parse_count(part, what=option) for part in text.split(","))


def _range(text: str, option: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    values = (parse_count(low, what=option), parse_count(high or low, what=option))
    if not colon or values[0] > values[1]:
        raise InputError(f"{option} {text!r}: write it as low:high")
    return values


def _integers(text: str, option: str) -> tuple[int, int]:
    low, high = _range(text, option)
    return int(low), int(high)


def _print_plan(plan: Plan, *, new_from: int | None) -> None:
    console = make_console()
    rungs = plan.rungs if new_from is None else plan.rungs[new_from:]
    console.print(plan_table(plan, rungs, every=new_from is not None))
    total = sum(plan.cost_s(rung) for rung in rungs)
    console.print(
        f"{len(rungs)} runs, {format_count(sum(r.tokens for r in rungs))} tokens, about "
        f"{format_seconds(total) if total < 60 else f'{total / 60:,.0f} min'} at "
        f"{plan.flops_per_s:.2g} FLOP/s; nothing has run yet"
    )
    if plan.efficiency is not None and new_from is None:
        console.print(
            f"D-efficiency {plan.efficiency:.2f} relative to the best of 200 random designs of "
            "the same size"
        )


def _print_power(plan: Plan, noise: float, effect: float, seed: int) -> None:
    try:
        powers = plan_power(plan, noise_percent=noise, effect_percent=effect, seed=seed)
    except TableError as error:
        typer.echo(f"power: {error}")
        return
    typer.echo(f"at {noise:g} % of noise a run (--noise), averaged over seeds:")
    for power in powers:
        typer.echo(f"  {power.sentence()}")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _quiet(_: str) -> None:
    return None
