"""The NumPy model behind the backend contract: modes, effort, sampling, errors, cancellation."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suffice.backends.nano.backend import NanoBackend
from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.sampling import TokenSampler
from suffice.backends.nano.vocabulary import Vocabulary
from suffice.backends.nano.weights import WEIGHTS, expected_shapes, read_config
from suffice.backends.protocol import Backend, Chunk
from suffice.core.draw import Draw
from suffice.core.errors import LacksCapability, UpstreamRejected
from suffice.core.requests import Message, Request, Sampling, Tool
from suffice.core.thinking import EFFORT_BIAS_NATS, EFFORTS, Thinking, mode_bias

VOCABULARY = Vocabulary.of("0123456789abcdef,")
CONFIG = {
    "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "vocab_size": len(VOCABULARY), "max_position_embeddings": 48,
}  # fmt: skip
GREEDY = Sampling(max_tokens=12, temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nano")
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text(VOCABULARY.to_json())
    rng = np.random.default_rng(4)
    header, body = {}, b""
    for name, shape in expected_shapes(read_config(path)).items():
        raw = rng.normal(size=shape).astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)],
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    (path / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


@pytest.fixture
def backend(folder: Path) -> NanoBackend:
    return NanoBackend(folder)


def question(text: str = "3bf", **fields: Any) -> Request:
    return Request(messages=(Message(role="user", content=text),), model="nano", **fields)


def collect(
    backend: Backend, request: Request, sampling: Sampling = GREEDY, **named: Any
) -> list[Chunk]:
    async def run() -> list[Chunk]:
        async with aclosing(
            backend.stream(Draw(request, sampling, model="nano", **named))
        ) as chunks:
            return [chunk async for chunk in chunks]

    return asyncio.run(run())


def everything(chunks: list[Chunk]) -> str:
    return "".join(c.reasoning_text for c in chunks) + "|" + "".join(c.text for c in chunks)


@pytest.mark.parametrize(("enabled", "mode"), [(True, "<think>"), (False, "<short>")])
def test_a_forced_mode_decodes_like_the_model(
    backend: NanoBackend, folder: Path, enabled: bool, mode: str
) -> None:
    chunks = collect(backend, question(), thinking=Thinking(enabled=enabled))
    model = NanoModel(folder)
    ids = [*VOCABULARY.prompt("3bf"), VOCABULARY.id(mode)]
    drawn = greedy(model, ids, max_tokens=12)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == len(drawn)
    assert usage.prompt_tokens == len(ids)
    inside, spelled = enabled, {True: "", False: ""}
    for token in drawn:
        name = VOCABULARY.tokens[token]
        inside = name == "<think>" or (inside and name != "</think>")
        if name not in ("<think>", "</think>") and (inside or len(name) == 1):
            spelled[inside] += name
    assert everything(chunks) == f"{spelled[True]}|{spelled[False]}"
    ended = VOCABULARY.tokens[drawn[-1]] == "<end>"
    assert chunks[-1].finish_reason == ("stop" if ended else "length")


def first_logprobs(backend: NanoBackend, request: Request, effort: str | None) -> dict[str, float]:
    sampling = Sampling(max_tokens=1, temperature=0.0, top_logprobs=len(VOCABULARY))
    thinking = None if effort is None else Thinking.of_effort(effort)
    chunks = collect(backend, request, sampling, thinking=thinking)
    return dict(next(p for c in chunks for p in c.logprobs).top)


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh"])
def test_effort_is_a_bias_on_the_choice(backend: NanoBackend, effort: str) -> None:
    free = first_logprobs(backend, question(), None)
    found = first_logprobs(backend, question(), effort)

    def odds(logprobs: dict[str, float]) -> float:
        return logprobs["<think>"] - logprobs["<short>"]

    nats = EFFORT_BIAS_NATS[effort]  # type: ignore[index]
    assert odds(found) - odds(free) == pytest.approx(nats, abs=1e-4)
    # The mode that is wanted less falls; the other does not rise against the rest.
    kept = "<short>" if nats < 0 else "<think>"
    assert found[kept] - found["a"] == pytest.approx(free[kept] - free["a"], abs=1e-4)


def test_the_bias_is_noted_and_ends_with_the_choice(backend: NanoBackend) -> None:
    sampling = Sampling(max_tokens=6, temperature=0.0, top_logprobs=len(VOCABULARY))
    biased = collect(backend, question(), sampling, thinking=Thinking.of_effort("low"))
    free = collect(backend, question(), sampling)
    assert {chunk.mode_bias_nats for chunk in biased[:-1]} == {-4.0}
    assert {chunk.mode_bias_nats for chunk in free} == {None}
    # The same weights go on from the same choice without a bias.
    chosen = next(p for c in biased for p in c.logprobs).token
    mode = {"<think>": True, "<short>": False}.get(chosen)
    if mode is not None:
        forced = collect(backend, question(), sampling, thinking=Thinking(enabled=mode))
        after = [p.token for c in biased for p in c.logprobs][1:]
        assert after == [p.token for c in forced for p in c.logprobs][: len(after)]


@pytest.mark.parametrize(
    ("alias", "fields"),
    [("short", {"enable_thinking": False}), ("think", {"enable_thinking": True})],
)
def test_a_mode_is_asked_for_by_name_or_template_switch(
    backend: NanoBackend, alias: str, fields: dict[str, bool]
) -> None:
    forced = collect(backend, question(), thinking=Thinking(enabled=alias == "think"))
    switch = json.dumps({"chat_template_kwargs": fields})
    assert everything(collect(backend, question(extra_json=switch))) == everything(forced)

    async def named() -> list[Chunk]:
        chunks = backend.stream(Draw(question(), GREEDY, model=f"suffice-nano-{alias}"))
        async with aclosing(chunks):
            return [chunk async for chunk in chunks]

    assert everything(asyncio.run(named())) == everything(forced)


def test_a_clients_logit_bias_is_applied_at_every_token(backend: NanoBackend) -> None:
    only = VOCABULARY.id("7")
    request = question(extra_json=json.dumps({"logit_bias": {str(only): 100}}))
    assert everything(collect(backend, request)) == "|" + "7" * GREEDY.max_tokens  # type: ignore[operator]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"logit_bias": {"999": 1}}, "none of this model's"),
        ({"logit_bias": {"think": 1}}, "token ids and numbers"),
        ({"chat_template_kwargs": [1]}, "must be an object"),
    ],
)
def test_fields_that_make_no_sense_are_refused(
    backend: NanoBackend, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UpstreamRejected, match=said):
        collect(backend, question(extra_json=json.dumps(fields)))


def test_biases_rise_with_effort_and_medium_is_as_trained() -> None:
    values = [EFFORT_BIAS_NATS[effort] for effort in EFFORTS]
    assert values == sorted(values)
    assert mode_bias(Thinking.of_effort("medium")) == 0.0
    assert mode_bias(None) is None
    assert mode_bias(Thinking()) is None  # forced, not biased
    assert mode_bias(Thinking.of_effort("none")) is None  # forced too


def test_prefill_goes_on_where_it_ends(backend: NanoBackend, folder: Path) -> None:
    chunks = collect(backend, question(), prefill="<think>,b6")
    ids = [*VOCABULARY.prompt("3bf"), *VOCABULARY.encode("<think>,b6")]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == len(ids)
    assert chunks[-1].usage.completion_tokens == len(greedy(NanoModel(folder), ids, max_tokens=12))


def test_a_seed_repeats_and_samples_share_one_prefill(backend: NanoBackend) -> None:
    sampling = Sampling(max_tokens=10, temperature=1.0, seed=5)
    first = everything(collect(backend, question(), sampling))
    assert everything(collect(backend, question(), sampling)) == first
    others = {
        everything(collect(backend, question(), Sampling(max_tokens=10, seed=s))) for s in range(9)
    }
    assert len(others) > 1


def test_a_seed_means_something_else_to_every_prompt(backend: NanoBackend) -> None:
    def first(prompt: str) -> str:
        sampling = Sampling(max_tokens=1, temperature=50.0, seed=-3, top_logprobs=0)  # a fair die
        return next(
            p for c in collect(backend, question(prompt), sampling) for p in c.logprobs
        ).token

    drawn = [first(f"{a}{b}") for a in "0123456789" for b in "abcdef"]
    assert len(set(drawn)) > 10
    assert [first("3b"), first("3b")] == [first("3b")] * 2


def test_closing_stops_decoding(backend: NanoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    advance = NanoModel.advance

    def counted(self: NanoModel, ids: Any, cache: Any) -> Any:
        nonlocal calls
        calls += 1
        return advance(self, ids, cache)

    monkeypatch.setattr(NanoModel, "advance", counted)

    async def run() -> None:
        stream = backend.stream(Draw(question(), Sampling(max_tokens=30, seed=1), model="nano"))
        async with aclosing(stream) as chunks:
            async for _ in chunks:
                break

    asyncio.run(run())
    assert calls == 1  # the prefill alone


def test_two_streams_take_turns(backend: NanoBackend) -> None:
    order: list[int] = []

    async def run(which: int) -> None:
        sampling = Sampling(max_tokens=6, temperature=0.0)
        stream = backend.stream(Draw(question(), sampling, model="nano", thinking=Thinking()))
        async with aclosing(stream) as chunks:
            async for _ in chunks:
                order.append(which)  # noqa: PERF401 - in turn, as they come

    async def both() -> None:
        await asyncio.gather(run(0), run(1))

    asyncio.run(both())
    assert order[:4] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (question("hello"), "outside this model's alphabet"),
        (question("3" * 60), "takes 47 at most"),
        (
            Request(
                messages=(Message(role="system", content="x"), Message(role="user", content="3")),
                model="nano",
            ),
            "single user message",
        ),
    ],
)
def test_what_it_cannot_answer_is_a_400(
    backend: NanoBackend, request_: Request, message: str
) -> None:
    with pytest.raises(UpstreamRejected, match=message) as caught:
        collect(backend, request_)
    assert caught.value.status == 400


def test_tools_are_refused(backend: NanoBackend) -> None:
    with pytest.raises(LacksCapability, match="cannot call tools"):
        collect(backend, question(tools=(Tool(name="f"),)))


def test_truncation_keeps_what_it_says() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05] + [1e-9] * (len(VOCABULARY) - 4), np.float32))

    def drawn(**fields: Any) -> set[int]:
        draw = TokenSampler(Sampling(seed=0, **fields), VOCABULARY)
        return {draw(logits)[0] for _ in range(300)}

    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_p=0.7) == {0, 1}
    assert drawn(min_p=0.2) == {0, 1, 2}
    assert drawn(temperature=0.0) == {0}


def test_penalties_and_logprobs() -> None:
    logits = np.zeros(len(VOCABULARY), np.float32)
    logits[:2] = (2.0, 1.5)
    sampling = Sampling(temperature=0.0, presence_penalty=1.0, top_logprobs=2)
    draw = TokenSampler(sampling, VOCABULARY)
    first, raw = draw(logits)
    second, _ = draw(logits)
    assert (first, second) == (0, 1)
    assert raw is not None
    assert raw.top[0][1] == pytest.approx(raw.logprob)
    assert [name for name, _ in raw.top] == ["<pad>", "<end>"]
