"""What a design run is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from suffice.architecture.counts import KvDtype, WeightDtype
from suffice.architecture.laws import ConditionalLaw
from suffice.architecture.search import OBJECTIVES, Objective
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.hardware import Hardware
from suffice.throughput.engine_traits import EngineName
from suffice.throughput.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignConfig:
    """One right-sizing question: which shape of `like`'s size serves this workload best?

    `tokens` is the training budget. The loss target is the reference's own loss times
    (1 + `loss_slack`), or `max_loss` in nats; it is to hold with probability `confidence`.
    `law` None takes the law fitted nearest to the size: our ladder's in its range, else a
    published one. `reference_loss` anchors the
    absolute level; without it a published one is used, else a Chinchilla estimate that is marked
    as such. `batch` None keeps as many sequences in flight as fit, up to `max_batch`. Ranges left
    None stay where the evidence is; `extrapolate` lets law and ranges go beyond it, with notes.
    """

    like: str | Shape
    tokens: float
    hardware: str | Hardware = "a100-40gb"
    input_tokens: int = 4096
    output_tokens: int = 1024
    workload: Workload | None = None
    objective: Objective = "throughput"
    confidence: float = 0.9
    loss_slack: float = 0.0
    max_loss: float | None = None
    law: str | ConditionalLaw | None = None
    reference_loss: float | None = None
    batch: int | None = None
    max_batch: int = 256
    weight_dtype: WeightDtype = "bf16"
    kv_dtype: KvDtype = "bf16"
    tensor_parallel: int = 1
    engine: EngineName = "generic"
    parameters: float | None = None
    parameter_tolerance: float = 0.01
    hidden_multiple: int | None = None
    mlp_multiple: int | None = None
    x_range: tuple[float, float] | None = None
    r_range: tuple[float, float] | None = None
    gqa_range: tuple[int, int] | None = None
    attention_width_range: tuple[float, float] | None = None
    key_value_multiple: int | None = None
    head_dims: tuple[int, ...] | None = None
    depths: tuple[int, ...] | None = None
    extrapolate: bool = False
    num_runners_up: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, int | float):
            raise InputError(
                f"tokens must be a number, e.g. 100e9, got {self.tokens!r} "
                '(suffice.core.quantities.parse_count reads "100B")'
            )
        if not (math.isfinite(self.tokens) and 1e6 <= self.tokens <= 1e15):
            raise InputError(
                f"training tokens must lie between 1M and 1000T, got {self.tokens:g} (--tokens "
                "100B is a hundred billion)"
            )
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective {self.objective!r} must be one of {', '.join(OBJECTIVES)}")
        if not -0.5 < self.loss_slack < 0.5:
            raise InputError(f"the loss slack is relative, e.g. 0.001; got {self.loss_slack}")
        for name in ("max_loss", "reference_loss", "parameters"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be positive, got {value}")
        if self.num_runners_up < 0:
            raise InputError(f"num_runners_up must not be negative, got {self.num_runners_up}")

    @property
    def requests(self) -> Workload:
        """The workload, from a mix or from the two lengths."""
        return self.workload or Workload.single(self.input_tokens, self.output_tokens)
