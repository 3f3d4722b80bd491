"""`suffice shapes`: what is embedded, and the exact counts of one model."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.documented import Flag
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.errors import UnsupportedModel
from suffice.core.quantities import format_bytes, format_count, parse_integer

if not HELP_ONLY:
    from suffice.architecture import counts, model_counts
    from suffice.architecture import model_counts as of_model
    from suffice.architecture.catalog import catalog, load_model, load_shape, served
    from suffice.architecture.families import BUILDERS
    from suffice.architecture.hf_config import config_from_shape
    from suffice.architecture.model import Model, describe_layers
    from suffice.architecture.shape import Shape
    from suffice.architecture.weight_format import uniform_format


NEEDED_WIDTH = 128
_COLUMNS = (
    "model", "hidden", "MLP", "layers", "heads/KV", "head", "N", "total", "r", "x", "KV/token",
)  # fmt: skip
# What a terminal of 80 columns has room for.
_COLUMNS_WHERE_NARROW = ("model", "hidden", "MLP", "heads/KV")
_KV_BYTES = {"bf16": 2.0, "fp8": 1.0, "int4": 0.5}


def shapes(
    source: Annotated[str | None, typer.Argument()] = None,
    context: str = "4096",
    as_json: AsJson = False,
    config: Flag = False,
    families: Flag = False,
) -> None:
    """List embedded models, or count one: parameters by part, cache and state, FLOPs and bytes.

    Example: [bold]suffice shapes Llama-3.2-1B[/bold]

    Options:
        source: A model's name, a config.json or its folder; all names if left out.
        context: KV length for FLOPs and KV bytes, tokens.
        config: Print the loadable config.json.
        families: List the model types that can be read.
    """
    if families:
        typer.echo("\n".join(sorted(BUILDERS)))
        return
    if source is None:
        _print_catalogue(as_json)
        return
    if config:
        typer.echo(json.dumps(config_from_shape(load_shape(source)), indent=2))
        return
    tokens = parse_integer(context, what="--context")
    facts = _facts(load_model(source), _shape_or_none(source), tokens)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_facts(facts)


def _shape_or_none(source: str) -> Shape | None:
    try:
        return load_shape(source)
    except UnsupportedModel:
        return None


def _facts(model: Model, shape: Shape | None, context: int) -> dict[str, Any]:
    parts = of_model.parameters(model)
    facts: dict[str, Any] = {
        "name": model.name,
        "model_type": model.model_type,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.layers,
        "vocab_size": model.vocab_size,
        "layers": describe_layers(model),
        "parameters_total": parts.total,
        "parameters_active": parts.active,
        "parameters_draft": parts.draft,
    }
    if shape is not None:
        dense = counts.parameter_counts(shape)
        facts |= {
            "intermediate_size": shape.intermediate_size,
            "num_attention_heads": shape.num_attention_heads,
            "num_key_value_heads": shape.num_key_value_heads,
            "head_dim": shape.head_dim,
            "parameters_non_embedding": dense.non_embedding,
            "parameters_by_part": {
                "embedding": dense.embedding,
                "attention": dense.attention,
                "mlp": dense.mlp,
                "norms": dense.norms,
                "biases": dense.biases,
                "lm_head": dense.lm_head,
            },
            "mlp_to_attention_ratio_r": float(counts.mlp_to_attention_ratio(shape)),
            "aspect_x": float(counts.aspect(shape)),
            "gqa": shape.gqa,
        }
    else:
        facts["parameters_by_part"] = {
            "embedding": parts.embedding,
            "attention": parts.mixing,
            "mlp": parts.mlp,
            "experts": parts.experts,
            "other": parts.rest,
            "lm_head": parts.lm_head,
        }
    flops: dict[str, int] = {"matmul": of_model.decode_flops(model, context)}
    if shape is not None:
        flops = {
            convention: counts.decode_flops(shape, context, convention, lm_head=False)
            for convention in ("matmul", "paper")
        }
    per_token = of_model.cached_values_per_token(model)
    growing = of_model.growing_values_per_token(model)
    facts |= {
        "context_tokens": context,
        "decode_flops_per_token": flops,
        "prefill_flops": of_model.prefill_flops(model, context),
        "kv_bytes_per_token": {dtype: size * per_token for dtype, size in _KV_BYTES.items()},
        "kv_bytes_per_token_beyond_windows": {
            dtype: size * growing for dtype, size in _KV_BYTES.items()
        },
        "kv_bytes_of_sequence": {
            dtype: of_model.sequence_bytes(model, context, size)
            for dtype, size in _KV_BYTES.items()
        },
        "state_bytes_of_sequence": of_model.STATE_VALUE_BYTES * of_model.state_values(model),
        "weight_format": str(model.weights),
        "weight_bytes": {
            **{
                dtype: of_model.weight_bytes(model, uniform_format(dtype))
                for dtype in ("bf16", "fp8", "int4")
            },
            "as stored": of_model.weight_bytes(model, model.weights),
        },
        "left_out": list(model.left_out),
        "notes": of_model.notes_on(model, context),
    }
    return facts


def _print_catalogue(as_json: bool) -> None:
    loaded = {name: load_shape(name) for name in catalog()}
    others = {name: load_model(name) for name in served()}
    if as_json:
        listed = {n: _facts(load_model(n), s, 4096) for n, s in loaded.items()}
        listed |= {n: _facts(model, None, 4096) for n, model in others.items()}
        typer.echo(json.dumps(listed, indent=2))
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
    _print_served(console, others)


def _print_served(console: Any, others: dict[str, Model]) -> None:
    wide = console.width >= NEEDED_WIDTH
    table = Table(title="Further models: for `suffice shapes NAME` and `suffice size`")
    columns = ("model", "total", "active", "KV at 4K") + (("layers",) if wide else ())
    for column in columns:
        justify: Any = "left" if column in ("model", "layers") else "right"
        table.add_column(column, justify=justify, no_wrap=column != "layers")
    for name, model in others.items():
        parts = model_counts.parameters(model)
        row = (
            name,
            format_count(parts.total),
            format_count(parts.active),
            format_bytes(model_counts.sequence_bytes(model, 4096, 2.0)),
            describe_layers(model),
        )
        table.add_row(*row[: len(columns)])
    console.print(table)


def _print_facts(facts: dict[str, Any]) -> None:
    title = f"{facts['name'] or facts['model_type']}: {facts['layers']}"
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for label, text in _parameter_rows(facts):
        table.add_row(label, text)
    context = facts["context_tokens"]
    for convention, flops in facts["decode_flops_per_token"].items():
        table.add_row(f"decode FLOPs/token at {context} ({convention})", format_count(flops, 4))
    table.add_row(f"prefill FLOPs of {context} tokens", format_count(facts["prefill_flops"], 4))
    for dtype, value in facts["kv_bytes_of_sequence"].items():
        table.add_row(f"KV cache of one sequence at {context}, {dtype}", format_bytes(value))
    beyond = facts["kv_bytes_per_token_beyond_windows"]
    for dtype, value in facts["kv_bytes_per_token"].items():
        table.add_row(f"  a token adds, {dtype}", format_bytes(value))
        if beyond[dtype] != value:
            table.add_row(f"  once windows are full, {dtype}", format_bytes(beyond[dtype]))
    if facts["state_bytes_of_sequence"]:
        state = format_bytes(facts["state_bytes_of_sequence"])
        table.add_row("  of it recurrent state, 32 bits", state)
    for dtype, value in facts["weight_bytes"].items():
        label = f"as stored ({facts['weight_format']})" if dtype == "as stored" else dtype
        table.add_row(f"weights, {label}", format_bytes(value))
    console = Console()
    console.print(table)
    for note in facts["notes"]:
        console.print(f"- {note}", highlight=False)


def _parameter_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("parameters", f"{facts['parameters_total']:,}")]
    if facts["parameters_by_part"].get("experts"):
        rows.append(("  active per token", f"{facts['parameters_active']:,}"))
    if "parameters_non_embedding" in facts:
        rows.append(("N (attention + MLP matrices)", f"{facts['parameters_non_embedding']:,}"))
    for part, value in facts["parameters_by_part"].items():
        if value:
            rows.append((f"  {part}", f"{value:,}"))
    if facts["parameters_draft"]:
        rows.append(("beside them: token prediction", f"{facts['parameters_draft']:,}"))
    if "aspect_x" in facts:
        rows.append(("r = MLP / attention", f"{facts['mlp_to_attention_ratio_r']:.4f}"))
        rows.append(("x = d / √N", f"{facts['aspect_x']:.5f}"))
        rows.append(("query heads per KV head", str(facts["gqa"])))
    return rows
