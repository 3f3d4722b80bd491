"""Predicted tokens per second of Surefire over LLaMA-3.2 on an H200, by batch.

    python benchmarks/design/surefire.py

arXiv:2510.18245 publishes 8,608.57 and 12,645.55 tokens/s at 1B (1.469x), 4,183.09 and 4,877.16 at
3B (1.166x), SGLang, 4,096 tokens in and 1,024 out; it does not state the batch.
"""

from __future__ import annotations

from suffice.architecture.catalog import load_shape
from suffice.hardware import load_hardware
from suffice.throughput.analytic import predict
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload

PAIRS = {
    "1B": ("meta-llama/Llama-3.2-1B", "bian2025/surefire-1b", 1.469),
    "3B": ("meta-llama/Llama-3.2-3B", "bian2025/surefire-3b", 1.166),
}
BATCHES = (16, 32, 64, 128, 256)


def main() -> None:
    serving = Serving(hardware=load_hardware("h200"), engine="sglang")
    requests = Workload.single(4096, 1024)
    for size, (reference, surefire, published) in PAIRS.items():
        for batch in BATCHES:
            speeds = [
                predict(load_shape(name), serving, requests, batch=batch).output_tokens_per_s
                for name in (reference, surefire)
            ]
            print(
                f"{size} batch {batch}: {speeds[0]:.0f} -> {speeds[1]:.0f} tokens/s, "
                f"{speeds[1] / speeds[0]:.3f}x (published {published}x)"
            )


if __name__ == "__main__":
    main()
