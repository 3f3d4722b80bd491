"""The wire: bodies of `/v1/chat/completions` and `/v1/completions` to a Request and its wishes.

OpenAI's fields that suffice acts upon are modelled; every other field is kept and passed on to the
upstream as it came. `suffice` is our one namespaced field, and strict.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from suffice.core.completions import Budget
from suffice.core.errors import InputError
from suffice.core.requests import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Request,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
)
from suffice.core.thinking import Thinking

# JSON may be nested so deep; its writers and those of the upstreams end at 250 to 1,000.
MOST_DEPTH = 128

_MESSAGE_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id"}


# JSON's writers, ours and the upstreams', go no further.
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class BudgetFields(BaseModel):
    """What one request may consume at most."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    completion_tokens: int | None = Field(default=None, ge=0)
    samples: int | None = Field(default=None, ge=0)
    elapsed_s: float | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)


class SufficeFields(BaseModel):
    """The namespaced object: how much compute, decided how.

    `policy` is a name, or an object with a name and options. `target` is the confidence at which
    the policy stops. `effort` bounds thinking. `answer_format` names the extractor by which answers
    are compared; without it nothing is voted on.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    policy: str | dict[str, Any] | None = None
    model: str | None = None
    budget: BudgetFields | None = None
    effort: str | None = None
    target: float | None = Field(default=None, gt=0, lt=1)
    answer_format: str | None = None
    cache: bool | None = None


NO_WISHES = SufficeFields()


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class _Common(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=2**31)
    max_tokens: int | None = Field(default=None, ge=1, le=2**63 - 1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Int64 | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    seed: Int64 | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    priority: Int64 | None = None
    suffice: SufficeFields = SufficeFields()


class ChatBody(_Common):
    """`/v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**63 - 1)
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None


class CompletionBody(_Common):
    """`/v1/completions`, with a single text as prompt."""

    prompt: str
    logprobs: int | None = Field(default=None, ge=0, le=20)


# What would otherwise be sent on and then be missing from the answer.
_REFUSED = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "ask the upstream's own model for it",
}

BodyT = TypeVar("BodyT", ChatBody, CompletionBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call to the gateway, understood."""

    request: Request
    wishes: SufficeFields
    stream: bool
    include_usage: bool
    n: int
    wants_logprobs: bool
    budget: Budget = field(default_factory=Budget)

    @property
    def chat(self) -> bool:
        """Whether it came to `/v1/chat/completions`."""
        return not self.request.completion_only


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises InputError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError("the body must be a JSON object")
    # Few brackets cannot be nested deep, which spares nearly every body the look.
    if body.count(b"{") + body.count(b"[") > MOST_DEPTH and _is_deep(value):
        raise InputError(f"the body is nested deeper than {MOST_DEPTH} levels")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in (dict, list)
        ]
        if not level:
            return False
    return True


def wants_stream(value: dict[str, Any]) -> bool:
    """Whether a body asks for a stream. Raises InputError where upstreams could differ on that."""
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InputError(f"stream must be true or false, got {str(stream)[:40]!r}")
    return bool(stream)


def wishes_of(value: dict[str, Any]) -> SufficeFields:
    """The `suffice` object of a body, checked; the rest is not looked at."""
    given = value.get("suffice")
    if given is None:
        return NO_WISHES
    try:
        return SufficeFields.model_validate(given)
    except ValidationError as error:
        raise _invalid(error, under="suffice.") from None


def parse_chat(value: dict[str, Any]) -> Ask:
    """A chat completion's body. Raises InputError that names the field."""
    body = _validated(ChatBody, value)
    for field_name, instead in _REFUSED.items():
        if value.get(field_name):
            raise InputError(f"{field_name}: a policy cannot honour it; {instead}")
    if value.get("modalities") not in (None, ["text"]):
        raise InputError("modalities: a policy compares text and gives text; leave it out")
    if body.top_logprobs is not None and not body.logprobs:
        raise InputError("top_logprobs: only with logprobs")
    limits = [n for n in (body.max_completion_tokens, body.max_tokens) if n is not None]
    effort = body.suffice.effort or body.reasoning_effort
    top_logprobs = body.top_logprobs or 0
    request = Request(
        messages=tuple(_message(turn, at) for at, turn in enumerate(body.messages)),
        model=body.model,
        sampling=_sampling(
            body, min(limits, default=None), top_logprobs if body.logprobs else None
        ),
        thinking=None if effort is None else Thinking.of_effort(effort),
        tools=tuple(_tool(tool, at) for at, tool in enumerate(body.tools or [])),
        tool_choice_json=_json_or_none(body.tool_choice),
        response_format_json=_json_or_none(body.response_format),
        answer_format=body.suffice.answer_format or _implied_format(body.response_format),
        priority=body.priority,
        extra_json=json.dumps(body.model_extra or {}),
    )
    return _ask(body, request, wants_logprobs=bool(body.logprobs))


def parse_completion(value: dict[str, Any]) -> Ask:
    """A text completion's body. Raises InputError that names the field."""
    if not isinstance(value.get("prompt"), str):
        raise InputError(
            "prompt must be one string here; lists of prompts or token ids pass only to an "
            "upstream's own model without a policy"
        )
    body = _validated(CompletionBody, value)
    if value.get("best_of") not in (None, 1):
        raise InputError("best_of: a policy draws as many samples as it needs; use best_of_n")
    if body.suffice.effort is not None:
        raise InputError("effort: /v1/completions has no think block; ask /v1/chat/completions")
    request = Request(
        messages=(Message(role="user", content=body.prompt),),
        model=body.model,
        sampling=_sampling(body, body.max_tokens, body.logprobs),
        answer_format=body.suffice.answer_format,
        priority=body.priority,
        extra_json=json.dumps(body.model_extra or {}),
        completion_only=True,
    )
    return _ask(body, request, wants_logprobs=body.logprobs is not None)


def _ask(body: _Common, request: Request, *, wants_logprobs: bool) -> Ask:
    if body.stream_options is not None and not body.stream:
        raise InputError("stream_options: only with stream")
    given = body.suffice.budget
    return Ask(
        request=request,
        wishes=body.suffice,
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        n=body.n or 1,
        wants_logprobs=wants_logprobs,
        budget=Budget(**given.model_dump()) if given else Budget(),
    )


def _validated(kind: type[BodyT], value: dict[str, Any]) -> BodyT:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError, under: str = "") -> InputError:
    first = error.errors()[0]
    where = under + ".".join(str(part) for part in first["loc"])
    return InputError(f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}")


def _sampling(body: _Common, max_tokens: int | None, top_logprobs: int | None) -> Sampling:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Sampling(
        max_tokens=max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        stop=tuple(stop),
        seed=body.seed,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        top_logprobs=top_logprobs,
    )


def _implied_format(response_format: dict[str, Any] | None) -> str | None:
    """JSON that was asked for can be compared; it is the only format that a request implies."""
    kind = (response_format or {}).get("type")
    return "json" if kind in ("json_object", "json_schema") else None


def _message(turn: dict[str, Any], at: int) -> Message:
    role = turn.get("role")
    known: dict[str, Role] = {
        "system": "system", "developer": "developer", "user": "user", "assistant": "assistant",
        "tool": "tool",
    }  # fmt: skip
    if not isinstance(role, str) or role not in known:
        raise InputError(f"messages.{at}.role must be one of {', '.join(known)}, got {role!r}")
    content = turn.get("content")
    if isinstance(content, list):
        content = tuple(_part(part, at) for part in content)
    elif content is not None and not isinstance(content, str):
        raise InputError(f"messages.{at}.content must be text or a list of parts")
    for field_name in ("name", "tool_call_id"):
        if not isinstance(turn.get(field_name), str | None):
            raise InputError(f"messages.{at}.{field_name} must be text")
    calls = turn.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InputError(f"messages.{at}.tool_calls must be a list")
    extra = {name: value for name, value in turn.items() if name not in _MESSAGE_FIELDS}
    return Message(
        role=known[role],
        content=content,
        name=turn.get("name"),
        tool_calls=tuple(_call(call, at) for call in calls),
        tool_call_id=turn.get("tool_call_id"),
        extra_json=json.dumps(extra),
    )


def _part(part: Any, at: int) -> Part:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InputError(f"messages.{at}.content holds a part without a type")
    image = part.get("image_url")
    if part["type"] == "text" and isinstance(part.get("text"), str) and len(part) == 2:
        return TextPart(text=part["text"])
    if part["type"] == "image_url" and isinstance(image, dict) and set(image) <= {"url", "detail"}:
        if isinstance(image.get("url"), str) and isinstance(image.get("detail"), str | None):
            return ImagePart(url=image["url"], detail=image.get("detail"))
        raise InputError(
            f"messages.{at}.content holds an image without a url, or with a detail that is no text"
        )
    return OpaquePart(json=json.dumps(part))


def _call(call: Any, at: int) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InputError(f"messages.{at}.tool_calls holds a call without a function name")
    return ToolCall(
        id=str(call.get("id") or ""),
        name=function["name"],
        arguments=str(function.get("arguments") or ""),
    )


def _tool(tool: dict[str, Any], at: int) -> Tool:
    function = tool.get("function")
    named = isinstance(function, dict) and isinstance(function.get("name"), str)
    if tool.get("type") != "function" or not isinstance(function, dict) or not named:
        raise InputError(f"tools.{at} must be a function with a name")
    if not isinstance(function.get("description"), str | None):
        raise InputError(f"tools.{at}.function.description must be text")
    if not isinstance(function.get("strict"), bool | None):
        raise InputError(f"tools.{at}.function.strict must be true or false")
    return Tool(
        name=function["name"],
        description=function.get("description"),
        parameters_json=_json_or_none(function.get("parameters")),
        strict=function.get("strict"),
    )


def _json_or_none(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
