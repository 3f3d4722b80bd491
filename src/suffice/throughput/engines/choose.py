"""Engines by name; the torch engine is imported when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.core.errors import InputError, MissingExtra
from suffice.throughput.engines.machine import Clock
from suffice.throughput.engines.openai_engine import GuideLlm, OpenAIEngine
from suffice.throughput.engines.protocol import Engine
from suffice.throughput.engines.vllm_engine import VllmEngine
from suffice.throughput.engines.vllm_server import VllmServerEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What an engine can be told; each takes what concerns it."""

    dtype: str = "bf16"
    device: str | None = None
    kernels: str = "auto"
    threads: int | None = None
    clock: Clock = "wall"
    vllm_python: str | None = None
    server: bool = False
    url: str | None = None
    model: str | None = None
    tokenizer: str | None = None


def make_engine(name: str, options: EngineOptions) -> Engine:
    """The engine of that name; raises InputError or MissingExtra."""
    if options.threads is not None and options.threads < 1:
        raise InputError(f"--threads must be at least 1, got {options.threads}")
    if name == "torch":
        return _torch(options)
    if name == "vllm":
        engine = VllmEngine(
            python=options.vllm_python, dtype=options.dtype, threads=options.threads,
            clock=options.clock,
        )  # fmt: skip
        return _server(engine, options) if options.server else engine
    if name == "openai":
        load = GuideLlm(tokenizer=options.tokenizer)
        return OpenAIEngine(url=options.url, model=options.model, load=load)
    raise InputError(f"engine {name!r} is unknown; known: vllm, torch, openai")


def _server(engine: VllmEngine, options: EngineOptions) -> Engine:
    return VllmServerEngine(
        engine, GuideLlm(tokenizer=options.tokenizer), tokenizer=options.tokenizer
    )


def _torch(options: EngineOptions) -> Engine:
    try:
        from suffice.throughput.engines.torch_engine import (  # noqa: PLC0415
            KERNELS,
            TorchEngine,
        )
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra.of("torch", "torch", "the torch engine") from None
    kernels = next((known for known in KERNELS if known == options.kernels), None)
    if kernels is None:
        raise InputError(f"--kernels {options.kernels!r} is unknown; known: {', '.join(KERNELS)}")
    return TorchEngine(
        device=options.device, dtype=options.dtype, kernels=kernels, threads=options.threads,
        clock=options.clock,
    )  # fmt: skip
