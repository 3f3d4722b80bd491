"""The two ceilings of a device, measured: memory bandwidth and matrix rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from suffice.throughput.engines.protocol import Ceilings
from suffice.throughput.engines.timing import elapsed_s, synchronize

_Clock = Callable[[], float]


def measure_ceilings(
    device: torch.device, dtype: torch.dtype, *, clock: Callable[[], float] = time.perf_counter
) -> Ceilings:
    """Bytes per second of a large copy (read plus written) and FLOPs per second of a product.

    Random data: a product of zeros can run faster. Medians of 20 after 3 warm-ups on an
    accelerator, of 5 after 1 on a CPU.
    """
    accelerator = device.type == "cuda"
    return Ceilings(
        copy_bytes_per_s=_copy_rate(
            device, dtype, (4 << 30) if accelerator else (256 << 20), clock
        ),
        matmul_flops_per_s=_matmul_rate(device, dtype, 8192 if accelerator else 1024, clock),
        dtype=str(dtype).removeprefix("torch."),
    )


def _copy_rate(device: torch.device, dtype: torch.dtype, copied: int, clock: _Clock) -> float:
    source = torch.empty(copied // dtype.itemsize, dtype=dtype, device=device).normal_()
    target = torch.empty_like(source)
    return 2 * copied / _median_s(lambda: target.copy_(source), device, clock)


def _matmul_rate(device: torch.device, dtype: torch.dtype, size: int, clock: _Clock) -> float:
    a = torch.empty(size, size, dtype=dtype, device=device).normal_()
    b = torch.empty(size, size, dtype=dtype, device=device).normal_()
    out = torch.empty_like(a)
    return 2 * size**3 / _median_s(lambda: torch.mm(a, b, out=out), device, clock)


def _median_s(run: Callable[[], object], device: torch.device, clock: _Clock) -> float:
    repeats, warmups = (20, 3) if device.type == "cuda" else (5, 1)
    for _ in range(warmups):
        run()
    synchronize(device)
    return statistics.median(elapsed_s(run, device, clock) for _ in range(repeats))
