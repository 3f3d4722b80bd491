"""Whether two answers are the same: the one notion of equality, for votes and for checking.

Numbers are compared exactly, as fractions, with their units: 1/2 = 0.5 = 50 %, 1 m = 100 cm; 12 cm
is not 12 m, 0.333 is not 1/3. Times, ratios and lists of digits are compared as text. What is left
are expressions: math-verify compares them, if it is there, within a time limit, unrounded.

math-verify calls SymPy, which can run for ever on a hostile expression and cannot be interrupted
from a thread: it runs in a process of its own, which is killed at the limit.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import re
import threading
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.util import find_spec
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple

from suffice.core.completions import Completion
from suffice.core.errors import InputError, MissingExtra
from suffice.evals.answers.numerals import Quantity, whole
from suffice.evals.answers.spelling import plain
from suffice.evals.answers.units import NONE
from suffice.evals.extract import Extractor, called, extractor, math_answer

LIMIT_S = 2.0
# Of numerical comparison: what differs within them is told apart nowhere, what does not is equal.
DIGITS = 60
# Loading SymPy takes seconds; that is not the answer's fault.
START_S = 60.0
# SymPy's time grows without bound with the text; nobody's final answer is this long.
LONGEST_CHARACTERS = 500
# Requests share one worker: after so many comparisons of one request beyond the limit, the rest of
# its answers compare as text, so that a hostile request cannot hold up the others for long.
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
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        pipe = self._worker()
        try:
            pipe.send((a, b))
            if not pipe.poll(self.limit_s):
                self.timeouts += 1
                self.close()
                return None
            return bool(pipe.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.close()  # the worker died (out of memory, say) over this pair
            return None

    def key(self, answer: str | None, known: Iterable[str]) -> str | None:
        """The first of `known` that is equal to `answer`, else `answer`: a key to vote on."""
        return self.timed_key(answer, known)[0]

    def timed_key(
        self, answer: str | None, known: Iterable[str], *, most_timeouts: int | None = None
    ) -> tuple[str | None, int]:
        """Like `key`, with the comparisons that passed the limit; text alone after the most."""
        known = tuple(known)
        if answer is None or answer in known:
            return answer, 0
        timeouts = 0
        for each in known:
            if most_timeouts is not None and timeouts >= most_timeouts:
                break
            same = self.compare(each, answer)
            if same:
                return each, timeouts
            timeouts += same is None
        return answer, timeouts

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe = None, None

    def _worker(self) -> Connection:
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self.close()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        if not ours.poll(START_S):
            self.close()
            raise InputError(f"the math worker did not start within {START_S:.0f} s")
        try:
            ready = ours.recv()
        except (EOFError, ConnectionResetError):
            self.close()
            raise InputError(
                "the math worker ended at its start: a script that compares answers needs its "
                "main part under if __name__ == '__main__' (the worker imports the script)"
            ) from None
        if not ready:
            self.close()
            raise MissingExtra.of("math-verify", "math", "mathematical equivalence")
        return ours


class MathExtractor:
    """Extractor whose keys are equal where answers are mathematically equal; one per request.

    The answer is the last box, else the last number. Comparing waits in a thread, so that an event
    loop goes on meanwhile.
    """

    def __init__(self, verifier: MathVerifier) -> None:
        self._verifier = verifier
        self._known: list[str] = []
        self._timeouts = 0
        self._turn = asyncio.Lock()  # two new answers at once must find each other

    async def __call__(self, completion: Completion) -> str | None:
        """The key that stands for the completion's answer."""
        if completion.tool_calls:
            return called(completion)
        answer = math_answer(completion)
        async with self._turn:
            key, late = await asyncio.to_thread(
                self._verifier.timed_key,
                answer,
                tuple(self._known),
                most_timeouts=MOST_TIMEOUTS - self._timeouts,
            )
            self._timeouts += late
            if key is not None and key not in self._known:
                self._known.append(key)
        return key


@cache
def shared_verifier() -> MathVerifier:
    """One worker for the whole process, started at the first comparison."""
    return MathVerifier()


def answer_extractor(
    answer_format: str | None, *, asked: str | None = None
) -> Extractor | MathExtractor | None:
    """What finds the comparable answers of one request; None for free-form text.

    Like `suffice.evals.extract.extractor`, but `math` compares by value. Raises MissingExtra.
    """
    if answer_format != "math":
        return extractor(answer_format, asked=asked)
    if find_spec("math_verify") is None:
        raise MissingExtra.of("math-verify", "math", "answer format math")
    return MathExtractor(shared_verifier())


def _serve(pipe: Connection) -> None:
    """Worker: answers pairs until its pipe closes."""
    try:
        from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify  # noqa: PLC0415
    except ImportError:
        pipe.send(False)
        return
    from sympy import Basic, Float, Rational, UnevaluatedExpr  # noqa: PLC0415

    logging.disable(logging.WARNING)  # it warns that its own limit is off: ours is the parent
    pipe.send(True)
    targets = (LatexExtractionConfig(), ExprExtractionConfig())
    hundredth = Rational(1, 100)

    def exactly(value: Any) -> Any:
        """Decimals as the fractions that they are, so that nothing is rounded to be equal."""
        if not isinstance(value, Basic):
            return value
        changed: dict[Any, Any] = {each: Rational(str(each)) for each in value.atoms(Float)}
        changed |= {
            each: hundredth for each in value.atoms(UnevaluatedExpr) if each.args == (hundredth,)
        }
        return value.xreplace(changed) if changed else value

    @lru_cache(maxsize=256)
    def parsed(text: str) -> Any:
        # No limit of its own: it would need signals, and the parent kills us anyway.
        wrapped = text if "$" in text else f"${text}$"
        return [
            exactly(each)
            for each in parse(wrapped, extraction_config=targets, parsing_timeout=None)
        ]

    def same(left: Any, right: Any) -> bool:
        return bool(verify(left, right, numeric_precision=DIGITS, timeout_seconds=None))

    while True:
        try:
            a, b = pipe.recv()
        except EOFError:
            return
        left, right = parsed(a), parsed(b)
        # Both ways, since "x = 5" answers 5 but 5 does not say x = 5: equality is symmetric.
        pipe.send(bool(left and right and same(left, right) and same(right, left)))
