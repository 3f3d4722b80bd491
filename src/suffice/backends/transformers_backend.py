"""A transformers model in this process: for a laptop without a server. Needs the torch extra.

Samples decode one after the other in a thread, token by token, so that cancelling one costs at most
the token in flight, and a sample that is cancelled before its turn costs nothing.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from suffice.backends.detokenize import TextStream
from suffice.backends.hermes_calls import OPEN, HermesCalls
from suffice.backends.kv_cache import forward
from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.reached import tell_reached
from suffice.backends.think_block import check_thinking
from suffice.backends.wire import message_json, tool_json
from suffice.core.completions import FinishReason, TokenLogprob, Usage
from suffice.core.draw import Draw
from suffice.core.errors import InputError, LacksCapability, MissingExtra, UpstreamRejected
from suffice.core.requests import ImagePart, Request, Sampling
from suffice.core.thinking import Thinking

try:
    import torch
except ImportError as error:
    raise MissingExtra.of("torch", "torch", "a model in this process") from error

MAX_TOP_LOGPROBS = 20
# Where neither the request nor the model says how long an answer may be.
DEFAULT_MAX_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """The KV cache of a prompt, kept so that samples of one request share its prefill."""

    ids: tuple[int, ...]
    cache: Any
    logits: torch.Tensor


class TransformersBackend:
    """Serves one loaded causal language model. `model` and `tokenizer` are transformers' own."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._name = name
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="suffice-decode")
        self._prefix: _Prefix | None = None
        # Calls are read in the marks of Hermes and Qwen: a template that writes them reads them.
        template = tokenizer.chat_template or ""
        self._takes_tools = "tools" in template and OPEN in template
        config = model.config
        self._context = int(getattr(config, "max_position_embeddings", 2048))
        ends = model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self._ends = {end for end in [*listed, tokenizer.eos_token_id] if end is not None}

    @property
    def name(self) -> str:
        """The name it was given, which is also its only model's."""
        return self._name

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """Everything but thinking budgets; tools where the chat template knows them."""
        template = self._tokenizer.chat_template or ""
        return Capabilities(
            models=(self._name,),
            logprobs=True,
            max_top_logprobs=MAX_TOP_LOGPROBS,
            thinking_switch="enable_thinking" if "enable_thinking" in template else None,
            prefill=True,
            tools=self._takes_tools,
            max_context_tokens=self._context,
        )

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample, a token each; closing the generator stops the decoding."""
        sampling = draw.sampling
        able = await self.capabilities()
        check_thinking(draw.thinking, able, upstream=self._name, max_tokens=sampling.max_tokens)
        ids = self._prompt_ids(draw.request, draw.thinking, draw.prefill)
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Chunk | BaseException] = asyncio.Queue()
        stopped = threading.Event()

        def put(item: Chunk | BaseException) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        tell_reached()
        job = self._worker.submit(
            self._decode_into, put, ids, sampling, stopped, bool(draw.request.tools)
        )
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            stopped.set()
            # A cancelled task must not leave before the thread has: the contract is that decoding
            # has stopped when this returns. A job that has not begun is simply dropped.
            if not job.cancel():
                await asyncio.shield(asyncio.wrap_future(job))

    async def aclose(self) -> None:
        """Wait for the thread to end."""
        self._prefix = None
        await asyncio.to_thread(self._worker.shutdown)

    def _decode_into(
        self,
        put: Callable[[Chunk | BaseException], None],
        ids: tuple[int, ...],
        sampling: Sampling,
        stopped: threading.Event,
        tools: bool,
    ) -> None:
        try:
            with torch.inference_mode():
                chunks = self._decode(ids, sampling, stopped)
                for chunk in _with_calls(chunks) if tools else chunks:
                    put(chunk)
        except BaseException as error:  # whatever ends the thread, the request must hear of it
            said = str(error) or type(error).__name__
            put(UpstreamRejected(f"{self._name} cannot decode: {said}", status=500))
            if not isinstance(error, Exception):
                raise

    def _decode(
        self, ids: tuple[int, ...], sampling: Sampling, stopped: threading.Event
    ) -> Iterator[Chunk]:
        room = self._context - len(ids)
        limit = min(room, sampling.max_tokens or DEFAULT_MAX_TOKENS)
        cache, logits_V = self._prefill(ids)
        draw = _Drawer(sampling, vocab_size=logits_V.shape[-1])
        text = TextStream(self._tokenizer, stop=sampling.stop)
        reason: FinishReason = "length"
        count = 0
        while count < limit and not stopped.is_set():
            token, logprob = draw(logits_V, self._tokenizer)
            count += 1
            logprobs = (logprob,) if logprob is not None else ()
            if token in self._ends:
                yield Chunk(token_count=1, logprobs=logprobs)
                reason = "stop"
                break
            shown = text.push(token)
            yield Chunk(text=shown, token_count=1, logprobs=logprobs)
            if text.stopped:
                reason = "stop"
                break
            if count < limit:
                step, cache = forward(self._model, cache, input_ids=torch.tensor([[token]]))
                logits_V = step.logits[0, -1].float()
        yield Chunk(
            text=text.flush(),
            token_count=0,
            finish_reason=reason,
            usage=Usage(prompt_tokens=len(ids), completion_tokens=count),
        )

    def _prefill(self, ids: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
        if self._prefix is None or self._prefix.ids != ids:
            out, cache = forward(self._model, input_ids=torch.tensor([ids]))
            self._prefix = _Prefix(ids=ids, cache=cache, logits=out.logits[0, -1].float())
        return copy.deepcopy(self._prefix.cache), self._prefix.logits

    def _prompt_ids(
        self, request: Request, thinking: Thinking | None, prefill: str
    ) -> tuple[int, ...]:
        if request.tools and not self._takes_tools:
            raise LacksCapability(
                f"{self._name} cannot call tools: its chat template has no <tool_call>"
            )
        if request.completion_only:
            ids = self._tokenizer(request.messages[0].text + prefill)["input_ids"]
        else:
            ids = self._tokenizer(
                self._render(request, thinking) + prefill, add_special_tokens=False
            )["input_ids"]
        if len(ids) >= self._context:
            raise UpstreamRejected(
                f"the prompt has {len(ids)} tokens, {self._name} takes {self._context - 1} at most",
                status=400,
            )
        return tuple(ids)

    def _render(self, request: Request, thinking: Thinking | None) -> str:
        turns = []
        for message in request.messages:
            parts = message.content if isinstance(message.content, tuple) else ()
            if any(isinstance(part, ImagePart) for part in parts):
                raise LacksCapability(f"{self._name} cannot see images")
            turns.append(message_json(message) | {"content": message.text})
        variables: dict[str, Any] = (
            {} if thinking is None else {"enable_thinking": thinking.enabled}
        )
        if self._tokenizer.chat_template is None:
            raise InputError(f"{self._name} has no chat template: use /v1/completions")
        if request.tools:
            variables["tools"] = [tool_json(tool) for tool in request.tools]
        rendered: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **variables
        )
        return rendered


def _with_calls(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """A sample's chunks with its calls of tools taken out of the text."""
    reader = HermesCalls()
    for chunk in chunks:
        shown = reader.push(chunk.text)
        if chunk.finish_reason is None:
            yield replace(chunk, text=shown)
            continue
        rest, calls = reader.finish()
        reason: FinishReason = "tool_calls" if calls else chunk.finish_reason
        yield replace(chunk, text=shown + rest, tool_calls=calls, finish_reason=reason)


class _Drawer:
    """Draws tokens as a request's sampling says; log-probabilities are of the raw distribution."""

    def __init__(self, sampling: Sampling, *, vocab_size: int) -> None:
        self._sampling = sampling
        self._seen_V = torch.zeros(vocab_size)
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, logits_V: torch.Tensor, tokenizer: Any) -> tuple[int, TokenLogprob | None]:
        token = self._draw(logits_V)
        self._seen_V[token] += 1
        wanted = self._sampling.top_logprobs
        if wanted is None:
            return token, None
        logprobs_V = torch.log_softmax(logits_V, dim=-1)
        values, indices = logprobs_V.topk(min(wanted, MAX_TOP_LOGPROBS))
        top = tuple(
            (tokenizer.decode([index]), value)
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        )
        logprob = TokenLogprob(
            token=tokenizer.decode([token]), logprob=float(logprobs_V[token]), top=top
        )
        return token, logprob

    def _draw(self, logits_V: torch.Tensor) -> int:
        sampling = self._sampling
        penalty_V = self._seen_V * (sampling.frequency_penalty or 0.0)
        penalty_V += (self._seen_V > 0) * (sampling.presence_penalty or 0.0)
        logits_V = logits_V - penalty_V
        temperature = 1.0 if sampling.temperature is None else sampling.temperature
        if temperature == 0.0:
            return int(logits_V.argmax())
        probabilities_V = torch.softmax(logits_V / temperature, dim=-1)
        kept_V = truncate(probabilities_V, sampling)
        return int(torch.multinomial(kept_V, 1, generator=self._generator))


def truncate(probabilities_V: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities with everything outside top_k, top_p and min_p at zero, not renormalised."""
    kept_V = probabilities_V
    if sampling.top_k is not None and 0 < sampling.top_k < len(kept_V):
        least = kept_V.topk(sampling.top_k).values[-1]
        kept_V = kept_V.where(kept_V >= least, 0.0)
    if sampling.min_p is not None:
        kept_V = kept_V.where(kept_V >= sampling.min_p * probabilities_V.max(), 0.0)
    if sampling.top_p is not None and sampling.top_p < 1.0:
        ordered, order = kept_V.sort(descending=True)
        before = ordered.cumsum(0) - ordered  # mass of all likelier tokens
        ordered = ordered.where(before < sampling.top_p * ordered.sum(), 0.0)
        kept_V = torch.zeros_like(kept_V).scatter(0, order, ordered)
    return kept_V
