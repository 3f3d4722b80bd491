"""Vectors in a chat message: vLLM, the embedded runtime and torch give the same answers.

`scripts/test-vllm` runs this. SUFFICE_VLLM_EMBEDS_URL names a server that runs already with
`--enable-prompt-embeds`; SUFFICE_EMBEDS_REPORT a file to write the figures into.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from suffice.backends.nano.backend import NAME, NanoBackend, shipped_folder
from suffice.backends.nano.runtime import NanoModel
from suffice.backends.prompt_embeds import prompt_embeds_part
from suffice.core.draw import Draw
from suffice.core.files import write_json
from suffice.core.requests import Message, Request, Sampling, TextPart
from suffice.core.thinking import Thinking
from suffice.tasks.puzzles import Mixture, Problem
from tests.servers.vllm_server import vllm_server

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.torch, pytest.mark.timeout(900)]
PROBLEMS = [
    problem
    for problems in Mixture(difficulties=(1, 2, 3)).distinct(20, seed=3, split="held_out").values()
    for problem in problems
]
SLOTS = 4
REPORT: dict[str, Any] = {"equal": {}}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ["--dtype", "float32", "--max-model-len", "128", "--enable-prompt-embeds"]
    log = tmp_path_factory.mktemp("vllm") / "log"
    at = os.environ.get("SUFFICE_VLLM_EMBEDS_URL")
    with vllm_server(str(shipped_folder()), NAME, options, log, at=at) as url:
        yield url
    report = os.environ.get("SUFFICE_EMBEDS_REPORT")
    if report:
        write_json(Path(report), REPORT)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(shipped_folder(), dtype="float32").eval()


def vectors_of(kind: str, place: int, model: Any) -> np.ndarray:
    """(SLOTS, d): zeros, noise as long as embeddings, or the embedding of some digit."""
    embed = model.get_input_embeddings().weight.detach().numpy()
    rng = np.random.default_rng(place)
    if kind == "zero":
        return np.zeros((SLOTS, embed.shape[1]))
    if kind == "random":
        return rng.normal(size=(SLOTS, embed.shape[1])) * embed.std()
    words = NanoModel(shipped_folder()).vocabulary
    return embed[[words.id(str(rng.integers(10))) for _ in range(SLOTS)]]


def by_vllm(http: httpx2.Client, url: str, problem: Problem, vectors: np.ndarray) -> list[int]:
    part = json.loads(prompt_embeds_part(vectors).json)
    body = {
        "model": NAME, "temperature": 0, "max_tokens": 3, "return_token_ids": True,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": problem.prompt}, part]}
        ],
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    answer = http.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    ids: list[int] = answer.json()["choices"][0]["token_ids"]
    return ids


def by_runtime(backend: NanoBackend, problem: Problem, vectors: np.ndarray) -> str:
    content = (TextPart(text=problem.prompt), prompt_embeds_part(vectors))
    request = Request(messages=(Message(role="user", content=content),), model=NAME)
    draw = Draw(
        request, Sampling(max_tokens=3, temperature=0.0), model=NAME,
        thinking=Thinking(enabled=False),
    )  # fmt: skip

    async def run() -> str:
        async with aclosing(backend.stream(draw)) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    return asyncio.run(run())


def by_torch(model: Any, problem: Problem, vectors: np.ndarray) -> list[int]:
    """Three greedy tokens, each by a whole pass over embeddings."""
    words = NanoModel(shipped_folder()).vocabulary
    embed = model.get_input_embeddings()
    prompt = words.prompt(problem.prompt)  # <user> ... <assistant>
    after = [prompt[-1], words.id("<short>")]
    slots = torch.tensor(vectors, dtype=torch.float32)
    ids: list[int] = []
    with torch.no_grad():
        for _ in range(3):
            tail = embed(torch.tensor([*after, *ids]))
            row = torch.cat([embed(torch.tensor(prompt[:-1])), slots, tail])
            ids.append(int(model(inputs_embeds=row[None]).logits[0, -1].argmax()))
            if ids[-1] == words.id("<end>"):
                break
    return ids


@pytest.mark.parametrize("kind", ["zero", "random", "digit"])
def test_the_same_tokens_in_three_runtimes(vllm: str, model: Any, kind: str) -> None:
    backend, words = NanoBackend(shipped_folder()), NanoModel(shipped_folder()).vocabulary
    said = set()
    with httpx2.Client(timeout=120.0) as http:
        for n, problem in enumerate(PROBLEMS):
            vectors = vectors_of(kind, n, model)
            due = by_torch(model, problem, vectors)
            assert by_vllm(http, vllm, problem, vectors) == due, problem.prompt
            text = words.decode([token for token in due if token != words.id("<end>")])
            assert by_runtime(backend, problem, vectors) == text, problem.prompt
            said.add(text)
    assert len(said) > 1
    REPORT["equal"][kind] = len(PROBLEMS)
