"""The torch engine: a small measuring instrument for one device, with random weights.

A decode step is one captured graph with greedy sampling inside; it reads the KV length from the
device, so one graph serves every context. Shapes that are open together share one arena for their
KV caches: only one of them runs at a time, and no timing depends on the cached values.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from suffice.architecture.counts import parameter_counts
from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit, InputError, MeasurementError
from suffice.core.quantities import format_bytes
from suffice.throughput.ceilings import measure_ceilings
from suffice.throughput.engines import machine, torch_model
from suffice.throughput.engines.decode_run import CHUNK_TOKENS, DecodeRun, integrate, ladder
from suffice.throughput.engines.machine import Clock
from suffice.throughput.engines.protocol import (
    Ceilings,
    EngineName,
    Environment,
    Footprint,
    Lengths,
    Method,
    Timing,
)
from suffice.throughput.engines.timing import elapsed_s, synchronize
from suffice.throughput.engines.torch_model import KvCache, Model, TorchOps

Kernels = Literal["auto", "torch", "triton"]
KERNELS: tuple[Kernels, ...] = ("auto", "torch", "triton")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Left for the framework, its libraries' workspaces and fragmentation.
_RESERVE_BYTES = 2 << 30


class TorchEngine:
    """Runs Llama-like shapes on one device."""

    name: EngineName = "torch"

    def __init__(
        self,
        *,
        device: str | None = None,
        dtype: str = "bf16",
        kernels: Kernels = "auto",
        pdl: bool = True,
        seed: int = 0,
        rungs: int = 3,
        steps_per_rung: int = 16,
        full_decode: bool = False,
        threads: int | None = None,
        clock: Clock = "wall",
    ) -> None:
        self.device = _device(device)
        on_cpu = self.device.type == "cpu"
        self.clock = clock
        self.now = machine.clock_function(clock, threads=threads, on_cpu=on_cpu)
        if threads is not None and on_cpu:
            torch.set_num_threads(threads)
        if dtype not in DTYPES:
            raise InputError(
                f"dtype {dtype!r} is unknown; the torch engine has {', '.join(DTYPES)}"
            )
        self.dtype_name = dtype
        self.dtype = DTYPES[dtype]
        self.seed = seed
        self.rungs = rungs
        self.steps_per_rung = steps_per_rung
        self.full_decode = full_decode
        self.method: Method = "full" if full_decode else "ladder"
        self.ops = _operations(kernels, self.device, pdl=pdl)

    def environment(self) -> Environment:
        """Versions and device."""
        software = {"python": platform.python_version(), "torch": torch.__version__}
        if importlib.util.find_spec("triton") is not None:
            import triton  # noqa: PLC0415 - only where it is installed

            software["triton"] = triton.__version__
        software["kernels"] = type(self.ops).__name__
        if self.device.type != "cuda":
            return Environment(
                engine="torch", engine_version=torch.__version__, device=machine.processor_name(),
                driver=None,
                software=software | {"threads": str(torch.get_num_threads()), "clock": self.clock},
            )  # fmt: skip
        software["cuda"] = str(torch.version.cuda)
        software["pdl"] = str(getattr(self.ops, "pdl", False))
        return Environment(
            engine="torch", engine_version=torch.__version__,
            device=torch.cuda.get_device_name(self.device), driver=machine.driver_version(),
            software=software,
        )  # fmt: skip

    def ceilings(self) -> Ceilings:
        """Copy bandwidth and matrix rate of the device, measured now."""
        return measure_ceilings(self.device, self.dtype, clock=self.now)

    def open(
        self, shapes: Sequence[Shape], lengths: Lengths, batches: Sequence[int]
    ) -> OpenTorchSessions:
        """Load `shapes` together, with one arena for their caches."""
        for shape in shapes:
            torch_model.check_supported(shape)
        return OpenTorchSessions(self, shapes, lengths, batches)

    def free_bytes(self) -> int | None:
        """Bytes that can still be allocated, None where the system does not say."""
        if self.device.type != "cuda":
            return machine.available_memory_bytes()
        free, _ = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(free + cached - _RESERVE_BYTES)


class OpenTorchSessions:
    """Context in which shapes are loaded; leaving it frees their memory."""

    def __init__(
        self,
        engine: TorchEngine,
        shapes: Sequence[Shape],
        lengths: Lengths,
        batches: Sequence[int],
    ) -> None:
        self.engine, self.shapes, self.lengths, self.batches = engine, shapes, lengths, batches
        self.sessions: list[TorchSession] = []

    def __enter__(self) -> Sequence[TorchSession]:
        engine = self.engine
        try:
            self._check_weights()
            self.sessions = [TorchSession(engine, shape, self.lengths) for shape in self.shapes]
            arena = self._arena()
        except torch.OutOfMemoryError as error:
            self.__exit__()
            raise DoesNotFit(f"{self._names()} do not fit together: {_first_line(error)}") from None
        for session in self.sessions:
            session.arena = arena
        return self.sessions

    def __exit__(self, *details: object) -> None:
        for session in self.sessions:
            session.close()
        self.sessions = []
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()

    def _names(self) -> str:
        return ", ".join(shape.name or str(shape) for shape in self.shapes)

    def _check_weights(self) -> None:
        free = self.engine.free_bytes()
        if free is None:
            return
        needed = sum(_weight_bytes(shape, self.engine.dtype.itemsize) for shape in self.shapes)
        if needed > free:
            raise DoesNotFit(
                f"the weights of {self._names()} need {format_bytes(needed)}, "
                f"{format_bytes(needed - free)} more than the {format_bytes(free)} that are free"
            )

    def _arena(self) -> Tensor:
        """Memory for the largest cache that is asked for and fits; larger ones are refused."""
        engine, size = self.engine, self.engine.dtype.itemsize
        free = engine.free_bytes()
        sizes = [session.cache_bytes(batch) for session in self.sessions for batch in self.batches]
        fitting = [b for b in sizes if free is None or b <= free]
        arena = torch.empty(
            max(fitting, default=0) // size, dtype=engine.dtype, device=engine.device
        )
        # Random entries: zeros would hide wrong indexing and can run faster than data.
        generator = torch.Generator(device=engine.device).manual_seed(engine.seed)
        return arena.normal_(generator=generator)


class TorchSession:
    """One shape with its weights on the device."""

    def __init__(self, engine: TorchEngine, shape: Shape, lengths: Lengths) -> None:
        self.engine, self.shape, self.lengths = engine, shape, lengths
        self.capacity = lengths.input_tokens + lengths.output_tokens + engine.steps_per_rung
        weights = torch_model.random_weights(
            shape, device=engine.device, dtype=engine.dtype, seed=engine.seed
        )
        self.model: Model | None = torch_model.build_model(shape, weights, capacity=self.capacity)
        self.arena: Tensor | None = None
        self._runs: dict[int, DecodeRun] = {}
        self._chosen: dict[int, dict[str, str]] = {}

    def cache_bytes(self, batch: int) -> int:
        """Bytes of KV cache for `batch` sequences of the whole lengths."""
        return KvCache.bytes_for(self.shape, batch, self.capacity, self.engine.dtype.itemsize)

    def prepare(self, batch: int) -> Footprint:
        """Choose kernels, capture a step and warm up; raises DoesNotFit."""
        model, arena = self._loaded()
        self._check_fits(batch, arena)
        device = self.engine.device
        before = _allocated(device, reset_peak=True)
        cache = KvCache.view(arena, self.shape, batch, self.capacity)
        try:
            choose = getattr(self.engine.ops, "choose", None)
            context = int(self.lengths.mean_context)
            self._chosen[batch] = choose(model, cache, batch, context) if choose else {}
            if device.type == "cuda":
                # Graphs that were only timed leave their memory cached for nobody.
                torch.cuda.empty_cache()
            run = DecodeRun(self.engine, model, cache, batch)
            run.prefill(min(batch, self._together()), self.lengths.input_tokens)
            run.seek(self.lengths.input_tokens)
            run.steps(3)
        except torch.OutOfMemoryError as error:
            raise self._does_not_fit(batch, arena, _first_line(error)) from None
        self._runs = {batch: run}
        return Footprint(
            weight_bytes=model.weights.bytes,
            kv_cache_bytes=self.cache_bytes(batch),
            workspace_bytes=max(0, _peak(device) - before),
        )

    def measure(self, batch: int, *, prefill: bool) -> Timing:
        """One repeat: the prefill of the batch, then a ladder of decode steps or all of them."""
        run = self.run(batch)
        lengths, device = self.lengths, self.engine.device
        ttft_s = None
        if prefill:
            ttft_s = elapsed_s(
                lambda: run.prefill(batch, lengths.input_tokens), device, self.engine.now
            )
        if self.engine.full_decode:
            run.seek(lengths.input_tokens)
            synchronize(device)
            decode_s = elapsed_s(lambda: run.steps(lengths.steps), device, self.engine.now)
            return Timing(ttft_s=ttft_s, decode_s=decode_s, method="full")
        contexts = ladder(lengths, self.engine.rungs)
        step_s = [self._rung_s(run, context) for context in contexts]
        decode_s = integrate(contexts, step_s, lengths)
        return Timing(
            ttft_s=ttft_s, decode_s=decode_s, method="ladder",
            contexts=tuple(contexts), step_s=tuple(step_s),
        )  # fmt: skip

    def run(self, batch: int) -> DecodeRun:
        """The batch that `prepare` made ready."""
        if batch not in self._runs:
            raise MeasurementError(f"batch {batch} was not prepared")
        return self._runs[batch]

    def describe(self, batch: int) -> dict[str, str]:
        """Kernels that were chosen for this batch size."""
        return self._chosen.get(batch, {})

    def close(self) -> None:
        """Free everything that the session holds."""
        self._runs, self.model, self.arena = {}, None, None

    def _rung_s(self, run: DecodeRun, context: int) -> float:
        """Mean seconds of a step around `context`: the KV length grows by one with every step."""
        count = self.engine.steps_per_rung
        run.seek(max(0, context - count // 2))
        run.steps(1)
        synchronize(self.engine.device)
        return elapsed_s(lambda: run.steps(count), self.engine.device, self.engine.now) / count

    def _loaded(self) -> tuple[Model, Tensor]:
        if self.model is None or self.arena is None:
            raise MeasurementError(f"{self.shape.name or self.shape} is closed")
        return self.model, self.arena

    def _together(self) -> int:
        return max(1, CHUNK_TOKENS // self.lengths.input_tokens)

    def _check_fits(self, batch: int, arena: Tensor) -> None:
        if self.cache_bytes(batch) > arena.numel() * arena.element_size():
            raise self._does_not_fit(batch, arena, None)

    def _does_not_fit(self, batch: int, arena: Tensor, reason: str | None) -> DoesNotFit:
        room = arena.numel() * arena.element_size() + (self.engine.free_bytes() or 0)
        needed = self.cache_bytes(batch)
        fits = min(batch - 1, room // self.cache_bytes(1))
        by = f"needs {format_bytes(needed)} of KV cache"
        by += f", {format_bytes(needed - room)} too much" if needed > room else ""
        tail = f" ({reason})" if reason else ""
        return DoesNotFit(
            f"{self.shape.name or self.shape} at batch {batch} {by}; "
            + (f"batch {fits} fits{tail}" if fits else f"not even batch 1 fits{tail}")
        )


def _operations(kernels: Kernels, device: torch.device, *, pdl: bool) -> TorchOps:
    available = importlib.util.find_spec("triton") is not None
    wanted = kernels == "triton" or (kernels == "auto" and device.type == "cuda" and available)
    if not wanted:
        return TorchOps()
    if not available:
        raise InputError("the triton package is not installed: use --kernels torch, or install it")
    from suffice.throughput.engines.triton_ops import TritonOps  # noqa: PLC0415

    if device.type != "cuda":
        return TritonOps(pdl=False, units=1)
    hopper = torch.cuda.get_device_capability(device) >= (9, 0)
    units = torch.cuda.get_device_properties(device).multi_processor_count
    return TritonOps(pdl=pdl and hopper, units=units)


def _device(name: str | None) -> torch.device:
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            "no GPU is visible to torch: use --device cpu, or install a CUDA build and a driver"
        )
    return torch.device(chosen)


def _weight_bytes(shape: Shape, element_bytes: int) -> int:
    return parameter_counts(shape).total * element_bytes


def _allocated(device: torch.device, *, reset_peak: bool) -> int:
    if device.type != "cuda":
        return 0
    if reset_peak:
        torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def _peak(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
