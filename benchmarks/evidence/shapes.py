"""Predicted speeds of the published shapes: where 42 % comes from, and what it leaves out.

    python benchmarks/evidence/shapes.py --out shapes.json

Ratios to LLaMA-3.2 of the same size, decode and prefill together, 4,096 tokens in and 1,024 out, by
batch, from suffice's calibrated predictor (docs/throughput.md: 7.5 % off on dense rows that no
constant was fitted to). `memory`: how many samples of a 1B model cost as much as one of an 8B
model, by FLOPs and by predicted GPU-seconds (arXiv:2506.05333). Nothing here is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import decode_flops
from suffice.core.files import write_json
from suffice.hardware import load_hardware
from suffice.throughput.analytic import predict
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

BATCHES = (1, 16, 64, 128)
MACHINES = ("a100-40gb", "h100", "h200", "b200")
SIZES = {"1b": "meta-llama/Llama-3.2-1B", "3b": "meta-llama/Llama-3.2-3B"}
SMALL, LARGE = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B"
LENGTHS = (1024, 8192, 32768)


def speed(name: str, machine: str, batch: int) -> float:
    """Output tokens per second."""
    serving = Serving(hardware=load_hardware(machine), engine="sglang")
    found = predict(load_shape(name), serving, Workload.single(4096, 1024), batch=batch)
    return float(found.output_tokens_per_s)


def ratios(machine: str) -> dict[str, Any]:
    """Surefire and Panda against LLaMA-3.2, by size and batch."""
    return {
        size: {
            shape: {
                str(batch): round(
                    speed(f"bian2025/{shape}-{size}", machine, batch)
                    / speed(reference, machine, batch), 4,
                )
                for batch in BATCHES
            }
            for shape in ("surefire", "panda")
        }
        for size, reference in SIZES.items()
    }  # fmt: skip


def memory(length: int) -> dict[str, float]:
    """Samples of the small model for one of the large one: by FLOPs, and by time on an H100.

    Each generates `length` tokens after 512; batches are as large as memory allows, at most 256.
    """
    serving = Serving(hardware=load_hardware("h100"), engine="vllm")
    requests = Workload.single(512, length)
    seconds, flops = {}, {}
    for name in (SMALL, LARGE):
        found = predict(load_shape(name), serving, requests, batch=None)
        seconds[name] = length / found.output_tokens_per_s
        # A token of the middle of the answer; 2 FLOPs a multiply-add, attention scores included.
        flops[name] = float(
            decode_flops(load_shape(name), 512 + length // 2, "matmul", lm_head=True)
        )
    return {
        "by_flops": round(flops[LARGE] / flops[SMALL], 3),
        "by_seconds": round(seconds[LARGE] / seconds[SMALL], 3),
        "share_left": round((seconds[LARGE] / seconds[SMALL]) / (flops[LARGE] / flops[SMALL]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: dict[str, Any] = {machine: ratios(machine) for machine in MACHINES}
    found["least_1b"] = min(
        value for machine in MACHINES for value in found[machine]["1b"]["surefire"].values()
    )
    found["most_panda"] = max(
        value
        for machine in MACHINES
        for size in SIZES
        for value in found[machine][size]["panda"].values()
    )
    found["memory"] = {str(length): memory(length) for length in LENGTHS}
    write_json(given.out, found)


if __name__ == "__main__":
    main()
