"""The worker process and its errors, with a scripted module in vLLM's place; and the real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from suffice.architecture.catalog import load_shape
from suffice.architecture.shape import Shape
from suffice.core.errors import DoesNotFit, InputError, MeasurementError, MissingExtra
from suffice.recipes.ablation.scaling import shrunk
from suffice.throughput.engines.protocol import Lengths
from suffice.throughput.engines.vllm_engine import VllmEngine
from suffice.throughput.engines.vllm_server import VllmServerEngine

SCRIPTED = '''
"""A clockwork vLLM: prompts come in at two a step, running sequences gain one token a step."""
import json, os, pathlib, types
__version__ = "0.0-scripted"
MODE = os.environ.get("SCRIPTED_MODE", "")
print("noise on standard output")

class SamplingParams:
    def __init__(self, **options): self.__dict__.update(options)

class Output:
    def __init__(self, request_id, tokens, finished):
        self.request_id, self.finished = request_id, finished
        self.outputs = [types.SimpleNamespace(token_ids=[0] * tokens)]

class Engine:
    def __init__(self, config):
        self.vllm_config = types.SimpleNamespace(
            model_config=types.SimpleNamespace(get_vocab_size=lambda: config["vocab_size"]),
            cache_config=types.SimpleNamespace(num_gpu_blocks=10, block_size=16))
        self.requests, self.fresh = {}, True
    def reset_prefix_cache(self): self.fresh = True
    def add_request(self, name, prompt, parameters):
        assert max(prompt["prompt_token_ids"]) < 64 and parameters.ignore_eos
        if MODE == "crash": os._exit(3)
        self.requests[name] = [0, parameters.max_tokens]
        return name + "-internal"
    def abort_request(self, names):
        for name in names: self.requests.pop(name, None)
    def has_unfinished_requests(self): return bool(self.requests)
    def step(self):
        waiting = [n for n, r in self.requests.items() if r[0] == 0][:2]
        out = []
        for name, request in list(self.requests.items()):
            if request[0] or name in waiting:
                request[0] += 1
                done = request[0] >= request[1]
                out.append(Output(name, request[0], done))
                if done: del self.requests[name]
        return out

class LLM:
    def __init__(self, model, **arguments):
        config = json.loads((pathlib.Path(model) / "config.json").read_text())
        if MODE == "oom": raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        if MODE == "bad": raise ValueError("Model architectures [X] are not supported for now.")
        assert arguments["load_format"] == "dummy" and arguments["skip_tokenizer_init"]
        assert "rope_scaling" not in config
        assert config["max_position_embeddings"] >= arguments["max_model_len"]
        self.llm_engine = Engine(config)
'''
TORCH = """
__version__ = "0"
class cuda:
    is_available = staticmethod(lambda: False)
"""
LENGTHS = Lengths(input_tokens=8, output_tokens=6)


def small(kv: int = 2) -> Shape:
    return Shape(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv, head_dim=32, vocab_size=64, name=f"kv{kv}",
        config={"rope_scaling": {"rope_type": "llama3"}, "max_position_embeddings": 4},
    )  # fmt: skip


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "vllm.py").write_text(SCRIPTED)
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("SUFFICE_VLLM_PYTHON", raising=False)
    return tmp_path


def test_prefill_and_decode_are_timed_apart(scripted: Path) -> None:
    engine = VllmEngine(threads=1)
    environment = engine.environment()
    assert environment.engine_version == "0.0-scripted"
    assert environment.software["threads"] == "1"
    with engine.open([small(), small(1)], LENGTHS, [1, 5]) as sessions:
        for session in sessions:
            footprint = session.prepare(5)
            assert footprint.weight_bytes == engine.weight_bytes(session.shape)
            timing = session.measure(5, prefill=True)
            # Five prompts at two a step: the last sequence starts two steps after the first, and
            # five more steps follow in which all five run.
            assert len(timing.step_s) == LENGTHS.steps
            assert timing.contexts == (8, 9, 10, 11, 12)
            assert timing.decode_s == pytest.approx(sum(timing.step_s))
            assert timing.ttft_s is not None
            assert session.measure(5, prefill=False).ttft_s is None
    assert timing.method == "full"


def test_a_batch_beyond_memory_is_refused_with_one_that_fits(
    scripted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = VllmEngine()
    engine.probe()
    shape = small()
    room = engine.weight_bytes(shape) + 1_200_000_000 + engine.cache_bytes(shape, LENGTHS, 4)
    monkeypatch.setattr(engine, "free_bytes", lambda: room)
    with engine.open([shape], LENGTHS, [4, 400]) as (session,):
        session.prepare(4)
        with pytest.raises(DoesNotFit, match=r"batch 400 needs .* too much; batch 4 fits"):
            session.prepare(400)
    with pytest.raises(DoesNotFit, match=r"more than the .* that are free; batch 4 fits"):
        engine.open([shape], LENGTHS, [400]).__enter__()


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("oom", DoesNotFit, "out of memory"),
        ("bad", InputError, r"vLLM does not run kv2.*--engine torch"),
        ("crash", MeasurementError, "exit code 3"),
    ],
)
def test_what_goes_wrong_in_the_worker_is_one_line(
    scripted: Path, monkeypatch: pytest.MonkeyPatch, mode: str, error: type[Exception], message: str
) -> None:
    monkeypatch.setenv("SCRIPTED_MODE", mode)
    engine = VllmEngine()
    with (
        pytest.raises(error, match=message),
        engine.open([small()], LENGTHS, [1]) as (session,),
    ):
        session.prepare(1)


def test_missing_vllm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    engine = VllmEngine(python=sys.executable)
    try:
        __import__("vllm")
    except ModuleNotFoundError:
        with pytest.raises(MissingExtra, match=r"vllm.*--vllm-python"):
            engine.environment()
    else:
        pytest.skip("vLLM is installed here")
    with pytest.raises(InputError, match="cannot be started"):
        VllmEngine(python="/no/such/python").probe()


def test_processor_time_needs_one_thread(scripted: Path) -> None:
    with pytest.raises(InputError, match="--threads 1"):
        VllmEngine(clock="cpu").environment()
    assert VllmEngine(clock="cpu", threads=1).environment().software["clock"] == "cpu"


def test_server_mode_needs_a_tokenizer_and_wall_time(scripted: Path) -> None:
    class Load:
        def version(self) -> str:
            return "none"

    with pytest.raises(InputError, match="--tokenizer"):
        VllmServerEngine(VllmEngine(), Load(), tokenizer=None)  # type: ignore[arg-type]
    engine = VllmEngine(clock="cpu", threads=1)
    with pytest.raises(InputError, match="wall time"):
        VllmServerEngine(engine, Load(), tokenizer="t")  # type: ignore[arg-type]
    server = VllmServerEngine(VllmEngine(), Load(), tokenizer="t")  # type: ignore[arg-type]
    command = server.command(scripted, small(), LENGTHS, 4, 1234)
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert "--enforce-eager" in command


@pytest.mark.slow
@pytest.mark.vllm
def test_real_vllm_runs_a_shape_off_every_table() -> None:
    python = os.environ.get("SUFFICE_VLLM_PYTHON")
    if not python:
        pytest.skip("scripts/test-vllm sets SUFFICE_VLLM_PYTHON")
    shape = shrunk(load_shape("bian2025/panda-1b"), 4)
    engine = VllmEngine(python=python, threads=1)
    with engine.open([shape], Lengths(input_tokens=40, output_tokens=5), [1, 3]) as (session,):
        session.prepare(3)
        timing = session.measure(3, prefill=True)
    assert timing.ttft_s is not None
    assert timing.ttft_s > 0
    assert len(timing.step_s) == 4
