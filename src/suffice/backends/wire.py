"""OpenAI's wire format for one sample: a request to its JSON body, a stream's JSON to chunks.

Pure functions and one accumulator; no sockets here, so that every oddity of a server can be a test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.think_block import BudgetField, ask_to_think
from suffice.core.completions import FinishReason, TokenLogprob, Usage
from suffice.core.errors import (
    BackendError,
    InputError,
    LacksCapability,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRejected,
)
from suffice.core.requests import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Request,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from suffice.core.thinking import Thinking

try:
    from orjson import loads as _loads  # a stream is one small JSON object per token
except ImportError:  # a recorder or an embedded model may run without the extra serve
    from json import loads as _loads  # type: ignore[assignment]

Json = dict[str, Any]

# How an engine is told to continue an assistant turn: by a pair of fields (vLLM, SGLang), or merely
# by ending the conversation with one (llama.cpp server, Anthropic-style APIs).
PrefillStyle = Literal["continue_final_message", "native"]
MaxTokensField = Literal["max_tokens", "max_completion_tokens"]

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Where OpenAI-compatible servers differ in how the same thing is written."""

    max_tokens_field: MaxTokensField = "max_tokens"
    prefill: PrefillStyle | None = None
    thinking_budget: BudgetField = "thinking_token_budget"
    cumulative_usage: bool = False  # vLLM: usage in every chunk, so tokens are counted exactly


def chat_body(
    request: Request,
    sampling: Sampling,
    *,
    model: str,
    thinking: Thinking | None,
    prefill: str,
    capabilities: Capabilities,
    dialect: Dialect,
) -> Json:
    """Body of a streaming `/v1/chat/completions` request. Raises LacksCapability."""
    body = _extra(request)
    body["messages"] = [message_json(message) for message in request.messages]
    if prefill:
        _begin_answer(body, prefill, dialect)
    body |= _sampling_json(sampling, dialect)
    if sampling.top_logprobs is not None:
        most = capabilities.max_top_logprobs or sampling.top_logprobs
        body |= {"logprobs": True, "top_logprobs": min(sampling.top_logprobs, most)}
    if thinking is not None:
        ask_to_think(body, thinking, capabilities, dialect.thinking_budget)
    if request.tools:
        body["tools"] = [tool_json(tool) for tool in request.tools]
    if request.tool_choice_json is not None:
        body["tool_choice"] = json.loads(request.tool_choice_json)
    if request.response_format_json is not None:
        body["response_format"] = json.loads(request.response_format_json)
    return body | _common_json(request, model, dialect)


def completion_body(
    request: Request, sampling: Sampling, *, model: str, prefill: str, dialect: Dialect
) -> Json:
    """Body of a streaming `/v1/completions` request; the prompt is the first message's text."""
    plain = Dialect(
        cumulative_usage=dialect.cumulative_usage
    )  # this endpoint knows max_tokens only
    body = _extra(request)
    body["prompt"] = request.messages[0].text + prefill
    body |= _sampling_json(sampling, plain)
    if sampling.top_logprobs is not None:
        body["logprobs"] = sampling.top_logprobs
    return body | _common_json(request, model, plain)


def _extra(request: Request) -> Json:
    """Fields that suffice does not model, but for those that would multiply what a stream draws."""
    body = _object(request.extra_json)
    return {name: value for name, value in body.items() if name not in ("n", "best_of")}


def message_json(message: Message) -> Json:
    """One turn as the wire has it."""
    turn = _object(message.extra_json)
    turn["role"] = message.role
    if message.content is None or isinstance(message.content, str):
        turn["content"] = message.content
    else:
        turn["content"] = [_part_json(part) for part in message.content]
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["tool_calls"] = [tool_call_json(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def tool_json(tool: Tool) -> Json:
    """One function that the model may call, as the wire has it."""
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters_json is not None:
        function["parameters"] = json.loads(tool.parameters_json)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def tool_call_json(call: ToolCall) -> Json:
    """One call that a model asked for, as the wire has it."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def usage_of(value: object) -> Usage | None:
    """Usage from its wire object, None if there is none."""
    if not isinstance(value, Mapping):
        return None
    prompt = value.get("prompt_tokens_details")
    completion = value.get("completion_tokens_details")
    return Usage(
        prompt_tokens=_count(value.get("prompt_tokens")) or 0,
        completion_tokens=_count(value.get("completion_tokens")) or 0,
        cached_tokens=_count(prompt.get("cached_tokens")) if isinstance(prompt, Mapping) else None,
        reasoning_tokens=(
            _count(completion.get("reasoning_tokens")) if isinstance(completion, Mapping) else None
        ),
    )


def error_message(value: object) -> str:
    """The sentence inside an error body, whatever its form."""
    if isinstance(value, Mapping):
        for key in ("error", "message", "detail"):
            if key in value:
                return error_message(value[key])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:500]


class ChunkReader:
    """Chunks from the data of a stream's events.

    The chunk with the finish reason is held back until the usage that follows it has been read, so
    that the last chunk carries both. `mode_bias_nats` is what was asked for, noted on each.
    """

    def __init__(self, upstream: str, *, mode_bias_nats: float | None = None) -> None:
        self._upstream = upstream
        self._mode_bias_nats = mode_bias_nats
        self._finish: FinishReason | None = None
        self._usage: Usage | None = None
        self._calls: dict[int, Json] = {}
        self.done = False

    def read_all(self, events: Iterable[str]) -> Iterator[Chunk]:
        """Chunks in the data of events that arrived together; what can be one chunk is one.

        An engine that is faster than its reader is then read in large pieces, at a cost that does
        not grow with the number of tokens. What came before a faulty event is given out first.
        """
        texts: list[str] = []
        for data in events:
            try:
                event = self._event(data)
                if event is None:
                    break
                text = _plain_text(event)
                if text is not None:
                    texts.append(text)
                    continue
                chunk = self._checked(event, data)
            except BackendError:
                yield from self._said(texts)
                raise
            yield from self._said(texts)
            texts = []
            if chunk is not None:
                yield chunk
        yield from self._said(texts)

    def _said(self, texts: list[str]) -> Iterator[Chunk]:
        """Text that came in several events as one chunk; each event counts for a token."""
        if texts:
            yield Chunk(
                text="".join(texts),
                token_count=len(texts) if len(texts) > 1 else None,
                mode_bias_nats=self._mode_bias_nats,
            )

    def read(self, data: str) -> Chunk | None:
        """The chunk in one event's data; None if it only ends or annotates the stream."""
        event = self._event(data)
        return None if event is None else self._checked(event, data)

    def _event(self, data: str) -> Json | None:
        if data.strip() == "[DONE]":
            self.done = True
            return None
        try:
            event = _loads(data)
        except (ValueError, RecursionError) as error:
            raise self._malformed(f"an event that is not JSON ({error}): {data[:80]!r}") from None
        if not isinstance(event, dict):
            raise self._malformed(f"an event that is not an object: {data[:80]!r}")
        return event

    def _checked(self, event: Json, data: str) -> Chunk | None:
        if event.get("error"):
            status = event["error"].get("code") if isinstance(event["error"], dict) else None
            known = status if isinstance(status, int) and 400 <= status < 600 else 502
            raise UpstreamRejected(f"{self._upstream}: {error_message(event)}", status=known)
        try:
            return self._chunk(event)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise self._malformed(f"an unexpected chunk ({error}): {data[:80]!r}") from None

    def last(self) -> Chunk:
        """The stream's last chunk. Raises UpstreamDisconnected if no finish reason was seen."""
        if self._finish is None:
            raise UpstreamDisconnected(
                f"{self._upstream} ended the stream before the answer was complete"
            )
        calls = tuple(_call_of(self._calls[index]) for index in sorted(self._calls))
        return Chunk(
            token_count=0,
            tool_calls=calls,
            finish_reason=self._finish,
            usage=self._usage,
            mode_bias_nats=self._mode_bias_nats,
        )

    def _chunk(self, event: Json) -> Chunk | None:
        told = event.get("usage")
        usage = usage_of(told) if told else None
        before = self._usage.completion_tokens if self._usage else 0
        self._usage = usage or self._usage
        choices = event.get("choices") or []
        if not choices:
            return None
        choice = choices[0]
        delta = choice.get("delta") or {}
        text = choice["text"] if "text" in choice else delta.get("content")
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        logprobs = logprobs_of(choice.get("logprobs"))
        for fragment in delta.get("tool_calls") or []:
            self._add_call(fragment)
        if choice.get("finish_reason") is not None:
            self._end(choice["finish_reason"])
        tokens = usage.completion_tokens - before if usage else len(logprobs) or None
        if not (text or reasoning or logprobs or delta.get("tool_calls") or tokens):
            return None
        return Chunk(
            text=_text(text),
            reasoning_text=_text(reasoning),
            token_count=tokens,
            logprobs=logprobs,
            usage=usage,
            mode_bias_nats=self._mode_bias_nats,
        )

    def _end(self, reason: str) -> None:
        if reason in ("abort", "error"):
            raise UpstreamDisconnected(f"{self._upstream} aborted the sample (finish: {reason})")
        self._finish = _FINISH_REASONS.get(reason, "stop")

    def _add_call(self, fragment: Json) -> None:
        call = self._calls.setdefault(fragment.get("index") or 0, {"arguments": ""})
        function = fragment.get("function") or {}
        call["id"] = fragment.get("id") or call.get("id")
        call["name"] = function.get("name") or call.get("name")
        call["arguments"] += function.get("arguments") or ""

    def _malformed(self, what: str) -> MalformedStream:
        return MalformedStream(f"{self._upstream} sent {what}")


def _plain_text(event: Json) -> str | None:
    """The text of an event that holds nothing else, as nearly all do; None for the others."""
    choices = event.get("choices")
    if type(choices) is not list or len(choices) != 1 or event.get("usage") or event.get("error"):
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") or choice.get("logprobs"):
        return None
    delta = choice.get("delta")
    if type(delta) is not dict or len(delta) != 1 or "text" in choice:
        return None
    text = delta.get("content")
    return text if type(text) is str and text else None


def logprobs_of(value: object) -> tuple[TokenLogprob, ...]:
    """Log-probabilities of a chunk, in the chat form or in that of `/v1/completions`."""
    if not isinstance(value, Mapping):
        return ()
    if value.get("content"):
        return tuple(_chat_logprob(entry) for entry in value["content"])
    tokens, drawn = value.get("tokens") or [], value.get("token_logprobs") or []
    tops = value.get("top_logprobs") or [{}] * len(tokens)
    return tuple(
        TokenLogprob(token=token, logprob=float(logprob), top=tuple((top or {}).items()))
        for token, logprob, top in zip(tokens, drawn, tops, strict=True)
        if logprob is not None  # the first token of an echoed prompt has none
    )


def logprob_json(entry: TokenLogprob) -> Json:
    """One token's log-probability in the chat form; -9999 stands for -inf, which JSON lacks."""
    return _alternative_json(entry.token, entry.logprob) | {
        "top_logprobs": [_alternative_json(token, logprob) for token, logprob in entry.top]
    }


def _alternative_json(token: str, logprob: float) -> Json:
    value = logprob if math.isfinite(logprob) else -9999.0
    return {"token": token, "logprob": value, "bytes": list(token.encode(errors="surrogatepass"))}


def _chat_logprob(entry: Json) -> TokenLogprob:
    top = tuple((t["token"], float(t["logprob"])) for t in entry.get("top_logprobs") or ())
    return TokenLogprob(token=entry["token"], logprob=float(entry["logprob"]), top=top)


def _call_of(call: Json) -> ToolCall:
    return ToolCall(
        id=call.get("id") or "", name=call.get("name") or "", arguments=call["arguments"]
    )


def _sampling_json(sampling: Sampling, dialect: Dialect) -> Json:
    fields = {
        dialect.max_tokens_field: sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _common_json(request: Request, model: str, dialect: Dialect) -> Json:
    options = {"include_usage": True}
    if dialect.cumulative_usage:
        options["continuous_usage_stats"] = True
    common: Json = {"model": model, "stream": True, "stream_options": options}
    return common if request.priority is None else common | {"priority": request.priority}


def _begin_answer(body: Json, prefill: str, dialect: Dialect) -> None:
    if dialect.prefill is None:
        raise LacksCapability(
            "this upstream cannot continue an answer that was begun for it (prefill); "
            "use a policy that needs none, or vLLM, SGLang or llama.cpp server"
        )
    body["messages"].append({"role": "assistant", "content": prefill})
    if dialect.prefill == "continue_final_message":
        body |= {"continue_final_message": True, "add_generation_prompt": False}


def _part_json(part: Part) -> Json:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url, detail=detail):
            image = {"url": url} if detail is None else {"url": url, "detail": detail}
            return {"type": "image_url", "image_url": image}
        case OpaquePart(json=text):
            return _object(text)


def _object(text: str) -> Json:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise InputError(f"extra fields must be a JSON object, got {text[:80]!r}")
    return value


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"text is a {type(value).__name__}")
    return value
