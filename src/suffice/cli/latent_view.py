"""How an evaluation of a latent network looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY

if not HELP_ONLY:
    from suffice.evals.statistics.binomial import Interval

if TYPE_CHECKING:
    from suffice.recipes.latent.run import LatentResult


def print_latent(result: LatentResult) -> None:
    """Points, contests, diagnosis and policies."""
    console = Console(width=max(120, Console().width))
    console.print(
        f"{result.task}: {result.parameters:,} parameters, {result.steps_trained:,} steps, "
        f"{result.puzzles} held-out puzzles ({result.many_solutions} with three solutions or "
        f"more); noise: {result.exploration}"
    )
    points = Table(
        "width", "depth", "MFLOP", "serial steps", "first", "vote", "halting", "reward model",
        "any", "coverage", "of many solutions",
    )  # fmt: skip
    for p in (*result.points, *result.deep):
        a = p.accuracy
        deterministic = p in result.deep
        points.add_row(
            "1, no noise" if deterministic else str(p.width), str(p.depth),
            f"{p.flops * 1e-6:.1f}", str(p.serial_steps), f"{a['first'].estimate:.3f}",
            *(("", "", "", "") if deterministic else
              [f"{a[s].estimate:.3f}" for s in ("vote", "halting", "value", "verifier")]),
            f"{p.coverage.estimate:.3f}",
            "" if p.coverage_many is None else f"{p.coverage_many.estimate:.3f}",
        )  # fmt: skip
    console.print(points)
    console.print("95 % intervals of all of these are in latent.json (--out)")
    contests = Table("width against depth", "chosen by", "wide", "deep", "accuracy", "gain")
    for c in result.contests:
        contests.add_row(
            c.budget, c.selection, f"{c.wide[0]} x {c.wide[1]}", f"{c.deep[0]} x {c.deep[1]}",
            f"{c.wide_accuracy:.3f} / {c.deep_accuracy:.3f}", _short(c.gain, signed=True),
        )  # fmt: skip
    console.print(contests)
    d = result.diagnosis
    guide = "none (all agree)" if d.guide_alignment is None else f"{d.guide_alignment:+.2f}"
    console.print(
        f"before spending on width: local stability {d.local_stability:.2f} · guide alignment "
        f"{guide} · cloud entropy {d.cloud_entropy:.3f} nats"
    )
    if not result.policies:
        return
    policies = Table("policy", "accuracy", "to the fixed width's vote", "of its FLOPs", "samples")
    for row in result.policies:
        if row.accuracy is None or row.difference is None or row.flops_share is None:
            continue
        policies.add_row(
            row.policy, _short(row.accuracy), _short(row.difference, signed=True),
            f"{row.flops_share.estimate:.1%}", f"{row.samples:.2f}",
        )  # fmt: skip
    console.print(policies)
    for row in result.policies:
        if row.refused:
            console.print(f"{row.policy}: {row.refused}")


def _short(found: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{found.estimate:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"
