"""A client's regular expressions, matched in linear time.

`regex:PATTERN` comes from whoever sends a request and is matched against what a model writes, on
the gateway's event loop: a pattern such as `(a+)+$` must not be able to stop it. RE2 matches in
time linear in the text; what it lacks for that (look-around, back-references) is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from suffice.core.completions import Completion
from suffice.core.errors import InputError, MissingExtra
from suffice.core.requests import Request
from suffice.evals.equivalence import Comparing, MathExtractor, answer_extractor
from suffice.evals.extract import Extractor, or_by_calls
from suffice.executors.live import Extract

try:
    import re2
except ImportError as error:  # the core install is light
    raise MissingExtra.of("google-re2", "serve", "the gateway") from error

PREFIX = "regex:"
LONGEST_PATTERN = 1000
# Of the compiled program and its automaton: counted repetitions multiply.
MOST_BYTES = 1 << 20
# Text beyond this from the end is not searched; the last match is the one that counts.
LONGEST_TEXT = 1 << 18
# Reading an answer takes about a microsecond a character; of a vote, many come at once.
SHORT_TEXT = 4000
_READER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="suffice-read")


def extractor_of(request: Request, comparing: Comparing | None = None) -> Extract | None:
    """What finds the comparable answer of this request's samples, None for free-form text.

    Expressions are compared by `comparing`.
    """
    wanted = request.answer_format
    if wanted is not None and wanted.startswith(PREFIX):
        return _of_one_request(or_by_calls(linear_regex(wanted.removeprefix(PREFIX))))
    found = answer_extractor(wanted, asked=request.asked, comparing=comparing)
    if found is None or isinstance(found, MathExtractor):
        return found
    return _of_one_request(found)


def _of_one_request(read: Extractor) -> Extract:
    """The extractor of one request; samples that say the same are read once.

    Reading takes tens of microseconds, and short answers of one vote are often equal. Long ones
    are read in a thread: others are answered meanwhile.
    """
    known: dict[str, str | None] = {}

    def remembered(completion: Completion) -> str | Awaitable[str | None] | None:
        text = completion.text
        if len(text) > SHORT_TEXT:
            return asyncio.get_running_loop().run_in_executor(_READER, read, completion)
        if completion.tool_calls:
            return read(completion)
        if text not in known:
            known[text] = read(completion)
        return known[text]

    return remembered


def check_answer_format(wanted: str) -> None:
    """Raise InputError if this is no answer format, MissingExtra if its extra is not installed."""
    if wanted.startswith(PREFIX):
        linear_regex(wanted.removeprefix(PREFIX))
    else:
        answer_extractor(wanted)


def linear_regex(pattern: str) -> Extractor:
    """Extractor of the last match of `pattern`: its first group, or the whole match."""
    if len(pattern) > LONGEST_PATTERN:
        raise InputError(
            f"answer format regex: the pattern has {len(pattern)} characters, "
            f"at most {LONGEST_PATTERN} are allowed"
        )
    options = re2.Options()
    options.max_mem = MOST_BYTES
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise InputError(
            f"answer format regex:{pattern} is not a pattern of RE2, which has no look-around and "
            f"no back-references: {_said(error)}"
        ) from None

    def by_regex(completion: Completion) -> str | None:
        found = None
        for match in compiled.finditer(completion.text[-LONGEST_TEXT:]):
            found = match
        if found is None:
            return None
        groups = [group for group in found.groups() if group is not None]
        return (groups[0] if groups else found[0]).strip() or None

    return by_regex


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
