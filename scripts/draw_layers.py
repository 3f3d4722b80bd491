"""Draw the import rule of pyproject.toml as docs/images/layers.svg: the picture is the contract.

python scripts/draw_layers.py
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from suffice.core.files import write_text
from suffice.report import style

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "layers.svg"

QUESTIONS = {
    "cli": "parse and print",
    "recipes": "whole jobs",
    "gateway": "OpenAI wire",
    "evals": "is it right?",
    "training": "make tokens productive",
    "throughput": "what does it cost?",
    "executors": "carry it out",
    "policies": "how much now?",
    "tasks": "problems made by rule",
    "backends": "who makes tokens?",
    "architecture": "what should it be?",
    "report": "plots and pages",
    "ledger": "what happened",
    "hardware": "what machines can do",
    "core": "shared nouns and errors",
}


def layers() -> list[list[str]]:
    """The layers of the first contract, top first, siblings together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[name.strip("( )").split(".")[-1] for name in line.split("|")] for line in lines]


def draw() -> str:
    """The picture as SVG."""
    rows = layers()
    with style.house_style():
        figure = style.new_figure(9.2, 0.92 * len(rows) + 0.2, margins=(0.01, 0.01, 0.99, 0.99))
        axes = figure.subplots()
        axes.set(xlim=(0, 12), ylim=(0, len(rows)))
        axes.axis("off")
        for depth, names in enumerate(rows):
            y, width = len(rows) - depth - 0.86, 12 / len(names)
            for column, name in enumerate(names):
                colour = style.SERIES[depth % len(style.SERIES)]
                axes.barh(
                    y + 0.36, width - 0.16, left=column * width + 0.08, height=0.72,
                    color=colour, alpha=0.13, edgecolor=colour, linewidth=1.2,
                )  # fmt: skip
                middle = column * width + width / 2
                axes.text(middle, y + 0.46, name, ha="center", va="center", fontweight="bold")
                axes.text(
                    middle, y + 0.17, QUESTIONS.get(name, ""), ha="center", va="center",
                    fontsize=8, color=style.MUTED,
                )  # fmt: skip
    return style.to_svg(figure)


if __name__ == "__main__":
    write_text(PICTURE, draw())
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}\n")
