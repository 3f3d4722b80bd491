"""The rows that the terminal, the CSV and the report share."""

from __future__ import annotations

from math import isfinite

from suffice.core.quantities import format_bytes, format_count, format_seconds
from suffice.recipes.design.result import DesignResult, Pick

HEADER = (
    "shape", "hidden", "MLP", "layers", "heads/KV", "r", "x", "N", "loss", "bounds", "batch",
    "tok/s", "ratio", "TTFT", "TPOT", "KV/token", "memory", "$/Mtok",
)  # fmt: skip
LEGEND = (
    "r: weights of the MLP over those of attention. x: hidden size over the root of N. N: weights "
    "of attention and MLP, without embeddings."
)


# The terminal shows two tables that fit 100 columns: what the shape is, and what it costs.
SHAPE_COLUMNS = HEADER[:10]
SERVING_COLUMNS = ("shape", *HEADER[10:])


def cells(pick: Pick, result: DesignResult) -> tuple[str, ...]:
    """One pick as text, in the order of HEADER."""
    shape, cost = pick.shape, pick.prediction
    return (
        label(pick.role, result),
        str(shape.hidden_size),
        str(shape.intermediate_size),
        str(shape.num_hidden_layers),
        f"{shape.num_attention_heads}/{shape.num_key_value_heads}",
        f"{pick.r:.2f}",
        f"{pick.x:.4f}",
        format_count(pick.parameters, 4),
        f"{pick.loss:.4f}" + ("" if pick.meets_target else "?"),
        _bounds(pick, result),
        str(cost.batch),
        f"{cost.output_tokens_per_s:,.0f}",
        f"{pick.speedup:.2f}×",
        format_seconds(cost.ttft_s),
        format_seconds(cost.tpot_s),
        format_bytes(pick.kv_bytes_per_token(result.serving)),
        format_bytes(cost.memory_bytes),
        f"{cost.usd_per_million_tokens:.3f}",
    )


def label(role: str, result: DesignResult) -> str:
    """What a role is called."""
    stated = result.stated_confidence
    named = {
        "lowest-loss": "lowest loss",
        "fastest": "fastest 50 %",
        "recommended": "recommended ?" if stated is None else f"recommended {100 * stated:g} %",
    }
    return named.get(role, role)


def short_name(result: DesignResult) -> str:
    """The reference's name without its owner or folder."""
    shape = result.reference.shape
    return (shape.name or shape.model_type).rstrip("/").rsplit("/", 1)[-1]


def _bounds(pick: Pick, result: DesignResult) -> str:
    if pick.shape == result.reference.shape:
        return "estimated" if result.anchor.is_estimate else "given"
    if not isfinite(pick.loss_high):
        return "unknown"
    return f"± {(pick.loss_high - pick.loss_low) / 2:.3f}"


def rows_of(result: DesignResult, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All picks as text, reduced to `columns`."""
    rows = []
    for pick in result.picks:
        named = dict(zip(HEADER, cells(pick, result), strict=True))
        rows.append(tuple(named[column] for column in columns))
    return rows


def roles_by_note(result: DesignResult) -> dict[str, list[str]]:
    """Each pick's note once, with the roles of the picks that it is about."""
    found: dict[str, list[str]] = {}
    for pick in result.picks:
        for note in pick.notes:
            found.setdefault(note, []).append(label(pick.role, result))
    return found
