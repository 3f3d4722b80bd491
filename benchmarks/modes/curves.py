"""How p(think) moves while a choice is trained: one panel a run, one line a difficulty.

    python benchmarks/modes/curves.py --out docs/images/modes-rl.png \\
        "GRPO, seed 0=results/modes/rl/grpo-seed0.jsonl" …

A run is a progress file, or FILE#NAME for one run of a file with several. Without --out only a
table is printed: the share of responses that think, at its highest and in the end, and p(think).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from suffice.core.files import write_bytes
from suffice.report.style import INK, SERIES, house_style, new_figure, to_png


def read(source: str) -> list[dict[str, Any]]:
    """The progress lines of FILE or FILE#NAME that belong to training the choice."""
    path, _, name = source.partition("#")
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    if name:
        lines = next(line["lines"] for line in lines if line["name"] == name)
    return [line for line in lines if "p_think" in line and line["phase"] != "warm-up"]


def draw(runs: dict[str, list[dict[str, Any]]], columns: int) -> bytes:
    """The figure as PNG."""
    rows = -(-len(runs) // columns)
    with house_style():
        figure = new_figure(3.9 * columns, 2.9 * rows)
        panels: Any = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for panel, (title, lines) in zip(panels, runs.items(), strict=False):
            steps = [line["step"] for line in lines]
            for colour, cell in zip(SERIES, lines[0]["p_think"], strict=False):
                n = cell.rpartition("/")[2]
                panel.plot(
                    steps, [line["p_think"][cell] for line in lines], color=colour, lw=1.5,
                    label=f"{n} step{'s' if n != '1' else ''}",
                )  # fmt: skip
            if "think_share" in lines[0]:
                panel.plot(steps, [line["think_share"] for line in lines], color=INK, lw=1,
                           ls=":", label="thinking, all")  # fmt: skip
            panel.set_ylim(-0.03, 1.03)
            panel.set_title(title)
            panel.set_xlabel("step")
        for panel in panels[len(runs) :]:
            panel.axis("off")
        for panel in panels[::columns]:
            panel.set_ylabel("p(think), held out")
        panels[0].legend(loc="lower left", fontsize=8)
    return to_png(figure)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="TITLE=FILE[#NAME]")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--columns", type=int, default=3)
    asked = parser.parse_args()
    runs = {title: read(source) for title, _, source in (run.partition("=") for run in asked.runs)}
    for title, lines in runs.items():
        shares = [line.get("think_share", float("nan")) for line in lines]
        peak = max(range(len(shares)), key=shares.__getitem__)
        print(
            f"{title}: thinks {shares[0]:.2f} at first, {shares[peak]:.2f} at most (step "
            f"{lines[peak]['step']}), {shares[-1]:.2f} in the end (step {lines[-1]['step']}); "
            "p(think) " + " ".join(f"{p:.2f}" for p in lines[-1]["p_think"].values())
        )
    if asked.out is not None:
        write_bytes(asked.out, draw(runs, asked.columns))


if __name__ == "__main__":
    main()
