"""`suffice size` beside published figures of well-known deployments: memory, room, speed.

python benchmarks/design/size_published.py            print the table (seconds)
python benchmarks/design/size_published.py --write    also write it into docs/size.md
python benchmarks/design/size_published.py --loads    replicas under 40 random loads, simulated

No constant was fitted to a row that is marked "unfitted": engines' start-up logs, LLMServingSim's
three machines (under an open load), and columns of TensorRT-LLM's tables on the sides "test" and
"unseen".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suffice.architecture.catalog import load_model
from suffice.architecture.weight_format import Storage, WeightFormat
from suffice.core.files import write_text
from suffice.hardware import load_hardware
from suffice.recipes.size import SizeConfig, size
from suffice.recipes.size.queueing import simulate_load
from suffice.recipes.size.run import room_for_tokens
from suffice.throughput.load_curve import LoadCurve, load_curve
from suffice.throughput.serving import Serving
from suffice.throughput.workload import RequestClass, Workload

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.recipes.test_size import random_case

# Seeds that nothing was tried on before the formulas were as they are.
LOADS = range(200, 240)
DOCS = Path(__file__).parents[2] / "docs/size.md"
BEGIN, END = "<!-- published: begin -->", "<!-- published: end -->"
GIB = 2**30
FP8 = Storage("fp8")


@dataclass(frozen=True)
class Line:
    """One published figure and ours."""

    deployment: str
    figure: str
    published: float
    ours: float
    source: str

    def __str__(self) -> str:
        error = 100 * (self.ours / self.published - 1)
        return (
            f"| {self.deployment} | {self.figure} | {spelled(self.published)} | "
            f"{spelled(self.ours)} | {error:+.0f} % | {self.source} |"
        )


def spelled(value: float) -> str:
    """Three digits, or whole with separators."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--loads", action="store_true")
    options = parser.parse_args()
    if options.loads:
        loads()
        return
    write = options.write
    lines = [*memory(), *full_load(), *open_load()]
    text = "\n".join(
        [
            "| deployment | figure | published | suffice | error | source |",
            "|---|---|--:|--:|--:|---|",
            *map(str, lines),
        ]
    )
    for kind in ("weights per GPU, GiB", "KV tokens", "output tok/s"):
        errors = [abs(x.ours / x.published - 1) for x in lines if x.figure == kind]
        text += f"\n\nMean error, {kind}: {100 * np.mean(errors):.1f} % of {len(errors)} lines."
    print(text)
    if write:
        page = DOCS.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        _, after = rest.split(END)
        write_text(DOCS, f"{before}{BEGIN}\n{text}\n{END}{after}")


def loads() -> None:
    """The formulas' number of replicas and the fewest that a simulation keeps the limits with."""
    apart: Counter[int] = Counter()
    for seed in LOADS:
        config = SizeConfig(**random_case(seed))
        best = size(config).best
        if best.confirmed is None:
            print(f"{seed}: {best.reason}")
            continue
        model, by_formula = load_model(config.model), best.confirmed.replicas_by_formula
        curve = load_curve(model, best.serving, config.requests, random=True, within=config.within)
        assert curve is not None

        def enough(replicas: int, curve: LoadCurve = curve, config: SizeConfig = config) -> bool:
            found = simulate_load(
                curve, config.requests, rate_per_s=config.rate_per_s or 0.0, replicas=replicas,
                requests=6000, seed=1,
            )  # fmt: skip
            return min(found.within(config.max_ttft_s, config.max_tpot_s)) >= config.within

        lowest = next(n for n in range(max(1, by_formula - 4), by_formula + 9) if enough(n))
        apart[by_formula - lowest] += 1
        print(f"{seed}: {by_formula} by the formulas, {lowest} simulated, {best.replicas} told")
    print("apart: " + ", ".join(f"{d:+d}: {n}" for d, n in sorted(apart.items())))


def sized(label: str, **question: Any) -> Any:
    """The answer; fails if it takes over a second of CPU time."""
    start = time.process_time()
    best = size(SizeConfig(**question)).best
    assert time.process_time() - start < 1.0, label
    return best


def memory() -> Iterator[Line]:
    """Start-up logs of engines: weights, and tokens of KV cache."""
    one = "Llama-3.1-8B bf16, 1 x RTX 4090, vLLM"
    found = sized(one, model="meta-llama/Llama-3.1-8B", hardware="rtx-4090", devices=1,
                  context=32_768, input_tokens=1024, output_tokens=256)  # fmt: skip
    yield Line(one, "KV tokens", 41_408, room("meta-llama/Llama-3.1-8B", found, 1024),
               "LLMServingSim bench record, vLLM 0.19")  # fmt: skip
    one = "Llama-3.1-70B int8, 1 x H100, .98 of memory, vLLM"
    found = sized(one, model="meta-llama/Llama-3.1-70B", hardware="h100", devices=1,
                  weight_dtype="int8", memory_fraction=0.98, max_batched_tokens=2048,
                  max_batch=256, input_tokens=1024, output_tokens=1024)  # fmt: skip
    yield Line(one, "weights per GPU, GiB", 67.72, found.weight_bytes / GIB, "vllm#12569")
    yield Line(one, "KV tokens", 22_096, found.kv_tokens, "vllm#12569")
    one = "Llama-3.3-70B fp8, 1 x H200, vLLM"
    found = sized(one, model="meta-llama/Llama-3.1-70B", hardware="h200", devices=1,
                  weight_dtype="fp8", context=8192)  # fmt: skip
    yield Line(one, "weights per GPU, GiB", 67.72, found.weight_bytes / GIB,
               "llm-d-benchmark#345")  # fmt: skip
    yield Line(one, "KV tokens", 174_336, found.kv_tokens, "llm-d-benchmark#345")
    one = "Qwen3-235B-A22B fp8, 4 x H100, vLLM"
    found = sized(one, model="Qwen/Qwen3-235B-A22B", hardware="h100", devices=4,
                  tensor_parallel=4, weight_dtype="fp8", context=40_960)  # fmt: skip
    yield Line(one, "KV tokens", 178_880, found.kv_tokens, "vllm#21348")
    one = "Qwen3-235B-A22B fp8, 4 x H100, .93 of memory, SGLang"
    found = sized(one, model="Qwen/Qwen3-235B-A22B", hardware="h100", devices=4,
                  tensor_parallel=4, weight_dtype="fp8", context=40_960, engine="sglang",
                  memory_fraction=0.93)  # fmt: skip
    yield Line(one, "KV tokens", 367_404, found.kv_tokens, "vllm#21348")
    one = "gpt-oss-120b, 1 x H100, vLLM"
    found = sized(one, model="openai/gpt-oss-120b", hardware="h100", devices=1)
    yield Line(one, "weights per GPU, GiB", 64.38, found.weight_bytes / GIB, "vllm#33155")
    one = "Llama-3.1-405B, MLPs fp8, 8 x H100, vLLM"
    # Meta's own checkpoint keeps attention at 16 bits.
    partly = replace(load_model("meta-llama/Llama-3.1-405B"), weights=WeightFormat(mlp=FP8))
    found = sized(one, model=partly, hardware="h100", devices=8)
    yield Line(one, "weights per GPU, GiB", 57.75, found.weight_bytes / GIB, "vllm#6746")


def room(name: str, found: Any, context: int) -> float:
    """KV tokens as sequences of `context` tokens."""
    return float(room_for_tokens(load_model(name), found.serving, context))


def full_load() -> Iterator[Line]:
    """Offline maxima of TensorRT-LLM's pages; ours at the batch that fits."""
    page = "TensorRT-LLM 1.0, performance overview"
    newer = "TensorRT-LLM at 03e27c7d, performance overview"
    common: dict[str, Any] = {"engine": "trtllm", "memory_fraction": 0.95, "max_batch": 4096}
    for label, published, source, question in (
        ("Llama-3.1-8B fp8, 1 x H200, 1000/1000 (unseen)", 17_744, page,
         {"model": "meta-llama/Llama-3.1-8B", "hardware": "h200", "weight_dtype": "fp8",
          "devices": 1}),
        ("Llama-3.3-70B fp8, 2 x H200, 1000/1000 (unfitted)", 2 * 2587, newer,
         {"model": "meta-llama/Llama-3.1-70B", "hardware": "h200", "weight_dtype": "fp8",
          "devices": 2, "tensor_parallel": 2}),
        ("Llama-3.1-405B fp8, 8 x H200, 1000/1000 (unfitted)", 3330, page,
         {"model": "meta-llama/Llama-3.1-405B", "hardware": "h200", "weight_dtype": "fp8",
          "devices": 8, "tensor_parallel": 8}),
        ("Llama-3.3-70B nvfp4, 1 x B200, 1000/1000 (unfitted)", 7007, page,
         {"model": "meta-llama/Llama-3.1-70B", "hardware": "b200", "weight_dtype": "fp4",
          "devices": 1}),
        ("gpt-oss-20b, 1 x H100, 1000/1000 (unfitted)", 11_557, newer,
         {"model": "openai/gpt-oss-20b", "hardware": "h100", "devices": 1, "kv_dtype": "bf16"}),
        ("Qwen3-235B-A22B fp8, 4 x H200, data 4, 1000/1000 (unseen)", 4 * 3288, newer,
         {"model": "Qwen/Qwen3-235B-A22B", "hardware": "h200", "weight_dtype": "fp8",
          "devices": 4, "tensor_parallel": 1}),
        ("Qwen3-30B-A3B nvfp4, 1 x RTX PRO 6000, 1000/1000 (unfitted)", 9938, newer,
         {"model": "Qwen/Qwen3-30B-A3B", "hardware": "rtx-pro-6000", "weight_dtype": "fp4",
          "devices": 1}),
        ("DeepSeek-R1 fp8, 8 x H200, data 8, 1000/1000 (fitted)", 8 * 1627, newer,
         {"model": "deepseek-ai/DeepSeek-V3", "hardware": "h200", "devices": 8,
          "tensor_parallel": 1}),
        ("Llama-4-Maverick fp8, 8 x H200, data 8, 1000/1000 (unfitted)", 8 * 4146, newer,
         {"model": "meta-llama/Llama-4-Maverick-17B-128E", "hardware": "h200",
          "weight_dtype": "fp8", "devices": 8, "tensor_parallel": 1}),
    ):  # fmt: skip
        asked = {"kv_dtype": "fp8", **common, **question}
        found = sized(label, input_tokens=1000, output_tokens=1000, **asked)
        yield Line(label, "output tok/s", published, found.output_tokens_per_s, source)


# Prompt and output tokens of the first 68 of the 300 requests of LLMServingSim's load, as its
# record has them (bench/examples/RTX4090/Llama-3.1-8B/vllm/requests.jsonl, MIT).
LENGTHS = (
    (2358, 531), (1034, 769), (1320, 769), (685, 769), (298, 526), (399, 520), (1307, 758),
    (1379, 519), (289, 761), (1008, 692), (576, 729), (1479, 681), (305, 698), (2357, 766),
    (835, 527), (3452, 745), (1355, 769), (866, 769), (2884, 767), (539, 722), (1403, 772),
    (2197, 548), (483, 776), (461, 614), (268, 581), (437, 556), (348, 720), (327, 770), (363,
    550), (624, 721), (519, 742), (319, 767), (346, 604), (1195, 557), (403, 734), (633, 767),
    (814, 768), (1092, 590), (1320, 770), (1484, 574), (455, 768), (468, 717), (611, 569),
    (393, 527), (1034, 532), (389, 565), (1135, 739), (1255, 779), (851, 633), (605, 708),
    (621, 713), (319, 765), (1313, 773), (908, 765), (1232, 768), (889, 751), (838, 783),
    (1078, 709), (1168, 777), (1141, 784), (305, 743), (824, 774), (610, 530), (843, 768),
    (1685, 767), (359, 770), (1402, 730), (368, 724),
)  # fmt: skip
SHAREGPT = tuple(RequestClass(input_tokens=i, output_tokens=o) for i, o in LENGTHS)


def open_load() -> Iterator[Line]:
    """LLMServingSim's runs of vLLM 0.19: a burst of 300 requests, held against a simulation."""
    source = "LLMServingSim bench record, vLLM 0.19"
    for label, name, machine, layout, (tpot_ms, ttft_s, latency_s) in (
        ("Llama-3.1-8B bf16, 1 x RTX 4090, 10/s", "meta-llama/Llama-3.1-8B", "rtx-4090",
         {"max_batch": 256}, (32.4, 65.5, 86.6)),
        ("Llama-3.1-8B bf16, 1 x RTX PRO 6000, 10/s", "meta-llama/Llama-3.1-8B", "rtx-pro-6000",
         {}, (32.5, 7.1, 28.2)),
        ("Qwen3-32B bf16, 2 x RTX PRO 6000 tensor, 10/s", "Qwen/Qwen3-32B", "rtx-pro-6000",
         {"tensor_parallel": 2}, (80.3, 36.9, 90.4)),
        ("Qwen3-30B-A3B bf16, 2 x RTX PRO 6000 data, 10/s", "Qwen/Qwen3-30B-A3B",
         "rtx-pro-6000", {"data_parallel": 2, "expert_parallel": True, "max_batch": 256},
         (47.3, 1.09, 32.3)),
    ):  # fmt: skip
        words: dict[str, Any] = {"max_batch": 128, "max_batched_tokens": 2048, "engine": "vllm"}
        serving = Serving(hardware=load_hardware(machine), **{**words, **layout})
        workload = Workload(classes=SHAREGPT)
        # A long queue: vLLM lets sequences in as long as they fit, at half their output on average.
        curve = load_curve(load_model(name), serving, workload, random=True, planned_output=0.5)
        assert curve is not None
        found = simulate_load(
            curve, workload, rate_per_s=10.0, replicas=1, requests=300, warm_up=0.0
        )
        outputs = workload.mean_output_tokens - 1
        latency = float(np.mean(found.ttft_s)) + outputs * float(np.mean(found.tpot_s))
        yield Line(label, "TPOT, ms", tpot_ms, 1e3 * float(np.mean(found.tpot_s)), source)
        yield Line(label, "TTFT, s", ttft_s, float(np.mean(found.ttft_s)), source)
        yield Line(label, "latency, s", latency_s, latency, source)


if __name__ == "__main__":
    main()
