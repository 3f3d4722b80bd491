"""The policy file and the report of a calibration, written last, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from suffice.core.files import write_bytes, write_text
from suffice.policies.policy_file import PolicyFile, write_policy_file
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.plots import path_figure, reliability_figure
from suffice.recipes.calibrate.run import Calibration
from suffice.report.page import Card, FigureBlock, cards, figures, heading, notes, page, table
from suffice.report.style import to_png, to_svg


def write_calibration(found: Calibration, out: Path, report: Path | None) -> list[Path]:
    """Write the policy file, and with `report` a folder of page and figures; the paths written."""
    drawn = None if report is None else _drawn(found)
    write_policy_file(out, found.file)
    written = [out]
    if report is not None and drawn is not None:
        html, pictures = drawn
        write_text(report / "certificate.html", html)
        written.append(report / "certificate.html")
        for name, data in pictures.items():
            write_bytes(report / name, data)
            written.append(report / name)
    return written


def _drawn(found: Calibration) -> tuple[str, dict[str, bytes]]:
    blocks, pictures = [], {}
    if found.path:
        figure = path_figure(found)
        pictures["path.png"] = to_png(figure)
        caption = "Each setting of the path with its loss and the bound that the test gives it."
        blocks.append(FigureBlock(svg=to_svg(figure), caption=caption))
    figure = reliability_figure(found)
    pictures["reliability.png"] = to_png(figure)
    caption = "Predicted against observed, exact 95 % intervals, on the certifying questions."
    blocks.append(FigureBlock(svg=to_svg(figure), caption=caption))
    return certificate_page(found, blocks), pictures


def certificate_page(found: Calibration, blocks: list[FigureBlock]) -> str:
    """The certificate as a self-contained page."""
    file = found.file
    certificate = file.certificate
    got, target = certificate.expected, certificate.target
    saving = got.saving
    headline = cards(
        [
            Card(value=f"{100 * saving.estimate:.0f} %", label="of the safe arm's cost saved "
                 f"({100 * saving.low:.0f} to {100 * saving.high:.0f})"),
            Card(value=f"{100 * got.accuracy:.1f} %", label="accuracy observed"),
            Card(value=f"{100 * got.baseline_accuracy:.1f} %", label="of the safe arm"),
            Card(value=f"{100 * target.max_drop:g} points", label=f"largest {target.loss}, at "
                 f"{100 * target.confidence:g} %"),
            Card(value=f"{100 * got.stopped:.0f} %", label="answered early"),
        ]
    )  # fmt: skip
    return page(
        f"Certificate {certificate.id}",
        certificate.statement,
        [
            headline,
            heading("Evidence"),
            figures(blocks),
            heading("Clusters of prompts"),
            table(
                ("typical words", "rule", "questions", "early", "harmed", "helped", "bound"),
                cluster_rows(file),
            ),
            heading("Arms that were considered"),
            table(
                ("cheap arm", "saving on the fitting questions"),
                [(name, f"{100 * value:.1f} %") for name, value in found.considered],
            ),
            heading("What it rests on"),
            notes(certificate.assumptions),
        ],
        footer=f"traces {certificate.data.digest[:16]}, {certificate.data.fit_questions} questions "
        f"to fit, {certificate.data.certify_questions} to certify, seed {certificate.data.seed}; "
        f"costs in {got.cost_unit}",
    )


def _rule(sampler: str) -> str:
    """A sampler in few words: a table is long."""
    rule, _, behind = sampler.partition(" > ")
    name, _, options = rule.partition("@")[0].partition(":")
    if name == VoteTable.name:
        name = f"table up to {len(options.partition(',')[0].split('+'))} samples"
        options = ""
    return name + (f":{options}" if options else "") + (f" > {behind}" if behind else "")


def cluster_rows(file: PolicyFile) -> list[tuple[str, ...]]:
    """A row for every cluster: words, rule, counts, bound."""
    rows = []
    for cluster in file.groups:
        rules = []
        if cluster.accept is not None:
            rules.append(f"accept from {cluster.accept:.4g}")
        if cluster.hopeless is not None:
            rules.append(f"hopeless to {cluster.hopeless:.4g}")
        if cluster.sampler is not None:
            rules.append(_rule(cluster.sampler))
        rule = ", ".join(rules) or f"safe arm ({cluster.fallback})"
        tested = cluster.tested
        bound = "" if tested.upper_bound is None else f"{100 * tested.upper_bound:.1f} %"
        counts = (tested.n, tested.stopped, tested.harmed, tested.helped)
        rows.append((" ".join(cluster.words[:3]), rule, *map(str, counts), bound))
    return rows
