"""The ceilings of the CPU that this runs on, measured with numpy alone."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

COPY_BYTES = 256 * 2**20  # far beyond any last-level cache share of one core
MATRIX_SIZE = 1536


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuCeilings:
    """What all cores together reach: a lower bound on the machine's peaks."""

    cores: int
    memory_bytes: float
    memory_bytes_per_s: float
    fp32_flops: float

    def to_toml(self) -> str:
        """A hardware file for `load_hardware`, each number with its source."""
        how = "measured by `suffice hardware measure-cpu`"
        return f"""name = "this-cpu"
title = "{platform.machine()} CPU, {self.cores} cores"
kind = "cpu"
memory_bytes = {self.memory_bytes:.0f}
memory_bytes_per_s = {self.memory_bytes_per_s:.4g}
interconnect_bytes_per_s = 10e9
usd_per_hour = {0.05 * self.cores:.2f}

[peak_flops]
fp32 = {self.fp32_flops:.4g}
bf16 = {self.fp32_flops:.4g}    # widened to fp32 without AMX or AVX512-BF16; edit if yours has them
fp16 = {self.fp32_flops:.4g}

[sources]
memory_bytes = "physical memory that the operating system reports"
memory_bytes_per_s = "{how}: all cores copying, bytes read plus bytes written"
interconnect_bytes_per_s = "assumed"
peak_flops = "{how}: fp32 matrix product of size {MATRIX_SIZE}"
usd_per_hour = "assumed: $0.05 per core and hour; edit to your contract"
"""


def measure_cpu_ceilings(*, repeats: int = 5) -> CpuCeilings:
    """Best of `repeats` for a copy on all cores (bytes/s) and an fp32 matrix product (FLOP/s)."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    part = COPY_BYTES // cores // 4
    pairs = [
        (np.ones(part, dtype=np.float32), np.zeros(part, dtype=np.float32)) for _ in range(cores)
    ]
    with ThreadPoolExecutor(cores) as pool:
        copy_s = _best_s(
            lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)), repeats
        )
    rng = np.random.default_rng(0)
    matrix = rng.random((MATRIX_SIZE, MATRIX_SIZE), dtype=np.float32)
    product_s = _best_s(lambda: matrix @ matrix, repeats)
    return CpuCeilings(
        cores=cores,
        memory_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        memory_bytes_per_s=2.0 * 4.0 * part * cores / copy_s,
        fp32_flops=2.0 * MATRIX_SIZE**3 / product_s,
    )


def _best_s(run: Callable[[], object], repeats: int) -> float:
    run()  # touch the pages, start the threads
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
