"""Chunks from the data of a stream's events, and the one chunk of an answer that came whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from suffice.backends.message_fields import (
    CHOICE,
    RESPONSE,
    extras_of,
    news,
    news_of_delta,
    read_content,
    reasoning_in,
    rest,
    rest_of_message,
)
from suffice.backends.protocol import Chunk
from suffice.backends.tool_calls import CallFragments, calls_of
from suffice.backends.wire import error_message, logprobs_of, read_usage
from suffice.core.completions import FinishReason, Usage
from suffice.core.errors import (
    BackendError,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRejected,
)

try:
    from orjson import loads as _loads  # a stream is one small JSON object per token
except ImportError:  # a recorder or an embedded model may run without the extra serve
    from json import loads as _loads  # type: ignore[assignment]

Json = dict[str, Any]

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_PLAIN_CHOICE = {"index", "delta", "logprobs", "finish_reason"}
_ABORTED = ("abort", "error")


class ChunkReader:
    """Chunks from the data of a stream's events.

    The chunk with the finish reason is held back until the usage that follows it has been read, so
    that the last chunk carries both. `mode_bias_nats` is what was asked for, noted on each.
    """

    def __init__(self, upstream: str, *, mode_bias_nats: float | None = None) -> None:
        self._upstream = upstream
        self._mode_bias_nats = mode_bias_nats
        self._finish: FinishReason | None = None
        self._own_finish: str | None = None  # where it is none of ours
        self._usage: Usage | None = None
        self._usage_refused = False
        self._calls = CallFragments()
        self._response: Json = {}  # fields of the event beside the choices, as last seen
        self._around = (b"", b"")  # of the text, in the last event that said nothing else
        self.done = False

    def read_all(self, events: Iterable[str | bytes]) -> Iterator[Chunk]:
        """Chunks in the data of events that arrived together; what can be one chunk is one.

        An engine that is faster than its reader is then read in large pieces, at a cost that does
        not grow with the number of tokens. What came before a faulty event is given out first.
        """
        texts: list[str] = []
        told: object = None  # the newest usage beside them
        for data in events:
            text = self._like_the_last(data)
            if text is not None:
                texts.append(text)
                continue
            try:
                event = self._event(data)
                if event is None:
                    break
                text = self._plain_text(event)
                if text is not None:
                    texts.append(text)
                    told = event.get("usage") or told
                    self._remember(event, data, text)
                    continue
                chunk = self._checked(event, data)
            except BackendError:
                yield from self._texts(texts, told)
                raise
            yield from self._texts(texts, told)
            texts, told = [], None
            if chunk is not None:
                yield chunk
        yield from self._texts(texts, told)

    def _like_the_last(self, data: str | bytes) -> str | None:
        """The text of an event that differs from the one remembered in its text alone.

        It is not parsed: what stands before and behind the text is, byte for byte, what was parsed
        last, and the text holds nothing that JSON writes in another way.
        """
        before, behind = self._around
        if not (before and isinstance(data, bytes) and data.startswith(before)):
            return None
        middle = data[len(before) : -len(behind)]
        if not data.endswith(behind) or b'"' in middle or b"\\" in middle:
            return None
        try:
            text = middle.decode()
        except UnicodeDecodeError:
            return None
        return text if text.isprintable() and text else None

    def _remember(self, event: Json, data: str | bytes, text: str) -> None:
        """What stands around the text of an event that says nothing else."""
        self._around = (b"", b"")
        if not isinstance(data, bytes) or event.get("usage") or not event.keys() <= RESPONSE:
            return
        if not event["choices"][0].keys() <= _PLAIN_CHOICE:
            return
        before, mark, rest = data.partition(b'"content":')
        blank = b" " if rest.startswith(b" ") else b""
        said = blank + b'"' + text.encode(errors="replace") + b'"'
        plain = text.isprintable() and "\\" not in text and '"' not in text
        if plain and mark and rest.startswith(said) and mark not in rest:
            self._around = (before + mark + blank + b'"', rest[len(said) - 1 :])

    def _texts(self, texts: list[str], told: object) -> Iterator[Chunk]:
        """Text that came in several events as one chunk; uncounted, each event is a token."""
        if not texts:
            return
        usage = self._read_usage(told)
        tokens = len(texts) if len(texts) > 1 else None
        if usage is not None:
            tokens = usage.completion_tokens - self._drawn
            self._usage = usage
        yield Chunk(
            text="".join(texts),
            token_count=tokens,
            usage=usage,
            mode_bias_nats=self._mode_bias_nats,
        )

    def _read_usage(self, told: object) -> Usage | None:
        """What the engine told, unless it cannot be: then the tokens are counted here."""
        usage, refused = read_usage(told)
        self._usage_refused = self._usage_refused or refused
        return usage

    @property
    def _drawn(self) -> int:
        """Completion tokens that the engine has told of so far."""
        return 0 if self._usage is None else self._usage.completion_tokens

    def read(self, data: str | bytes) -> Chunk | None:
        """The chunk in one event's data; None if it only ends or annotates the stream."""
        event = self._event(data)
        return None if event is None else self._checked(event, data)

    def last(self) -> Chunk:
        """The stream's last chunk. Raises UpstreamDisconnected if no finish reason was seen."""
        if self._finish is None:
            raise UpstreamDisconnected(
                f"{self._upstream} ended the stream before the answer was complete"
            )
        own = {} if self._own_finish is None else {"finish_reason": self._own_finish}
        return Chunk(
            token_count=0,
            tool_calls=self._calls.whole(),
            finish_reason=self._finish,
            usage=self._usage,
            usage_refused=self._usage_refused,
            mode_bias_nats=self._mode_bias_nats,
            extras=extras_of({}, own, {}),
        )

    def whole(self, answer: object) -> Chunk:
        """The one chunk of an answer that came whole. Raises MalformedStream, UpstreamRejected."""
        if not isinstance(answer, dict):
            raise self._malformed("an answer that is not a JSON object")
        self._raise_error(answer)
        try:
            return self._whole(answer)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError) as e:
            raise self._malformed(f"an unexpected answer ({e})") from None

    def _whole(self, answer: Json) -> Chunk:
        choice = answer["choices"][0]
        message = choice.get("message") or {}
        plain = message.get("content") if "text" not in choice else choice["text"]
        text, thought = read_content(plain)
        reasoning = reasoning_in(message)
        self._end(choice.get("finish_reason") or "stop")
        own = {} if self._own_finish is None else {"finish_reason": self._own_finish}
        extras = extras_of(
            rest_of_message(message),
            {**rest(choice, CHOICE), **own},
            rest(answer, RESPONSE),
        )
        logprobs = logprobs_of(choice.get("logprobs"))
        usage = self._read_usage(answer.get("usage"))
        return Chunk(
            text=text,
            reasoning_text=reasoning or thought,
            token_count=len(logprobs) if logprobs else None,
            logprobs=logprobs,
            tool_calls=calls_of(message.get("tool_calls")),
            finish_reason=self._finish,
            usage=usage,
            usage_refused=self._usage_refused,
            mode_bias_nats=self._mode_bias_nats,
            extras=extras,
        )

    def _plain_text(self, event: Json) -> str | None:
        """The text of an event that holds nothing else, as nearly all do; None for the others."""
        choices = event.get("choices")
        if type(choices) is not list or len(choices) != 1:
            return None
        choice = choices[0]
        if type(choice) is not dict or choice.get("finish_reason") or choice.get("logprobs"):
            return None
        delta = choice.get("delta")
        if type(delta) is not dict or len(delta) != 1 or event.get("error"):
            return None
        text = delta.get("content")
        if type(text) is not str or not text:
            return None
        if not choice.keys() <= _PLAIN_CHOICE and news(choice, CHOICE):
            return None
        same = event.keys() <= RESPONSE or news(event, RESPONSE) == self._response
        return text if same else None

    def _event(self, data: str | bytes) -> Json | None:
        if data.strip() in ("[DONE]", b"[DONE]"):
            self.done = True
            return None
        try:
            event = _loads(data)
        except (ValueError, RecursionError) as error:
            text = _decoded(data)
            if text != data and "\N{REPLACEMENT CHARACTER}" in text:
                return self._event(text)  # a server that cuts its text within a character
            raise self._malformed(f"an event that is not JSON ({error}): {text[:80]!r}") from None
        if not isinstance(event, dict):
            raise self._malformed(f"an event that is not an object: {_decoded(data)[:80]!r}")
        return event

    def _checked(self, event: Json, data: str | bytes) -> Chunk | None:
        self._raise_error(event)
        try:
            return self._chunk(event)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError) as e:
            text = _decoded(data)
            raise self._malformed(f"an unexpected chunk ({e}): {text[:80]!r}") from None

    def _raise_error(self, event: Json) -> None:
        if event.get("error"):
            status = event["error"].get("code") if isinstance(event["error"], dict) else None
            known = status if isinstance(status, int) and 400 <= status < 600 else 502
            raise UpstreamRejected(f"{self._upstream}: {error_message(event)}", status=known)

    def _chunk(self, event: Json) -> Chunk | None:
        told = event.get("usage")
        usage = self._read_usage(told) if told else None
        before = self._drawn
        self._usage = usage or self._usage
        beside = news(event, RESPONSE)
        fresh = beside if beside != self._response else {}
        self._response = beside
        choices = event.get("choices") or []
        choice: Json = choices[0] if choices else {}
        delta = choice.get("delta") or {}
        text, thought = read_content(choice["text"] if "text" in choice else delta.get("content"))
        reasoning = reasoning_in(delta) or thought
        logprobs = logprobs_of(choice.get("logprobs"))
        for fragment in delta.get("tool_calls") or []:
            self._calls.add(fragment)
        if choice.get("finish_reason") is not None:
            self._end(choice["finish_reason"])
        extras = extras_of(news_of_delta(delta), news(choice, CHOICE), fresh)
        tokens = len(logprobs) or None
        if usage is not None and choices:
            tokens = usage.completion_tokens - before
        if not (text or reasoning or logprobs or delta.get("tool_calls") or tokens or extras):
            return None
        return Chunk(
            text=text,
            reasoning_text=reasoning,
            token_count=tokens,
            logprobs=logprobs,
            usage=usage,
            mode_bias_nats=self._mode_bias_nats,
            extras=extras,
        )

    def _end(self, reason: object) -> None:
        if not isinstance(reason, str):
            raise TypeError(f"finish_reason is a {type(reason).__name__}")
        if reason in _ABORTED:
            raise UpstreamDisconnected(f"{self._upstream} aborted the sample (finish: {reason})")
        self._finish = _FINISH_REASONS.get(reason, "stop")
        self._own_finish = None if reason == self._finish else reason

    def _malformed(self, what: str) -> MalformedStream:
        return MalformedStream(f"{self._upstream} sent {what}")


def _decoded(data: str | bytes) -> str:
    return data if isinstance(data, str) else data.decode(errors="replace")
