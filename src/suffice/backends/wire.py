"""OpenAI's wire format: a request to the JSON body of one sample, and the parts that answers share.

Pure functions; no sockets here, so that every oddity of a server can be a test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from suffice.backends.protocol import Capabilities
from suffice.backends.think_block import BudgetField, ask_to_think
from suffice.backends.tool_calls import tool_call_json
from suffice.core.completions import TokenLogprob, Usage
from suffice.core.draw import Draw
from suffice.core.errors import InputError, LacksCapability
from suffice.core.requests import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Request,
    Sampling,
    TextPart,
    Tool,
)

Json = dict[str, Any]
# More tokens than any context holds: a count above is a fault, not a number.
MOST_TOKENS = 100_000_000

# How an engine is told to continue an assistant turn: by a pair of fields (vLLM, SGLang), or merely
# by ending the conversation with one (llama.cpp server, Anthropic-style APIs).
PrefillStyle = Literal["continue_final_message", "native"]
MaxTokensField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Where OpenAI-compatible servers differ in how the same thing is written."""

    max_tokens_field: MaxTokensField = "max_tokens"
    prefill: PrefillStyle | None = None
    thinking_budget: BudgetField = "thinking_token_budget"
    cumulative_usage: bool = False  # vLLM: usage in every chunk, so tokens are counted exactly


def chat_body(
    draw: Draw,
    *,
    capabilities: Capabilities,
    dialect: Dialect,
    fixed: Json | None = None,
    stream: bool = True,
) -> Json:
    """Body of a `/v1/chat/completions` request for one sample. Raises LacksCapability.

    `fixed` is `fixed_fields(request)`, where it is at hand already, perhaps encoded.
    """
    request, sampling = draw.request, draw.sampling
    body = dict(fixed) if fixed is not None else fixed_fields(request)
    if draw.prefill:
        body["messages"] = [message_json(message) for message in request.messages]
        _begin_answer(body, draw.prefill, dialect)
    _put_sampling(body, sampling, dialect)
    if sampling.top_logprobs is not None:
        most = capabilities.max_top_logprobs or sampling.top_logprobs
        body["logprobs"] = True
        body["top_logprobs"] = min(sampling.top_logprobs, most)
    if draw.thinking is not None:
        ask_to_think(body, draw.thinking, capabilities, dialect.thinking_budget)
    return _addressed(body, draw, dialect, stream=stream)


def completion_body(
    draw: Draw,
    *,
    dialect: Dialect,
    stream: bool = True,
) -> Json:
    """Body of a `/v1/completions` request; the prompt is the first message's text."""
    plain = Dialect(
        cumulative_usage=dialect.cumulative_usage
    )  # this endpoint knows max_tokens only
    request, sampling = draw.request, draw.sampling
    body = _extra(request)
    body["prompt"] = request.messages[0].text + draw.prefill
    _put_sampling(body, sampling, plain)
    if sampling.top_logprobs is not None:
        body["logprobs"] = sampling.top_logprobs
    return _addressed(body, draw, plain, stream=stream)


def fixed_fields(request: Request) -> Json:
    """What every sample of a request is sent alike: conversation, tools, fields of others."""
    body = _extra(request)
    body["messages"] = [message_json(message) for message in request.messages]
    if request.tools:
        body["tools"] = [tool_json(tool) for tool in request.tools]
    if request.tool_choice_json is not None:
        body["tool_choice"] = json.loads(request.tool_choice_json)
    if request.response_format_json is not None:
        body["response_format"] = json.loads(request.response_format_json)
    return body


def _extra(request: Request) -> Json:
    """Fields that suffice does not model, but for those that would multiply what is drawn."""
    if request.extra_json == "{}":
        return {}
    body = _object(request.extra_json)
    return {name: value for name, value in body.items() if name not in ("n", "best_of")}


def message_json(message: Message) -> Json:
    """One turn as the wire has it."""
    if message.json is not None:
        return _object(message.json)
    turn: Json = {"role": message.role}
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
    """One tool that the model may call, as the wire has it."""
    if tool.json is not None:
        return _object(tool.json)
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters_json is not None:
        function["parameters"] = json.loads(tool.parameters_json)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def usage_of(value: object) -> Usage | None:
    """Usage from its wire object, None if there is none, or one that cannot be."""
    return read_usage(value)[0]


def read_usage(value: object) -> tuple[Usage | None, bool]:
    """Usage from its wire object, and whether it was refused because it cannot be.

    A count below 0 or beyond reason, or that is no whole number, makes the whole of it worthless:
    it would lower what a key has used, or use up its budget for ever. A part that is larger than
    its whole (cached tokens, reasoning tokens) only is left out.
    """
    if not isinstance(value, dict):
        return None, value is not None
    prompt, odd_prompt = _counted(value.get("prompt_tokens"))
    completion, odd_completion = _counted(value.get("completion_tokens"))
    if odd_prompt or odd_completion:
        return None, True
    cached, odd_cached = _part(value.get("prompt_tokens_details"), "cached_tokens", prompt)
    details = value.get("completion_tokens_details")
    reasoning, odd_reasoning = _part(details, "reasoning_tokens", completion)
    usage = Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
    )
    return usage, odd_cached or odd_reasoning


def _counted(value: object) -> tuple[int, bool]:
    """A count, 0 where none is told, and whether it is one that cannot be."""
    if type(value) is int and 0 <= value <= MOST_TOKENS:  # as good as always
        return value, False
    count = None if value is None else _whole_count(value)
    return count or 0, value is not None and count is None


def _part(details: object, name: str, whole: int) -> tuple[int | None, bool]:
    """A count among details, and whether there was one that cannot be."""
    if not isinstance(details, dict):
        return None, False
    told = details.get(name)
    count = _whole_count(told)
    if told is None or (count is not None and count <= whole):
        return count, False
    return None, True


def _whole_count(value: object) -> int | None:
    """A number of tokens that one request can have."""
    count = _count(value)
    return count if count is not None and 0 <= count <= MOST_TOKENS else None


def error_message(value: object) -> str:
    """The sentence inside an error body, whatever its form."""
    if isinstance(value, Mapping):
        for key in ("error", "message", "detail"):
            if key in value:
                return error_message(value[key])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:500]


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


def _put_sampling(body: Json, sampling: Sampling, dialect: Dialect) -> None:
    if sampling.max_tokens is not None:
        for name in ("max_tokens", "max_completion_tokens"):
            body.pop(name, None)  # a client's own way of writing that there is no limit
        body[dialect.max_tokens_field] = sampling.max_tokens
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    for name, value in fields.items():
        if value is not None:
            body[name] = value


def _addressed(body: Json, draw: Draw, dialect: Dialect, *, stream: bool) -> Json:
    """The body with what is said about its answer: by which model, streamed or whole."""
    options = body.pop("stream_options", None)
    body["model"] = draw.model
    if draw.request.priority is not None:
        body["priority"] = draw.request.priority
    if not stream:
        body["stream"] = False
        return body
    own = options if isinstance(options, dict) else {}
    body["stream"] = True
    body["stream_options"] = {**own, "include_usage": True}
    if dialect.cumulative_usage:
        body["stream_options"]["continuous_usage_stats"] = True
    return body


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
