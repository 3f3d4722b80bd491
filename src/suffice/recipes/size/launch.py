"""The command that serves a model in a layout, for the engine that was asked about."""

from __future__ import annotations

import json
import shlex

from suffice.architecture.model import Model
from suffice.recipes.size.config import SizeConfig
from suffice.recipes.size.result import Sized
from suffice.throughput.serving import Serving

# Formats that engines make of a 16-bit checkpoint while loading it.
_ONLINE = {"fp8"}


def launch_command(model: Model, sized: Sized, config: SizeConfig) -> str:
    """Command of one replica, ready for a shell."""
    serving = sized.serving
    words = {"sglang": _sglang, "trtllm": _trtllm}.get(serving.engine, _vllm)
    name = model.name or (str(config.model) if not isinstance(config.model, Model) else "MODEL")
    longest = max(config.context or 0, config.requests.longest_tokens)
    batch = max(1, min(serving.max_batch, sized.largest_batch))
    return shlex.join(words(name, serving, longest, batch, _quantise(model, config)))


def _quantise(model: Model, config: SizeConfig) -> str | None:
    """The format that the engine is to make; None for the checkpoint's own."""
    wanted = config.weight_dtype
    if wanted is None or wanted not in _ONLINE or model.weights.method is not None:
        return None
    return wanted


def _vllm(name: str, serving: Serving, longest: int, batch: int, quantise: str | None) -> list[str]:
    words = ["vllm", "serve", name]
    words += _unless_one("--tensor-parallel-size", serving.tensor_parallel)
    words += _unless_one("--data-parallel-size", serving.data_parallel)
    words += _unless_one("--pipeline-parallel-size", serving.pipeline_parallel)
    if serving.expert_parallel:
        words.append("--enable-expert-parallel")
    words += ["--max-model-len", str(longest), "--max-num-seqs", str(batch)]
    words += ["--max-num-batched-tokens", str(serving.max_batched_tokens)]
    words += ["--gpu-memory-utilization", f"{serving.memory_fraction:g}"]
    if not serving.captured_graphs:
        words.append("--enforce-eager")
    if quantise:
        words += ["--quantization", quantise]
    if serving.kv_dtype == "fp8":
        words += ["--kv-cache-dtype", "fp8"]
    if serving.verified_tokens > 1:
        draft = {"method": "mtp", "num_speculative_tokens": serving.verified_tokens - 1}
        words += ["--speculative-config", json.dumps(draft)]
    return words


def _sglang(
    name: str, serving: Serving, longest: int, batch: int, quantise: str | None
) -> list[str]:
    words = ["python", "-m", "sglang.launch_server", "--model-path", name]
    # SGLang counts all devices of a stage as tensor parallel, attention replicas among them.
    stage = serving.tensor_parallel * serving.data_parallel
    words += _unless_one("--tp-size", stage)
    if serving.data_parallel > 1:
        words += ["--dp-size", str(serving.data_parallel), "--enable-dp-attention"]
    words += _unless_one("--pp-size", serving.pipeline_parallel)
    if serving.expert_parallel:
        words += ["--ep-size", str(stage)]
    words += ["--context-length", str(longest), "--max-running-requests", str(batch)]
    words += ["--chunked-prefill-size", str(serving.max_batched_tokens)]
    words += ["--mem-fraction-static", f"{serving.memory_fraction:g}"]
    if not serving.captured_graphs:
        words.append("--disable-cuda-graph")
    if quantise:
        words += ["--quantization", quantise]
    if serving.kv_dtype == "fp8":
        words += ["--kv-cache-dtype", "fp8_e4m3"]
    if (drafted := serving.verified_tokens - 1) > 0:
        words += ["--speculative-algorithm", "EAGLE", "--speculative-num-steps", str(drafted)]
        words += ["--speculative-eagle-topk", "1"]
        words += ["--speculative-num-draft-tokens", str(drafted + 1)]
    return words


def _trtllm(
    name: str, serving: Serving, longest: int, batch: int, quantise: str | None
) -> list[str]:
    del quantise  # TensorRT-LLM takes checkpoints that are quantised already.
    stage = serving.tensor_parallel * serving.data_parallel
    words = ["trtllm-serve", name, *_unless_one("--tp_size", stage)]
    words += _unless_one("--pp_size", serving.pipeline_parallel)
    if serving.expert_parallel:
        words += ["--ep_size", str(stage)]
    words += ["--max_seq_len", str(longest), "--max_batch_size", str(batch)]
    words += ["--max_num_tokens", str(serving.max_batched_tokens)]
    words += ["--kv_cache_free_gpu_memory_fraction", f"{serving.memory_fraction:g}"]
    if serving.data_parallel > 1:
        # The file says enable_attention_dp: true.
        words += ["--extra_llm_api_options", "attention_dp.yaml"]
    return words


def _unless_one(flag: str, value: int) -> list[str]:
    return [] if value == 1 else [flag, str(value)]
