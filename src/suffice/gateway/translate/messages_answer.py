"""A chat completion's answer as `/v1/messages` gives it: whole, as events, as an error."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from suffice.core.completions import Usage
from suffice.core.requests import ToolCall
from suffice.gateway.translate.chat_answer import ChatAnswer, ChatChunks, answer_of
from suffice.gateway.translate.parts import Json
from suffice.gateway.translate.tool_blocks import CallBlocks, CallPiece

_STOP_REASONS = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use",
    "function_call": "tool_use", "content_filter": "refusal",
}  # fmt: skip
_ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
    403: "permission_error", 404: "not_found_error", 408: "timeout_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


class Messages:
    """One call's answer; `request` is what the client sent."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        self._id = f"msg_{secrets.token_hex(12)}"
        self._chunks = ChatChunks()
        self._blocks = CallBlocks()
        self._index = -1
        self._open: str | None = None  # kind of the block that is open
        self._began = False

    # --- whole

    def answer(self, whole: Mapping[str, Any]) -> Json:
        """A message object. Raises TypeError if `whole` is no chat completion."""
        found = answer_of(whole)
        blocks: list[Json] = []
        if found.reasoning:
            blocks.append({"type": "thinking", "thinking": found.reasoning, "signature": ""})
        text = found.text or found.refusal
        if text or not (found.calls or found.reasoning):
            blocks.append({"type": "text", "text": text})
        blocks += [_tool_use(call) for call in found.calls]
        message = self._message(found, blocks)
        return message if found.receipt is None else {**message, "suffice": found.receipt}

    def _message(self, found: ChatAnswer, blocks: list[Json]) -> Json:
        reason, sequence = self._stop(found)
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": found.model or self._request.get("model", ""),
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage_json(found.usage),
        }

    def _stop(self, found: ChatAnswer) -> tuple[str | None, str | None]:
        sequences = self._request.get("stop_sequences")
        if found.stop_sequence is not None and found.stop_sequence in (sequences or ()):
            return "stop_sequence", found.stop_sequence
        if found.refusal:
            return "refusal", None
        if found.calls and found.finish_reason == "stop":
            return "tool_use", None
        reason = found.finish_reason
        return (None if reason is None else _STOP_REASONS.get(reason, "end_turn")), None

    # --- streamed

    def events(self, chunk: Mapping[str, Any]) -> list[Json]:
        """Events for one chunk. Raises TypeError if it is none."""
        piece = self._chunks.read(chunk)
        found = [] if self._began else [self._start()]
        if piece.reasoning:
            found += self._delta(
                "thinking", {"type": "thinking_delta", "thinking": piece.reasoning}
            )
        if text := piece.text + piece.refusal:
            found += self._delta("text", {"type": "text_delta", "text": text})
        if piece.calls:
            found += self._call_events(self._blocks.read(piece.calls))
        return found

    def end(self) -> list[Json]:
        """Events after the last chunk."""
        whole = self._chunks.whole
        found = [] if self._began else [self._start()]
        found += self._call_events(self._blocks.end())
        if self._index < 0:
            found += self._begin("text", {"type": "text", "text": ""})
        found += self._close()
        reason, sequence = self._stop(whole)
        delta: Json = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": usage_json(whole.usage),
        }
        if whole.receipt is not None:
            delta["suffice"] = whole.receipt
        return [*found, delta, {"type": "message_stop"}]

    def _start(self) -> Json:
        self._began = True
        empty = ChatAnswer(model=self._chunks.whole.model)
        return {"type": "message_start", "message": self._message(empty, [])}

    def _call_events(self, pieces: Sequence[CallPiece]) -> list[Json]:
        found: list[Json] = []
        for piece in pieces:
            if piece.begins:
                block = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
                found += self._begin("tool_use", block)
            if piece.arguments:
                delta = {"type": "input_json_delta", "partial_json": piece.arguments}
                found.append(self._delta_event(delta))
        return found

    def _delta(self, kind: str, delta: Json) -> list[Json]:
        empty: Json = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
        begun = [] if self._open == kind else self._begin(kind, empty)
        return [*begun, self._delta_event(delta)]

    def _begin(self, kind: str, block: Json) -> list[Json]:
        closed = self._close()
        self._index += 1
        self._open = kind
        begun = {"type": "content_block_start", "index": self._index, "content_block": block}
        return [*closed, begun]

    def _close(self) -> list[Json]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": self._index}]

    def _delta_event(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    # --- errors

    @staticmethod
    def error(status: int, message: str, code: str | None) -> Json:
        """The error object; `code` is ours."""
        kind = _ERRORS.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": message, "code": code}}

    def error_event(self, status: int, message: str, code: str | None) -> Json:
        """The last event of a stream that failed."""
        return self.error(status, message, code)


def usage_json(usage: Usage | None) -> Json:
    """Usage in Anthropic's form: cached tokens are not among the input tokens."""
    told = usage or Usage()
    cached = told.cached_tokens or 0
    found: Json = {
        "input_tokens": max(0, told.prompt_tokens - cached),
        "output_tokens": told.completion_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
    }
    if told.reasoning_tokens is not None:
        found["output_tokens_details"] = {"thinking_tokens": told.reasoning_tokens}
    return found


def _tool_use(call: ToolCall) -> Json:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        # The protocol wants an object; the client is to see what the model wrote.
        arguments = {"invalid_json": call.arguments}
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
