"""The report of a ladder: one HTML page and one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from suffice.core.errors import InputError
from suffice.core.files import write_bytes, write_text
from suffice.core.version import __version__
from suffice.recipes.ladder.fit import (
    PUBLISHED_OPTIMUM,
    WIDEST_FORM,
    Curve,
    LadderFit,
    rate_note,
)
from suffice.recipes.ladder.pick import PickResult
from suffice.recipes.ladder.plots import effect_variables, headline_figure, single_figures
from suffice.report import page
from suffice.report.style import to_png, to_svg

# What arXiv:2510.18245 reports for its own next size, with depth and KV share held.
PUBLISHED_NEXT_SIZE = "MSE .0001 to .0002, Spearman .75 to .89 (arXiv:2510.18245)"


def write_report(
    found: LadderFit, folder: Path, *, picks: Sequence[PickResult] = ()
) -> dict[str, Path]:
    """Write `report.html` and `ladder.png` into `folder`; returns them by name."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file; --out needs a folder")
    picture = to_png(headline_figure(found))
    html = html_report(found, picks=picks)
    paths = {"report": folder / "report.html", "picture": folder / "ladder.png"}
    try:
        write_text(paths["report"], html)
        write_bytes(paths["picture"], picture)
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}") from None
    return paths


def html_report(found: LadderFit, *, picks: Sequence[PickResult] = ()) -> str:
    """The report as one HTML document."""
    drawn = {name: to_svg(figure) for name, figure in single_figures(found).items()}
    effects = [f"effect-{name}" for name in effect_variables(found)]
    blocks = [page.FigureBlock(svg=drawn[k], caption=_CAPTIONS[k]) for k in (*effects, *_REST)
              if k in drawn]  # fmt: skip
    chosen = [i for i, form in enumerate(found.forms) if form.family == found.chosen]
    sections = [
        page.cards(_cards(found)),
        page.heading("What the law says"),
        page.table(CURVE_COLUMNS, curve_rows(found)),
        page.table(COEFFICIENT_COLUMNS, coefficient_rows(found)),
        page.table(INTERACTION_COLUMNS, interaction_rows(found)),
        page.heading("How well it predicts"),
        page.table(FORM_COLUMNS, form_rows(found), strong=chosen),
        page.notes(reading(found)),
        page.heading("Pictures"),
        page.figures(blocks),
    ]
    if picks:
        sections.append(page.heading("The law's pick, trained"))
        sections += [page.notes(pick.sentences()) for pick in picks]
    if found.checks:
        sections += [page.heading("Learning rate"), page.table(RATE_COLUMNS, rate_rows(found))]
    sections += [
        page.heading("Where it holds, and what it leaves out"),
        page.notes([*_domain(found), *found.law.not_modelled, *found.fit.warnings]),
    ]
    sizes = [r.non_embedding_parameters for r in found.records]
    return page.page(
        f"Ladder: {len(found.records)} small models, one law",
        f"{min(sizes) / 1e3:,.0f}K to {max(sizes) / 1e3:,.0f}K non-embedding parameters, trained "
        f"by one recipe on one text; {found.law.formula}.",
        sections,
        footer=f"suffice {__version__} · {found.law.provenance.fitted_on}",
    )


CURVE_COLUMNS = ("variable", "lowest loss at", "90 % interval", "range of the runs", "p of no U",
                 "worst end costs", "reading", "published")  # fmt: skip
INTERACTION_COLUMNS = ("one depends on the other", "F", "degrees of freedom", "p, one of many")
COEFFICIENT_COLUMNS = ("coefficient", "value", "90 % interval")
FORM_COLUMNS = ("form", "free", "fit", "shapes left out", "next size, no level", "next size, MSE",
                "Spearman", "p", "n", "regret, nats", "random runs alone")  # fmt: skip
RATE_COLUMNS = ("shape", "losses by factor of the rate", "given up by the ladder's rate, nats")


def curve_rows(found: LadderFit) -> list[tuple[str, ...]]:
    """One row per variable with a curve, and one for the KV share."""
    rows: list[tuple[str, ...]] = [
        (
            c.variable, f"{c.best:.3g}", _interval(c),
            f"{c.low:.3g} … {c.high:.3g}",
            "–" if c.turning is None else f"{c.turning.p_u_shape:.2g}",
            f"+{c.effect_percent:.1f} %", c.verdict,
            f"{PUBLISHED_OPTIMUM[c.variable]:g}" if c.variable in PUBLISHED_OPTIMUM else "–",
        )
        for c in found.curves
    ]  # fmt: skip
    if found.kv is not None:
        kv = found.kv
        sure = "told from zero" if kv.low > 0 or kv.high < 0 else "not told from zero"
        rows.append((
            "kv_share", "–", "–", "–", "–", f"{kv.percent:+.2f} % [{kv.low:+.2f}, {kv.high:+.2f}]",
            f"a quarter of the KV heads ({WIDEST_FORM}), {sure}", "not modelled",
        ))  # fmt: skip
    return rows


def interaction_rows(found: LadderFit) -> list[tuple[str, ...]]:
    """Pairs of variables whose effects may depend on each other, least p first."""
    return [
        (f"{i.first} × {i.second}", f"{i.f:.2f}", f"1, {i.degrees_of_freedom}", f"{i.p:.3g}")
        for i in found.interactions
    ]


def _interval(curve: Curve) -> str:
    """Bounds of the lowest point; an open end says that the runs do not bound it there."""
    if curve.turning is None:
        return "–"
    ends = (curve.turning.low, curve.turning.high)
    return " … ".join("open" if end is None else f"{end:.3g}" for end in ends)


def coefficient_rows(found: LadderFit) -> list[tuple[str, ...]]:
    """Coefficients with bootstrap intervals; one at a limit has none."""
    family = found.law.family
    rows: list[tuple[str, ...]] = []
    for c in found.coefficients:
        text = "held" if c.name in family.fixed else "pinned at zero"
        if c.low is not None and c.high is not None:
            text = f"{_number(c.low)} … {_number(c.high)}"
        elif c.name == family.linear[0]:
            text = "the level: free in every scale"
        rows.append((c.name, f"{c.value:.5g}", text))
    return rows


def form_rows(found: LadderFit) -> list[tuple[str, ...]]:
    """The comparison, one row per form."""
    rows: list[tuple[str, ...]] = []
    for form in found.forms:
        row = [
            form.family, str(form.free_coefficients), f"{form.log_rmse:.4f}",
            f"{form.cross_validated:.4f}",
        ]  # fmt: skip
        test = form.next_size
        if test is None:
            rows.append((*row, *["–"] * 7))
            continue
        ranks = found.random_ranks.get(form.family)
        rows.append((
            *row, f"{test.log_rmse:.4f}", f"{test.mse:.5f}", _rho(test.spearman.rho),
            "–" if test.spearman.p is None else f"{test.spearman.p:.3f}", str(test.n),
            f"{test.regret_nats:.4f}", "–" if ranks is None else f"{_rho(ranks.rho)}, n {ranks.n}",
        ))  # fmt: skip
    return rows


def rate_rows(found: LadderFit) -> list[tuple[str, ...]]:
    """Shapes trained at several learning rates."""
    return [
        (
            check.label,
            ", ".join(f"{loss:.4f} at {factor:g}" for factor, loss in check.losses),
            f"{check.given_up_nats:.4f}",
        )
        for check in found.checks
    ]


def _number(value: float) -> str:
    # A positive coefficient that a resample has no use for ends within rounding of zero.
    return "0" if abs(value) < 1e-9 else f"{value:.4g}"


def _rho(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cards(found: LadderFit) -> list[page.Card]:
    form = found.form(found.chosen) if found.forms else None
    items = [page.Card(value=str(len(found.records)), label="runs fitted")]
    if form is not None:
        items.append(page.Card(value=f"{100 * form.cross_validated:.2f} %",
                               label="error on shapes left out"))  # fmt: skip
        if form.next_size is not None:
            test = form.next_size
            items.append(page.Card(value=_rho(test.spearman.rho),
                                   label=f"Spearman at the next size, n {test.n}"))  # fmt: skip
            items.append(page.Card(value=f"{test.regret_nats:.3f}", label="regret there, nats"))
    if found.noise is not None:
        items.append(page.Card(value=f"{found.noise.sd_nats:.4f}", label="sd over seeds, nats"))
    return items


def reading(found: LadderFit) -> list[str]:
    """Sentences on the comparison that the numbers bear out, whatever they are."""
    sentences = [f"Published for the next size: {PUBLISHED_NEXT_SIZE}."]
    if found.noise is not None and found.forms:
        level = float(np.mean(found.runs.column("loss")))
        share = found.form(found.chosen).cross_validated * level / found.noise.sd_nats
        sentences.append(
            f"The law's error on shapes left out is {share:.1f} times what seeds differ by: "
            + ("form, not noise, limits it." if share > 1.5 else "noise limits it.")
        )
    if (note := rate_note(found.checks)) is not None:
        sentences.append(f"Beware of {note}.")
    sentences.append(
        f"{found.chosen} was taken: of the forms in x and r whose error on shapes left out is "
        "within one standard error of the best one's, it has the fewest coefficients."
    )
    alone = next((f for f in found.forms if f.family == "conditional-depth-alone"), None)
    if alone is not None:
        chosen = found.form(found.chosen)
        better = alone.cross_validated <= chosen.cross_validated
        sentences.append(
            f"Depth alone, with two coefficients, errs by {100 * alone.cross_validated:.2f} %, "
            f"{'less than' if better else 'against'} {100 * chosen.cross_validated:.2f} %"
            + (": at this scale the other axes earn nothing on shapes not seen." if better else ".")
        )
    return sentences


def _domain(found: LadderFit) -> list[str]:
    return [
        f"{i.variable} in [{i.low:.4g}, {i.high:.4g}]: {i.basis}"
        + ("" if i.enforced else " (said, not enforced)")
        for i in found.law.domain.intervals
    ]


_CAPTIONS = {
    "effect-x": "Each dot is a run, with what the law says of its other variables taken out.",
    "effect-r": "The same over the MLP-to-attention ratio.",
    "effect-layers": "The same over depth. Dots are spread a little sideways.",
    "effect-width_per_layer": "The same over hidden size per layer.",
    "effect-kv_share": "The same over the share of KV heads. Dots are spread a little sideways.",
    "next-size": "The largest size, predicted by fits that never saw it. Levels are matched: a law "
    "of shape does not know the level of a size it has not seen.",
    "forms": "Every form, with its number of free coefficients. Lower is better.",
    "optimum": "Lowest point inside the runs' range for each bootstrap fit. Dots at an edge mean "
    "that the loss still falls there.",
    "residuals": "What the law does not explain, against depth.",
    "rates": "The same shape at other learning rates. Lines that fall to the left say that the "
    "ladder's rate is too high; if some fall more than others, the law measures the recipe.",
    "noise": "The same shape with other seeds: hidden/MLP/layers/heads:KV heads.",
}
_REST = ("next-size", "forms", "optimum", "residuals", "noise", "rates")
