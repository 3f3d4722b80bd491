"""Whether two answers are the same: the one notion of equality, for votes and for checking.

Numbers are compared exactly, as fractions, with their units: 1/2 = 0.5 = 50 %, 1 m = 100 cm; 12 cm
is not 12 m, 0.333 is not 1/3. Times, ratios and lists of digits are compared as text. What is left
are expressions: math-verify compares them, if it is there, within a time limit, unrounded.

math-verify calls SymPy, which can run for ever on a hostile expression and cannot be interrupted
from a thread: it runs in a process of its own, which is killed at the limit.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import NamedTuple, Protocol

from suffice.core.completions import Completion
from suffice.core.errors import InputError, MissingExtra
from suffice.evals.answers.numerals import Quantity, whole
from suffice.evals.answers.spelling import plain
from suffice.evals.answers.units import NONE
from suffice.evals.extract import Extractor, called, extractor, math_answer
from suffice.evals.math_process import START_S, MathProcess, WorkerLost, WorkerMissing

LIMIT_S = 2.0
# SymPy's time grows without bound with the text; nobody's final answer is this long.
LONGEST_CHARACTERS = 500
# What is longer is compared as it is written: reading it would take time as well.
LONGEST_NUMBER = 5000
# A longer answer is read in a thread.
SHORT_TEXT = 4000
# After so many comparisons of one request beyond the limit, the rest of its answers compare as
# text, so that a hostile request cannot hold up the others for long.
MOST_TIMEOUTS = 2

_INFINITE = dict.fromkeys(("∞", "+∞", "oo", "inf", "infinity", "infty", "+infinity"), "∞")
_INFINITE |= dict.fromkeys(("-∞", "-oo", "-inf", "-infinity"), "-∞")
# A time or a ratio (12:30, 2:3), a date, a range of digits: algebra would read something else.
_LITERAL = re.compile(r"\d:\d|\d/\d+/\d|\d-\d+-\d")


def equal(a: str | None, b: str | None) -> bool:
    """Whether two answers are the same; nothing equals a missing one.

    Symmetric. Transitive wherever both sides are numbers; a number without a unit also equals the
    same number with one. Without math-verify (extra `math`) expressions are compared as text.
    """
    if a is None or b is None:
        return False
    found = decided(a, b)
    if found is None:
        found = shared_verifier().compare(a, b) if find_spec("math_verify") else False
    return bool(found)


def decided(a: str, b: str) -> bool | None:
    """Whether two answers are the same, None where that takes algebra."""
    if a == b:
        return True
    if max(len(a), len(b)) > LONGEST_NUMBER:
        return False
    left, right = _read(a), _read(b)
    if left.key == right.key:
        return True
    if left.number is not None and right.number is not None:
        return _same_quantity(left.number, right.number)
    if left.literal or right.literal or max(len(a), len(b)) > LONGEST_CHARACTERS:
        return False
    return None


class _Read(NamedTuple):
    """An answer as it is compared."""

    key: str  # as text: spaces and LaTeX's layout aside
    number: Quantity | None
    literal: bool  # compared as text alone: a time, a ratio, a word


@lru_cache(maxsize=4096)
def _read(text: str) -> _Read:
    number = whole(text)
    key = re.sub(r"\s+", "", plain(text)).strip("$.")
    if key.isalpha() and len(key) > 1:
        key = key.casefold()
    key = _INFINITE.get(key.lower(), key)
    return _Read(key, number, number is None and (_LITERAL.search(key) is not None or "∞" in key))


def _same_quantity(a: Quantity, b: Quantity) -> bool:
    if NONE in (a.unit, b.unit):
        return a.value == b.value
    if a.unit.measures != b.unit.measures:
        return False
    return a.value * a.unit.factor == b.value * b.unit.factor


def exact(a: str | None, b: str | None) -> bool:
    """Whether two extracted answers are equal; nothing equals a missing one."""
    return a is not None and a == b


class MathVerifier:
    """Mathematical equivalence of LaTeX or plain expressions, by math-verify in a worker.

    Use as a context manager, or close it. A comparison that passes the limit counts as unequal,
    the worker is killed and the next comparison starts a fresh one.
    """

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        if not limit_s > 0:
            raise InputError(f"the time limit must be positive, got {limit_s}")
        self.limit_s = limit_s
        self.timeouts = 0  # comparisons that passed the limit
        self._lock = threading.Lock()  # one question at a time, whoever asks
        self._process: MathProcess | None = None

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def equal(self, a: str | None, b: str | None) -> bool:
        """Whether two answers are mathematically the same."""
        return a is not None and b is not None and bool(self.compare(a, b))

    def compare(self, a: str, b: str) -> bool | None:
        """Like `equal`, but None where the limit was passed."""
        found = decided(a, b)
        if found is not None:
            return found
        with self._lock:
            return self._ask(*sorted((a, b)))

    def _ask(self, a: str, b: str) -> bool | None:
        try:
            return self._worker().compare(a, b, self.limit_s)
        except WorkerLost:  # too slow, or it died (out of memory, say) over this pair
            self.timeouts += 1
            self._process = None
            return None

    def key(self, answer: str | None, known: Iterable[str]) -> str | None:
        """The first of `known` that is equal to `answer`, else `answer`: a key to vote on."""
        known = tuple(known)
        if answer is None or answer in known:
            return answer
        return next((each for each in known if self.compare(each, answer)), answer)

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
        self._process = None

    def _worker(self) -> MathProcess:
        if self._process is None:
            process = MathProcess(limit_s=self.limit_s)
            try:
                process.await_start()
            except WorkerMissing:
                raise MissingExtra.of("math-verify", "math", "mathematical equivalence") from None
            except WorkerLost:
                raise InputError(f"the math worker did not start within {START_S:g} s") from None
            self._process = process
        return self._process


class Comparing(Protocol):
    """Whoever compares expressions for one request."""

    async def __call__(self, a: str, b: str) -> bool | None:
        """Whether they are equal; None if that could not be found out in time."""
        ...


class MathExtractor:
    """Extractor whose keys are equal where answers are mathematically equal; one per request.

    The answer is the last box, else the last number. Once `most_timeouts` comparisons were not done
    in time, the rest of the request's answers compare as text.
    """

    def __init__(self, comparing: Comparing, *, most_timeouts: int = MOST_TIMEOUTS) -> None:
        self._comparing = comparing
        self._known: list[str] = []
        self._left = most_timeouts
        self._turn = asyncio.Lock()  # two new answers at once must find each other

    async def __call__(self, completion: Completion) -> str | None:
        """The key that stands for the completion's answer."""
        if completion.tool_calls:
            return called(completion)
        if len(completion.text) > SHORT_TEXT:
            answer = await asyncio.to_thread(math_answer, completion)
        else:
            answer = math_answer(completion)
        if answer is None or answer in self._known:
            return answer
        async with self._turn:
            for each in self._known:
                if await self._same(each, answer):
                    return each
            self._known.append(answer)
        return answer

    async def _same(self, a: str, b: str) -> bool:
        found = decided(a, b)
        if found is None and self._left > 0:
            found = await self._comparing(*sorted((a, b)))
            self._left -= found is None
        return bool(found)


def in_thread(verifier: MathVerifier) -> Comparing:
    """Comparing by a worker that is waited for in a thread, for a program with one request."""

    async def compare(a: str, b: str) -> bool | None:
        return await asyncio.to_thread(verifier.compare, a, b)

    return compare


@cache
def shared_verifier() -> MathVerifier:
    """One worker for the whole process, started at the first comparison."""
    return MathVerifier()


def answer_extractor(
    answer_format: str | None, *, asked: str | None = None, comparing: Comparing | None = None
) -> Extractor | MathExtractor | None:
    """What finds the comparable answers of one request; None for free-form text.

    Like `suffice.evals.extract.extractor`, but `math` compares by value: by `comparing`, or else by
    a worker of this process. Raises MissingExtra.
    """
    if answer_format != "math":
        return extractor(answer_format, asked=asked)
    if find_spec("math_verify") is None:
        raise MissingExtra.of("math-verify", "math", "answer format math")
    return MathExtractor(comparing or in_thread(shared_verifier()))
