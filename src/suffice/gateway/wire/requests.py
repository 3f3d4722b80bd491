"""The wire: bodies of `/v1/chat/completions` and `/v1/completions` to a Request and its wishes.

OpenAI's fields that suffice acts upon are modelled; every other field is kept and passed on to the
upstream as it came. `suffice` is our one namespaced field, and strict.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from suffice.backends.tool_calls import call_of
from suffice.core.completions import Budget
from suffice.core.errors import InputError
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
from suffice.core.strict import Strict
from suffice.core.thinking import Thinking

# JSON's writers, ours and the upstreams', go no further.
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class BudgetFields(Strict):
    """What one request may consume at most."""

    completion_tokens: int | None = Field(default=None, ge=0)
    samples: int | None = Field(default=None, ge=0)
    elapsed_s: float | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    tool_calls: int | None = Field(default=None, ge=0)
    tool_s: float | None = Field(default=None, ge=0)


class SufficeFields(Strict):
    """The namespaced object: how much compute, decided how.

    `policy` is a name, or an object with a name and options. `target` is the confidence at which
    the policy stops. `effort` bounds thinking. `answer_format` names the extractor by which answers
    are compared; without it nothing is voted on. `tools` are servers of the operator's whose tools
    the gateway runs.
    """

    policy: str | dict[str, Any] | None = None
    model: str | None = None
    budget: BudgetFields | None = None
    effort: str | None = None
    target: float | None = Field(default=None, gt=0, lt=1)
    answer_format: str | None = None
    cache: bool | None = None
    tools: list[str] | None = None


NO_WISHES = SufficeFields()
NO_BUDGET = Budget()


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class _Common(BaseModel):
    """What both endpoints share. What is wrong with a value is for the engine to say, as it would
    where the request passes through; here is checked only what a policy computes with."""

    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=2**31)
    max_tokens: Int64 | None = None
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = None
    top_k: Int64 | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    seed: Int64 | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    priority: Int64 | None = None
    suffice: SufficeFields | None = None


class ChatBody(_Common):
    """`/v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: Int64 | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: Any = None


class CompletionBody(_Common):
    """`/v1/completions`, with a single text as prompt, or a list of one."""

    prompt: str
    logprobs: int | None = Field(default=None, ge=0, le=20)


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
    budget: Budget = NO_BUDGET

    @property
    def chat(self) -> bool:
        """Whether it came to `/v1/chat/completions`."""
        return not self.request.completion_only


def wants_stream(value: dict[str, Any]) -> bool:
    """Whether a body asks for a stream. Raises InputError where upstreams could differ on that."""
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InputError(f"stream must be true or false, got {str(stream)[:40]!r}")
    return bool(stream)


def wishes_of(value: dict[str, Any]) -> SufficeFields:
    """The `suffice` object of a body, checked; the rest is not looked at."""
    given = value.get("suffice")
    return NO_WISHES if given is None else _wishes(orjson.dumps(given))


@lru_cache(maxsize=256)  # clients repeat themselves; nobody changes what comes out
def _wishes(given: bytes) -> SufficeFields:
    try:
        return SufficeFields.model_validate(orjson.loads(given))
    except ValidationError as error:
        raise _invalid(error, under="suffice.") from None


def parse_chat(value: dict[str, Any]) -> Ask:
    """A chat completion's body. Raises InputError that names the field."""
    body = _validated(ChatBody, _with_wishes(value))
    if body.top_logprobs is not None and not body.logprobs:
        raise InputError("top_logprobs: only with logprobs")
    wishes = body.suffice or NO_WISHES
    effort = wishes.effort or body.reasoning_effort
    top_logprobs = body.top_logprobs or 0
    extra = _extra(body)
    limit = _limit(
        extra, max_completion_tokens=body.max_completion_tokens, max_tokens=body.max_tokens
    )
    request = Request(
        messages=tuple(_message(turn, at) for at, turn in enumerate(body.messages)),
        model=body.model,
        sampling=_sampling(body, limit, top_logprobs if body.logprobs else None),
        thinking=None if effort is None else Thinking.of_effort(effort),
        tools=tuple(map(_tool, body.tools or ())),
        tool_choice_json=_json_or_none(body.tool_choice),
        response_format_json=_json_or_none(body.response_format),
        answer_format=wishes.answer_format,
        priority=body.priority,
        extra_json=_json(extra),
    )
    return _ask(body, request, wants_logprobs=bool(body.logprobs))


def parse_completion(value: dict[str, Any]) -> Ask:
    """A text completion's body. Raises InputError that names the field."""
    prompt = value.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise InputError(
            "prompt must be one string here; several prompts, or token ids, pass only to an "
            "upstream's own model without a policy"
        )
    body = _validated(CompletionBody, _with_wishes({**value, "prompt": prompt}))
    if value.get("best_of") not in (None, 1):
        raise InputError("best_of: a policy draws as many samples as it needs; use best_of_n")
    wishes = body.suffice or NO_WISHES
    if wishes.effort is not None:
        raise InputError("effort: /v1/completions has no think block; ask /v1/chat/completions")
    extra = _extra(body)
    limit = _limit(extra, max_tokens=body.max_tokens)
    request = Request(
        messages=(Message(role="user", content=body.prompt),),
        model=body.model,
        sampling=_sampling(body, limit, body.logprobs),
        answer_format=wishes.answer_format,
        priority=body.priority,
        extra_json=_json(extra),
        completion_only=True,
    )
    return _ask(body, request, wants_logprobs=body.logprobs is not None)


def _ask(body: _Common, request: Request, *, wants_logprobs: bool) -> Ask:
    wishes = body.suffice or NO_WISHES
    given = wishes.budget
    options = body.stream_options
    return Ask(
        request=request,
        wishes=wishes,
        stream=bool(body.stream),
        include_usage=bool(body.stream and options is not None and options.include_usage),
        n=body.n or 1,
        wants_logprobs=wants_logprobs,
        budget=Budget(**given.model_dump()) if given else NO_BUDGET,
    )


def _extra(body: _Common) -> dict[str, Any]:
    """Fields that are sent on as they came."""
    extra = dict(body.model_extra or {})
    options = body.stream_options
    if options is not None and options.model_extra:
        extra["stream_options"] = options.model_extra
    return extra


def _limit(extra: dict[str, Any], **given: int | None) -> int | None:
    """The least of the limits on an answer's tokens.

    Below 0 there is none, as LM Studio and llama.cpp have it: if no other bounds the answer, it is
    sent on as it came.
    """
    bounds = {name: most for name, most in given.items() if most is not None}
    for name, most in bounds.items():
        if most == 0:
            raise InputError(f"{name}: must be at least 1; leave it out, or write -1, for no limit")
    positive = [most for most in bounds.values() if most > 0]
    if not positive:
        extra |= bounds
    return min(positive, default=None)


def _with_wishes(value: dict[str, Any]) -> dict[str, Any]:
    """A body whose wishes are checked already."""
    return value if value.get("suffice") is None else {**value, "suffice": wishes_of(value)}


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


def default_format(request: Request, operators: str | None) -> str | None:
    """How answers are compared where the request does not say: as the operator does.

    An answer that has to be JSON is compared as JSON then. Asking for JSON alone asks for no vote.
    """
    if operators in (None, "text") or request.response_format_json is None:
        return operators
    wanted = orjson.loads(request.response_format_json)
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    return "json" if kind in ("json_object", "json_schema") else operators


def _message(turn: dict[str, Any], at: int) -> Message:
    """A turn, with what can be read in it; what else it holds is for the engine to judge."""
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str):
        raise InputError(f"messages.{at}.role must be text, such as user, got {str(role)[:40]!r}")
    if isinstance(content, str) and len(turn) == 2:
        return Message(role=role, content=content)
    name, answered, calls = turn.get("name"), turn.get("tool_call_id"), turn.get("tool_calls")
    if isinstance(content, list):
        content = tuple(map(_part, content))
    return Message(
        role=role,
        content=content if isinstance(content, str | tuple) else None,
        name=name if isinstance(name, str) else None,
        tool_calls=_calls(calls),
        tool_call_id=answered if isinstance(answered, str) else None,
        json=_json(turn),
    )


def _calls(value: Any) -> tuple[ToolCall, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(call_of(call) for call in value if isinstance(call, dict))


def _part(part: Any) -> Part:
    if isinstance(part, dict):
        image = part.get("image_url")
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            return TextPart(text=part["text"])
        if part.get("type") == "image_url" and isinstance(image, dict):
            url, detail = image.get("url"), image.get("detail")
            if isinstance(url, str):
                return ImagePart(url=url, detail=detail if isinstance(detail, str) else None)
    return OpaquePart(json=_json(part))


def _tool(tool: dict[str, Any]) -> Tool:
    found = tool.get("function")
    function = found if isinstance(found, dict) else {}
    name = function.get("name")
    return Tool(name=name if isinstance(name, str) else "", json=_json(tool))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _json_or_none(value: Any) -> str | None:
    return None if value is None else _json(value)
