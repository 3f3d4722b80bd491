"""Runs inside the interpreter that has vLLM: loads one model and times it, a JSON line at a time.

Only the standard library and vLLM are imported, so that any interpreter with vLLM can run this
file. Requests come on standard input, answers go to what standard output was at the start;
everything that vLLM prints goes to standard error.

    {"op": "load", "model": DIR, "arguments": {...}}           -> versions and KV capacity
    {"op": "prefill", "batch": B, "input_tokens": I}           -> seconds of the whole batch
    {"op": "decode", "batch": B, "output_tokens": O}           -> seconds of every step
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from typing import Any

_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# Beyond the tokens that are timed, for sequences that start a few steps before the last one.
SPARE_TOKENS = 64


class Worker:
    """One engine in this process, driven step by step."""

    def __init__(self, clock: str, seed: int) -> None:
        self.now = _CLOCKS[clock]
        self.random = random.Random(seed)
        self.prompts: list[list[int]] = []
        self.count = 0
        self.engine: Any = None
        self.vocabulary = 0

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Build the engine with random weights."""
        from vllm import LLM  # noqa: PLC0415 - takes seconds, and may be missing

        llm = LLM(model=request["model"], **request["arguments"])
        self.engine = llm.llm_engine
        config = self.engine.vllm_config
        self.vocabulary = config.model_config.get_vocab_size()
        cache = config.cache_config
        return {"kv_tokens": cache.num_gpu_blocks * cache.block_size, "block": cache.block_size}

    def prefill(self, request: dict[str, Any]) -> dict[str, Any]:
        """Prompts that no cache holds, up to the first token of each."""
        self.engine.reset_prefix_cache()
        tokens, vocabulary = request["input_tokens"], self.vocabulary
        self.prompts = [
            [self.random.randrange(vocabulary) for _ in range(tokens)]
            for _ in range(request["batch"])
        ]
        self._add(1)
        start = self.now()
        while self.engine.has_unfinished_requests():
            self.engine.step()
        return {"ttft_s": self.now() - start}

    def decode(self, request: dict[str, Any]) -> dict[str, Any]:
        """The same prompts, now cached; timed from when all have their first token."""
        steps = request["output_tokens"] - 1
        names = self._add(steps + SPARE_TOKENS)
        held: dict[str, int] = dict.fromkeys(names, 0)
        self._advance(held, lambda: min(held.values()) >= 1)
        wanted = {name: count + steps for name, count in held.items()}
        began = sum(held.values())
        marks = [self.now()]
        while any(held[name] < wanted[name] for name in names):
            self._advance(held, lambda: True)
            marks.append(self.now())
        produced = sum(held.values()) - began
        self.engine.abort_request(names)
        while self.engine.has_unfinished_requests():
            self.engine.step()
        step_s = [after - before for before, after in itertools.pairwise(marks)]
        return {"decode_s": marks[-1] - marks[0], "step_s": step_s, "tokens": produced}

    def _advance(self, held: dict[str, int], done: Any) -> None:
        while True:
            for output in self.engine.step():
                held[output.request_id] = len(output.outputs[0].token_ids)
                if output.finished:
                    raise RuntimeError("a sequence ended before it was timed")
            if done():
                return

    def _add(self, tokens: int) -> list[str]:
        from vllm import SamplingParams  # noqa: PLC0415

        parameters = SamplingParams(
            max_tokens=tokens, ignore_eos=True, temperature=0.0, detokenize=False
        )
        names = []
        for prompt in self.prompts:
            self.count += 1
            names.append(str(self.count))
            self.engine.add_request(names[-1], {"prompt_token_ids": prompt}, parameters)
        return names


def probe() -> dict[str, Any]:
    """Versions and device, without loading a model."""
    import torch  # noqa: PLC0415
    import vllm  # noqa: PLC0415

    found: dict[str, Any] = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        found |= {"gpu": torch.cuda.get_device_name(0), "cuda": str(torch.version.cuda),
                  "free_bytes": int(free)}  # fmt: skip
    return found


def answer(stream: Any, reply: dict[str, Any]) -> None:
    """Write one line at once."""
    stream.write(json.dumps(reply) + "\n")
    stream.flush()


def main(clock: str, seed: int) -> int:
    """Serve requests until standard input ends."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(clock, seed)
    operations = {"load": worker.load, "prefill": worker.prefill, "decode": worker.decode}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "probe":
                answer(stream, {"ok": True, **probe()})
            else:
                answer(stream, {"ok": True, **operations[request["op"]](request)})
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises goes to the parent
            message = str(error) or repr(error)
            module = error.name if isinstance(error, ImportError) else None
            answer(stream, {
                "ok": False, "error": type(error).__name__, "message": message, "module": module,
            })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
