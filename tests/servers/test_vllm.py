"""Against a real vLLM: what a fake cannot promise. `scripts/test-vllm` prepares and runs this.

SUFFICE_VLLM_URL names a running server, or SUFFICE_VLLM_PYTHON an interpreter with vLLM and
SUFFICE_VLLM_MODEL a model folder to start one with.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from suffice.backends.openai import OpenAIBackend
from suffice.core.draw import Draw
from suffice.core.requests import Message, Request, Sampling
from tests.servers.tools import Tools
from tests.servers.vllm_server import vllm_server

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
MESSAGES: Any = [{"role": "user", "content": "Count upwards from one."}]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = os.environ.get("SUFFICE_VLLM_MODEL")
    at = os.environ.get("SUFFICE_VLLM_URL")
    if not at and not model:
        pytest.skip("scripts/test-vllm sets SUFFICE_VLLM_MODEL")
    options = [
        "--dtype", "bfloat16", "--max-model-len", "2048",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        "--enable-lora", "--max-lora-rank", "8",
    ]  # fmt: skip
    # Not for production, says vLLM: whoever reaches the server may load what it can read.
    os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    log = tmp_path_factory.mktemp("vllm") / "log"
    with vllm_server(model or "", "smol", options, log, at=at) as url:
        yield url


@pytest.fixture
def client(vllm: str, tools: type[Tools]) -> Iterator[openai.OpenAI]:
    wait_until_idle(vllm, tools)
    with (
        tools.serving(tools.config_for(vllm, patience_s=60.0, keep_alive_s=0.5)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def metric(vllm: str, name: str) -> float:
    text = httpx2.get(f"{vllm}/metrics").text
    found = re.findall(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def running(vllm: str) -> float:
    return metric(vllm, "num_requests_running") + metric(vllm, "num_requests_waiting")


def wait_until_idle(vllm: str, tools: type[Tools]) -> None:
    tools.wait_for(lambda: running(vllm) == 0, 30.0)


def test_probing_finds_what_vllm_can_do(vllm: str) -> None:
    async def main() -> Any:
        async with OpenAIBackend(vllm) as backend:
            return await backend.capabilities()

    found = asyncio.run(main())
    assert found.models == ("smol",)
    assert (found.logprobs, found.max_top_logprobs) == (True, 20)
    assert found.prefill
    assert (found.thinking_switch, found.thinking_budget) == (None, False)
    assert found.max_context_tokens == 2048


def test_a_begun_answer_is_continued(vllm: str) -> None:
    request = Request(messages=(Message(role="user", content="Say the alphabet."),), model="smol")

    async def main() -> str:
        async with OpenAIBackend(vllm) as backend:
            sampling = Sampling(max_tokens=8, temperature=0.0)
            chunks = backend.stream(Draw(request, sampling, model="smol", prefill="A, B, C, D, E,"))
            async with aclosing(chunks):
                return "".join([chunk.text async for chunk in chunks])

    assert asyncio.run(main()).lstrip().startswith("F, G")


@pytest.mark.parametrize("model", ["smol", "suffice/single"])
@pytest.mark.parametrize("n", [1, 2])
def test_streaming_n_and_logprobs(client: openai.OpenAI, model: str, n: int) -> None:
    ask: Any = {
        "model": model, "messages": MESSAGES, "max_tokens": 12, "n": n, "logprobs": True,
        "top_logprobs": 3, "temperature": 0.0 if n == 1 else 1.0,
    }  # fmt: skip
    whole = client.chat.completions.create(**ask, extra_body={"ignore_eos": True})
    texts, counts = [""] * n, [0] * n
    stream = client.chat.completions.create(**ask, stream=True, extra_body={"ignore_eos": True})
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs and choice.logprobs.content:
                counts[choice.index] += len(choice.logprobs.content)
                assert all(len(entry.top_logprobs) == 3 for entry in choice.logprobs.content)
    if n == 1:  # greedy: the same text twice
        assert texts == [choice.message.content for choice in whole.choices]
    assert counts == [12] * n
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12 * n


def test_the_receipt_counts_what_the_engine_counts(
    client: openai.OpenAI, vllm: str, tools: type[Tools]
) -> None:  # fmt: skip
    # Whoever asks first has the upstream probed, which draws a few tokens.
    client.chat.completions.create(model="suffice/single", messages=MESSAGES, max_tokens=1)
    tools.wait_for(lambda: running(vllm) == 0, 30.0)
    time.sleep(0.5)
    before = metric(vllm, "generation_tokens_total")
    response = client.chat.completions.create(
        model="suffice/self_consistency", messages=MESSAGES, max_tokens=20,
        extra_body={"suffice": {"answer_format": "number"}},
    )  # fmt: skip
    assert response.usage is not None
    receipt = (response.model_extra or {})["suffice"]
    assert receipt["samples_run"] == 16
    assert response.usage.completion_tokens == sum(
        sample["completion_tokens"] for sample in receipt["samples"]
    )
    tools.wait_for(lambda: running(vllm) == 0)
    time.sleep(0.5)  # the last step's statistics
    assert metric(vllm, "generation_tokens_total") - before == response.usage.completion_tokens


def told(client: openai.OpenAI, ask: dict[str, Any], *, streaming: bool) -> tuple[str, str, str]:
    """Text, tool names and tool arguments of an answer."""
    text, names, arguments = "", "", ""
    if not streaming:
        message = client.chat.completions.create(**ask).choices[0].message
        calls: Any = message.tool_calls or []
        return (
            message.content or "",
            "".join(call.function.name for call in calls),
            "".join(call.function.arguments for call in calls),
        )
    for chunk in client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                names += call.function.name or ""
                arguments += call.function.arguments or ""
    return text, names, arguments


@pytest.mark.parametrize("wanted", ["auto", "required", {"name": "add"}])
def test_tools_come_through_as_the_engine_calls_them(
    client: openai.OpenAI, vllm: str, wanted: Any
) -> None:
    # What a model this small makes of its tools is anyone's guess; that the gateway gives it back
    # unchanged is not. A policy reads the engine's stream, so that is what it is compared with.
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    choice = wanted if isinstance(wanted, str) else {"type": "function", "function": wanted}
    ask: dict[str, Any] = {
        "messages": MESSAGES, "max_tokens": 60, "temperature": 0.0, "tool_choice": choice,
        "tools": [{"type": "function", "function": {"name": "add", "parameters": parameters}}],
    }  # fmt: skip
    with openai.OpenAI(base_url=f"{vllm}/v1", api_key="none", max_retries=0) as engine:
        streamed = told(engine, ask | {"model": "smol"}, streaming=True)
        whole = told(engine, ask | {"model": "smol"}, streaming=False)
    assert told(client, ask | {"model": "smol"}, streaming=True) == streamed
    assert told(client, ask | {"model": "smol"}, streaming=False) == whole
    for streaming in (True, False):
        assert told(client, ask | {"model": "suffice/single"}, streaming=streaming) == streamed


def test_its_errors_arrive(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=MESSAGES)
    for model in ("smol", "suffice/single"):
        with pytest.raises(openai.BadRequestError, match="max_model_len"):
            client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=5000)


@pytest.mark.parametrize(
    ("model", "requests"),
    [("smol", 1), ("suffice/single", 1), ("suffice/self_consistency", 16)],
)
@pytest.mark.parametrize("streaming", [True, False])
def test_running_requests_fall_when_the_client_leaves(  # noqa: PLR0917 - pytest passes by name
    client: openai.OpenAI, vllm: str, tools: type[Tools], model: str, requests: int, streaming: bool
) -> None:
    body: dict[str, Any] = {
        "model": model, "messages": MESSAGES, "max_tokens": 1500, "ignore_eos": True,
        "stream": streaming,
    }  # fmt: skip
    if model.startswith("suffice/"):
        body["suffice"] = {"answer_format": "number"}
    url = str(client.base_url).rstrip("/")
    with httpx2.Client(timeout=httpx2.Timeout(60.0)) as http:
        if streaming:
            with http.stream("POST", f"{url}/chat/completions", json=body) as answer:
                pieces = answer.iter_bytes()  # dropping it would close the connection
                next(pieces)
                tools.wait_for(lambda: running(vllm) == requests, 30.0)
        else:
            with pytest.raises(httpx2.ReadTimeout):
                http.post(f"{url}/chat/completions", json=body, timeout=4.0)
    # 1,500 tokens would take it half a minute and more.
    tools.wait_for(lambda: running(vllm) == 0, 5.0)


def test_a_policy_that_stops_early_frees_the_engine(
    client: openai.OpenAI, vllm: str, tools: type[Tools]
) -> None:
    aborted = 'request_success_total{engine="0",finished_reason="abort",model_name="smol"}'
    text = httpx2.get(f"{vllm}/metrics").text
    assert aborted in text
    policy = {"policy": "adaptive_consistency", "threshold": 0.7, "max_samples": 16, "ahead": 15}
    response = client.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": "Say one number between 0 and 9."}],
        max_tokens=400,
        extra_body={"suffice": {"policy": policy, "answer_format": "number"}},
    )  # fmt: skip
    receipt = (response.model_extra or {})["suffice"]
    assert receipt["samples_cancelled"] > 0
    tools.wait_for(lambda: running(vllm) == 0, 5.0)


# --- other endpoints and protocols


def gateway_of(client: openai.OpenAI) -> str:
    return str(client.base_url).rstrip("/").removesuffix("/v1")


def test_messages_are_the_engines_own(client: openai.OpenAI, vllm: str) -> None:
    anthropic = pytest.importorskip("anthropic")
    # Its newest client has no argument for a temperature any more.
    greedy = {"temperature": 0.0}
    ask: dict[str, Any] = {"max_tokens": 12, "messages": MESSAGES, "extra_body": greedy}
    texts = []
    for url, model in ((vllm, "smol"), (gateway_of(client), "smol"),
                       (gateway_of(client), "suffice/single")):  # fmt: skip
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as claude:
            whole = claude.messages.create(model=model, **ask)
            with claude.messages.stream(model=model, **ask) as stream:
                final = stream.get_final_message()
        assert whole.stop_reason == final.stop_reason == "max_tokens"
        assert whole.usage.output_tokens == final.usage.output_tokens == 12
        texts += [whole.content[0].text, final.content[0].text]
    assert len(set(texts)) == 1


def test_responses_are_the_engines_own(client: openai.OpenAI, vllm: str) -> None:
    ask: dict[str, Any] = {
        "input": "Count upwards from one.", "max_output_tokens": 12, "temperature": 0.0,
    }  # fmt: skip
    texts = []
    with openai.OpenAI(base_url=f"{vllm}/v1", api_key="none", max_retries=0) as engine:
        for who, model in ((engine, "smol"), (client, "smol"), (client, "suffice/single")):
            whole = who.responses.create(model=model, **ask)
            events = list(who.responses.create(model=model, stream=True, **ask))
            final = events[-1].response  # type: ignore[union-attr]
            assert whole.usage is not None
            assert whole.usage.output_tokens == final.usage.output_tokens == 12
            texts += [whole.output_text, final.output_text]
    assert len(set(texts)) == 1


def test_tokens_are_the_engines_own(client: openai.OpenAI, vllm: str) -> None:
    ask = {"model": "smol", "prompt": "Count upwards from one."}
    found = httpx2.post(f"{gateway_of(client)}/tokenize", json=ask).json()
    assert found == httpx2.post(f"{vllm}/tokenize", json=ask).json()
    back = {"model": "smol", "tokens": found["tokens"]}
    text = httpx2.post(f"{gateway_of(client)}/detokenize", json=back).json()["prompt"]
    assert "Count upwards from one." in text
    assert client.models.retrieve("smol").max_model_len == 2048  # type: ignore[attr-defined]


def test_an_adapter_that_is_loaded_later(
    client: openai.OpenAI, vllm: str, tmp_path: Path, tools: type[Tools]
) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="adapter", messages=MESSAGES, max_tokens=4)
    make_adapter(tmp_path)
    loaded = httpx2.post(
        f"{vllm}/v1/load_lora_adapter",
        json={"lora_name": "adapter", "lora_path": str(tmp_path)}, timeout=60.0,
    )  # fmt: skip
    assert loaded.status_code == 200, loaded.text
    refused = httpx2.post(
        f"{gateway_of(client)}/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "/"}
    )
    assert refused.status_code in (404, 405)
    time.sleep(1.1)  # unknown names are looked up once a second at most
    ask: Any = {"model": "adapter", "messages": MESSAGES, "max_tokens": 4}
    assert client.chat.completions.create(**ask).model == "adapter"
    card = client.models.retrieve("adapter")
    assert card.parent == "smol"  # type: ignore[attr-defined]
    answer = client.chat.completions.create(
        model="suffice/single", messages=MESSAGES, max_tokens=4,
        extra_body={"suffice": {"model": "adapter"}},
    )  # fmt: skip
    assert (answer.model_extra or {})["suffice"]["model"] == "adapter"
    httpx2.post(f"{vllm}/v1/unload_lora_adapter", json={"lora_name": "adapter"})
    tools.wait_for(lambda: "adapter" not in {m.id for m in client.models.list()}, 5.0)


def make_adapter(folder: Path) -> None:
    """A LoRA adapter that changes nothing, written by the interpreter that has torch."""
    model = os.environ["SUFFICE_VLLM_MODEL"]
    code = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import save_file
folder, model = Path(sys.argv[1]), Path(sys.argv[2])
shape = json.loads((model / "config.json").read_text())
hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
tensors = {}
for layer in range(layers):
    name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    tensors[f"{name}.lora_A.weight"] = torch.ones(4, hidden) * 0.01
    tensors[f"{name}.lora_B.weight"] = torch.zeros(hidden, 4)
save_file(tensors, folder / "adapter_model.safetensors")
config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8,
          "target_modules": ["q_proj"], "lora_dropout": 0.0, "bias": "none",
          "base_model_name_or_path": str(model)}
(folder / "adapter_config.json").write_text(json.dumps(config))
"""
    python = os.environ.get("SUFFICE_VLLM_PYTHON", sys.executable)
    subprocess.run([python, "-c", code, str(folder), model], check=True, timeout=120)


@pytest.mark.parametrize(
    "policy",
    [
        "single", "self_consistency:samples=4", "adaptive_consistency:max_samples=4",
        "esc:window=2,max_samples=4", "sequential_revision", "revise_once", "short_m_at_k",
        "budget_forcing", "deepconf:max_samples=4,warmup=2", "auto",
        "single:accept=0.99 > self_consistency:samples=2",
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False])
def test_usage_is_what_the_engine_counted(
    client: openai.OpenAI, vllm: str, tools: type[Tools], policy: str, stream: bool
) -> None:
    client.models.list()
    ask: Any = {
        "model": "smol", "messages": [{"role": "user", "content": "Say a number."}],
        "max_tokens": 16, "extra_body": {"suffice": {"policy": policy, "answer_format": "number"}},
    }  # fmt: skip
    try:
        client.chat.completions.create(**ask)  # so that what the engine can do is known
    except openai.BadRequestError as error:
        pytest.skip(str(error))
    tools.wait_for(lambda: running(vllm) == 0, 30.0)
    time.sleep(0.5)
    names = ("prompt_tokens_total", "generation_tokens_total")
    before = [metric(vllm, name) for name in names]
    if stream:
        chunks = list(
            client.chat.completions.create(
                **ask, stream=True, stream_options={"include_usage": True}
            )
        )
        usage = chunks[-1].usage
        receipt = next(c.model_extra["suffice"] for c in chunks if "suffice" in c.model_extra)
    else:
        response = client.chat.completions.create(**ask)
        usage, receipt = response.usage, response.model_extra["suffice"]
    tools.wait_for(lambda: running(vllm) == 0, 30.0)
    time.sleep(0.5)  # the last step's statistics
    prompt, drawn = (metric(vllm, n) - b for n, b in zip(names, before, strict=True))
    assert usage is not None
    if receipt["samples_cancelled"] == 0:
        assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, drawn)
    else:  # what the engine drew between our last look and its stop is at most a few tokens each
        assert usage.prompt_tokens == prompt
        assert 0 <= drawn - usage.completion_tokens <= 8 * receipt["samples_cancelled"]
