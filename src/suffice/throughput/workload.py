"""What is asked of a server: a mix of request lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from suffice.core.errors import InputError
from suffice.core.files import read_json, read_toml
from suffice.core.strict import Strict

_LONGEST_TOKENS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestClass:
    """Requests of one length; `weight` is their share of all requests, in any unit."""

    input_tokens: int
    output_tokens: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} must be a whole number, got {value!r}")
            if not 1 <= value <= _LONGEST_TOKENS:
                raise InputError(f"{name} must lie between 1 and {_LONGEST_TOKENS}, got {value}")
        if not 0.0 < self.weight < float("inf"):
            raise InputError(f"a request class needs a positive weight, got {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A mix of request classes, served at a steady concurrency.

    `cached_share` of each prompt is found in the engine's prefix cache and is not computed again;
    at least its last token is. `at_once`: all requests in flight are sent together, as a batch job
    does, instead of one by one as others end. `in_step`: requests are all exactly of one length, as
    some benchmarks make them, so that those whose prompts share a pass end together, and so on.
    """

    classes: tuple[RequestClass, ...]
    name: str | None = None
    cached_share: float = 0.0
    at_once: bool = False
    in_step: bool = False

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("a workload needs at least one request class")
        if not 0.0 <= self.cached_share <= 1.0:
            raise InputError(
                f"the cached share of prompts must lie between 0 and 1, got {self.cached_share}"
            )

    @classmethod
    def single(
        cls,
        input_tokens: int,
        output_tokens: int,
        *,
        cached_share: float = 0.0,
        at_once: bool = False,
        in_step: bool = False,
    ) -> Workload:
        """Every request has the same lengths."""
        only = RequestClass(input_tokens=input_tokens, output_tokens=output_tokens)
        return cls(classes=(only,), cached_share=cached_share, at_once=at_once, in_step=in_step)

    @property
    def mean_computed_tokens(self) -> float:
        """Prompt tokens per request that no cache holds."""
        return self._per_request(float(c.input_tokens - self._cached(c)) for c in self.classes)

    def _cached(self, c: RequestClass) -> int:
        return min(int(self.cached_share * c.input_tokens), c.input_tokens - 1)

    @property
    def mean_input_tokens(self) -> float:
        """Prompt tokens per request."""
        return self._per_request(float(c.input_tokens) for c in self.classes)

    @property
    def mean_output_tokens(self) -> float:
        """Output tokens per request."""
        return self._per_request(float(c.output_tokens) for c in self.classes)

    def prompt_pairs(self, window: int | None = None) -> float:
        """Causal query-key pairs of one prompt, mean per request: Σ over i of min(i, window).

        Over the tokens that are computed: those behind the cached part, which they attend to.
        """
        return self._per_request(
            _pairs(c.input_tokens, window) - _pairs(self._cached(c), window) for c in self.classes
        )

    def decode_context_tokens(self, window: int | None = None) -> float:
        """KV length that a decoded token attends to, mean over all decode steps.

        The first output token comes from the prompt's pass, so a request of I + O tokens decodes
        at KV lengths I + 1 .. I + O - 1 (with its own entry). One-token requests never decode; if
        there are no others the mean is that of the prompt.
        """
        steps = self._per_request(float(c.output_tokens - 1) for c in self.classes)
        if steps == 0.0:
            return self._per_request(
                float(min(c.input_tokens, window or c.input_tokens)) for c in self.classes
            )
        attended = self._per_request(
            _pairs(c.input_tokens + c.output_tokens - 1, window) - _pairs(c.input_tokens, window)
            for c in self.classes
        )
        return attended / steps

    def held_tokens(self, output_share: float = 1.0, window: int | None = None) -> float:
        """KV entries of a running sequence with `output_share` of its output, mean over sequences.

        A sequence runs about as long as its output, so classes count by weight times output.
        """
        return (
            self._per_request(
                c.output_tokens
                * min(c.input_tokens + output_share * c.output_tokens, window or math.inf)
                for c in self.classes
            )
            / self.mean_output_tokens
        )

    @property
    def longest_tokens(self) -> int:
        """Tokens of the longest request, prompt and output."""
        return max(c.input_tokens + c.output_tokens for c in self.classes)

    def _per_request(self, values: Iterable[float]) -> float:
        total = sum(c.weight for c in self.classes)
        return sum(c.weight * value for c, value in zip(self.classes, values, strict=True)) / total

    def __str__(self) -> str:
        if len(self.classes) == 1:
            only = self.classes[0]
            return f"{only.input_tokens} in / {only.output_tokens} out"
        return (
            f"{self.name or 'mix'} of {len(self.classes)} classes, mean "
            f"{self.mean_input_tokens:.0f} in / {self.mean_output_tokens:.0f} out"
        )


class _ClassRecord(Strict):
    input_tokens: int = Field(ge=1, le=_LONGEST_TOKENS)
    output_tokens: int = Field(ge=1, le=_LONGEST_TOKENS)
    weight: float = Field(default=1.0, gt=0)


class _WorkloadFile(Strict):
    name: str | None = None
    requests: list[_ClassRecord] = Field(min_length=1)


def load_workload(path: str | Path) -> Workload:
    """Workload of a TOML or JSON file: a list `requests` of input_tokens, output_tokens, weight.

    Raises InputError that names the file and the field.
    """
    path = Path(path)
    if path.suffix == ".json":
        parsed = read_json(path, what="workload")
    else:
        parsed, _ = read_toml(path, what="workload")
    try:
        record = _WorkloadFile.model_validate(parsed)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"workload {str(path)!r}: {place or 'file'}: {first['msg']}; a workload is a list "
            "[[requests]] of input_tokens, output_tokens and an optional weight"
        ) from None
    return Workload(
        classes=tuple(RequestClass(**item.model_dump()) for item in record.requests),
        name=record.name or path.stem,
    )


def _pairs(tokens: int, window: int | None) -> float:
    """Σ of min(i, window) for i = 1..tokens."""
    beyond = 0 if window is None else max(0, tokens - window)
    return tokens * (tokens + 1) / 2 - beyond * (beyond + 1) / 2
