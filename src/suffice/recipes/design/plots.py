"""The figures of a design report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from suffice.architecture.counts import ShapeGrid, aspect, mlp_to_attention_ratio
from suffice.architecture.search import pareto_front
from suffice.core.arrays import FloatArray
from suffice.recipes.design.result import DesignResult, Pick
from suffice.recipes.design.table import short_name
from suffice.report import style
from suffice.throughput.analytic import predict_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "reference": style.INK,
    "lowest-loss": style.BLUE,
    "fastest": style.AMBER,
    "recommended": style.GREEN,
}
MARKERS = {"reference": "s", "lowest-loss": "o", "fastest": "D", "recommended": "*"}
LABELS = {
    "reference": "reference",
    "lowest-loss": "lowest loss",
    "fastest": "fastest 50 %",
    "recommended": "recommended",
}
_MOST_POINTS = 6000
_CONTOUR_COLOURS = ("#ffffff", "#e8f1fa", "#cfe1f2", "#a9cbe8", "#7fb0db", "#5b95c9")


def headline_figure(result: DesignResult) -> Figure:
    """All four panels in one picture."""
    with style.house_style():
        # Placed by hand: solving the layout would take as long as drawing all four panels.
        figure = style.new_figure(13.2, 9.2, margins=(0.068, 0.06, 0.99, 0.91))
        panels = figure.subplots(2, 2, gridspec_kw={"wspace": 0.36, "hspace": 0.27})
        draw_front(panels[0, 0], result)
        draw_contours(panels[0, 1], result)
        draw_batches(panels[1, 0], result)
        draw_kv_cache(panels[1, 1], result)
        figure.suptitle(
            _headline(result), x=0.012, y=0.985, ha="left", fontsize=13.5, fontweight="bold"
        )
    return figure


def single_figures(result: DesignResult) -> dict[str, Figure]:
    """Each panel as a figure of its own, by name."""
    drawers = {
        "front": draw_front,
        "contours": draw_contours,
        "batches": draw_batches,
        "kv": draw_kv_cache,
    }
    made: dict[str, Figure] = {}
    with style.house_style():
        for name, draw in drawers.items():
            left = 0.27 if name == "kv" else 0.115
            figure = style.new_figure(6.9, 4.7, margins=(left, 0.115, 0.975, 0.915))
            draw(figure.subplots(), result)
            made[name] = figure
    return made


def draw_front(axes: Axes, result: DesignResult) -> None:
    """Throughput against loss: every shape, the Pareto front, the target and the picks."""
    scores, found = result.scores, result.selection
    fits = np.flatnonzero(scores.fits)
    shown = fits
    if len(fits) > _MOST_POINTS:
        shown = np.random.default_rng(result.config.seed).choice(fits, _MOST_POINTS, replace=False)
    speed = scores.output_tokens_per_s
    safe = np.isin(shown, found.within)
    for rows, colour, label in (
        (shown[~safe], style.FAINT, "other shapes"),
        (shown[safe], "#86cfb2", _within(result)),
    ):
        axes.scatter(
            scores.loss[rows],
            speed[rows],
            s=9,
            color=colour,
            label=label,
            rasterized=len(result.grid) > _MOST_POINTS,
            lw=0,
        )
    front = _throughput_front(result)
    axes.plot(scores.loss[front], speed[front], color=style.MUTED, lw=1.2, label="Pareto front")
    axes.axvline(result.target_loss, color=style.RED, lw=1, ls=(0, (4, 3)))
    axes.annotate(
        "loss target", (result.target_loss, 0.03), xycoords=("data", "axes fraction"),
        xytext=(4, 0), textcoords="offset points", fontsize=8.5, color=style.RED,
    )  # fmt: skip
    for pick in main_picks(result):
        axes.plot(
            pick.loss, pick.prediction.output_tokens_per_s, ls="", color=COLOURS[pick.role],
            marker=MARKERS[pick.role], ms=14 if pick.role == "recommended" else 8.5, mec="white",
            label=LABELS[pick.role], zorder=5,
        )  # fmt: skip
    unit = "nats, estimated level" if result.anchor.is_estimate else "nats"
    axes.set(
        xlabel=f"predicted loss ({unit})",
        ylabel="output tokens per second",
        title="Throughput against loss",
    )
    # Head-room for the legend above the fastest shape.
    axes.set_ylim(0, float(speed[fits].max()) * 1.38)
    axes.legend(loc="upper left", ncols=2, fontsize=8, labelspacing=0.35, columnspacing=1.2)


def draw_contours(axes: Axes, result: DesignResult) -> None:
    """Predicted loss over x and r at the reference's size, as distance from the lowest."""
    from matplotlib.colors import (  # noqa: PLC0415 — only a report draws
        BoundaryNorm,
        LinearSegmentedColormap,
    )

    grid = result.grid
    x_all, r_all = np.asarray(aspect(grid)), np.asarray(mlp_to_attention_ratio(grid))
    marks = main_picks(result)
    x = np.geomspace(min(x_all.min(), *(p.x for p in marks)) * 0.98, x_all.max() * 1.02, 121)
    r = np.geomspace(min(r_all.min(), *(p.r for p in marks)) * 0.95, r_all.max() * 1.05, 121)
    excess = _excess_percent(result, x, r)
    steps = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
    levels = [step for step in steps if step < excess.max()]
    if len(levels) < 3:
        levels = list(np.linspace(0.0, max(float(excess.max()), 1e-6), 5))
    colours = LinearSegmentedColormap.from_list("loss", _CONTOUR_COLOURS)
    shades = BoundaryNorm([*levels, levels[-1] * 2], ncolors=256)
    axes.contourf(x, r, excess, levels=levels, cmap=colours, norm=shades, extend="max")
    lines = axes.contour(x, r, excess, levels=levels[1:], colors="white", linewidths=0.8)
    axes.clabel(lines, fmt=lambda value: f"{value:g} %", fontsize=8, colors=style.INK)
    axes.scatter(
        x_all,
        r_all,
        s=3,
        color=style.INK,
        alpha=0.3,
        lw=0,
        rasterized=len(result.grid) > _MOST_POINTS,
    )
    for pick in marks:
        axes.plot(
            pick.x, pick.r, ls="", marker=MARKERS[pick.role], color=COLOURS[pick.role],
            ms=14 if pick.role == "recommended" else 8.5, mec="white", label=LABELS[pick.role],
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_yticks([0.5, 1, 2, 3, 4, 5], labels=["0.5", "1", "2", "3", "4", "5"])
    axes.minorticks_off()
    axes.grid(visible=False)
    axes.set(
        xlabel="x = hidden size / √N",
        ylabel="r = MLP / attention weights",
        title=f"Loss above the lowest, law {result.law.name}",
    )


def draw_batches(axes: Axes, result: DesignResult) -> None:
    """Throughput by sequences in flight, up to what fits in memory."""
    config = result.config
    batches = [2**k for k in range(11) if 2**k <= config.max_batch]
    for pick in main_picks(result):
        one = ShapeGrid.like(pick.shape)
        largest = pick.prediction.largest_batch
        reached = sorted({b for b in batches if b <= largest} | {min(largest, config.max_batch)})
        speed = [
            float(
                predict_grid(one, result.serving, config.requests, batch=b).output_tokens_per_s[0]
            )
            for b in reached
        ]
        axes.plot(
            reached, speed, color=COLOURS[pick.role], marker=MARKERS[pick.role], ms=5, lw=1.8,
            label=LABELS[pick.role],
        )  # fmt: skip
        if largest < config.max_batch:
            axes.annotate(
                "memory full", (reached[-1], speed[-1]), xytext=(0, -13), fontsize=8, ha="center",
                textcoords="offset points", color=COLOURS[pick.role],
            )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, labels=[str(b) for b in batches])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="sequences in flight",
        ylabel="output tokens per second",
        title=f"Throughput by batch on {result.hardware.title}",
    )
    axes.legend(loc="upper left")


def draw_kv_cache(axes: Axes, result: DesignResult) -> None:
    """KV cache of one token: what the law cannot see and the server pays for."""
    picks = main_picks(result)[::-1]
    kib = [pick.kv_bytes_per_token(result.serving) / 1024 for pick in picks]
    reference = result.reference.kv_bytes_per_token(result.serving) / 1024
    axes.barh(range(len(picks)), kib, color=[COLOURS[p.role] for p in picks], height=0.62)
    for index, value in enumerate(kib):
        axes.annotate(
            f"{value:.1f} KiB   {value / reference:.2f}×", (value, index), xytext=(6, -3.5),
            textcoords="offset points", fontsize=9.5,
        )  # fmt: skip
    axes.set_yticks(
        range(len(picks)),
        labels=[f"{LABELS[p.role]}\n{_heads(p)}" for p in picks],
        color=style.INK,
    )
    axes.set_xlim(0, max(kib) * 1.38)
    axes.grid(axis="y", visible=False)
    dtype = result.serving.kv_dtype_of(None)
    axes.set(xlabel="KiB per token", title=f"KV cache per token ({dtype})")


def main_picks(result: DesignResult) -> list[Pick]:
    """The main picks; a shape is drawn once, by its best role."""
    seen: dict[str, Pick] = {}
    order = ("recommended", "reference", "lowest-loss", "fastest")
    by_role = {pick.role: pick for pick in result.picks}
    for role in order:
        pick = by_role.get(role)
        if pick is not None and all(pick.shape != other.shape for other in seen.values()):
            seen[role] = pick
    return [seen[role] for role in LABELS if role in seen]


def _throughput_front(result: DesignResult) -> Sequence[int]:
    return list(pareto_front(-result.scores.output_tokens_per_s, result.scores.loss))


def _excess_percent(result: DesignResult, x: FloatArray, r: FloatArray) -> FloatArray:
    """Loss over the map's lowest, %; axes that the law has besides x and r stay the reference's."""
    shape = result.reference.shape
    fixed = {
        "gqa": float(shape.gqa),
        "kv_share": 1.0 / shape.gqa,
        "layers": float(shape.num_hidden_layers),
        "width_per_layer": shape.hidden_size / shape.num_hidden_layers,
        "N": float(result.reference.parameters),
        "D": result.config.tokens,
        "tokens_per_parameter": result.config.tokens / result.reference.parameters,
    }
    axes = {k: v for k, v in fixed.items() if k in result.law.family.variables}
    value = result.law.relative_loss(x[None, :], r[:, None], **axes)
    excess: FloatArray = 100 * (value / value.min() - 1)
    return excess


def _heads(pick: Pick) -> str:
    shape = pick.shape
    return f"{shape.num_attention_heads}/{shape.num_key_value_heads} heads of {shape.head_dim}"


def _within(result: DesignResult) -> str:
    stated = result.stated_confidence
    return "no confidence is stated" if stated is None else f"within target at {stated:.0%}"


def _headline(result: DesignResult) -> str:
    pick, stated = result.recommended, result.stated_confidence
    title = f"{short_name(result)} resized for {result.hardware.title}: "
    if result.keeps_reference:
        return title + "keep it, nothing was shown to be better"
    kept = f"({result.gain.kept:.2f}× without fewer KV heads)"
    sure = "a guess" if stated is None else f"no higher loss at {stated:.0%} confidence"
    return f"{title}predicted {pick.speedup:.2f}× tokens/s {kept}, {sure}"
