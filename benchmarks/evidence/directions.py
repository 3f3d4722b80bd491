"""Measured speeds of shapes: do larger d, r and GQA help, and do the published shapes at any load?

    python benchmarks/evidence/directions.py --out directions.json

results/measure: shapes of one size and depth on one thread of a CPU under vLLM, decode tokens/s by
the least disturbed step. Spearman's rho of speed with the axis over five shapes (four for GQA).
`published`: Surefire-1B and Panda-1B over LLaMA-3.2-1B, all widths divided by 4, by batch.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from suffice.architecture.counts import mlp_to_attention_ratio
from suffice.architecture.hf_config import shape_from_config
from suffice.core.files import write_json

AXES = {
    "d": lambda shape: shape.hidden_size,
    "r": mlp_to_attention_ratio,
    "gqa": lambda shape: shape.num_attention_heads / shape.num_key_value_heads,
}


LLAMA = "meta-llama/Llama-3.2-1B / 4"


def speeds(path: Path) -> dict[tuple[str, int], float]:
    """Decode tokens/s of the least disturbed step, by shape (its config as text) and batch."""
    best: dict[tuple[str, int], float] = defaultdict(float)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["record"] == "sample":
            key = json.dumps(row["config"], sort_keys=True), row["batch"]
            best[key] = max(best[key], row["batch"] / min(row["step_s"]))
    return best


def of_axis(folder: Path, axis: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    measured = speeds(folder / f"cpu-vllm-{axis}.jsonl")
    for batch in sorted({batch for _, batch in measured}):
        points = sorted(
            (float(AXES[axis](shape_from_config(json.loads(config)))), speed)
            for (config, b), speed in measured.items()
            if b == batch
        )
        rho = spearmanr([x for x, _ in points], [y for _, y in points]).statistic
        found[str(batch)] = {"rho": round(float(rho), 4), "n": len(points),
                             "most_over_least": round(points[-1][1] / points[0][1], 4)}  # fmt: skip
    return found


def published(path: Path) -> dict[str, Any]:
    """Ratios to LLaMA of the same run, by shape and batch."""
    best: dict[tuple[str, int], float] = defaultdict(float)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["record"] == "sample":
            key = row["name"], row["batch"]
            best[key] = max(best[key], row["batch"] / min(row["step_s"]))
    return {
        shape: {
            str(batch): round(best[f"bian2025/{shape} / 4", batch] / best[LLAMA, batch], 4)
            for batch in sorted({batch for _, batch in best})
        }
        for shape in ("surefire-1b", "panda-1b")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--measured", type=Path, default=Path("results/measure"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found: dict[str, Any] = {axis: of_axis(given.measured, axis) for axis in AXES}
    write_json(given.out, found | {"published": published(given.measured / "cpu-vllm.jsonl")})


if __name__ == "__main__":
    main()
