"""Token ids to text as they come: whole characters only, stop strings held back."""

from __future__ import annotations

from typing import Protocol

# What a decoder prints for bytes that do not make a character yet.
_INCOMPLETE = "\ufffd"


class Decoder(Protocol):
    """The one thing that is needed of a tokenizer."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str:
        """Text of a list of ids."""
        ...


class TextStream:
    """Text of a growing list of ids. The pieces together are the decoded whole, cut at a stop.

    Ids are decoded together with the few before them, since a tokenizer may print a token
    differently at the start of a text.
    """

    def __init__(self, tokenizer: Decoder, *, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self._start = 0  # where decoding begins
        self._printed = 0  # ids whose text has been taken
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Text that this token makes safe to show."""
        self._ids.append(token)
        before = self._decode(self._ids[self._start : self._printed])
        now = self._decode(self._ids[self._start :])
        if now.endswith(_INCOMPLETE) or len(now) <= len(before):
            return ""
        self._start, self._printed = self._printed, len(self._ids)
        return self._release(now[len(before) :])

    def flush(self) -> str:
        """What was held back, once no token follows."""
        if self.stopped:
            return ""
        before = self._decode(self._ids[self._start : self._printed])
        rest = self._decode(self._ids[self._start :])[len(before) :]
        self._start = self._printed = len(self._ids)
        shown = self._release(rest)
        held, self._held = self._held, ""  # empty if that met a stop string
        return shown + held

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True) if ids else ""

    def _release(self, text: str) -> str:
        self._held += text
        found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
