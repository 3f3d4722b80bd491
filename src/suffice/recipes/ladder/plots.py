"""The figures of a ladder's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from suffice.architecture.laws import ConditionalLaw
from suffice.core.arrays import FloatArray
from suffice.recipes.ladder.fit import PUBLISHED_OPTIMUM, Curve, LadderFit
from suffice.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

AXIS_LABELS = {
    "x": "x = hidden size / √N",
    "r": "r = MLP / attention parameters",
    "layers": "layers",
    "width_per_layer": "hidden size / layers",
    "kv_share": "KV heads / query heads",
}
_MARKERS = ("o", "s", "D", "^", "v", "P")


def headline_figure(found: LadderFit) -> Figure:
    """All panels in one picture."""
    effects = effect_variables(found)
    with style.house_style():
        figure = style.new_figure(18.6, 9.4, margins=(0.045, 0.075, 0.99, 0.9))
        panels = figure.subplots(2, 5, gridspec_kw={"wspace": 0.34, "hspace": 0.34})
        for axes, variable in zip(panels[0], effects, strict=False):
            draw_effect(axes, found, variable)
        for axes in panels[0][len(effects) :]:
            axes.set_axis_off()
        if found.checks and len(effects) < 5:
            panels[0, 4].set_axis_on()
            draw_rates(panels[0, 4], found)
        draw_next_size(panels[1, 0], found)
        draw_forms(panels[1, 1], found)
        draw_optimum(panels[1, 2], found)
        draw_residuals(panels[1, 3], found)
        if found.noise is None:
            panels[1, 4].set_axis_off()
        else:
            draw_noise(panels[1, 4], found, labels=False)
        figure.suptitle(
            f"{found.name}: {len(found.records)} runs, {found.law.formula}",
            x=0.012, y=0.975, ha="left", fontsize=13, fontweight="bold",
        )  # fmt: skip
    return figure


def single_figures(found: LadderFit) -> dict[str, Figure]:
    """Each panel as a figure of its own, by name."""
    made: dict[str, Figure] = {}
    with style.house_style():
        for variable in effect_variables(found):
            figure = style.new_figure(6.2, 4.4, margins=(0.12, 0.125, 0.975, 0.91))
            draw_effect(figure.subplots(), found, variable)
            made[f"effect-{variable}"] = figure
        for name, draw, left in (
            ("next-size", draw_next_size, 0.12),
            ("forms", draw_forms, 0.36),
            ("optimum", draw_optimum, 0.12),
            ("residuals", draw_residuals, 0.12),
            ("noise", draw_noise, 0.36),
            ("rates", draw_rates, 0.12),
        ):
            if (name == "noise" and found.noise is None) or (name == "rates" and not found.checks):
                continue
            figure = style.new_figure(6.2, 4.4, margins=(left, 0.125, 0.975, 0.91))
            draw(figure.subplots(), found)
            made[name] = figure
    return made


def effect_variables(found: LadderFit) -> tuple[str, ...]:
    """Variables that the law, or the widest form, has a term for, in the order of the panels."""
    order = ("x", "r", "layers", "width_per_layer", "kv_share")
    known = set(found.law.family.variables)
    if found.widest is not None:
        known |= set(found.widest.law.family.variables) & {"kv_share"}
    return tuple(name for name in order if name in known)


def draw_effect(axes: Axes, found: LadderFit, variable: str) -> None:
    """Loss over one variable, the rest of the law taken out: runs, curve and its band."""
    runs = found.runs
    law, predicted = found.law, found.fit.predicted
    if variable not in law.family.variables and found.widest is not None:
        other = found.widest.law
        assert isinstance(other, ConditionalLaw)
        law, predicted = other, found.widest.predicted
    columns = {name: runs.column(name) for name in law.family.variables}
    middle = {
        name: np.full(1, float(np.exp(np.log(values).mean()))) for name, values in columns.items()
    }
    line = np.geomspace(columns[variable].min(), columns[variable].max(), 160)
    at = {name: np.full_like(line, value[0]) for name, value in middle.items()} | {variable: line}
    base = float(law.relative_loss(**middle)[0])
    curve = 100 * (law.relative_loss(**at) / base - 1)
    if law.draws is not None:
        rows = law.evaluate_draws(**at) / law.evaluate_draws(**middle)
        low, high = np.nanpercentile(100 * (rows - 1), [5, 95], axis=0)
        axes.fill_between(line, low, high, color=style.BLUE, alpha=0.13, lw=0)
    axes.plot(line, curve, color=style.BLUE, lw=2, label="law and 90 % band")
    # What a run measured, less what the law says of its other variables and its scale.
    held = {**{name: np.full_like(values, middle[name][0]) for name, values in columns.items()},
            variable: columns[variable]}  # fmt: skip
    alone = law.relative_loss(**held) / base
    ratio = np.exp(np.log(runs.column("loss")) - np.log(predicted))
    points = 100 * (alone * ratio - 1)
    _scatter_by_scale(axes, found, _spread(columns[variable], variable), points)
    if variable in PUBLISHED_OPTIMUM:
        axes.axvline(PUBLISHED_OPTIMUM[variable], color=style.AMBER, lw=1.2, ls=(0, (4, 3)))
        axes.annotate(
            "published optimum", (PUBLISHED_OPTIMUM[variable], 0.98), rotation=90, va="top",
            xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
            fontsize=8, color=style.AMBER,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = _ticks(line, variable)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(
        xlabel=AXIS_LABELS[variable],
        ylabel="loss, % of a middling shape's",
        title=_effect_title(found, variable),
    )


def draw_next_size(axes: Axes, found: LadderFit) -> None:
    """Predicted against measured at the largest size, by the chosen form and the published one."""
    for name, colour, marker in (
        ("conditional-multiplicative", style.AMBER, "s"),
        (found.chosen, style.BLUE, "o"),
    ):
        test = next((f.next_size for f in found.forms if f.family == name), None)
        if test is None:
            continue
        rho = test.spearman.rho
        axes.scatter(
            test.measured, test.predicted, s=34, color=colour, marker=marker, alpha=0.85, lw=0,
            label=f"{name.removeprefix('conditional-')}: ρ {rho:.2f}, n {test.n}"
            if rho is not None else name,
        )  # fmt: skip
    test = next((f.next_size for f in found.forms if f.family == found.chosen), None)
    if test is None:
        axes.text(0.5, 0.5, "one size only", ha="center", transform=axes.transAxes)
        axes.set(title="The next size, predicted")
        return
    ends = [float(test.measured.min()), float(test.measured.max())]
    axes.plot(ends, ends, color=style.MUTED, lw=1, ls=(0, (4, 3)))
    axes.set(
        xlabel="measured loss, nats",
        ylabel="predicted without this size, nats",
        title=f"Predicting {test.scale}",
    )
    axes.set_ylim(axes.get_ylim()[0], axes.get_ylim()[1] + 0.35 * float(np.ptp(axes.get_ylim())))
    axes.legend(loc="upper left", fontsize=8)


def draw_forms(axes: Axes, found: LadderFit) -> None:
    """Error of every form on shapes left out in turn, and on the next size without its level."""
    forms = sorted(found.forms, key=lambda form: -form.cross_validated)
    rows = np.arange(len(forms), dtype=np.float64)
    left_out = [100 * form.cross_validated for form in forms]
    colours = [style.BLUE if form.family == found.chosen else "#b6c7e8" for form in forms]
    axes.barh(rows, left_out, color=colours, height=0.62)
    ahead = [
        100 * form.next_size.log_rmse if form.next_size is not None else np.nan for form in forms
    ]
    axes.plot(ahead, rows, ls="", marker="D", ms=6, color=style.AMBER, label="next size, no level")
    if found.noise is not None:
        floor = 100 * found.noise.sd_nats / float(found.runs.column("loss").mean())
        axes.axvline(floor, color=style.MUTED, lw=1, ls=(0, (4, 3)), label="seeds alone")
    names = [f"{form.family.removeprefix('conditional-')} ({form.free_coefficients})"
             for form in forms]  # fmt: skip
    axes.set_yticks(rows, names, fontsize=8)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="RMSE of ln loss, %", title="Error on shapes left out")
    axes.set_xlim(0, 1.3 * float(np.nanmax([*left_out, *ahead])))
    axes.legend(loc="upper right", fontsize=8)


def draw_optimum(axes: Axes, found: LadderFit) -> None:
    """Where the bootstrap fits put the lowest loss in x and r, inside the range of the runs."""
    curves = {curve.variable: curve for curve in found.curves}
    x, r = curves["x"], curves["r"]
    law = found.law
    if law.draws is not None:
        both = [_lowest_of_draws(found, curve) for curve in (x, r)]
        jitter = np.random.default_rng(0).normal(0, 0.012, (2, len(law.draws)))
        axes.scatter(
            both[0] * np.exp(jitter[0]), both[1] * np.exp(2 * jitter[1]), s=9,
            color=style.BLUE, alpha=0.25, lw=0, label="bootstrap fits",
        )  # fmt: skip
    axes.plot(x.best, r.best, marker="*", ms=15, color=style.BLUE, mec="white", ls="", label="law")
    axes.plot(
        *PUBLISHED_OPTIMUM.values(), marker="X", ms=9, color=style.AMBER, mec="white", ls="",
        label="published",
    )  # fmt: skip
    axes.add_patch(_rectangle(x, r))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, curve in ((axes.xaxis, x), (axes.yaxis, r)):
        ticks = _ticks(np.array([curve.low, curve.high]), curve.variable)
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(x.low, 0.08) * 0.85, x.high * 1.18)
    axes.set_ylim(r.low * 0.75, r.high * 2.6)
    axes.set(xlabel="x", ylabel="r", title="Where the loss is lowest")
    axes.legend(loc="upper right", fontsize=8, ncols=3, columnspacing=0.9, handletextpad=0.2)


def draw_residuals(axes: Axes, found: LadderFit) -> None:
    """Measured over predicted loss against depth, with what seeds alone differ by."""
    residual = 100 * (found.runs.column("loss") / found.fit.predicted - 1)
    if found.noise is not None:
        floor = 100 * found.noise.sd_nats / float(found.runs.column("loss").mean())
        axes.axhspan(-2 * floor, 2 * floor, color="#eef0f3", lw=0, label="± 2 sd of seeds")
    axes.axhline(0, color=style.MUTED, lw=1)
    layers = found.runs.column("layers")
    _scatter_by_scale(axes, found, _spread(layers, "layers", log=False), residual)
    axes.set(xlabel="layers", ylabel="measured over predicted, %", title="Residuals of the law")
    axes.set_ylim(top=axes.get_ylim()[1] + 0.28 * float(np.ptp(axes.get_ylim())))
    axes.legend(loc="upper left", fontsize=8, ncols=2, columnspacing=0.9, handletextpad=0.2)


def draw_rates(axes: Axes, found: LadderFit) -> None:
    """Loss over the learning rate for every shape that was trained at more than one."""
    depths = sorted({_layers_of(check.label) for check in found.checks})
    for check in found.checks:
        factors, losses = zip(*check.losses, strict=True)
        number = depths.index(_layers_of(check.label))
        axes.plot(
            factors, losses, marker=_MARKERS[number % len(_MARKERS)], ms=5, lw=1.2,
            color=style.SERIES[number % len(style.SERIES)],
        )  # fmt: skip
    for number, depth in enumerate(depths):
        axes.plot(
            [], [], marker=_MARKERS[number % len(_MARKERS)], ms=5, lw=1.2,
            color=style.SERIES[number % len(style.SERIES)], label=f"{depth} layers",
        )  # fmt: skip
    every = sorted({factor for check in found.checks for factor, _ in check.losses})
    axes.set_xscale("log")
    axes.set_xticks(every, [f"{factor:g}" for factor in every])
    axes.minorticks_off()
    axes.set(xlabel="factor of the ladder's rate", ylabel="loss, nats", title="Learning rate")
    axes.set_ylim(top=axes.get_ylim()[1] + 0.42 * float(np.ptp(axes.get_ylim())))
    axes.legend(loc="upper left", fontsize=8, ncols=2, columnspacing=0.9)


def _layers_of(label: str) -> int:
    """Of a shape's label, hidden/MLP/layers/heads."""
    return int(label.split("/")[2])


def draw_noise(axes: Axes, found: LadderFit, *, labels: bool = True) -> None:
    """Losses of repeated shapes about their mean."""
    assert found.noise is not None
    for row, (_, losses) in enumerate(found.noise.shapes):
        centred = 1000 * (np.array(losses) - np.mean(losses))
        axes.plot(centred, np.full(len(losses), row), ls="", marker="o", ms=8, color=style.BLUE)
    axes.axvline(0, color=style.MUTED, lw=1)
    names = [label if labels else "" for label, _ in found.noise.shapes]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-0.6, len(found.noise.shapes) - 0.4)
    axes.set(
        xlabel="loss about its mean, nats / 1000",
        title=f"Seeds: sd {1000 * found.noise.sd_nats:.0f} "
        f"[{1000 * found.noise.low:.0f}, {1000 * found.noise.high:.0f}]",
    )


def _effect_title(found: LadderFit, variable: str) -> str:
    if variable == "kv_share":
        effect = found.kv
        assert effect is not None
        return f"KV / 4: {effect.percent:+.1f} % [{effect.low:+.1f}, {effect.high:+.1f}]"
    curve = next(c for c in found.curves if c.variable == variable)
    name = {"layers": "Depth", "width_per_layer": "Aspect"}.get(variable, variable)
    return f"{name}: best {curve.best:.3g} [{curve.best_low:.3g}, {curve.best_high:.3g}]"


def _scatter_by_scale(
    axes: Axes, found: LadderFit, at: FloatArray, values: FloatArray
) -> None:  # fmt: skip
    sizes = np.array([round(r.non_embedding_parameters / 5e4) * 50 for r in found.records])
    tokens = np.array([round(r.tokens / 2.5e5) / 4 for r in found.records])
    scales = sorted(set(zip(sizes.tolist(), tokens.tolist(), strict=True)))
    for number, (size, budget) in enumerate(scales):
        rows = (sizes == size) & (tokens == budget)
        axes.scatter(
            at[rows], values[rows], s=26, marker=_MARKERS[number % len(_MARKERS)],
            color=(style.INK, style.TEAL, style.RED, style.VIOLET)[number % 4], alpha=0.75, lw=0,
            label=f"{size}K, {budget:g}M tokens",
        )  # fmt: skip


def _spread(values: FloatArray, variable: str, *, log: bool = True) -> FloatArray:
    """Values drawn a little apart where many runs share one; only for drawing."""
    if variable not in ("layers", "kv_share"):
        return values
    shift = np.random.default_rng(0).uniform(-1, 1, len(values))
    result: FloatArray = values * np.exp(0.03 * shift) if log else values + 0.12 * shift
    return result


def _ticks(values: FloatArray, variable: str) -> list[float]:
    choices: dict[str, tuple[float, ...]] = {
        "layers": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
        "kv_share": (0.0625, 0.125, 0.25, 0.5, 1),
    }
    every = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100)
    low, high = float(values.min()) * 0.97, float(values.max()) * 1.03
    return [tick for tick in choices.get(variable, every) if low <= tick <= high]


def _lowest_of_draws(found: LadderFit, curve: Curve) -> FloatArray:
    assert found.law.draws is not None
    letter = {"x": "a", "r": "b"}[curve.variable]
    first, second = (
        found.law.draws[:, found.law.family.parameters.index(f"{letter}{i}")] for i in (1, 2)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = np.where(
            (first > 0) & (second > 0), second / first, np.where(second > 0, np.inf, 0.0)
        )
    result: FloatArray = np.clip(lowest, curve.low, curve.high)
    return result


def _rectangle(x: Curve, r: Curve) -> Patch:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 — only a report draws

    return Rectangle(
        (x.low, r.low), x.high - x.low, r.high - r.low, fill=False, ec=style.MUTED, lw=1,
        ls=(0, (4, 3)),
    )  # fmt: skip
