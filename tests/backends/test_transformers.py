"""The in-process backend on a tiny random model: nothing is downloaded."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from suffice.backends.kv_cache import forward  # noqa: E402
from suffice.backends.protocol import Chunk  # noqa: E402
from suffice.backends.transformers_backend import TransformersBackend, truncate  # noqa: E402
from suffice.core.draw import Draw  # noqa: E402
from suffice.core.errors import LacksCapability, UpstreamRejected  # noqa: E402
from suffice.core.requests import Message, Request, Sampling, Tool  # noqa: E402

pytestmark = pytest.mark.torch
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import ByteLevel

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<end>"])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<end>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=len(vocabulary), max_position_embeddings=64,
        eos_token_id=vocabulary["<end>"], bos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), tokenizer


@pytest.fixture
def backend(parts: tuple[Any, Any]) -> TransformersBackend:
    return TransformersBackend(*parts, name="tiny")


def question(text: str = "hi", **fields: Any) -> Request:
    return Request(messages=(Message(role="user", content=text),), model="tiny", **fields)


async def collect(
    backend: TransformersBackend, request: Request, sampling: Sampling, prefill: str = ""
) -> list[Chunk]:
    stream = backend.stream(Draw(request, sampling, model="tiny", prefill=prefill))
    async with aclosing(stream) as chunks:
        return [chunk async for chunk in chunks]


def test_greedy_decoding_equals_transformers_generate(
    backend: TransformersBackend, parts: tuple[Any, Any]
) -> None:
    model, tokenizer = parts
    sampling = Sampling(max_tokens=12, temperature=0.0, top_logprobs=4)
    chunks = asyncio.run(collect(backend, question(), sampling))
    prompt = tokenizer("<user>hi\n<assistant>", return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        whole = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    drawn = whole[0, prompt["input_ids"].shape[1] :].tolist()
    ended = drawn[-1] == tokenizer.eos_token_id
    expected = tokenizer.decode(drawn[:-1] if ended else drawn)
    assert "".join(chunk.text for chunk in chunks) == expected
    assert chunks[-1].finish_reason == ("stop" if ended else "length")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(drawn)
    # The log-probabilities are those of one forward pass over the whole text.
    with torch.inference_mode():
        logits = model(input_ids=whole).logits[0]
    first = prompt["input_ids"].shape[1] - 1
    raw = torch.log_softmax(logits[first : first + len(drawn)].float(), dim=-1)
    found = [entry.logprob for chunk in chunks for entry in chunk.logprobs]
    wanted = [float(raw[i, token]) for i, token in enumerate(drawn)]
    assert found == pytest.approx(wanted, abs=1e-4)
    assert all(len(e.top) == 4 for chunk in chunks for e in chunk.logprobs)


def test_seeds_decide_and_samples_share_the_prefill(backend: TransformersBackend) -> None:
    def text(seed: int) -> str:
        async def main() -> list[Chunk]:
            return await collect(backend, question(), Sampling(max_tokens=10, seed=seed))

        return "".join(chunk.text for chunk in asyncio.run(main()))

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(5)}) > 1


def test_closing_stops_the_decoding(backend: TransformersBackend) -> None:
    async def main() -> int:
        calls = 0
        forward = backend._model.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return forward(*args, **kwargs)

        backend._model.forward = counted
        try:
            stream = backend.stream(
                Draw(question(), Sampling(max_tokens=40, temperature=0), model="t")
            )
            async with aclosing(stream) as chunks:
                async for _ in chunks:
                    break
            at_close = calls
            await asyncio.sleep(0.05)
            assert calls == at_close  # nothing runs on after aclose has returned
        finally:
            backend._model.forward = forward
        return calls

    assert asyncio.run(main()) < 40


def test_queued_samples_cost_nothing_when_cancelled(backend: TransformersBackend) -> None:
    async def main() -> list[int]:
        work = [
            asyncio.create_task(
                collect(backend, question(), Sampling(max_tokens=20, temperature=0))
            )
            for _ in range(4)
        ]
        await asyncio.sleep(0)
        for task in work[1:]:
            task.cancel()
        done = await asyncio.gather(*work, return_exceptions=True)
        return [len(r) for r in done if isinstance(r, list)]

    assert len(asyncio.run(main())) == 1


def test_limits(backend: TransformersBackend) -> None:
    last = asyncio.run(collect(backend, question(), Sampling(temperature=0)))[-1]
    assert last.usage is not None
    assert last.usage.total_tokens <= 64  # the context, not DEFAULT_MAX_TOKENS
    with pytest.raises(UpstreamRejected, match="takes 63 at most") as caught:
        asyncio.run(collect(backend, question("x" * 100), Sampling()))
    assert caught.value.status == 400
    with pytest.raises(LacksCapability, match="tools"):
        asyncio.run(collect(backend, question(tools=(Tool(name="f"),)), Sampling()))


def test_a_prefill_is_part_of_the_prompt(backend: TransformersBackend) -> None:
    sampling = Sampling(max_tokens=1, temperature=0)
    plain = asyncio.run(collect(backend, question(), sampling))[-1].usage
    begun = asyncio.run(collect(backend, question(), sampling, prefill="abc"))[-1].usage
    assert plain is not None
    assert begun is not None
    assert begun.prompt_tokens == plain.prompt_tokens + 3


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), [0, 1, 2, 3]),
        (Sampling(top_k=2), [0, 1]),
        (Sampling(top_p=0.5), [0]),
        (Sampling(top_p=0.51), [0, 1]),
        (Sampling(min_p=0.25), [0, 1]),
        (Sampling(top_k=3, top_p=0.8), [0, 1]),
    ],
)
def test_truncation(sampling: Sampling, kept: list[int]) -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.12, 0.08])
    assert truncate(probabilities, sampling).nonzero().flatten().tolist() == kept


class Unheard(BaseException):
    """Of a kind that no handler names."""


@pytest.mark.parametrize("kind", [KeyError, AttributeError, Unheard, FutureWarning])
def test_whatever_ends_the_decoding_thread_ends_the_request(
    backend: TransformersBackend, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise kind("of an unknown kind")

    monkeypatch.setattr(backend, "_prefill", broken)
    with pytest.raises((UpstreamRejected, Unheard), match="of an unknown kind"):
        asyncio.run(asyncio.wait_for(collect(backend, question(), Sampling()), 30.0))


def test_the_cache_has_the_name_that_this_release_gives_it(parts: tuple[Any, Any]) -> None:
    """A second pass that continues the cache equals one pass over all, without a warning."""
    model, _ = parts
    with torch.inference_mode():
        _, cache = forward(model, input_ids=torch.tensor([[1, 2]]))
        out, cache = forward(model, cache, input_ids=torch.tensor([[3]]))
        whole, _ = forward(model, input_ids=torch.tensor([[1, 2, 3]]))
    torch.testing.assert_close(out.logits[0, -1], whole.logits[0, -1])
    assert cache.get_seq_length() == 3
