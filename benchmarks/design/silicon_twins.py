"""Held-out serving rows whose very run is also listed among the fitting rows, and errors without them.

python benchmarks/design/silicon_twins.py

Two sources can list one run. A row is a twin when model, device, tokens, concurrency and tensor
parallel are those of a fitting row and both times agree to .05 %.
"""

from __future__ import annotations

from collections import defaultdict

from silicon import Point, silicon_points
from silicon_accuracy import report
from silicon_fit import Table, predict_points, without_factors

AGREE = 5e-4


def main() -> None:
    points = silicon_points()
    twins = twins_of(points)
    print(f"{len(twins)} usable held-out rows are also fitting rows\n")
    kept = Table.of(tuple(p for p in points if p not in twins))
    lines = report(kept, predict_points(kept, None), predict_points(without_factors(kept), None))
    for line, _ in zip(lines, range(9), strict=False):
        print(line)


def twins_of(points: tuple[Point, ...]) -> set[Point]:
    """The usable held-out rows that a fitting row repeats."""
    fitted = defaultdict(list)
    for p in points:
        if p.usable and p.side == "fit":
            fitted[_run(p)].append(p)
    return {
        p
        for p in points
        if p.usable and p.side != "fit"
        and any(_close(p.tpot_s, q.tpot_s) and _close(p.ttft_s, q.ttft_s) for q in fitted[_run(p)])
    }  # fmt: skip


def _run(p: Point) -> tuple[str, str, int, int, int, int]:
    return p.model, p.hardware, p.input_tokens, p.output_tokens, p.concurrency, p.tensor_parallel


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= AGREE * max(one, other)


if __name__ == "__main__":
    main()
