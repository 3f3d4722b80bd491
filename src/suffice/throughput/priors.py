"""What fits of utilisation coefficients share: priors, and errors that outliers do not rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray
from suffice.throughput.formulas import Scenario

ROBUST_SCALE = 0.1


class Prior(NamedTuple):
    """A coefficient's prior: value, bounds, and standard deviation of its logarithm."""

    value: float
    lowest: float
    highest: float
    deviation: float


DEVICE_PRIORS: Mapping[str, Prior] = {
    "gemm": Prior(0.65, 0.2, 0.95, 0.3),
    "gemm_8bit": Prior(0.6, 0.2, 0.95, 0.3),
    "gemm_8bit_block": Prior(0.5, 0.1, 0.95, 0.3),
    "gemm_4bit": Prior(0.5, 0.1, 0.95, 0.3),
    "weight_bandwidth": Prior(0.85, 0.4, 0.95, 0.1),
    "expert_bandwidth": Prior(0.7, 0.2, 0.95, 0.3),
    "kv_bandwidth": Prior(0.8, 0.2, 0.95, 0.05),
    "attention": Prior(0.5, 0.1, 0.9, 0.3),
    "interconnect": Prior(0.6, 0.1, 0.95, 0.3),
    "exchange": Prior(0.5, 0.1, 0.95, 0.3),
    "overlap": Prior(0.2, 0.01, 1.0, 0.7),
    "ramp_tokens": Prior(32.0, 1.0, 1000.0, 0.7),
    "expert_spread": Prior(0.7, 0.1, 1.0, 0.3),
    "layer_s": Prior(30e-6, 0.5e-6, 200e-6, 0.5),
    "expert_layer_s": Prior(20e-6, 0.5e-6, 200e-6, 0.5),
    "recurrent_layer_s": Prior(20e-6, 0.5e-6, 200e-6, 0.5),
    "latent_layer_s": Prior(20e-6, 0.5e-6, 200e-6, 0.5),
    "block_layer_s": Prior(10e-6, 0.5e-6, 200e-6, 0.5),
    "expert_gemm": Prior(0.6, 0.1, 1.0, 0.3),
    "layer_token_s": Prior(1e-7, 1e-9, 5e-6, 1.0),
    "all_reduce_s": Prior(6e-6, 1e-6, 60e-6, 0.5),
}


class Predicted(NamedTuple):
    """Predicted times of a table's points, in seconds, and output tokens per second."""

    ttft_s: FloatArray
    tpot_s: FloatArray
    output_tokens_per_s: FloatArray


def stacked_scenarios(scenarios: Sequence[Scenario]) -> Scenario:
    """Scenarios of one model each as one of many rows."""
    values: dict[str, Any] = {
        f.name: np.array([float(getattr(s, f.name)) for s in scenarios])
        for f in fields(Scenario)
        if f.name != "tiles"
    }
    return Scenario(tiles=scenarios[0].tiles, **values)


def selected_scenario(s: Scenario, chosen: NDArray[np.bool_]) -> Scenario:
    """The rows where `chosen` is true."""
    values: dict[str, Any] = {
        f.name: getattr(s, f.name)[chosen] for f in fields(Scenario) if f.name != "tiles"
    }
    return Scenario(tiles=s.tiles, **values)


def softened(errors: FloatArray) -> FloatArray:
    """Signed roots of a loss that is quadratic for small errors and linear for large ones."""
    scaled = errors / ROBUST_SCALE
    found: FloatArray = ROBUST_SCALE * np.sign(errors)
    found *= np.sqrt(2.0 * (np.sqrt(1.0 + scaled**2) - 1.0))
    return found


def absolute_errors(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    """|predicted / measured - 1|, per point."""
    errors: FloatArray = np.abs(predicted / measured - 1.0)
    return errors
