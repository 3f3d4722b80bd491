"""Counts, tokens and times by model, under the names of OpenTelemetry's GenAI conventions.

A model's name may be a client's own word where an upstream has no list of models, so the names are
bounded: what comes beyond is counted as `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, Final

from suffice.ledger.latency_histogram import BOUNDS_S
from suffice.ledger.records import Entry, RequestRow, SampleRow

MOST_MODELS: Final = 100
OTHER: Final = "other"
BOUNDS_TOKENS: Final = tuple(float(4**power) for power in range(14))  # as the conventions advise

_OPERATION: Final = "gen_ai_client_operation_duration_seconds"
_TOKENS: Final = "gen_ai_client_token_usage"
_REQUEST: Final = "gen_ai_server_request_duration_seconds"
_FIRST_TOKEN: Final = "gen_ai_server_time_to_first_token_seconds"
_PER_TOKEN: Final = "gen_ai_server_time_per_output_token_seconds"
# Name of a histogram: its bounds. Seconds but for the tokens.
HISTOGRAMS: Final[Mapping[str, tuple[float, ...]]] = {
    _OPERATION: BOUNDS_S,
    _TOKENS: BOUNDS_TOKENS,
    _REQUEST: BOUNDS_S,
    _FIRST_TOKEN: BOUNDS_S,
    _PER_TOKEN: BOUNDS_S,
}
# (histogram, model, kind): sum, then a count for each bin; kind is "" but for tokens.
Key = tuple[str, str, str]


class ModelSums:
    """What each model was asked for and how long it took. Not locked: its owner is."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], float] = {}  # (model, upstream, ending)
        self.bins: dict[Key, list[float]] = {}
        self._known: set[str] = set()

    def count(
        self, entry: Entry, *, model: str | None, asked: Mapping[str, str], last: str = ""
    ) -> None:
        """Take in a request. `model` is that of one that passed through; `asked` are the upstreams
        of all models that were asked, `last` the label of the last of them (`named`).
        """
        row = entry.request
        for sample in entry.samples:
            self._sample(sample, asked.get(sample.model, ""))
        if not entry.samples and model:
            self._passed(row, model, asked.get(model, ""))
        if asked and row.ending == "answered":
            last = last or self.named(asked)[0]
            self._add((_REQUEST, last, ""), BOUNDS_S, row.elapsed_s)

    def named(self, asked: Mapping[str, str]) -> tuple[str, str]:
        """The model and the upstream that were asked last, as labels; empty if nobody was."""
        if not asked:
            return "", ""
        model = list(asked)[-1]
        return self._named(model), asked[model]

    def _sample(self, row: SampleRow, upstream: str) -> None:
        name = self._named(row.model)
        self._request(name, upstream, row.status)
        self._tokens(name, row.prompt_tokens, row.completion_tokens)
        if row.status == "finished":
            self._answer(name, row.ttft_s, row.elapsed_s, row.completion_tokens)

    def _passed(self, row: RequestRow, model: str, upstream: str) -> None:
        name = self._named(model)
        self._request(name, upstream, row.ending)
        self._tokens(name, row.prompt_tokens or 0, row.completion_tokens or 0)
        if row.ending == "answered":
            first = row.first_byte_s if row.stream else None
            self._answer(name, first, row.elapsed_s, row.completion_tokens or 0)

    def _named(self, model: str) -> str:
        if model in self._known:
            return model
        if len(self._known) >= MOST_MODELS:
            return OTHER
        self._known.add(model)
        return model

    def _request(self, model: str, upstream: str, ending: str) -> None:
        at = (model, upstream, ending)
        self.requests[at] = self.requests.get(at, 0.0) + 1.0

    def _tokens(self, model: str, prompt: int, completion: int) -> None:
        if prompt:
            self._add((_TOKENS, model, "input"), BOUNDS_TOKENS, prompt)
        if completion:
            self._add((_TOKENS, model, "output"), BOUNDS_TOKENS, completion)

    def _answer(self, model: str, first_s: float | None, all_s: float, tokens: int) -> None:
        self._add((_OPERATION, model, ""), BOUNDS_S, all_s)
        if first_s is None:
            return
        self._add((_FIRST_TOKEN, model, ""), BOUNDS_S, first_s)
        if tokens > 1 and all_s > first_s:
            self._add((_PER_TOKEN, model, ""), BOUNDS_S, (all_s - first_s) / (tokens - 1))

    def _add(self, key: Key, bounds: tuple[float, ...], value: float) -> None:
        sums = self.bins.get(key)
        if sums is None:
            sums = self.bins[key] = [0.0] * (len(bounds) + 2)
        sums[0] += value
        sums[1 + bisect_left(bounds, value)] += 1

    def shown(self) -> dict[str, Any]:
        """As a JSON value; `merged_models` reads it."""
        return {
            "requests": [[*at, count] for at, count in self.requests.items()],
            "bins": [[*at, list(sums)] for at, sums in self.bins.items()],
        }


def merged_models(states: Iterator[Mapping[str, Any]]) -> ModelSums:
    """The sum of several processes'."""
    total = ModelSums()
    for state in states:
        for *at, count in state.get("requests", ()):
            key = (str(at[0]), str(at[1]), str(at[2]))
            total.requests[key] = total.requests.get(key, 0.0) + count
        for name, model, kind, sums in state.get("bins", ()):
            known = total.bins.setdefault((name, model, kind), [0.0] * len(sums))
            for place, value in enumerate(sums):
                known[place] += value
    return total
