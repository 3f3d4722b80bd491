"""Against a real vLLM: what a fake cannot promise. `scripts/test-vllm` prepares and runs this.

SUFFICE_VLLM_URL names a running server, or SUFFICE_VLLM_PYTHON an interpreter with vLLM and
SUFFICE_VLLM_MODEL a model folder to start one with.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import httpx2
import openai
import pytest

from suffice.backends.openai import OpenAIBackend
from suffice.core.requests import Message, Request, Sampling
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
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("vllm") / "log"
    with vllm_server(model or "", "smol", options, log, at=at) as url:
        yield url


@pytest.fixture
def client(vllm: str, tools: Any) -> Iterator[openai.OpenAI]:
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


def wait_until_idle(vllm: str, tools: Any) -> None:
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
            chunks = backend.stream(request, sampling, model="smol", prefill="A, B, C, D, E,")
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
    client: openai.OpenAI, vllm: str, tools: Any
) -> None:  # fmt: skip
    client.models.list()  # probes the upstream, which draws a few tokens
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
    client: openai.OpenAI, vllm: str, tools: Any, model: str, requests: int, streaming: bool
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
    client: openai.OpenAI, vllm: str, tools: Any
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
