"""How fast models write, learned from answers that came whole.

An answer that is asked for without a stream shows nothing before its end. If it is stopped before
that, no engine tells what it drew: it is reckoned by the pace of those that ended.
"""

from __future__ import annotations

# Weight of the newest answer in a model's mean pace.
NEWEST = 0.1
MOST_MODELS = 256


class Pace:
    """Completion tokens per second by model, from asking for an answer to having it."""

    def __init__(self) -> None:
        self._tokens_per_s: dict[str, float] = {}

    def learn(self, model: str, tokens: int, elapsed_s: float) -> None:
        """An answer of so many tokens took so long, its wait and its prompt included."""
        if tokens <= 0 or elapsed_s <= 0.0:
            return
        pace, known = tokens / elapsed_s, self._tokens_per_s.get(model)
        if known is None and len(self._tokens_per_s) >= MOST_MODELS:
            return
        self._tokens_per_s[model] = pace if known is None else known + NEWEST * (pace - known)

    def drawn(self, model: str, elapsed_s: float, most: int | None) -> int:
        """Tokens that an answer has probably drawn by now, at most `most`; 0 if none is known."""
        found = round(self._tokens_per_s.get(model, 0.0) * max(0.0, elapsed_s))
        return found if most is None else min(found, most)


# Of this process: the pace is the engine's, whoever asks.
PACE = Pace()
