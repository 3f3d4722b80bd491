"""Time of `predict_grid` per shape on one core, and of `predict` for one shape.

    python benchmarks/design/predict.py [--shapes 1000000]

Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

# One core: numpy's own kernels are single-threaded, linear algebra might not be.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import ShapeGrid
from suffice.hardware import load_hardware
from suffice.throughput.analytic import predict, predict_grid
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    shape = load_shape("meta-llama/Llama-3.2-1B")
    serving = Serving(hardware=load_hardware("a100-40gb"))
    workload = Workload.single(4096, 1024)
    grid = random_grid(arguments.shapes)
    runs = [timed(lambda: predict_grid(grid, serving, workload)) for _ in range(arguments.repeats)]
    whole_s, cpu_s = min(wall for wall, _ in runs), min(cpu for _, cpu in runs)
    single_s = min(timed(lambda: predict(shape, serving, workload))[0] for _ in range(100))
    print(
        json.dumps(
            {
                "shapes": arguments.shapes,
                "seconds": round(whole_s, 4),
                "cpu_seconds": round(cpu_s, 4),
                "microseconds_per_shape": round(whole_s / arguments.shapes * 1e6, 4),
                "shapes_per_s": round(arguments.shapes / whole_s),
                "one_shape_s": round(single_s, 6),
                "processor": platform.processor() or platform.machine(),
                "numpy": np.__version__,
            }
        )
    )


def random_grid(shapes: int) -> ShapeGrid:
    rng = np.random.default_rng(0)
    kv_heads = rng.integers(1, 17, shapes).astype(float)
    return ShapeGrid.like(
        load_shape("meta-llama/Llama-3.2-1B"),
        hidden_size=rng.integers(8, 64, shapes) * 64.0,
        intermediate_size=rng.integers(8, 128, shapes) * 128.0,
        num_attention_heads=kv_heads * rng.integers(1, 9, shapes),
        num_key_value_heads=kv_heads,
    )


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call; they differ where other processes share the core."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
