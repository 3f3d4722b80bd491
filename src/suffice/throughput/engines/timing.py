"""Timing of device work: captured graphs, device events, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def _side_stream() -> torch.cuda.Stream:
    """One stream for all captures: memory that is cached for one stream serves no other."""
    return torch.cuda.Stream()


def capture(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """`run` as one graph, after one run outside it that compiles and allocates."""
    side = _side_stream()
    side.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(side):
        run()
        # torch.cuda.graph would also collect garbage and empty caches: 50 ms per capture.
        torch.cuda.synchronize()
        graph.capture_begin()
        run()
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(side)
    return graph


def replay_s(run: Callable[[], object], device: torch.device, *, replays: int) -> float:
    """Median seconds of `run`, as a replayed graph on an accelerator; the first left out."""
    again: Callable[[], object] = capture(run).replay if device.type == "cuda" else run
    again()
    return statistics.median(elapsed_s(again, device) for _ in range(replays))


def elapsed_s(
    run: Callable[[], object],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds that the device spends on `run`, by events; by `clock` on a CPU."""
    if device.type != "cuda":
        began = clock()
        run()
        return clock() - began
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
