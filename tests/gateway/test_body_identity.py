"""Under a policy every field of a request arrives, those that nobody here knows too."""

from __future__ import annotations

import os
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.backends.openai import encoded_fields
from suffice.backends.protocol import Capabilities
from suffice.backends.wire import Dialect, chat_body, completion_body
from suffice.core.draw import Draw
from suffice.gateway.wire.json_body import parse_json
from suffice.gateway.wire.requests import ChatBody, CompletionBody, parse_chat, parse_completion

# Thousands were tried once: SUFFICE_EXAMPLES=3000.
MANY = int(os.environ.get("SUFFICE_EXAMPLES", "40"))
TEXT = st.text(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KNOWN = {*ChatBody.model_fields, *CompletionBody.model_fields}
MORE = st.dictionaries(TEXT.filter(lambda name: name not in KNOWN), JSON, max_size=3)


def unknown(*known: str) -> Any:
    return st.dictionaries(TEXT.filter(lambda name: name not in known), JSON, max_size=2)


def with_more(base: Any, *known: str) -> Any:
    return st.builds(lambda value, more: {**more, **value}, base, unknown(*known))


PART = with_more(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": with_more(
        st.fixed_dictionaries({"url": st.just("data:,x")}), "url", "detail")})
    | st.fixed_dictionaries({"type": st.sampled_from(["audio", "document", "x"])}),
    "type", "text", "image_url",
)  # fmt: skip
CALL = with_more(
    st.fixed_dictionaries({
        "id": TEXT, "type": st.just("function"),
        "function": with_more(
            st.fixed_dictionaries({"name": TEXT, "arguments": TEXT | st.dictionaries(TEXT, JSON)}),
            "name", "arguments",
        ),
    }),
    "id", "type", "function",
)  # fmt: skip
MESSAGE = with_more(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "tool", "developer"]),
                           "content": TEXT | st.lists(PART, min_size=1, max_size=3)})
    | st.fixed_dictionaries({"role": st.just("assistant"), "content": st.none() | TEXT,
                             "tool_calls": st.lists(CALL, min_size=1, max_size=2)}),
    "role", "content", "tool_calls", "tool_call_id", "name",
)  # fmt: skip
TOOL = with_more(
    st.fixed_dictionaries({
        "type": st.just("function"),
        "function": with_more(st.fixed_dictionaries({"name": TEXT}, optional={"parameters": JSON}),
                              "name", "parameters", "strict", "description"),
    })
    | st.fixed_dictionaries({"type": st.sampled_from(["web_search", "custom"])}),
    "type", "function",
)  # fmt: skip
CHAT = st.builds(
    lambda value, more: {**more, **value},
    st.fixed_dictionaries(
        {"model": st.just("suffice/single"), "messages": st.lists(MESSAGE, min_size=1, max_size=3)},
        optional={"tools": st.lists(TOOL, max_size=2), "tool_choice": JSON,
                  "seed": st.integers(0, 9), "response_format": JSON,
                  "temperature": st.floats(0, 2),
                  "user": st.none() | TEXT,
                  "max_tokens": st.integers(1, 99), "stop": st.lists(TEXT, max_size=2)},
    ),
    MORE,
)  # fmt: skip
# What a policy says itself, and what is the same as nothing.
OWN = ("model", "stream", "stream_options")
EMPTY: dict[str, tuple[Any, ...]] = {
    "tools": ([], None),
    "stop": ([], None),
    "tool_choice": (None,),
    "response_format": (None,),
}


def expected(sent: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in sent.items()
        if name not in OWN and not any(value == each for each in EMPTY.get(name, ()))
    }


@settings(max_examples=MANY)
@given(value=CHAT, stream=st.booleans())
def test_chat_arrives_whole(value: dict[str, Any], stream: bool) -> None:
    asked = parse_chat(parse_json(orjson.dumps(value))).request
    body = chat_body(
        Draw(asked, asked.sampling, model="m"), capabilities=Capabilities(),
        dialect=Dialect(), fixed=encoded_fields(asked), stream=stream,
    )  # fmt: skip
    arrived = orjson.loads(orjson.dumps(body))
    assert arrived["model"] == "m"
    assert expected(arrived) == expected(value)


@settings(max_examples=MANY)
@given(prompt=TEXT, more=MORE, stream=st.booleans())
def test_a_completion_arrives_whole(prompt: str, more: dict[str, Any], stream: bool) -> None:
    value = {**more, "model": "suffice/single", "prompt": prompt}
    asked = parse_completion(parse_json(orjson.dumps(value))).request
    draw = Draw(asked, asked.sampling, model="m")
    body = completion_body(draw, dialect=Dialect(), stream=stream)
    assert expected(orjson.loads(orjson.dumps(body))) == expected(value)
