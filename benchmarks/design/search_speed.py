"""How fast shapes are evaluated, designs run and the package imports, on one core.

    python benchmarks/design/search_speed.py

Prints one line per quantity: median of repeats, and the goal it is held against. The evaluation is
loss (law, size, uncertainty) and cost (the whole roofline with continuous batching) together.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from suffice.architecture.catalog import load_shape
from suffice.architecture.lattice import Lattice, enumerate_lattice
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import AbsoluteLaw, ConditionalLaw
from suffice.hardware import load_hardware
from suffice.recipes.design import DesignConfig
from suffice.recipes.design.run import LossModel, score
from suffice.throughput.serving import Serving

REPEATS = 7


def evaluated_shapes_per_s() -> tuple[int, float]:
    """(shapes, shapes per second of CPU time) on a wide lattice around LLaMA-3.2-1B."""
    reference = load_shape("meta-llama/Llama-3.2-1B")
    lattice = Lattice.around(
        reference, hidden_multiple=16, mlp_multiple=16, parameter_tolerance=0.1,
        key_value_multiple=1, depths=(14, 15, 16, 17, 18), x_range=(0.05, 0.1),
    )  # fmt: skip
    grid = enumerate_lattice(reference, lattice)
    law, scale = load_law("bian2025-80m-297m"), load_law("besiroglu2024")
    if not isinstance(law, ConditionalLaw) or not isinstance(scale, AbsoluteLaw):
        raise SystemExit("the embedded laws are not of the expected kind")
    loss = LossModel(law=law, scale=scale, reference=reference, reference_loss=2.803, tokens=1e11)
    serving = Serving(hardware=load_hardware("a100-40gb"))
    config = DesignConfig(like=reference, tokens=1e11)
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        score(loss, grid, serving, config)
        seconds.append(time.process_time() - started)
    return len(grid), len(grid) / statistics.median(seconds)


def wall_s(argv: list[str], *, repeats: int = REPEATS) -> float:
    """Median wall time of a fresh process, after one run that warms the disk cache."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> None:
    shapes, rate = evaluated_shapes_per_s()
    print(f"shapes evaluated per second, one core: {rate:,.0f} ({shapes:,} shapes; goal 1,000,000)")
    empty = wall_s([sys.executable, "-c", "pass"])
    imported = wall_s([sys.executable, "-c", "import suffice"])
    print(
        f"import suffice: {1e3 * (imported - empty):.0f} ms over an empty interpreter of "
        f"{1e3 * empty:.0f} ms (goal: under 150 ms)"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "suffice", "design", "--like", "meta-llama/Llama-3.2-1B",
            "--tokens", "100B", "--hardware", "a100-40gb", "--out", folder,
        ]  # fmt: skip
        print(f"suffice design with all outputs: {wall_s(command):.2f} s (goal: under 3 s)")
        print(f"suffice design without --out: {wall_s(command[:-2]):.2f} s")


if __name__ == "__main__":
    main()
