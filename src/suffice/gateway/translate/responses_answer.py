"""A chat completion's answer as `/v1/responses` gives it: whole, as events, as an error."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from suffice.core.completions import Usage
from suffice.gateway.translate.chat_answer import ChatAnswer, ChatChunks, answer_of
from suffice.gateway.translate.parts import Json
from suffice.gateway.translate.tool_blocks import CallBlocks, CallPiece

# Of the request, shown again in the response, with what they are where it says nothing.
_ECHOED: Json = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {},
    "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None}, "safety_identifier": None,
    "service_tier": "default", "temperature": None, "text": {"format": {"type": "text"}},
    "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": None,
    "truncation": "disabled", "user": None,
}  # fmt: skip
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Responses:
    """One call's answer; `request` is what the client sent."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        self._id = f"resp_{secrets.token_hex(24)}"
        self._created = int(time.time())
        self._chunks = ChatChunks()
        self._blocks = CallBlocks()
        self._number = 0  # of the next event
        self._items: list[Json] = []  # those that are complete
        self._item: _OpenItem | None = None
        self._began = False

    # --- whole

    def answer(self, whole: Mapping[str, Any]) -> Json:
        """A response object. Raises TypeError if `whole` is no chat completion."""
        found = answer_of(whole)
        status = "incomplete" if found.finish_reason in _INCOMPLETE else "completed"
        items: list[Json] = []
        if found.reasoning:
            items.append(_reasoning(_new("rs"), found.reasoning, status))
        if found.text or found.refusal or not (found.calls or found.reasoning):
            items.append(_message(_new("msg"), _parts(found), status))
        items += [
            _call(_new("fc"), call.id, call.name, call.arguments, status) for call in found.calls
        ]
        return self._response(found, items, status)

    def _response(self, found: ChatAnswer, items: Sequence[Json], status: str) -> Json:
        echoed = {
            name: default if self._request.get(name) is None else self._request[name]
            for name, default in _ECHOED.items()
        }
        reason = _INCOMPLETE.get(found.finish_reason or "")
        response: Json = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "model": found.model or self._request.get("model", ""),
            "output": list(items),
            "store": False,
            **echoed,
            "usage": None if status == "in_progress" else usage_json(found.usage),
        }
        return response if found.receipt is None else {**response, "suffice": found.receipt}

    # --- streamed

    def events(self, chunk: Mapping[str, Any]) -> list[Json]:
        """Events for one chunk. Raises TypeError if it is none."""
        piece = self._chunks.read(chunk)
        found = self._begin()
        if piece.reasoning:
            found += self._grow("reasoning", "reasoning_text", piece.reasoning)
        if piece.text:
            found += self._grow("message", "output_text", piece.text, piece.logprobs)
        if piece.refusal:
            found += self._grow("message", "refusal", piece.refusal)
        if piece.calls:
            found += self._call_events(self._blocks.read(piece.calls))
        return found

    def end(self) -> list[Json]:
        """Events after the last chunk."""
        whole = self._chunks.whole
        found = self._begin()
        found += self._call_events(self._blocks.end())
        status = "incomplete" if whole.finish_reason in _INCOMPLETE else "completed"
        found += self._close(status)
        if not self._items:
            found += self._grow("message", "output_text", "")
            found += self._close(status)
        response = self._response(whole, self._items, status)
        return [*found, self._event(f"response.{status}", response=response)]

    def _begin(self) -> list[Json]:
        if self._began:
            return []
        self._began = True
        empty = self._response(ChatAnswer(model=self._chunks.whole.model), [], "in_progress")
        return [
            self._event("response.created", response=empty),
            self._event("response.in_progress", response=empty),
        ]

    def _grow(self, kind: str, part: str, text: str, logprobs: Sequence[Any] = ()) -> list[Json]:
        """More text of a part of an item."""
        found: list[Json] = []
        if self._item is None or self._item.kind != kind:
            found += self._close("completed") + self._open(kind)
        item = self._item
        assert item is not None
        if item.part is None or item.part["type"] != part:
            found += self._close_part(item) + self._open_part(item, part)
        field = "refusal" if part == "refusal" else "text"
        assert item.part is not None
        item.part[field] += text
        more: Json = {}
        if part == "output_text":
            more = {"logprobs": list(logprobs)}
            item.part["logprobs"] += logprobs
        if text:
            found.append(self._part_event(item, f"response.{part}.delta", delta=text, **more))
        return found

    def _open(self, kind: str) -> list[Json]:
        self._item = item = _OpenItem(kind, len(self._items))
        return [self._item_event("response.output_item.added", item, item.shown("in_progress"))]

    def _open_part(self, item: _OpenItem, part: str) -> list[Json]:
        empty: dict[str, Json] = {
            "output_text": {"type": part, "annotations": [], "logprobs": [], "text": ""},
            "refusal": {"type": part, "refusal": ""},
            "reasoning_text": {"type": part, "text": ""},
        }
        item.part = empty[part]
        return [self._part_event(item, "response.content_part.added", part=dict(empty[part]))]

    def _close_part(self, item: _OpenItem) -> list[Json]:
        part = item.part
        if part is None:
            return []
        kind, field = part["type"], "refusal" if part["type"] == "refusal" else "text"
        more = {"logprobs": part["logprobs"]} if kind == "output_text" else {}
        found = [
            self._part_event(item, f"response.{kind}.done", **{field: part[field]}, **more),
            self._part_event(item, "response.content_part.done", part=part),
        ]
        item.parts.append(part)
        item.part = None
        return found

    def _close(self, status: str) -> list[Json]:
        item = self._item
        if item is None:
            return []
        self._item = None
        found = self._close_part(item)
        if item.kind == "function_call":
            done = {"item_id": item.id, "output_index": item.index, "arguments": item.arguments}
            found.append(self._event("response.function_call_arguments.done", **done))
        whole = item.shown(status)
        self._items.append(whole)
        return [*found, self._item_event("response.output_item.done", item, whole)]

    def _call_events(self, pieces: Sequence[CallPiece]) -> list[Json]:
        found: list[Json] = []
        for piece in pieces:
            if piece.begins:
                found += self._close("completed")
                self._item = _OpenItem("function_call", len(self._items), piece.id, piece.name)
                item = self._item
                shown = item.shown("in_progress")
                found.append(self._item_event("response.output_item.added", item, shown))
            if self._item is not None and piece.arguments:
                self._item.arguments += piece.arguments
                at = {"item_id": self._item.id, "output_index": self._item.index}
                kind = "response.function_call_arguments.delta"
                found.append(self._event(kind, **at, delta=piece.arguments))
            if piece.ends:
                found += self._close("completed")
        return found

    def _item_event(self, kind: str, item: _OpenItem, shown: Json) -> Json:
        return self._event(kind, output_index=item.index, item=shown)

    def _part_event(self, item: _OpenItem, kind: str, **fields: Any) -> Json:
        at = {"item_id": item.id, "output_index": item.index, "content_index": len(item.parts)}
        return self._event(kind, **at, **fields)

    def _event(self, kind: str, **fields: Any) -> Json:
        number, self._number = self._number, self._number + 1
        return {"type": kind, "sequence_number": number, **fields}

    # --- errors

    @staticmethod
    def error(status: int, message: str, code: str | None) -> Json:
        """The error object, as on all of OpenAI's endpoints."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def error_event(self, status: int, message: str, code: str | None) -> Json:
        """The last event of a stream that failed; `error` is where OpenAI's clients look."""
        fields = {"code": code, "message": message, "param": None}
        return self._event("error", **fields, **self.error(status, message, code))


class _OpenItem:
    """An item of the output that is still growing."""

    def __init__(self, kind: str, index: int, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self.index = index
        self.id = _new({"reasoning": "rs", "message": "msg"}.get(kind, "fc"))
        self.part: Json | None = None
        self.parts: list[Json] = []
        self.call_id, self.name, self.arguments = call_id, name, ""

    def shown(self, status: str) -> Json:
        if self.kind == "message":
            return _message(self.id, self.parts, status)
        if self.kind == "reasoning":
            text = "".join(part["text"] for part in self.parts)
            return _reasoning(self.id, text, status)
        return _call(self.id, self.call_id, self.name, self.arguments, status)


def usage_json(usage: Usage | None) -> Json | None:
    """Usage in the form of Responses."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }  # fmt: skip


def _parts(found: ChatAnswer) -> list[Json]:
    parts: list[Json] = []
    if found.text or not found.refusal:
        parts.append({
            "type": "output_text", "annotations": [], "logprobs": found.logprobs,
            "text": found.text,
        })  # fmt: skip
    if found.refusal:
        parts.append({"type": "refusal", "refusal": found.refusal})
    return parts


def _message(number: str, parts: Sequence[Json], status: str) -> Json:
    return {
        "id": number, "type": "message", "status": status, "role": "assistant",
        "content": list(parts),
    }  # fmt: skip


def _reasoning(number: str, text: str, status: str) -> Json:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {
        "id": number, "type": "reasoning", "status": status, "summary": [], "content": content,
        "encrypted_content": None,
    }  # fmt: skip


def _call(number: str, call_id: str, name: str, arguments: str, status: str) -> Json:
    return {
        "id": number, "type": "function_call", "status": status, "call_id": call_id, "name": name,
        "arguments": arguments,
    }  # fmt: skip


def _new(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"
