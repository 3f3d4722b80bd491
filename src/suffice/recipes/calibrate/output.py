"""The policy file and the report of a calibration, written last, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from suffice.core.files import write_bytes, write_text
from suffice.policies.agreement import Agreement
from suffice.policies.policy_file import PolicyFile, write_policy_file
from suffice.policies.vote_table import VoteTable
from suffice.recipes.calibrate.plots import path_figure, reliability_figure
from suffice.recipes.calibrate.run import CalibratedPolicy, Survey
from suffice.recipes.calibrate.wording import points
from suffice.report.page import Card, FigureBlock, cards, figures, heading, notes, page, table
from suffice.report.style import to_png, to_svg

ONLY_THE_BOUND = (
    "A plain rule saves as much here and was seen to lose no more than the limit: what the "
    "certificate adds is the bound on what it may lose."
)


def write_calibration(found: CalibratedPolicy, out: Path, report: Path | None) -> list[Path]:
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


def _drawn(found: CalibratedPolicy) -> tuple[str, dict[str, bytes]]:
    blocks, pictures = [], {}
    if found.path:
        figure = path_figure(found)
        pictures["path.png"] = to_png(figure)
        caption = "Each rule of the path with its loss and the bound that the test gives it."
        blocks.append(FigureBlock(svg=to_svg(figure), caption=caption))
    if found.reliability and found.file.certificate.predictor is not None:
        figure = reliability_figure(found)
        pictures["reliability.png"] = to_png(figure)
        caption = "Predicted against observed, exact 95 % intervals, on the certifying questions."
        blocks.append(FigureBlock(svg=to_svg(figure), caption=caption))
    return certificate_page(found, blocks), pictures


def certificate_page(found: CalibratedPolicy, blocks: list[FigureBlock]) -> str:
    """The certificate as a self-contained page."""
    file, survey = found.file, found.survey
    certificate = file.certificate
    got, target, data = certificate.expected, certificate.target, certificate.data
    saving = got.saving
    headline = cards(
        [
            Card(value=f"{100 * saving.estimate:.0f} %", label="saved against the baseline "
                 f"({100 * saving.low:.0f} to {100 * saving.high:.0f})"),
            Card(value=f"{100 * got.accuracy:.1f} %", label="right, observed"),
            Card(value=f"{100 * got.baseline_accuracy:.1f} %", label="right, the baseline"),
            Card(value=points(target.max_drop), label=f"largest {target.loss}, at "
                 f"{100 * target.confidence:g} %"),
            Card(value=f"{100 * got.stopped:.0f} %", label="answered without the baseline"),
        ]
    )  # fmt: skip
    body = [
        headline,
        heading("Limit and saving"),
        table(("accuracy limit", "saved", "right", "rule"), limit_rows(survey)),
        heading("Plain rules with the same models"),
        table(("rule", "saved", "points lost", "right"), plain_rows(survey)),
        notes([ONLY_THE_BOUND] if only_the_bound(survey) else []),
        heading("Evidence"),
        figures(blocks),
        heading("The rule"),
        table(
            ("question group", "rule", "questions", "without baseline", "lost", "won", "bound"),
            group_rows(file),
        ),
    ]
    if survey.considered:
        body += [
            heading("Fitted options that were considered"),
            table(
                ("option", "saving on the fitting questions"),
                [(name, f"{100 * value:.1f} %") for name, value in survey.considered],
            ),
        ]
    body += [heading("What it rests on"), notes(certificate.assumptions)]
    return page(
        f"Certificate {certificate.id}",
        certificate.statement,
        body,
        footer=f"traces {data.digest[:16]}, {data.questions} distinct questions, "
        f"{data.fit_questions} to fit and {data.certify_questions} to certify, {data.plays} plays "
        f"each, seed {data.seed}; costs in {got.cost_unit}",
    )


def in_words(sampler: str) -> str:
    """A rule in few words: a table is long."""
    sampler, by, groups = sampler.partition(", by ")
    rule, _, behind = sampler.partition(" > ")
    head, at, model = rule.partition("@")
    name, _, options = head.partition(":")
    if name == VoteTable.name:
        cap = len(options.partition(",")[0].split("+"))
        name, options = f"table up to {cap} samples", ""
    own = name + (f":{options}" if options else "") + (f"{at}{model}" if at else "")
    models = options.removeprefix("models=").split("+")
    if name == Agreement.name and "," not in options and not at:
        own = f"{' and '.join(models)} agree"
        behind = behind.removeprefix("single@")
        return own + (f", else {behind}" if behind else "") + by + groups
    return own + (f" > {behind}" if behind else "") + by + groups


def group_rows(file: PolicyFile) -> list[tuple[str, ...]]:
    """A row for every question group: words, rule, counts, bound."""
    rows = []
    for group in file.groups:
        rules = []
        if group.accept is not None:
            rules.append(f"{file.option} kept if P(right) >= {group.accept:.4g}")
        if group.hopeless is not None:
            rules.append(f"kept if P(the baseline would help) <= {group.hopeless:.4g}")
        if group.sampler is not None:
            rules.append(in_words(group.sampler))
        rule = ", ".join(rules) or f"the baseline ({group.fallback})"
        tested = group.tested
        bound = "" if tested.upper_bound is None else f"{100 * tested.upper_bound:.2f} points"
        counts = (tested.n, tested.stopped, tested.harmed, tested.helped)
        words = " ".join(group.words[:3]) or "all questions"
        rows.append((words, rule, *map(str, counts), bound))
    return rows


def limit_rows(found: Survey) -> list[tuple[str, ...]]:
    """The table limit -> saved."""
    rows: list[tuple[str, ...]] = []
    for row in found.rows:
        if row.rule is None or row.saving is None or row.accuracy is None:
            rows.append((points(row.limit), "–", "", "the baseline alone"))
            continue
        saving = row.saving
        rows.append(
            (
                points(row.limit),
                f"{100 * saving.estimate:.1f} % [{100 * saving.low:.1f}, {100 * saving.high:.1f}]",
                f"{100 * row.accuracy:.1f} %",
                in_words(row.rule),
            )
        )
    return rows


def plain_rows(found: Survey) -> list[tuple[str, ...]]:
    """What anyone would try first, nothing certified."""
    return [
        (each.name, _saved(each.saving), f"{100 * each.drop:.1f}", f"{100 * each.accuracy:.1f} %")
        for each in found.plain
    ]


def _saved(saving: float) -> str:
    return f"{100 * saving:.1f} %" if saving > -0.005 else f"costs {1.0 - saving:.2f}x"


def only_the_bound(found: Survey) -> bool:
    """Whether a plain rule saves at least as much and was seen to lose no more than the limit."""
    row = next((row for row in found.rows if row.limit == found.ground.config.max_drop), None)
    if row is None or row.saving is None:
        return False
    limit, saved = row.limit, row.saving.estimate
    return any(each.drop <= limit and each.saving >= saved for each in found.plain)


def baseline_line(found: Survey) -> str:
    """What everything is compared with, in one line."""
    ground = found.ground
    standard = ground.played(ground.baseline.text)
    cost, unit = float(ground.cost(standard).mean()), ground.tariff.unit
    shown = f"{1000 * cost:.4g} USD per 1,000 requests" if unit == "usd" else (
        f"{cost:.4g} {unit} per request"
    )  # fmt: skip
    named = "" if ground.config.baseline else " (name yours with --baseline)"
    return f"{ground.baseline.text}{named}: {100 * standard.correct.mean():.1f} % right, {shown}"
