"""Models that were measured on a machine under an engine, and how far the formulas are off."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from suffice.architecture.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPair:
    """Factors on the formulas' times for one model on one machine under one engine.

    `decode` multiplies a decode step, `prefill` the products and attention of a prompt, `wait` the
    time that a request waits for others where a fixed number is in flight. Fitted to measured
    points of the fitting side with a normal prior of its logarithm around 0 (docs/throughput.md),
    so a factor from few points stays close to 1.
    """

    model: str
    layers: int
    hidden_size: int
    vocab_size: int
    hardware: str
    engine: str
    decode: float
    prefill: float
    wait: float


def measured_pair(model: Model, hardware: str, engine: str) -> MeasuredPair | None:
    """The factors of a model of this size on this machine under this engine, if there are any."""
    key = (model.layers, model.hidden_size, model.vocab_size, hardware, engine)
    return _pairs().get(key)


@cache
def _pairs() -> dict[tuple[int, int, int, str, str], MeasuredPair]:
    text = files("suffice.throughput").joinpath("data/measured_pairs.json").read_text("utf-8")
    records: dict[str, Any] = json.loads(text)
    pairs = [MeasuredPair(**record) for record in records["pairs"]]
    return {(p.layers, p.hidden_size, p.vocab_size, p.hardware, p.engine): p for p in pairs}
