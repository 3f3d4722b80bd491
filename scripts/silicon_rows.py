"""Write throughput/data/silicon/sparse_rows.csv: measured points of mixtures of experts.

python scripts/silicon_rows.py silicon_sample.csv    the file of ai-dynamo/aiconfigurator

What is kept, what is left out and how the columns are read is in data/silicon/README.md.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "src/suffice/throughput/data/silicon/sparse_rows.csv"
MODELS = {
    "deepseek-ai/DeepSeek-V3": "deepseek-ai/DeepSeek-V3",
    "MiniMaxAI/MiniMax-M2.5": "MiniMaxAI/MiniMax-M2.5",
    "Qwen/Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3.5-397B-A17B": "Qwen/Qwen3.5-397B-A17B",
    "moonshotai/Kimi-K2.5": "moonshotai/Kimi-K2.5",
    "openai/gpt-oss-120b": "openai/gpt-oss-120b",
    "zhipuai/GLM-5": "zai-org/GLM-5",
}
SYSTEMS = {"h100_sxm": "h100", "h200_sxm": "h200", "b200_sxm": "b200", "b300_sxm": "b300"}
COLUMNS = (
    "model", "hardware", "engine", "engine_version", "weight_dtype", "kv_dtype",
    "tensor_parallel", "attention_data_parallel", "expert_parallel", "input_tokens",
    "output_tokens", "concurrency", "source", "ttft_s", "tpot_s",
)  # fmt: skip


def placed(row: dict[str, str], *, public: bool) -> tuple[int, int, int]:
    """Tensor-parallel, attention data-parallel and expert-parallel degrees on the GPUs in use.

    In the public records a degree stands in both expert columns and their product is taken for the
    number of GPUs: "64 GPUs, 8 x 8 experts" is the same point as "8 GPUs" (equal times to the last
    digit), and "data parallel 64" is 8.
    """
    tp, dp = int(row["tp_size"] or 1), int(row["attention_dp_size"] or 0)
    expert_tp, expert_ep = int(row["moe_tp_size"] or 1), int(row["moe_ep_size"] or 1)
    gpus = expert_tp * expert_ep
    if public and expert_tp == expert_ep > 1:
        gpus = expert_tp
    elif public and dp > 1 and tp == dp:
        gpus = tp
    spread = dp > 1 or (tp < gpus and dp != 1)
    # Attention shared by `tp` devices has as many replicas as there are such groups.
    shared = 1 if public or gpus % tp else tp
    return (shared, gpus // shared, gpus if expert_ep > 1 else 1) if spread else (
        gpus, 1, gpus if expert_ep > 1 else 1,
    )  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are kept, once each."""
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            kept = _row(row)
            if kept is not None:
                seen.setdefault(tuple(kept[name] for name in COLUMNS if name != "source"), kept)
    return sorted(seen.values(), key=lambda kept: tuple(str(kept[name]) for name in COLUMNS))


def _row(row: dict[str, str]) -> dict[str, Any] | None:
    if row["mode"] != "agg" or row["model_path"] not in MODELS or row["system"] not in SYSTEMS:
        return None
    if int(row["pp_size"] or 1) != 1:
        return None
    origin = row["silicon_data_source"]
    public = origin.startswith("db-dump") or bool(re.match(r"source_file=2026-\d\d-\d\d", origin))
    tp, dp, ep = placed(row, public=public)
    said = re.search(r"silicon_concurrency=(\d+)", origin)
    model, hardware = MODELS[row["model_path"]], SYSTEMS[row["system"]]
    weights = row["precision"] or "bf16"
    if model == "openai/gpt-oss-120b":
        weights = "mxfp4"  # its checkpoint; trtllm's five "fp8" rows change activations
    eight = weights in ("fp8", "fp4") and (row["backend"] == "trtllm" or hardware[0] == "b")
    return {
        "model": model,
        "hardware": hardware,
        "engine": row["backend"],
        "engine_version": row["backend_version"],
        "weight_dtype": weights,
        "kv_dtype": "fp8" if eight else "bf16",
        "tensor_parallel": tp,
        "attention_data_parallel": dp,
        "expert_parallel": ep,
        "input_tokens": int(row["isl"]),
        "output_tokens": int(row["osl"]),
        "concurrency": int(said[1]) if said else int(row["batch_size"]) * dp,
        "source": "inferencex" if public else "sweep",
        "ttft_s": f"{float(row['silicon_ttft_ms']) / 1e3:.6g}",
        "tpot_s": f"{float(row['silicon_tpot_ms']) / 1e3:.6g}",
    }


def main() -> None:
    """Write the file."""
    rows = read(Path(sys.argv[1]))
    with TARGET.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{TARGET}: {len(rows)} rows")


if __name__ == "__main__":
    main()
