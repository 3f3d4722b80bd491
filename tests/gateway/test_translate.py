"""Responses and Messages to chat and back: one conversation written in three ways, one answer in
pieces and whole, and the official clients' own accumulators as judges."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.core.errors import InputError
from suffice.gateway.translate.messages_answer import Messages
from suffice.gateway.translate.messages_request import chat_of_messages
from suffice.gateway.translate.responses_answer import Responses
from suffice.gateway.translate.responses_request import chat_of_responses

Json = dict[str, Any]
texts = st.text(min_size=1, max_size=12)
names = st.text("abcdefgh_", min_size=1, max_size=8)
objects = st.dictionaries(names, st.integers() | texts | st.lists(st.booleans(), max_size=2))
pictures = st.sampled_from([("image/png", "aGk="), ("image/jpeg", "eA==")])

# One turn, told in no protocol's words.
turns = st.one_of(
    st.tuples(st.just("user"), texts),
    st.tuples(st.just("picture"), texts, pictures),
    st.tuples(st.just("assistant"), texts),
    st.tuples(st.just("thoughtful"), texts, texts),
    st.tuples(st.just("tools"), st.lists(st.tuples(names, objects, texts), min_size=1, max_size=3)),
)
conversations = st.lists(turns, min_size=1, max_size=6)


def data_url(picture: tuple[str, str]) -> str:
    return f"data:{picture[0]};base64,{picture[1]}"


def as_chat(turn: Any, at: int) -> list[Json]:
    match turn:
        case ("user" | "assistant" as role, text):
            return [{"role": role, "content": text}]
        case ("picture", text, picture):
            parts = [
                {"type": "text", "text": text},
                {"type": "image_url", "image_url": {"url": data_url(picture)}},
            ]
            return [{"role": "user", "content": parts}]
        case ("thoughtful", thought, text):
            return [{"role": "assistant", "content": text, "reasoning_content": thought}]
        case ("tools", calls):
            made = [
                {"id": f"c{at}-{n}", "type": "function",
                 "function": {"name": name, "arguments": json.dumps(a, ensure_ascii=False)}}
                for n, (name, a, _) in enumerate(calls)
            ]  # fmt: skip
            told = [
                {"role": "tool", "tool_call_id": f"c{at}-{n}", "content": result}
                for n, (_, _, result) in enumerate(calls)
            ]
            return [{"role": "assistant", "content": None, "tool_calls": made}, *told]
    raise AssertionError(turn)


def as_messages(turn: Any, at: int) -> list[Json]:
    match turn:
        case ("user" | "assistant" as role, text):
            return [{"role": role, "content": [{"type": "text", "text": text}]}]
        case ("picture", text, (kind, data)):
            source = {"type": "base64", "media_type": kind, "data": data}
            blocks = [{"type": "text", "text": text}, {"type": "image", "source": source}]
            return [{"role": "user", "content": blocks}]
        case ("thoughtful", thought, text):
            thinking = {"type": "thinking", "thinking": thought, "signature": "s"}
            said = {"type": "text", "text": text}
            return [{"role": "assistant", "content": [thinking, said]}]
        case ("tools", calls):
            uses = [
                {"type": "tool_use", "id": f"c{at}-{n}", "name": name, "input": arguments}
                for n, (name, arguments, _) in enumerate(calls)
            ]
            results = [
                {"type": "tool_result", "tool_use_id": f"c{at}-{n}",
                 "content": [{"type": "text", "text": result}]}
                for n, (_, _, result) in enumerate(calls)
            ]  # fmt: skip
            return [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    raise AssertionError(turn)


def as_items(turn: Any, at: int) -> list[Json]:
    match turn:
        case ("user", text):
            return [{"role": "user", "content": text}]
        case ("picture", text, picture):
            parts = [
                {"type": "input_text", "text": text},
                {"type": "input_image", "image_url": data_url(picture)},
            ]
            return [{"type": "message", "role": "user", "content": parts}]
        case ("assistant", text):
            parts = [{"type": "output_text", "text": text, "annotations": []}]
            return [{"type": "message", "role": "assistant", "content": parts, "id": "msg_1"}]
        case ("thoughtful", thought, text):
            said = [{"type": "reasoning_text", "text": thought}]
            return [
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": said},
                {"type": "message", "role": "assistant",
                 "content": [{"type": "output_text", "text": text}]},
            ]  # fmt: skip
        case ("tools", calls):
            made = [
                {"type": "function_call", "call_id": f"c{at}-{n}", "name": name,
                 "arguments": json.dumps(arguments, ensure_ascii=False)}
                for n, (name, arguments, _) in enumerate(calls)
            ]  # fmt: skip
            told = [
                {"type": "function_call_output", "call_id": f"c{at}-{n}", "output": result}
                for n, (_, _, result) in enumerate(calls)
            ]
            # A turn that only calls tools follows one of the user's, or it would join the last.
            return [*made, *told]
    raise AssertionError(turn)


def joined(conversation: list[Any]) -> list[Any]:
    """Conversations in which tools are called in answer to somebody."""
    found: list[Any] = []
    for turn in conversation:
        if turn[0] == "tools" and (not found or found[-1][0] in ("assistant", "thoughtful")):
            found.append(("user", "go on"))
        found.append(turn)
    return found


@given(conversations.map(joined), texts)
def test_a_conversation_is_the_same_in_every_protocol(talk: list[Any], system: str) -> None:
    chat = [{"role": "system", "content": system}]
    chat += [m for at, turn in enumerate(talk) for m in as_chat(turn, at)]
    messages = [m for at, turn in enumerate(talk) for m in as_messages(turn, at)]
    items = [i for at, turn in enumerate(talk) for i in as_items(turn, at)]
    common = {"model": "m", "temperature": 0.5, "top_p": 0.9, "suffice": {"effort": "low"}}
    from_messages = chat_of_messages(
        {**common, "system": system, "messages": messages, "max_tokens": 7, "top_k": 4}
    )
    assert from_messages == {**common, "messages": chat, "max_tokens": 7, "top_k": 4}
    from_items = chat_of_responses(
        {**common, "instructions": system, "input": items, "max_output_tokens": 7, "seed": 3}
    )
    assert from_items == {**common, "messages": chat, "max_tokens": 7, "seed": 3}


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}},
             "parallel_tool_calls": False},
        ),
    ],
)  # fmt: skip
def test_tools_of_messages(theirs: Json, ours: Json) -> None:
    tool = {"name": "weather", "description": "d", "input_schema": SCHEMA, "strict": True,
            "cache_control": {"type": "ephemeral"}}  # fmt: skip
    found = chat_of_messages(
        {"model": "m", "messages": [], "tools": [tool], "tool_choice": theirs, "stream": True}
    )
    assert found == {
        "model": "m", "messages": [], "tools": [TOOL], **ours,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_everything_else_of_messages() -> None:
    found = chat_of_messages({
        "model": "m", "max_tokens": 5, "stop_sequences": ["X"], "metadata": {"user_id": "u"},
        "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "service_tier": "auto",
        "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA}},
        "chat_template_kwargs": {"x": 1},
        "messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [
                {"type": "text", "text": "see"},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            ]},
            {"type": "document", "source": {"type": "text", "data": "doc"}},
            {"type": "document", "source": {
                "type": "base64", "media_type": "application/pdf", "data": "eA=="}},
        ]}],
    })  # fmt: skip
    assert found == {
        "model": "m", "max_tokens": 5, "stop": ["X"], "user": "u", "reasoning_effort": "xhigh",
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
        "chat_template_kwargs": {"x": 1},
        "messages": [
            {"role": "system", "content": "a\n\nb"},
            {"role": "tool", "tool_call_id": "t", "content": "see"},
            {"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "doc"},
                {"type": "file", "file": {
                    "filename": "document.pdf", "file_data": "data:application/pdf;base64,eA=="}},
            ]},
        ],
    }  # fmt: skip


def test_everything_else_of_responses() -> None:
    found = chat_of_responses({
        "model": "m", "input": "hi", "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"verbosity": "low", "format": {
            "type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        "tools": [{"type": "function", "name": "weather", "description": "d",
                   "parameters": SCHEMA, "strict": True}],
        "tool_choice": {"type": "function", "name": "weather"}, "parallel_tool_calls": False,
        "top_logprobs": 3, "include": ["message.output_text.logprobs"], "store": True,
        "metadata": {"a": "b"}, "truncation": "auto", "user": "u", "priority": 2,
    })  # fmt: skip
    assert found == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "high",
        "verbosity": "low", "response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False, "logprobs": True, "top_logprobs": 3, "user": "u",
        "priority": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"messages": "x"}, "messages must be a list"),
        ({"messages": [{"role": "x", "content": "y"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "block of type 'x'"),
        ({"messages": [], "tools": [{"type": "web_search_20250305", "name": "w"}]}, "web_search"),
        ({"messages": [], "mcp_servers": [{}]}, "mcp_servers"),
        ({"messages": [], "tool_choice": {"type": "x"}}, "tool_choice.type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {
            "type": "file", "file_id": "f"}}]}]}, "source of type"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_translated(value: Json, said: str) -> None:
    with pytest.raises(InputError, match=said):
        chat_of_messages(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "input must be a list"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "send the item"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": "x", "previous_response_id": "r"}, "previous_response_id"),
        ({"input": "x", "conversation": "c"}, "conversation"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "the tool web_search"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
         "uploaded file"),
    ],
)  # fmt: skip
def test_responses_that_cannot_be_translated(value: Json, said: str) -> None:
    with pytest.raises(InputError, match=said):
        chat_of_responses(value)


# --- answers

calls = st.lists(st.tuples(names, objects), max_size=3)
answers = st.fixed_dictionaries({
    "reasoning": st.just("") | texts,
    "text": st.just("") | texts,
    "calls": calls,
    "finish": st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    "usage": st.tuples(st.integers(0, 99), st.integers(0, 99), st.none() | st.integers(0, 9)),
})  # fmt: skip


def whole_of(answer: Json) -> Json:
    prompt, completion, cached = answer["usage"]
    message: Json = {"role": "assistant", "content": answer["text"] or None}
    if answer["reasoning"]:
        message["reasoning_content"] = answer["reasoning"]
    if answer["calls"]:
        message["tool_calls"] = [
            {"id": f"c{n}", "type": "function",
             "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(answer["calls"])
        ]  # fmt: skip
    usage: Json = {"prompt_tokens": prompt + (cached or 0), "completion_tokens": completion}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "served",
        "choices": [{"index": 0, "message": message, "finish_reason": answer["finish"]}],
        "usage": usage, "suffice": {"arm": "single"},
    }  # fmt: skip


def cut(draw: Any, text: str) -> list[str]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def chunks_of(draw: Any, answer: Json) -> list[Json]:
    """The same answer as an engine streams it; fragments of calls come in turns."""
    whole = whole_of(answer)
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning": piece} for piece in cut(draw, answer["reasoning"]) if piece]
    deltas += [{"content": piece} for piece in cut(draw, answer["text"]) if piece]
    begun: list[Json] = []
    queues: list[list[Json]] = []
    for n, call in enumerate(whole["choices"][0]["message"].get("tool_calls", ())):
        function = call["function"]
        begun.append({"index": n, **call, "function": {"name": function["name"], "arguments": ""}})
        pieces = [p for p in cut(draw, function["arguments"]) if p]
        queues.append([{"index": n, "function": {"arguments": piece}} for piece in pieces])
    while begun or any(queues):
        ready = [queue for queue in queues[: len(queues) - len(begun)] if queue]
        if begun and (not ready or draw(st.booleans())):
            deltas.append({"tool_calls": [begun.pop(0)]})
        else:
            deltas.append({"tool_calls": [draw(st.sampled_from(ready)).pop(0)]})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "served"}
    found = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    last = {"index": 0, "delta": {}, "finish_reason": answer["finish"]}
    found.append({**head, "choices": [last], "suffice": whole["suffice"]})
    found.append({**head, "choices": [], "usage": whole["usage"]})
    return found


def streamed(protocol: Any, chunks: list[Json]) -> list[Json]:
    return [event for chunk in chunks for event in protocol.events(chunk)] + protocol.end()


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("id", "item_id", "created_at", "completed_at")
        return {k: without_ids(v) for k, v in value.items() if k not in left_out}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=50)
@given(answers, st.data())
def test_a_streamed_message_is_the_whole_one(answer: Json, data: st.DataObject) -> None:
    events = streamed(Messages({"model": "m"}), chunks_of(data.draw, answer))
    whole = Messages({"model": "m"}).answer(whole_of(answer))
    message = accumulated(events)
    assert without_ids(message) == without_ids(whole)
    ids = [b["id"] for b in message["content"] if b["type"] == "tool_use"]
    assert ids == [f"c{n}" for n in range(len(answer["calls"]))]


def accumulated(events: list[Json]) -> Json:
    """What a client makes of the events; their order is checked."""
    assert events[0]["type"] == "message_start"
    assert [e["type"] for e in events[-2:]] == ["message_delta", "message_stop"]
    message: Json = json.loads(json.dumps(events[0]["message"]))
    opened: int | None = None
    buffers: dict[int, str] = {}
    for event in events[1:-2]:
        index = event["index"]
        match event["type"]:
            case "content_block_start":
                assert opened is None
                assert index == len(message["content"])
                opened = index
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                assert index == opened
                block, delta = message["content"][index], event["delta"]
                if delta["type"] == "input_json_delta":
                    buffers[index] = buffers.get(index, "") + delta["partial_json"]
                else:
                    field = delta["type"].removesuffix("_delta")
                    block[field] += delta[field]
            case "content_block_stop":
                assert index == opened
                opened = None
            case kind:
                raise AssertionError(kind)
    assert opened is None
    for index, text in buffers.items():
        message["content"][index]["input"] = json.loads(text or "{}")
    last = events[-2]
    return {**message, **last["delta"], "usage": last["usage"], "suffice": last["suffice"]}


@settings(max_examples=50)
@given(answers, st.data())
def test_a_streamed_response_is_the_whole_one(answer: Json, data: st.DataObject) -> None:
    request = {"model": "m", "input": "x", "temperature": 0.5}
    events = streamed(Responses(request), chunks_of(data.draw, answer))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [e["type"] for e in events[:2]] == ["response.created", "response.in_progress"]
    final = events[-1]
    assert final["type"] == f"response.{final['response']['status']}"
    whole = Responses(request).answer(whole_of(answer))
    check_items(events, final["response"]["output"])
    output = json.loads(json.dumps(final["response"]["output"]))
    if answer["finish"] in ("length", "content_filter"):
        # In a stream an item is complete when the next one begins; only the last was cut off.
        statuses = [item.pop("status") for item in output]
        assert set(statuses[:-1]) <= {"completed"}
        for item in whole["output"]:
            del item["status"]
    assert without_ids({**final["response"], "output": output}) == without_ids(whole)


def check_items(events: list[Json], output: list[Json]) -> None:
    """Every item is added, grows and is done, one after the other, and is what its pieces say."""
    opened: Json | None = None
    done: list[Json] = []
    text = ""
    for event in events[2:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert opened is None
            opened, text = event["item"], ""
            assert event["output_index"] == len(done)
            continue
        assert opened is not None
        assert event["output_index"] == len(done)
        if kind == "output_item.done":
            assert event["item"]["id"] == opened["id"]
            done.append(event["item"])
            said = event["item"].get("arguments")
            if said is None:
                said = "".join(part["text"] for part in event["item"]["content"])
            assert said == text
            opened = None
        else:
            assert event["item_id"] == opened["id"]
            if kind.endswith(".delta"):
                text += event["delta"]
    assert opened is None
    assert done == output


@settings(max_examples=50)
@given(answers, st.data())
def test_anthropics_client_reads_the_events(answer: Json, data: st.DataObject) -> None:
    messages = pytest.importorskip("anthropic.lib.streaming._messages")
    from anthropic.types import Message

    events = streamed(Messages({"model": "m"}), chunks_of(data.draw, answer))
    snapshot, buffers = None, {}
    for event in events:
        snapshot = messages.accumulate_event(
            event=event, current_snapshot=snapshot, json_bufs=buffers
        )
    whole = Message.model_validate(Messages({"model": "m"}).answer(whole_of(answer)))
    assert [b.type for b in snapshot.content] == [b.type for b in whole.content]
    assert snapshot.stop_reason == whole.stop_reason
    assert snapshot.usage.output_tokens == whole.usage.output_tokens
    for mine, theirs in zip(snapshot.content, whole.content, strict=True):
        if mine.type == "tool_use":
            assert mine.input == theirs.input
        elif mine.type == "text":
            assert mine.text == theirs.text


@settings(max_examples=50)
@given(answers, st.data())
def test_openais_client_reads_the_events(answer: Json, data: st.DataObject) -> None:
    from openai import omit
    from openai._models import construct_type_unchecked
    from openai.lib.streaming.responses._responses import ResponseStreamState
    from openai.types.responses import Response, ResponseStreamEvent

    events = streamed(Responses({"model": "m"}), chunks_of(data.draw, answer))
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event))
    whole = Response.model_validate(Responses({"model": "m"}).answer(whole_of(answer)))
    final = Response.model_validate(events[-1]["response"])
    assert final.output_text == whole.output_text == answer["text"]
    assert final.usage == whole.usage


def test_how_an_answer_ended() -> None:
    def stop(finish: str, request: Json | None = None, **choice: Any) -> tuple[Any, Any]:
        whole = whole_of({"reasoning": "", "text": "x", "calls": [], "finish": finish,
                          "usage": (1, 1, None)})  # fmt: skip
        whole["choices"][0] |= choice
        message = Messages(request or {}).answer(whole)
        return message["stop_reason"], message["stop_sequence"]

    assert stop("stop") == ("end_turn", None)
    assert stop("length") == ("max_tokens", None)
    assert stop("content_filter") == ("refusal", None)
    assert stop("stop", {"stop_sequences": ["X"]}, stop_reason="X") == ("stop_sequence", "X")
    assert stop("stop", {"stop_sequences": ["X"]}, stop_reason=None) == ("end_turn", None)


def test_a_refusal_is_shown() -> None:
    whole = {"choices": [{"index": 0, "finish_reason": "stop", "message": {
        "role": "assistant", "content": None, "refusal": "I must not."}}]}  # fmt: skip
    message = Messages({}).answer(whole)
    assert (message["content"][0]["text"], message["stop_reason"]) == ("I must not.", "refusal")
    (item,) = Responses({}).answer(whole)["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "I must not."}]


def test_arguments_that_are_no_json_are_not_lost() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    whole = {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": None, "tool_calls": [call]}}]}  # fmt: skip
    assert Messages({}).answer(whole)["content"][-1]["input"] == {"invalid_json": '{"a": '}
    assert Responses({}).answer(whole)["output"][-1]["arguments"] == '{"a": '


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([
                "type", "role", "content", "text", "input", "messages", "tools", "system", "model",
                "source", "tool_choice", "name", "output", "call_id", "reasoning", "instructions",
            ]),
            inner | st.sampled_from([
                "user", "assistant", "message", "tool_use", "tool_result", "image", "thinking",
                "function_call", "function_call_output", "input_image", "function",
            ]),
            max_size=4,
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_request_is_translated_or_refused(value: Any) -> None:
    for name in ("messages", "input", "tools", "system", "instructions", "text", "output_config"):
        for translate in (chat_of_messages, chat_of_responses):
            whole = {"model": "m", "messages": [], "input": "x", name: value}
            try:
                json.dumps(translate(whole))
            except InputError:
                continue
