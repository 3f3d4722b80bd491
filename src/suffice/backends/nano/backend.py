"""A model of `suffice train` behind the backend contract: NumPy alone, in this process.

A token takes well under a millisecond, so samples decode on the event loop and give way to others
after each token; closing a stream stops its decoding at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suffice.backends.detokenize import TextStream
from suffice.backends.nano.runtime import NanoModel, SequenceCache
from suffice.backends.nano.sampling import TokenSampler
from suffice.backends.nano.soft_part import SoftPart, soft_vectors
from suffice.backends.nano.vocabulary import END, PAD, SHORT, THINK
from suffice.backends.nano.weights import Array
from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.reached import tell_reached
from suffice.core.completions import FinishReason, Usage
from suffice.core.draw import Draw
from suffice.core.errors import InputError, LacksCapability, UpstreamRejected
from suffice.core.requests import Request
from suffice.core.thinking import THINK_END, ModeTokens, Thinking, mode_bias

NAME = "suffice-nano"
MAX_TOP_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 128


def shipped_folder() -> Path:
    """The folder of suffice-nano: weights, config, tokenizer, card, record; it is in the wheel."""
    return Path(__file__).parent / "model"


class NanoBackend:
    """Serves one model folder. Thinking is the model's own choice unless a request decides it.

    `Thinking(enabled=False)` forces the short mode; `Thinking(budget_tokens=...)`, which is what a
    named effort becomes, adds the effort's bias to the log odds of thinking; `Thinking()` without a
    budget forces the think mode. Of a request's other fields `chat_template_kwargs.enable_thinking`
    and `logit_bias` are read, as vLLM reads them, and so are `prompt_embeds` parts after the user's
    text. NAME-short and NAME-think are the same weights
    in one mode, so that a policy can name modes as it names models.
    """

    def __init__(self, folder: Path | None = None, *, name: str = NAME) -> None:
        """`folder` None: the model that ships with this package."""
        self._model = NanoModel(shipped_folder() if folder is None else folder)
        self._name = name
        words = self._model.vocabulary
        self._mode_tokens = ModeTokens(think=words.id(THINK), short=words.id(SHORT))
        self._mode_of = {f"{name}-short": SHORT, f"{name}-think": THINK}
        self._prefix: tuple[tuple[int, ...], SequenceCache, Array] | None = None

    @property
    def name(self) -> str:
        """The name it was given, which is also its first model's."""
        return self._name

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self._model.parameters

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """Everything but tools."""
        return Capabilities(
            models=(self._name, *self._mode_of),
            logprobs=True,
            max_top_logprobs=MAX_TOP_LOGPROBS,
            thinking_switch="enable_thinking",
            mode_tokens=self._mode_tokens,
            prefill=True,
            tools=False,
            max_context_tokens=self._model.config.max_position_embeddings,
        )

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample, a token each; closing the generator stops the decoding."""
        request, sampling, prefill = draw.request, draw.sampling, draw.prefill
        thinking = draw.thinking
        words = self._model.vocabulary
        fields = _fields(request, len(words))
        forced = self._mode_of.get(draw.model) or _forced_mode(thinking, fields)
        nats = None if forced is not None or request.completion_only else mode_bias(thinking)
        lasting_V, first_V = self._biases(fields.biases, nats or 0.0)
        ids = self._prompt_ids(request, prefill)
        soft = self._soft_part(request)
        if soft is not None:
            ids = (*ids[: soft.start], *[words.id(PAD)] * len(soft.vectors_nd), *ids[soft.start :])
        if forced is not None and not prefill:
            ids = (*ids, words.id(forced))
        room = self._model.config.max_position_embeddings - len(ids)
        if room < 1:
            raise UpstreamRejected(
                f"the prompt has {len(ids)} tokens, {self._name} takes "
                f"{self._model.config.max_position_embeddings - 1} at most",
                status=400,
            )
        limit = min(room, sampling.max_tokens or DEFAULT_MAX_TOKENS)
        tell_reached()
        cache, logits_V = self._prefill(ids, soft)
        drawer = TokenSampler(sampling, words, ids)
        text = TextStream(words, stop=sampling.stop)
        reasoning = ids[-1] == words.id(THINK)
        reason: FinishReason = "length"
        count = reasoned = 0
        while count < limit:
            token, logprob = drawer(logits_V + (first_V if count == 0 else lasting_V))
            count += 1
            logprobs = () if logprob is None else (logprob,)
            if token == words.id(END):
                yield Chunk(token_count=1, logprobs=logprobs, mode_bias_nats=nats)
                reason = "stop"
                break
            shown = ""
            if token == words.id(THINK):
                reasoning = True
            elif token == words.id(THINK_END):
                reasoning = False
                reasoned += 1
            elif not reasoning:
                shown = text.push(token)
            reasoned += reasoning
            yield Chunk(
                text=shown,
                reasoning_text=words.tokens[token]
                if reasoning and token != words.id(THINK)
                else "",
                token_count=1,
                logprobs=logprobs,
                mode_bias_nats=nats,
            )
            if text.stopped:
                reason = "stop"
                break
            if count < limit:
                logits_V = self._model.advance([token], cache)
                await asyncio.sleep(0)
        yield Chunk(
            text=text.flush(),
            token_count=0,
            finish_reason=reason,
            usage=Usage(prompt_tokens=len(ids), completion_tokens=count, reasoning_tokens=reasoned),
        )

    async def aclose(self) -> None:
        """Forget the kept prefix; there is no connection."""
        self._prefix = None

    def _biases(self, given: Mapping[int, float], nats: float) -> tuple[Array, Array]:
        """(at every token, at the first): the client's own biases, and the effort's on top."""
        lasting_V = np.zeros(len(self._model.vocabulary), np.float32)
        for token, bias in given.items():
            lasting_V[token] = bias
        first_V = lasting_V.copy()
        for index, bias in self._mode_tokens.biases(nats).items():
            first_V[index] += bias
        return lasting_V, first_V

    def _prefill(self, ids: tuple[int, ...], soft: SoftPart | None) -> tuple[SequenceCache, Array]:
        if soft is not None:  # of one request: another question has other vectors
            vectors_nd, cache = self._model.embed(ids), self._model.start()
            vectors_nd[soft.start : soft.start + len(soft.vectors_nd)] = soft.vectors_nd
            return cache, self._model.advance_vectors(vectors_nd, cache)
        if self._prefix is None or self._prefix[0] != ids:
            cache = self._model.start()
            self._prefix = (ids, cache, self._model.advance(ids, cache))
        _, cache, logits_V = self._prefix
        return cache.copy(), logits_V

    def _soft_part(self, request: Request) -> SoftPart | None:
        """The vectors that stand at the end of the user's turn, before the model's."""
        width = self._model.config.hidden_size
        try:
            vectors_nd = soft_vectors(request, width)
        except InputError as error:
            raise UpstreamRejected(f"{self._name}: {error}", status=400) from None
        if vectors_nd is None:
            return None
        turn = self._model.vocabulary.prompt(request.messages[0].text)
        return SoftPart(start=len(turn) - 1, vectors_nd=vectors_nd)

    def _prompt_ids(self, request: Request, prefill: str) -> tuple[int, ...]:
        words = self._model.vocabulary
        if request.tools:
            raise LacksCapability(f"{self._name} runs in this process and cannot call tools")
        if not request.completion_only and (
            len(request.messages) != 1 or request.messages[0].role != "user"
        ):
            raise UpstreamRejected(
                f"{self._name} answers a single user message, without system message or history",
                status=400,
            )
        text = request.messages[0].text
        try:
            if request.completion_only:
                ids = words.encode(text + prefill)
            else:
                ids = [*words.prompt(text), *words.encode(prefill)]
        except InputError as error:
            raise UpstreamRejected(f"{self._name}: {error}", status=400) from None
        if not ids:
            raise UpstreamRejected(f"{self._name}: the prompt is empty", status=400)
        return tuple(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """What is read of a request's fields that suffice does not model."""

    think: bool | None
    biases: Mapping[int, float]


def _fields(request: Request, tokens: int) -> _Fields:
    """Those fields, checked; UpstreamRejected as a server would refuse them."""
    found = json.loads(request.extra_json)
    template, biases = found.get("chat_template_kwargs"), found.get("logit_bias")
    try:
        think = (template or {}).get("enable_thinking")
        given = {int(token): float(bias) for token, bias in (biases or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise UpstreamRejected(
            "chat_template_kwargs must be an object, and logit_bias one of token ids and numbers",
            status=400,
        ) from None
    outside = [token for token in given if not 0 <= token < tokens]
    if outside:
        raise UpstreamRejected(
            f"logit_bias: token {outside[0]} is none of this model's {tokens}", status=400
        )
    return _Fields(think=None if think is None else bool(think), biases=given)


def _forced_mode(thinking: Thinking | None, fields: _Fields) -> str | None:
    if thinking is None:
        return None if fields.think is None else THINK if fields.think else SHORT
    if not thinking.enabled:
        return SHORT
    return THINK if thinking.budget_tokens is None else None
