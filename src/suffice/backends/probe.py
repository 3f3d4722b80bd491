"""What a server can do, found out by asking it: about a dozen requests for one token each.

Three questions settle most of it. A server that knows a field refuses nonsense in it, while one
that ignores the field accepts anything. A server that continues an assistant turn counts fewer
prompt tokens than one that closes it. A template with a thinking switch renders another prompt
for it. Only whether a thinking model can be stopped takes up to three requests of 24 tokens.
"""

from __future__ import annotations

import asyncio
import json
from typing import Protocol

from suffice.backends.protocol import Capabilities, ModelCard, ThinkingSwitch
from suffice.backends.think_block import BudgetField, budget_fields
from suffice.backends.wire import Dialect, Json, MaxTokensField, PrefillStyle, logprobs_of, usage_of
from suffice.core.errors import UpstreamRejected

_QUESTION = [{"role": "user", "content": "Hi"}]
_BEGUN = [*_QUESTION, {"role": "assistant", "content": "a"}]
_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
# What closing a turn and opening the next adds in the tersest chat templates is 3 tokens or more;
# the single letter above is 1, with a space before it 2.
_TURN_TOKENS = 3
# What a server answers to a chat that the model cannot have, whatever is asked.
_NO_CHAT = (400, 404, 405, 422, 501)
_WANTED_TOP_LOGPROBS = 20  # OpenAI's and vLLM's most
# A model that thinks is still at it after so many tokens, unless it was made to stop at once.
THINKING_TOKENS = 24
# Budgets whose fields engines read without refusing nonsense in them.
_SILENT_BUDGETS: tuple[BudgetField, ...] = ("thinking_budget_tokens", "custom_params")


class Poster(Protocol):
    """The one thing that probing needs of a backend."""

    @property
    def name(self) -> str:
        """Name of the upstream in messages."""
        ...

    async def models(self) -> tuple[ModelCard, ...]:
        """What it serves."""
        ...

    async def post(self, path: str, body: Json | None) -> tuple[int, Json]:
        """Status and parsed answer of a POST (None: a GET)."""
        ...


def listed_models(upstream: str, status: int, listed: Json) -> tuple[ModelCard, ...]:
    """The cards in an answer to /v1/models. Raises UpstreamRejected if it is none."""
    cards = listed.get("data", ())
    if status != 200 or "data" not in listed or not isinstance(cards, list | None):
        raise UpstreamRejected(
            f"{upstream} lists no models at /v1/models (status {status}): "
            "is this an OpenAI-compatible server? One that has no list is told what it serves "
            'by models = ["…"]',
            status=502,
        )
    named = [c for c in cards or () if isinstance(c, dict) and isinstance(c.get("id"), str)]
    return tuple(ModelCard(id=card["id"], card_json=json.dumps(card)) for card in named)


async def probe(backend: Poster, model: str | None = None) -> tuple[Capabilities, Dialect]:
    """Capabilities and dialect of one of `backend`'s models, by default its first.

    No other model is asked anything: a server that loads models on demand would load it.
    Raises a BackendError.
    """
    cards = await backend.models()
    if model is None:
        if not cards:
            raise UpstreamRejected(f"{backend.name} serves no model", status=502)
        model = cards[0].id
    card: Json = next((json.loads(each.card_json) for each in cards if each.id == model), {})
    models = tuple(each.id for each in cards)
    prober = _Prober(backend, model)
    if not await prober.chats():
        able = Capabilities(models=models, chat=False, max_context_tokens=_context_tokens(card))
        return able, Dialect(cumulative_usage=card.get("owned_by") == "vllm")
    logprobs, switch, style, version, priority, budget = await asyncio.gather(
        prober.top_logprobs(),
        prober.thinking_switch(),
        prober.prefill_style(),
        backend.post("/version", None),
        prober.honours("priority", 1),
        prober.thinking_budget(),
    )
    is_vllm = card.get("owned_by") == "vllm" or "version" in version[1]
    capabilities = Capabilities(
        models=models,
        logprobs=logprobs is not None,
        max_top_logprobs=logprobs or 0,
        thinking_switch=switch,
        thinking_budget=budget is not None,
        prefill=style is not None,
        priority=priority,
        max_context_tokens=_context_tokens(card),
    )
    dialect = Dialect(
        max_tokens_field=prober.max_tokens_field,
        prefill=style,
        thinking_budget=budget or "thinking_token_budget",
        cumulative_usage=is_vllm,
    )
    return capabilities, dialect


class _Prober:
    def __init__(self, backend: Poster, model: str) -> None:
        self._backend = backend
        self._model = model
        self.max_tokens_field: MaxTokensField = "max_tokens"

    async def ask(self, fields: Json, messages: list[Json] | None = None) -> tuple[int, Json]:
        """Status and answer of a one-token request with `fields`."""
        body = {"model": self._model, "messages": messages or _QUESTION, self.max_tokens_field: 1}
        return await self._backend.post("/v1/chat/completions", body | fields)

    async def chats(self) -> bool:
        """Whether the model answers chat completions; settles how its limit is written.

        Hosted reasoning models want another field than the rest. An embedding model, or one without
        a chat template, refuses whatever it is asked.
        """
        status, _ = await self.ask({})
        if status == 400:  # what it objects to is prose: whether the other name helps is not
            self.max_tokens_field = "max_completion_tokens"
            status, _ = await self.ask({})
            if status == 400:
                self.max_tokens_field = "max_tokens"
        if status in (401, 403):
            raise UpstreamRejected(
                f"{self._backend.name} wants a key: set one for this upstream", status=status
            )
        return status not in _NO_CHAT

    async def top_logprobs(self) -> int | None:
        """Most alternatives per token, None without log-probabilities."""
        for wanted in (_WANTED_TOP_LOGPROBS, 5, 0):
            status, answer = await self.ask({"logprobs": True, "top_logprobs": wanted})
            if status == 200:
                choices = answer.get("choices") or [{}]
                found = logprobs_of(choices[0].get("logprobs"))
                return min(wanted, len(found[0].top)) if found else None
        return None

    async def prefill_style(self) -> PrefillStyle | None:
        """How an answer can be begun for the model."""
        plain, closed, continued = await asyncio.gather(
            self._prompt_tokens({}),
            self._prompt_tokens({}, _BEGUN),
            self._prompt_tokens(_CONTINUE, _BEGUN),
        )
        if plain is None or closed is None:
            return None
        if continued is not None and continued < closed:
            return "continue_final_message"
        return "native" if 0 < closed - plain < _TURN_TOKENS else None

    async def thinking_switch(self) -> ThinkingSwitch | None:
        """What turns the think block on and off."""
        for name in ("enable_thinking", "thinking"):
            on, off = await asyncio.gather(self._rendered(name, True), self._rendered(name, False))
            if on is not None and off is not None and on != off:
                return "enable_thinking" if name == "enable_thinking" else "thinking"
        status, answer = await self.ask({"reasoning_effort": "low"})
        usage = usage_of(answer.get("usage")) if status == 200 else None
        message = (answer.get("choices") or [{}])[0].get("message") or {}
        thought = message.get("reasoning") or message.get("reasoning_content")
        thinks = bool(thought or (usage is not None and usage.reasoning_tokens))
        # That it thinks shows nothing: only a server that reads the effort refuses nonsense.
        if thinks and 400 <= (await self.ask({"reasoning_effort": "nonsense"}))[0] < 500:
            return "reasoning_effort"
        return None

    async def thinking_budget(self) -> BudgetField | None:
        """The field that bounds the think block: one that is checked, or one that shows effect.

        An engine that reads a field without checking it, or ignores it, is found out by what it
        does: thinks on and on without the field, and comes to its answer with it.
        """
        if await self.honours("thinking_token_budget", 16):
            return "thinking_token_budget"
        thought, said = await self._begins({})
        if not thought or said:
            return None  # a model that does not think, or not for long, shows nothing
        for field in _SILENT_BUDGETS:
            _, said = await self._begins(budget_fields(field, 1))
            if said:
                return field
        return None

    async def _begins(self, fields: Json) -> tuple[bool, bool]:
        """Whether the first tokens of an answer hold thinking, and whether they hold a reply."""
        body = {self.max_tokens_field: THINKING_TOKENS, "temperature": 0.0} | fields
        status, answer = await self.ask(body)
        message = (answer.get("choices") or [{}])[0].get("message") or {}
        thought = message.get("reasoning") or message.get("reasoning_content")
        return status == 200 and bool(thought), status == 200 and bool(message.get("content"))

    async def honours(self, field: str, value: int) -> bool:
        """Whether the server reads `field`: it takes `value` and refuses nonsense."""
        (good, _), (bad, _) = await asyncio.gather(
            self.ask({field: value}), self.ask({field: "nonsense"})
        )
        return good == 200 and 400 <= bad < 500

    async def _rendered(self, switch: str, value: bool) -> list[int] | int | None:
        """The prompt with a template variable set: its tokens (vLLM), else how many they are."""
        variable = {"chat_template_kwargs": {switch: value}}
        body = {"model": self._model, "messages": _QUESTION} | variable
        status, answer = await self._backend.post("/tokenize", body)
        if status == 200 and isinstance(answer.get("tokens"), list):
            return list(answer["tokens"])
        return await self._prompt_tokens(variable)

    async def _prompt_tokens(
        self, fields: Json, messages: list[Json] | None = None
    ) -> int | None:  # fmt: skip
        status, answer = await self.ask(fields, messages)
        usage = usage_of(answer.get("usage")) if status == 200 else None
        return usage.prompt_tokens if usage else None


def _context_tokens(card: Json) -> int | None:
    meta = card.get("meta") if isinstance(card.get("meta"), dict) else {}
    for source, key in ((card, "max_model_len"), (meta, "n_ctx"), (card, "context_length")):
        value = source.get(key) if source else None
        if isinstance(value, int):
            return value
    return None
