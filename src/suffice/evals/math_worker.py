"""A process that compares expressions with math-verify, which calls SymPy.

SymPy can run for ever on a hostile expression, or take all memory, and cannot be interrupted: so it
runs here, with limits of its own, and whoever asks kills it at his. One JSON list of two texts a
line comes in on file 0, a socket; `1` or `0` goes back. The first line that goes out is `ready` or
`missing` (the extra `math` is not installed).

    python -m suffice.evals.math_worker SECONDS BYTES
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# Of numerical comparison: what differs within them is told apart nowhere, what does not is equal.
DIGITS = 60
# Whoever answers requests comes first.
NICE = 10
LOOK_S = 1.0


def main() -> None:
    """Compare until file 0 closes, or its owner dies."""
    limit_s, most_bytes = float(sys.argv[1]), int(sys.argv[2])
    owner = os.getppid()
    threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    _bound(most_bytes)
    try:
        same = comparison()
        same("x+1", "1+x")  # what is loaded at the first use is not the first answer's fault either
    except ImportError:
        os.write(0, b"missing\n")
        return
    os.write(0, b"ready\n")
    for line in sys.stdin:
        a, b = json.loads(line)
        # Whoever asked has given up by then, or does not live any more.
        signal.setitimer(signal.ITIMER_REAL, 2 * limit_s + 1)
        os.write(0, b"1\n" if same(a, b) else b"0\n")
        signal.setitimer(signal.ITIMER_REAL, 0)


def _bound(most_bytes: int) -> None:
    os.nice(NICE)
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(LOOK_S)
    os._exit(1)


def comparison() -> Callable[[str, str], bool]:
    """The function that tells whether two expressions are equal. Raises ImportError."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify  # noqa: PLC0415
    from sympy import Basic, Float, Rational, UnevaluatedExpr  # noqa: PLC0415

    logging.disable(logging.WARNING)  # it warns that its own limit is off: ours is outside
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
        # No limit of its own: it would need signals, and we are killed anyway.
        wrapped = text if "$" in text else f"${text}$"
        return [
            exactly(each)
            for each in parse(wrapped, extraction_config=targets, parsing_timeout=None)
        ]

    def same(left: Any, right: Any) -> bool:
        return bool(verify(left, right, numeric_precision=DIGITS, timeout_seconds=None))

    def both_ways(a: str, b: str) -> bool:
        left, right = parsed(a), parsed(b)
        # Since "x = 5" answers 5 but 5 does not say x = 5: equality is symmetric.
        return bool(left and right and same(left, right) and same(right, left))

    return both_ways


if __name__ == "__main__":
    main()
