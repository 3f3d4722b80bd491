"""What an engine must do to be measured, and what it reports.

An engine opens several shapes at once, so that they can be timed in turn (A B A B): a ratio of two
shapes then holds even where the machine's speed drifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.throughput.engines.machine import Clock

EngineName = Literal["torch", "vllm", "openai"]
# "ladder": single steps timed at several KV lengths, summed over all steps by interpolation.
# "full": every step of the generation was run and timed. "requests": an engine served requests.
Method = Literal["ladder", "full", "requests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Every sequence of a batch: a prompt, and tokens to generate for it."""

    input_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if self.input_tokens < 1 or self.output_tokens < 2:
            raise InputError(
                "a generation needs at least 1 input token and 2 output tokens (the first comes "
                f"from the prefill), got {self.input_tokens} and {self.output_tokens}"
            )

    @property
    def steps(self) -> int:
        """Decode steps after the first token."""
        return self.output_tokens - 1

    @property
    def mean_context(self) -> float:
        """Mean KV length that a decode step attends to, its own token included."""
        return self.input_tokens + 1 + (self.steps - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One repeat of one shape at one batch size.

    `ttft_s` is the prefill of the whole batch up to its first tokens. `decode_s` covers the
    remaining `output_tokens - 1` steps, so TPOT = decode_s / (output_tokens - 1), the first token
    left out. `contexts` and `step_s` are the steps that a ladder timed: KV entries cached before
    the step, and its seconds.
    """

    ttft_s: float | None
    decode_s: float
    method: Method
    contexts: tuple[int, ...] = ()
    step_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes of device memory that one shape takes at one batch size."""

    weight_bytes: int
    kv_cache_bytes: int
    workspace_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where and with what a measurement was taken."""

    engine: EngineName
    engine_version: str
    device: str
    driver: str | None
    software: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What the device does at best, measured: a large copy and a large matrix product."""

    copy_bytes_per_s: float
    matmul_flops_per_s: float
    dtype: str


class Session(Protocol):
    """One shape, loaded."""

    shape: Shape

    def prepare(self, batch: int) -> Footprint | None:
        """Get ready for `batch` sequences and warm up; raises DoesNotFit."""

    def measure(self, batch: int, *, prefill: bool) -> Timing:
        """One repeat. Without `prefill`, an engine that can skip it does."""

    def describe(self, batch: int) -> dict[str, str]:
        """What was chosen for this batch size, for the record."""


class Engine(Protocol):
    """Anything that can run shapes with random weights."""

    name: EngineName
    method: Method
    clock: Clock

    def environment(self) -> Environment:
        """Versions and device."""

    def ceilings(self) -> Ceilings | None:
        """The device's measured ceilings, None if the engine cannot know them."""

    def open(
        self, shapes: Sequence[Shape], lengths: Lengths, batches: Sequence[int]
    ) -> AbstractContextManager[Sequence[Session]]:
        """Load `shapes` together; leaving the context releases them.

        Raises UnsupportedModel, DoesNotFit or MissingExtra.
        """
