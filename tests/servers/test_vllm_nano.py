"""suffice-nano behind a real vLLM: the same greedy tokens everywhere, and effort as a logit bias.

`scripts/test-vllm` prepares and runs this. SUFFICE_VLLM_PYTHON names an interpreter with vLLM;
SUFFICE_VLLM_NANO_URL a server that runs already; SUFFICE_NANO_MODEL another folder than the model
that ships; SUFFICE_NANO_REPORT a file to write the figures into.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from suffice.backends.mode_tokens import mode_tokens_of
from suffice.backends.nano.backend import NAME, shipped_folder
from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.vocabulary import SHORT, THINK
from suffice.core.files import write_json
from suffice.core.thinking import EFFORT_BIAS_NATS
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.tasks.puzzles import Mixture, Problem
from tests.servers.tools import serving
from tests.servers.vllm_server import vllm_server

# Its first test waits for the server, which takes minutes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]
FOLDER = Path(os.environ.get("SUFFICE_NANO_MODEL") or shipped_folder())
MAX_TOKENS = 48
PROBLEMS = [
    problem
    for problems in Mixture().distinct(25, seed=11, split="held_out").values()
    for problem in problems
]
SWEPT = PROBLEMS[::2]  # six efforts, each a request through the gateway
# What a request says, and the token that its prompt then ends with.
MODES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "free": ({}, []),
    "short": ({"chat_template_kwargs": {"enable_thinking": False}}, [SHORT]),
    "think": ({"chat_template_kwargs": {"enable_thinking": True}}, [THINK]),
}
REPORT: dict[str, Any] = {}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ["--dtype", "float32", "--max-model-len", "128"]
    log = tmp_path_factory.mktemp("vllm") / "log"
    at = os.environ.get("SUFFICE_VLLM_NANO_URL")
    with vllm_server(str(FOLDER), NAME, options, log, at=at) as url:
        yield url
    report = os.environ.get("SUFFICE_NANO_REPORT")
    if report:
        write_json(Path(report), REPORT)


@pytest.fixture(scope="module")
def client(vllm: str) -> Iterator[openai.OpenAI]:
    upstream = UpstreamConfig(url=vllm, mode_tokens=mode_tokens_of(FOLDER))
    config = GatewayConfig(upstreams=(upstream,), answer_format="number")
    with (
        serving(config) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def drawn_by_vllm(http: httpx2.Client, url: str, problem: Problem, fields: dict[str, Any]) -> Any:
    body = {
        "model": NAME, "messages": [{"role": "user", "content": problem.prompt}],
        "temperature": 0, "max_tokens": MAX_TOKENS, "return_token_ids": True, **fields,
    }  # fmt: skip
    answer = http.post(f"{url}/v1/chat/completions", json=body).raise_for_status().json()
    return answer["prompt_token_ids"], answer["choices"][0]["token_ids"]


@pytest.mark.parametrize("mode", MODES)
def test_greedy_tokens_equal_those_of_the_embedded_runtime(vllm: str, mode: str) -> None:
    fields, begun = MODES[mode]
    model = NanoModel(FOLDER)
    words = model.vocabulary
    assert len(PROBLEMS) >= 100
    with httpx2.Client(timeout=60.0) as http:
        for problem in PROBLEMS:
            prompt = [*words.prompt(problem.prompt), *map(words.id, begun)]
            mine = greedy(model, prompt, max_tokens=MAX_TOKENS)
            assert (prompt, mine) == drawn_by_vllm(http, vllm, problem, fields), problem.prompt
    REPORT.setdefault("equal_to_embedded", {})[mode] = len(PROBLEMS)


@pytest.mark.torch
@pytest.mark.parametrize("mode", MODES)
def test_greedy_tokens_equal_those_of_transformers(mode: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    fields, begun = MODES[mode]
    mine = NanoModel(FOLDER)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    for problem in PROBLEMS:
        messages = [{"role": "user", "content": problem.prompt}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False,
            **fields.get("chat_template_kwargs", {}),
        )  # fmt: skip
        prompt = [*mine.vocabulary.prompt(problem.prompt), *map(mine.vocabulary.id, begun)]
        assert list(ids) == prompt
        with torch.inference_mode():
            drawn = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)),
                do_sample=False, max_new_tokens=MAX_TOKENS,
            )[0, len(prompt):].tolist()  # fmt: skip
        assert drawn == greedy(mine, prompt, max_tokens=MAX_TOKENS), problem.prompt
    REPORT.setdefault("equal_to_transformers", {})[mode] = len(PROBLEMS)


def ask(client: openai.OpenAI, problem: Problem, **fields: Any) -> Any:
    given: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_TOKENS, **fields}
    return client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": problem.prompt}], **given
    )


def receipt(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = (response.model_extra or {})["suffice"]
    return found


def test_effort_moves_the_share_of_thinking_and_is_on_the_receipt(client: openai.OpenAI) -> None:
    shares = {}
    for effort, nats in EFFORT_BIAS_NATS.items():
        thought = right = tokens = 0
        for problem in SWEPT:
            response = ask(client, problem, reasoning_effort=effort)
            (sample,) = receipt(response)["samples"]
            # "none" is no bias: the template forces the short mode.
            assert sample["mode_bias_nats"] == (None if effort == "none" else nats)
            text = response.choices[0].message.content
            thought += text.startswith(THINK)
            right += sample["answer"] == problem.answer
            tokens += response.usage.completion_tokens
        count = len(SWEPT)
        shares[effort] = {
            "think": thought / count, "right": right / count, "tokens": tokens / count,
        }  # fmt: skip
    REPORT["efforts"] = shares
    think = [shares[effort]["think"] for effort in EFFORT_BIAS_NATS]
    assert think == sorted(think)
    assert think[0] == 0.0
    assert shares["minimal"]["think"] < shares["medium"]["think"] < shares["xhigh"]["think"]


@pytest.mark.parametrize("mode", ["short", "think"])
def test_a_policy_runs_on_either_mode(client: openai.OpenAI, mode: str) -> None:
    fields, _ = MODES[mode]
    problem = next(p for p in PROBLEMS if p.difficulty == (1 if mode == "short" else 5))
    response = ask(
        client, problem, temperature=1,
        extra_body={**fields, "suffice": {"policy": "adaptive_consistency:max_samples=8"}},
    )  # fmt: skip
    found = receipt(response)
    assert found["arm"] == "adaptive_consistency"
    assert found["votes"].get(problem.answer, 0) >= 3
    assert response.usage.completion_tokens == sum(
        sample["completion_tokens"] for sample in found["samples"]
    )


def test_what_it_cannot_answer_is_the_engines_own_error(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "system", "content": "3"}, {"role": "user", "content": "3f"}]
    with pytest.raises(openai.BadRequestError, match="single user message"):
        client.chat.completions.create(model="suffice/single", messages=messages)
