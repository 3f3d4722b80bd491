"""Accuracy of predicted TPOT and TTFT on measured serving points that the fit has not seen.

python benchmarks/silicon_accuracy.py            print the table (about a minute)
python benchmarks/silicon_accuracy.py --write    also refit, and write the shipped coefficients
                                                 and the table in docs/throughput.md
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from suffice.core.files import read_json, write_json, write_text
from suffice.throughput.calibrate import (
    DEVICE_PRIORS,
    ENGINE_PRIORS,
    ENGINES,
    Point,
    Predicted,
    Table,
    absolute_errors,
    by_hardware,
    by_model_and_hardware,
    fit,
    held_out,
    silicon_points,
)

ROOT = Path(__file__).parent.parent
UTILISATION = ROOT / "src/suffice/hardware/data/utilisation.json"
ENGINE_FILE = ROOT / "src/suffice/throughput/data/engines.json"
DOCS = ROOT / "docs/throughput.md"
BEGIN, END = "<!-- silicon table: begin -->", "<!-- silicon table: end -->"
SOURCE = "fitted to 1,014 measured serving points on H100, H200 and B200 (docs/throughput.md)"

Mask = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write coefficients and docs table")
    write = parser.parse_args().write
    table = Table.of(silicon_points())
    text = "\n".join(report(table))
    print(text)
    if write:
        write_coefficients(fit(table.select(mask(table, lambda p: p.usable))))
        replace_block(DOCS, text)


def report(table: Table) -> Iterator[str]:
    """Lines of the Markdown tables."""
    usable = mask(table, lambda p: p.usable)
    asked = mask(table, lambda p: p.aiconfigurator_tpot_s is not None)
    pairs = held_out(table, by_model_and_hardware)
    devices = held_out(table, by_hardware)
    yield "| held-out rows | n | TPOT, pair held out | TTFT | TPOT, device held out | TTFT |"
    yield "|---|--:|--:|--:|--:|--:|"
    for group in sorted({by_model_and_hardware(p) for p in table.points}):
        inside = usable & mask(table, lambda p, g=group: by_model_and_hardware(p) == g)
        yield line(group, inside, table, pairs, devices)
    for device in sorted({p.hardware for p in table.points}):
        inside = usable & mask(table, lambda p, d=device: p.hardware == d)
        yield line(f"all on {device}", inside, table, pairs, devices)
    for engine in ENGINES:
        inside = usable & mask(table, lambda p, e=engine: p.engine == e)
        yield line(f"all under {engine}", inside, table, pairs, devices)
    yield line("**all usable rows**", usable, table, pairs, devices)
    everything = np.ones_like(usable)
    yield line("with the 28 unusable ones", everything, table, pairs, devices)
    yield ""
    yield "| same 174 rows, H100 and H200 | TPOT | TTFT |"
    yield "|---|--:|--:|"
    yield f"| suffice, pair held out | {errors(table, pairs, asked)} |"
    yield f"| suffice, device held out | {errors(table, devices, asked)} |"
    yield f"| aiconfigurator 0.12.0 | {errors(table, theirs(table), asked)} |"
    yield ""
    yield "Each cell: mean / median absolute error in %."


def mask(table: Table, wanted: Callable[[Point], bool]) -> Mask:
    return np.array([wanted(point) for point in table.points])


def theirs(table: Table) -> Predicted:
    """aiconfigurator's own predictions; NaN where it was not asked."""
    pairs = [(p.aiconfigurator_ttft_s, p.aiconfigurator_tpot_s) for p in table.points]
    values = np.array([[math.nan if v is None else v for v in pair] for pair in pairs])
    return Predicted(values[:, 0], values[:, 1])


def line(label: str, rows: Mask, table: Table, pairs: Predicted, devices: Predicted) -> str:
    return (
        f"| {label} | {rows.sum():,} | {errors(table, pairs, rows)} | "
        f"{errors(table, devices, rows)} |"
    )


def errors(table: Table, predicted: Predicted, rows: Mask) -> str:
    tpot = 100 * absolute_errors(predicted.tpot_s[rows], table.tpot_s[rows])
    ttft = 100 * absolute_errors(predicted.ttft_s[rows], table.ttft_s[rows])
    return f"{tpot.mean():.1f} / {np.median(tpot):.1f} | {ttft.mean():.1f} / {np.median(ttft):.1f}"


def write_coefficients(coefficients: dict[str, float]) -> None:
    """Write the coefficients to the files that ship with the package, to three digits."""
    utilisation = read_json(UTILISATION, what="utilisation")
    utilisation["gpu"] = {name: rounded(coefficients[name]) for name in DEVICE_PRIORS}
    utilisation["gpu"]["source"] = SOURCE
    write_json(UTILISATION, utilisation)
    engines = {}
    for engine in ("generic", *ENGINES):
        members = ENGINES if engine == "generic" else (engine,)
        early = engine in ("vllm", "sglang")
        engines[engine] = {
            **{
                name: rounded(
                    math.exp(np.mean([math.log(coefficients[f"{m}.{name}"]) for m in members]))
                )
                for name in ENGINE_PRIORS
            },
            "burst": rounded(coefficients["burst"]),
            "planned_output": 0.5 if early else 1.0,
            "admitted_output": 0.0 if early else 1.0,
            "source": "geometric mean of the fitted engines" if len(members) > 1 else SOURCE,
        }
    write_json(ENGINE_FILE, engines)


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def replace_block(path: Path, text: str) -> None:
    """Put `text` between the markers of a page."""
    page = path.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    write_text(path, f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
