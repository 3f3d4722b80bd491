"""A model of `suffice train` behind the backend contract: NumPy alone, in this process.

A token takes well under a millisecond, so samples decode on the event loop and give way to others
after each token; closing a stream stops its decoding at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np

from suffice.backends.detokenize import TextStream
from suffice.backends.nano.runtime import Cache, NanoModel
from suffice.backends.nano.sampling import Drawer, mode_bias
from suffice.backends.nano.vocabulary import END, SHORT, THINK, THINK_END
from suffice.backends.nano.weights import Array
from suffice.backends.protocol import Capabilities, Chunk
from suffice.core.completions import FinishReason, Usage
from suffice.core.errors import InputError, LacksCapability, UpstreamRejected
from suffice.core.requests import Request, Sampling
from suffice.core.thinking import Thinking

MAX_TOP_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 128


class NanoBackend:
    """Serves one model folder. Thinking is the model's own choice unless a request decides it.

    `Thinking(enabled=False)` forces the short mode; `Thinking(budget_tokens=...)`, which is what a
    named effort becomes, adds the effort's bias to the logit of thinking; `Thinking()` without a
    budget forces the think mode.
    """

    def __init__(self, folder: Path, *, name: str = "suffice-nano") -> None:
        self._model = NanoModel(folder)
        self._name = name
        self._prefix: tuple[tuple[int, ...], Cache, Array] | None = None

    @property
    def name(self) -> str:
        """The name it was given, which is also its only model's."""
        return self._name

    async def capabilities(self) -> Capabilities:
        """Everything but tools."""
        return Capabilities(
            models=(self._name,),
            logprobs=True,
            max_top_logprobs=MAX_TOP_LOGPROBS,
            thinking_switch="enable_thinking",
            prefill=True,
            tools=False,
            max_context_tokens=self._model.config.max_position_embeddings,
        )

    async def stream(
        self,
        request: Request,
        sampling: Sampling,
        *,
        model: str,
        thinking: Thinking | None = None,
        prefill: str = "",
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample, a token each; closing the generator stops the decoding."""
        del model  # there is only one
        words = self._model.vocabulary
        forced = _forced_mode(thinking)
        ids = self._prompt_ids(request, prefill)
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
        cache, logits_V = self._prefill(ids)
        bias_V = np.zeros(len(words), np.float32)
        bias_V[words.id(THINK)] = mode_bias(thinking)
        draw = Drawer(sampling, words)
        text = TextStream(words, stop=sampling.stop)
        reasoning = ids[-1] == words.id(THINK)
        reason: FinishReason = "length"
        count = reasoned = 0
        while count < limit:
            token, logprob = draw(logits_V + bias_V if count == 0 else logits_V)
            count += 1
            logprobs = () if logprob is None else (logprob,)
            if token == words.id(END):
                yield Chunk(token_count=1, logprobs=logprobs)
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

    def _prefill(self, ids: tuple[int, ...]) -> tuple[Cache, Array]:
        if self._prefix is None or self._prefix[0] != ids:
            cache = self._model.start()
            self._prefix = (ids, cache, self._model.advance(ids, cache))
        _, cache, logits_V = self._prefix
        return cache.copy(), logits_V

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


def _forced_mode(thinking: Thinking | None) -> str | None:
    if thinking is None:
        return None
    if not thinking.enabled:
        return SHORT
    return THINK if thinking.budget_tokens is None else None
