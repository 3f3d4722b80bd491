"""The vLLM engine: one worker process per shape, random weights, nothing downloaded.

Prefill and decode are timed apart: prompts that no cache holds, up to the first token of each;
then the same prompts, which vLLM's prefix cache now holds, so that all sequences decode together.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suffice.architecture.counts import kv_cache_bytes_per_token, parameter_counts
from suffice.architecture.hf_config import config_from_shape
from suffice.architecture.shape import Shape
from suffice.core.errors import (
    DoesNotFit,
    InputError,
    UnsupportedModel,
)
from suffice.core.files import write_json
from suffice.core.quantities import format_bytes
from suffice.throughput.engines import machine, vllm_worker
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
from suffice.throughput.engines.vllm_process import VllmFailed, WorkerProcess

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
_VALUE_BYTES = {"bf16": 2, "fp32": 4}
# Import and buffers of one worker besides weights and cache, about; a GPU's context is as large.
_WORKER_BYTES = 1_200_000_000
# The largest block that any vLLM backend chooses by itself for a dense model.
_BLOCK_TOKENS = 128


class VllmEngine:
    """Runs any shape that vLLM has a model for, on a GPU or a CPU."""

    name: EngineName = "vllm"
    method: Method = "full"

    def __init__(
        self,
        *,
        python: str | None = None,
        dtype: str = "bf16",
        threads: int | None = None,
        clock: Clock = "wall",
        seed: int = 0,
        max_batched_tokens: int = 2048,
        eager: bool | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r} is unknown; vllm runs {', '.join(DTYPES)} here")
        self.python = python or os.environ.get("SUFFICE_VLLM_PYTHON") or sys.executable
        self.dtype_name, self.threads, self.clock, self.seed = dtype, threads, clock, seed
        self.max_batched_tokens, self.eager = max_batched_tokens, eager
        self._found: Mapping[str, Any] | None = None

    def probe(self) -> Mapping[str, Any]:
        """Versions and device that the worker's interpreter sees; raises MissingExtra."""
        if self._found is None:
            with contextlib.closing(WorkerProcess(self, {})) as worker:
                self._found = worker.ask({"op": "probe"})
            machine.clock_function(self.clock, threads=self.threads, on_cpu=self.on_cpu)
        return self._found

    @property
    def on_cpu(self) -> bool:
        """Whether the worker's interpreter sees no GPU."""
        return "gpu" not in self.probe()

    def environment(self) -> Environment:
        """Versions and device."""
        found = self.probe()
        software = {key: str(found[key]) for key in ("python", "torch", "cuda") if key in found}
        software |= {"clock": self.clock, "max_batched_tokens": str(self.max_batched_tokens)}
        if self.on_cpu:
            software["threads"] = str(self.threads or "all")
        return Environment(
            engine="vllm", engine_version=str(found["vllm"]),
            device=machine.processor_name() if self.on_cpu else str(found["gpu"]),
            driver=None if self.on_cpu else machine.driver_version(), software=software,
        )  # fmt: skip

    def ceilings(self) -> Ceilings | None:
        """Measured by torch where this interpreter has it, None otherwise."""
        try:
            import torch  # noqa: PLC0415
        except ImportError:
            return None
        from suffice.throughput.ceilings import measure_ceilings  # noqa: PLC0415

        if not self.on_cpu and not torch.cuda.is_available():
            return None
        if self.on_cpu and self.threads:
            torch.set_num_threads(self.threads)
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[self.dtype_name]
        device = torch.device("cpu" if self.on_cpu else "cuda")
        found = measure_ceilings(
            device, dtype,
            clock=machine.clock_function(self.clock, threads=self.threads, on_cpu=self.on_cpu),
        )  # fmt: skip
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return found

    def open(
        self, shapes: Sequence[Shape], lengths: Lengths, batches: Sequence[int]
    ) -> OpenVllmSessions:
        """One worker per shape, all of them loaded; only one is asked to run at a time."""
        return OpenVllmSessions(self, shapes, lengths, batches)

    def free_bytes(self) -> int | None:
        """Memory that weights and caches may take."""
        if self.on_cpu:
            return machine.available_memory_bytes()
        return int(self.probe()["free_bytes"])

    def arguments(self, shape: Shape, lengths: Lengths, batch: int) -> dict[str, Any]:
        """vLLM's own arguments: room for `batch` sequences of the whole lengths, and no more."""
        eager = self.on_cpu if self.eager is None else self.eager
        return {
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "dtype": DTYPES[self.dtype_name],
            "max_model_len": sequence_tokens(lengths),
            "max_num_seqs": batch,
            "max_num_batched_tokens": max(self.max_batched_tokens, batch),
            "enable_chunked_prefill": True,
            "enable_prefix_caching": True,
            "enforce_eager": eager,
            "kv_cache_memory_bytes": self.cache_bytes(shape, lengths, batch),
            "disable_log_stats": True,
            "seed": self.seed,
        }

    def cache_bytes(self, shape: Shape, lengths: Lengths, batch: int) -> int:
        """Bytes of KV cache for `batch` sequences, whole blocks, and two blocks for vLLM itself."""
        size = _VALUE_BYTES[self.dtype_name] / 2
        blocks = batch * -(-sequence_tokens(lengths) // _BLOCK_TOKENS) + 2
        return int(size * float(kv_cache_bytes_per_token(shape, "bf16")) * blocks * _BLOCK_TOKENS)

    def weight_bytes(self, shape: Shape) -> int:
        """Bytes of all parameters."""
        return parameter_counts(shape).total * _VALUE_BYTES[self.dtype_name]

    def process_environment(self) -> dict[str, str]:
        """Environment of a worker: the engine in its process, no network, threads as asked."""
        settings = {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
        }
        if self.threads:
            settings["OMP_NUM_THREADS"] = str(self.threads)
        inherited = {k: v for k, v in os.environ.items() if k != "VLLM_CPU_KVCACHE_SPACE"}
        return {**inherited, **settings}


def sequence_tokens(lengths: Lengths) -> int:
    """Tokens that one sequence may come to hold while it is measured."""
    return lengths.input_tokens + lengths.output_tokens + vllm_worker.SPARE_TOKENS


def write_config(folder: Path, shape: Shape, lengths: Lengths) -> None:
    """A model folder with nothing but the config that vLLM needs to build `shape`."""
    folder.mkdir()
    config = config_from_shape(shape)
    # Scaling of rotary positions has limits of its own and does not change the cost.
    config.pop("rope_scaling", None)
    config["max_position_embeddings"] = max(
        2 * sequence_tokens(lengths), int(config.get("max_position_embeddings") or 0)
    )
    write_json(folder / "config.json", config)


class OpenVllmSessions:
    """Workers that are loaded together; leaving the context ends them."""

    def __init__(
        self,
        engine: VllmEngine,
        shapes: Sequence[Shape],
        lengths: Lengths,
        batches: Sequence[int],
    ) -> None:
        self.engine, self.shapes, self.lengths, self.batches = engine, shapes, lengths, batches
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Sequence[VllmSession]:
        batch = self._fitting_batch()
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="suffice-vllm-")))
            sessions = [
                self._session(stack, shape, folder / str(index), batch)
                for index, shape in enumerate(self.shapes)
            ]
            self._stack = stack.pop_all()
        return sessions

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def _session(
        self, stack: contextlib.ExitStack, shape: Shape, folder: Path, batch: int
    ) -> VllmSession:
        write_config(folder, shape, self.lengths)
        worker = stack.enter_context(contextlib.closing(WorkerProcess(self.engine, {})))
        arguments = self.engine.arguments(shape, self.lengths, batch)
        try:
            worker.ask({"op": "load", "model": str(folder), "arguments": arguments})
        except VllmFailed as error:
            if error.unsupported:
                raise UnsupportedModel(
                    f"vLLM does not run {shape}: {error}; `--engine torch` may"
                ) from None
            raise
        return VllmSession(self.engine, worker, shape, self.lengths, batch)

    def _fitting_batch(self) -> int:
        """The largest of the batches that fits beside all weights; sessions refuse larger ones."""
        engine, free = self.engine, self.engine.free_bytes()
        if free is None:
            return max(self.batches)
        fixed = sum(engine.weight_bytes(shape) + _WORKER_BYTES for shape in self.shapes)
        room = free - fixed
        for batch in sorted(self.batches, reverse=True):
            if self._caches(batch) <= room:
                return batch
        names = ", ".join(shape.name or str(shape) for shape in self.shapes)
        least = min(self.batches)
        needed = fixed + self._caches(least)
        none = self._caches(0)
        fits = max(0, (room - none) // (self._caches(1) - none))
        raise DoesNotFit(
            f"{names} at batch {least} need {format_bytes(needed)}, {format_bytes(needed - free)} "
            f"more than the {format_bytes(free)} that are free; "
            + (f"batch {fits} fits" if fits else "not even batch 1 fits")
        )

    def _caches(self, batch: int) -> int:
        engine, lengths = self.engine, self.lengths
        return sum(engine.cache_bytes(shape, lengths, batch) for shape in self.shapes)


class VllmSession:
    """One loaded shape."""

    def __init__(
        self, engine: VllmEngine, worker: WorkerProcess, shape: Shape, lengths: Lengths, limit: int
    ) -> None:
        self.engine, self.worker, self.shape, self.lengths = engine, worker, shape, lengths
        self.limit = limit
        self._prompts = 0

    def prepare(self, batch: int) -> Footprint:
        """Warm up with one sequence; raises DoesNotFit beyond what was made room for."""
        if batch > self.limit:
            needed = self.engine.cache_bytes(self.shape, self.lengths, batch)
            held = self.engine.cache_bytes(self.shape, self.lengths, self.limit)
            raise DoesNotFit(
                f"{self.shape.name or self.shape} at batch {batch} needs {format_bytes(needed)} of "
                f"KV cache, {format_bytes(needed - held)} too much; batch {self.limit} fits"
            )
        self._prefill(1)
        self._decode(3)
        return Footprint(
            weight_bytes=self.engine.weight_bytes(self.shape),
            kv_cache_bytes=self.engine.cache_bytes(self.shape, self.lengths, batch),
            workspace_bytes=0,
        )

    def measure(self, batch: int, *, prefill: bool) -> Timing:
        """One repeat; without `prefill` the prompts of the repeat before are decoded again."""
        timed = self._prefill(batch) if prefill or self._prompts != batch else None
        decoded = self._decode(self.lengths.output_tokens)
        steps, first = decoded["step_s"], self.lengths.input_tokens
        exact = len(steps) == self.lengths.steps
        return Timing(
            ttft_s=timed if prefill else None,
            decode_s=float(decoded["decode_s"]),
            method="full",
            contexts=tuple(range(first, first + len(steps))) if exact else (),
            step_s=tuple(steps) if exact else (),
        )

    def describe(self, batch: int) -> dict[str, str]:
        """vLLM chooses its kernels itself."""
        return {}

    def _prefill(self, batch: int) -> float:
        request = {"op": "prefill", "batch": batch, "input_tokens": self.lengths.input_tokens}
        seconds = float(self.worker.ask(request)["ttft_s"])
        self._prompts = batch
        return seconds

    def _decode(self, tokens: int) -> Mapping[str, Any]:
        return self.worker.ask({"op": "decode", "output_tokens": tokens})
