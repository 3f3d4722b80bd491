"""The same point by aiconfigurator, where it is installed: another model of the same machines."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from suffice.architecture.model import Model
from suffice.core.errors import InputError, MissingExtra
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

SYSTEMS: Mapping[str, str] = {
    "a100-80gb": "a100_sxm",
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "l4": "l4",
    "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEstimate:
    """What aiconfigurator says of a replica at a batch: seconds, and output tokens per second."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


def peer_estimate(model: Model, serving: Serving, workload: Workload, batch: int) -> PeerEstimate:
    """aiconfigurator's estimate of one replica with `batch` requests in flight.

    Raises MissingExtra without aiconfigurator, InputError where it has no answer.
    """
    try:
        cli_estimate = import_module("aiconfigurator.cli.api").cli_estimate
    except ImportError:
        raise MissingExtra.of("aiconfigurator", "aiconfigurator", "--cross-check") from None
    system = SYSTEMS.get(serving.hardware.name)
    if system is None:
        raise InputError(f"aiconfigurator does not know {serving.hardware.name}")
    if model.name is None:
        raise InputError("aiconfigurator is asked by a model's name: this config has none")
    stage = serving.tensor_parallel * serving.data_parallel
    experts = {}
    if any(run.block.experts for run in model.runs):
        whole = serving.expert_parallel
        experts = {"moe_tp_size": 1 if whole else stage, "moe_ep_size": stage if whole else 1}
    logging.disable(logging.CRITICAL)
    try:
        found = cli_estimate(
            model_path=model.name,
            system_name=system,
            backend_name="vllm" if serving.engine == "generic" else serving.engine,
            database_mode="HYBRID",
            isl=round(workload.mean_input_tokens),
            osl=max(2, round(workload.mean_output_tokens)),
            prefix=round(workload.mean_input_tokens - workload.mean_computed_tokens),
            # Per attention replica.
            batch_size=max(1, round(batch / serving.data_parallel)),
            tp_size=serving.tensor_parallel,
            pp_size=serving.pipeline_parallel,
            attention_dp_size=serving.data_parallel,
            **experts,
        )
    # It raises whatever its tables lack, from KeyError to its own types; none of them is ours.
    except Exception as error:  # noqa: BLE001
        raise InputError(f"aiconfigurator has no answer: {str(error)[:200]}") from None
    finally:
        logging.disable(logging.NOTSET)
    return PeerEstimate(
        ttft_s=float(found.ttft) / 1e3,
        tpot_s=float(found.tpot) / 1e3,
        output_tokens_per_s=float(found.tokens_per_second),
    )
