"""`suffice shapes`: what is embedded, and the exact counts of one shape."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

NEEDED_WIDTH = 128
_COLUMNS = (
    "model", "hidden", "MLP", "layers", "heads/KV", "head", "N", "total", "r", "x", "KV/token",
)  # fmt: skip
# What a terminal of 80 columns has room for.
_COLUMNS_WHERE_NARROW = ("model", "hidden", "MLP", "heads/KV")


def shapes(
    source: Annotated[
        str | None,
        typer.Argument(help="A model's name, a config.json or its folder; all names if left out."),
    ] = None,
    context: Annotated[
        str, typer.Option(help="KV length for FLOPs and KV bytes, tokens.")
    ] = "4096",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    config: Annotated[
        bool, typer.Option("--config", help="Print the loadable config.json.")
    ] = False,
) -> None:
    """List embedded shapes, or count one: parameters by part, r, x, FLOPs and bytes.

    Example: [bold]suffice shapes Llama-3.2-1B[/bold]
    """
    from suffice.architecture.catalog import load_shape
    from suffice.architecture.hf_config import config_from_shape
    from suffice.core.quantities import parse_integer

    if source is None:
        _print_catalogue(as_json)
        return
    shape = load_shape(source)
    if config:
        typer.echo(json.dumps(config_from_shape(shape), indent=2))
        return
    facts = _facts(shape, parse_integer(context, what="--context"))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_facts(str(shape), facts)


def _facts(shape: Any, context: int) -> dict[str, Any]:
    from suffice.architecture import counts

    parts = counts.parameter_counts(shape)
    return {
        "name": shape.name,
        "model_type": shape.model_type,
        "parameters_total": parts.total,
        "parameters_non_embedding": parts.non_embedding,
        "parameters_by_part": {
            "embedding": parts.embedding,
            "attention": parts.attention,
            "mlp": parts.mlp,
            "norms": parts.norms,
            "biases": parts.biases,
            "lm_head": parts.lm_head,
        },
        "mlp_to_attention_ratio_r": float(counts.mlp_to_attention_ratio(shape)),
        "aspect_x": float(counts.aspect(shape)),
        "gqa": shape.gqa,
        "context_tokens": context,
        "decode_flops_per_token": {
            "matmul": counts.decode_flops(shape, context, "matmul", lm_head=False),
            "paper": counts.decode_flops(shape, context, "paper", lm_head=False),
        },
        "prefill_flops": counts.prefill_flops(shape, context, "matmul"),
        "kv_bytes_per_token": {
            dtype: float(counts.kv_cache_bytes_per_token(shape, dtype))
            for dtype in ("bf16", "fp8", "int4")
        },
        "weight_bytes": {
            dtype: float(counts.weight_bytes(shape, dtype)) for dtype in ("bf16", "fp8", "int4")
        },
    }


def _print_catalogue(as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from suffice.architecture import counts
    from suffice.architecture.catalog import catalog, load_shape
    from suffice.core.quantities import format_bytes, format_count

    loaded = {name: load_shape(name) for name in catalog()}
    if as_json:
        typer.echo(json.dumps({name: _facts(s, 4096) for name, s in loaded.items()}, indent=2))
        return
    console = Console()
    if not console.is_terminal:  # a pipe has no width to fit into
        console.width = NEEDED_WIDTH
    columns = _COLUMNS if console.width >= NEEDED_WIDTH else _COLUMNS_WHERE_NARROW
    table = Table(title="Embedded shapes", caption="r = MLP/attention weights, x = d/√N")
    for column in columns:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for name, shape in loaded.items():
        parts = counts.parameter_counts(shape)
        row = {
            "model": name,
            "hidden": str(shape.hidden_size),
            "MLP": str(shape.intermediate_size),
            "layers": str(shape.num_hidden_layers),
            "heads/KV": f"{shape.num_attention_heads}/{shape.num_key_value_heads}",
            "head": str(shape.head_dim),
            "N": format_count(parts.non_embedding),
            "total": format_count(parts.total),
            "r": f"{counts.mlp_to_attention_ratio(shape):.2f}",
            "x": f"{counts.aspect(shape):.4f}",
            "KV/token": format_bytes(float(counts.kv_cache_bytes_per_token(shape, "bf16"))),
        }
        table.add_row(*(row[column] for column in columns))
    console.print(table)


def _print_facts(title: str, facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from suffice.core.quantities import format_bytes, format_count

    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("parameters", f"{facts['parameters_total']:,}")
    table.add_row("N (attention + MLP matrices)", f"{facts['parameters_non_embedding']:,}")
    for part, value in facts["parameters_by_part"].items():
        table.add_row(f"  {part}", f"{value:,}")
    table.add_row("r = MLP / attention", f"{facts['mlp_to_attention_ratio_r']:.4f}")
    table.add_row("x = d / √N", f"{facts['aspect_x']:.5f}")
    table.add_row("query heads per KV head", str(facts["gqa"]))
    context = facts["context_tokens"]
    for convention, flops in facts["decode_flops_per_token"].items():
        table.add_row(f"decode FLOPs/token at {context} ({convention})", format_count(flops, 4))
    table.add_row(f"prefill FLOPs of {context} tokens", format_count(facts["prefill_flops"], 4))
    for dtype, value in facts["kv_bytes_per_token"].items():
        table.add_row(f"KV cache per token, {dtype}", format_bytes(value))
    for dtype, value in facts["weight_bytes"].items():
        table.add_row(f"weights, {dtype}", format_bytes(value))
    Console().print(table)
