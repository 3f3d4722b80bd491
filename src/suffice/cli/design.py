"""`suffice design`: from a reference model to the shapes that serve it better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import InputError
from suffice.core.quantities import parse_count

if not HELP_ONLY:
    from suffice.recipes.design import DesignConfig, DesignResult
    from suffice.recipes.design import design as run_design
    from suffice.recipes.design.output import summary, write_run
    from suffice.recipes.design.table import (
        LEGEND,
        SERVING_COLUMNS,
        SHAPE_COLUMNS,
        roles_by_note,
        rows_of,
        short_name,
    )
    from suffice.throughput.workload import load_workload


_SEARCH = "Search space"
_SERVING = "Serving"


def design(
    like: Annotated[str, typer.Option()],
    tokens: Annotated[str, typer.Option()],
    hardware: str = "a100-40gb",
    input_tokens: int = 4096,
    output_tokens: int = 1024,
    workload: Path | None = None,
    objective: str = "throughput",
    out: Path | None = None,
    confidence: float = 0.9,
    loss_slack: float = 0.0,
    max_loss: float | None = None,
    reference_loss: float | None = None,
    law: str | None = None,
    batch: int | None = None,
    max_batch: int = 256,
    weights: str = "bf16",
    kv_cache: str = "bf16",
    tensor_parallel: int = 1,
    engine: str = "generic",
    params: str | None = None,
    tolerance: float = 0.01,
    depth: str | None = None,
    gqa: str | None = None,
    r_range: Annotated[str | None, typer.Option("--r")] = None,
    x_range: Annotated[str | None, typer.Option("--x")] = None,
    attention_width: str | None = None,
    hidden_multiple: int | None = None,
    mlp_multiple: int | None = None,
    kv_multiple: int | None = None,
    extrapolate: bool = False,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Find the shapes of a model's size that serve a workload best within its loss.

    Example: [bold]suffice design --like meta-llama/Llama-3.2-1B --tokens 100B
    --hardware a100-40gb --out run/[/bold]

    Options:
        like: Reference: a model's name or a config.json.
        tokens: Training tokens, e.g. 100B.
        objective: throughput, latency, cost, loss or kv-memory.
        out: Folder for config, front and report.
        confidence: Probability with which the loss target must hold, .5 to 1.
        loss_slack: Loss allowed above the reference's, relative, e.g. 0.002.
        max_loss: Absolute loss target, nats.
        reference_loss: The reference's loss at this budget, nats.
        law: Conditional law (see `suffice laws`) or a law file.
        extrapolate: Let the law and the ranges leave their evidence.
        seed: Seed of what is drawn at random.
    Serving:
        hardware: Name (see `suffice hardware`) or file.
        input_tokens: Prompt tokens per request.
        output_tokens: Output tokens per request.
        workload: TOML or JSON with a mix of lengths.
        batch: Requests in flight; default: all that fit.
        max_batch: The engine's limit of sequences.
        weights: bf16, fp16, fp8, int8, fp4, mxfp4 or int4.
        kv_cache: bf16, fp16, fp8, int8 or int4.
        tensor_parallel: Devices per replica.
        engine: generic, vllm, sglang or trtllm.
    Search space:
        params: N to search at; default: the reference's.
        tolerance: Relative tolerance on N.
        depth: Depths to try, e.g. 14,16,18 (not in the published law).
        gqa: Range of query heads per KV head, e.g. 1:9.
        r_range: Range of r, e.g. 0.5:5.
        x_range: Range of x, e.g. .05:.1.
        attention_width: Range of heads × head size / hidden size, e.g. 0.75:2.
        hidden_multiple: Step of the hidden size.
        mlp_multiple: Step of the MLP width.
        kv_multiple: Step of the KV heads.
    """  # fmt: skip
    options: Any = {
        "weight_dtype": weights,
        "kv_dtype": kv_cache,
        "objective": objective,
        "engine": engine,
    }
    config = DesignConfig(
        like=like,
        tokens=parse_count(tokens, what="--tokens"),
        hardware=hardware,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        workload=load_workload(workload) if workload else None,
        confidence=confidence,
        loss_slack=loss_slack,
        max_loss=max_loss,
        reference_loss=reference_loss,
        law=law,
        batch=batch,
        max_batch=max_batch,
        tensor_parallel=tensor_parallel,
        parameters=parse_count(params, what="--params") if params else None,
        parameter_tolerance=tolerance,
        depths=_depths(depth),
        gqa_range=_int_range(gqa, "--gqa"),
        r_range=_range(r_range, "--r"),
        x_range=_range(x_range, "--x"),
        attention_width_range=_range(attention_width, "--attention-width"),
        hidden_multiple=hidden_multiple,
        mlp_multiple=mlp_multiple,
        key_value_multiple=kv_multiple,
        extrapolate=extrapolate,
        seed=seed,
        **options,
    )
    result = run_design(config)
    paths = write_run(result, out) if out else {}
    if as_json:
        typer.echo(json.dumps(summary(result), indent=2))
        return
    print_design(result, paths)


def _range(text: str | None, what: str) -> tuple[float, float] | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        return float(low), float(high if colon else low)
    except ValueError:
        raise InputError(f"{what} {text!r} is not a range: write low:high, e.g. 0.5:5") from None


def _int_range(text: str | None, what: str) -> tuple[int, int] | None:
    parsed = _range(text, what)
    if parsed is None:
        return None
    low, high = parsed
    if low != int(low) or high != int(high):
        raise InputError(f"{what} {text!r} must be whole numbers, e.g. 1:9")
    return int(low), int(high)


def _depths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--depth {text!r} must be whole numbers, e.g. 14,16,18") from None


def print_design(result: DesignResult, paths: dict[str, Path]) -> None:
    """The tables, what the prediction does not know, and where the files are."""
    console = Console()
    console = console if console.width >= 100 else Console(width=100)
    config = result.config
    console.print(
        f"[bold]{short_name(result)}[/bold] for {result.hardware.title}: objective "
        f"{config.objective}, loss ≤ {result.target_loss:.4f}\n[bold]{result.headline()}[/bold]\n",
        highlight=False,
    )
    console.print(_table(result, SHAPE_COLUMNS))
    console.print(_table(result, SERVING_COLUMNS))
    stated = result.stated_confidence
    within = (
        "no confidence is stated" if stated is None
        else f"{len(result.selection.within):,} within target at {stated:.0%}"
    )  # fmt: skip
    console.print(
        f"{len(result.grid):,} shapes compared, {within}, {len(result.selection.front)} on the "
        f"front. Loss level: {result.anchor.basis}.",
        highlight=False,
    )
    console.print(
        f"{LEGEND}\nbounds: one-sided at {config.confidence:.0%}, given the reference's loss. "
        "? = predicted within target, but not at this confidence. Speeds within 1 % are ties; of "
        "these the lowest loss is recommended.\nWhat the prediction does not know:",
        highlight=False,
    )
    for note in dict.fromkeys(result.notes):
        console.print(f"  - {note}", highlight=False)
    for note, roles in roles_by_note(result).items():
        console.print(f"  - {', '.join(roles)}: {note}", highlight=False)
    if paths:
        console.print(f"\nconfig  {paths['config']}\nreport  {paths['report']}", highlight=False)
        console.print(f"picture {paths['picture']}", highlight=False)


def _table(result: DesignResult, columns: tuple[str, ...]) -> Any:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column == "shape" else "right", no_wrap=True)
    styles = {"recommended": "bold green", "reference": "bold", "fastest": "yellow"}
    for pick, row in zip(result.picks, rows_of(result, columns), strict=True):
        table.add_row(*row, style=styles.get(pick.role, ""))
    return table
