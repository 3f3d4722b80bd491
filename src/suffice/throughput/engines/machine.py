"""What a measurement says about its machine: processor, driver, memory, and the clock to use."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from suffice.core.errors import InputError

# "cpu" counts the processor time of the measuring process: on a machine that others use too it
# leaves out the time in which they ran, which wall time cannot.
Clock = Literal["wall", "cpu"]


def clock_function(clock: Clock, *, threads: int | None, on_cpu: bool) -> Callable[[], float]:
    """The function that tells seconds; processor time needs exactly one thread on a CPU."""
    if clock == "wall":
        return time.perf_counter
    if clock != "cpu":
        raise InputError(f"clock {clock!r} is unknown; known: wall, cpu")
    if not on_cpu or threads != 1:
        raise InputError(
            "processor time equals wall time only for one thread on a CPU: add --threads 1, or "
            "use --clock wall"
        )
    return time.process_time


def processor_name() -> str:
    """The CPU's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def driver_version() -> str | None:
    """Version of the loaded GPU driver, None without one."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def available_memory_bytes() -> int | None:
    """Main memory that can be had without swapping, None where the system does not say."""
    return _memory("MemAvailable")


def total_memory_bytes() -> int | None:
    """All main memory, None where the system does not say."""
    return _memory("MemTotal")


def _memory(field: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
