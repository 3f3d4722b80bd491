"""A verifier or reward function of the user's own, named as `module:function`."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from suffice.core.errors import InputError
from suffice.executors.live import Score

# A score takes the request and one completion.
PARAMETERS = 2


def load_scorer(text: str) -> Score:
    """The function that `text` names, e.g. `rewards:passes_tests`; modules here come first.

    It takes (Request, Completion) and returns a number, or a coroutine of one: larger is better.
    Raises InputError where there is no such module or function, or it takes something else.
    """
    module_name, colon, name = text.partition(":")
    if not (colon and module_name and name):
        raise InputError(f"a scorer is written module:function, got {text!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"scorer {text!r}: there is no module {error.name!r} here or among the installed ones"
        ) from None
    found = getattr(module, name, None)
    if not callable(found):
        raise InputError(f"scorer {text!r}: {module_name} has no function {name!r}")
    try:
        inspect.signature(found).bind(*range(PARAMETERS))
    except TypeError:
        raise InputError(
            f"scorer {text!r} must take the request and a completion, and returns a number"
        ) from None
    score: Score = found
    return score
