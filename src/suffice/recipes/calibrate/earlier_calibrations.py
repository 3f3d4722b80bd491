"""Every look at the same questions counts: calibrations that were made are kept beside the file.

`calibrations.json`, in the folder of the policy file, lists what was tested on which questions. The
same test again is free, also at other prices. Another test of questions that were tested before
(another limit, seed, baseline, option, loss, …) is one more chance to be lucky: it is refused,
unless so many tries were declared before the first, which then share the error probability
(Bonferroni). A calibration that had too few questions for any test has looked at nothing and is not
listed.

Another limit counts although limits are nested (a loss above 2 points is one above 1). For one rule
that would be enough: its p-value falls as the limit grows, so all limits that it is shown at lie
above one upper bound of its loss, which is too low with probability α. But a path has another first
false rule at every limit. Of two rules that lose barely more than 1 and 2 points, the first is
wrongly shown at 1 point with probability α; else, at 2 points, it is right, and the second is
wrongly shown with probability α again. Whoever tries 1 and then 2 is wrong up to twice as often.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from suffice.core.errors import InputError
from suffice.core.files import read_json, write_json
from suffice.core.strict import Strict
from suffice.evals.traces.files import of_questions
from suffice.evals.traces.trace_set import TraceSet
from suffice.recipes.calibrate.questions import question_key
from suffice.recipes.calibrate.run import Survey

NAME = "calibrations.json"
KEY_CHARACTERS = 16


class Tried(Strict):
    """One calibration that tested something."""

    test: str  # fingerprint of paths, shares, test and seed
    said: str  # for people: what was compared
    seed: int
    max_drop: float | None = None  # the limit; None: of an earlier version, whatever it was
    tries: int = Field(ge=1)  # as declared
    certified: bool
    questions: tuple[str, ...]  # keys of those that certified, shortened


class TriesFile(Strict):
    """`calibrations.json`."""

    schema_version: Literal[1] = 1
    calibrations: tuple[Tried, ...] = ()


def read_tries(out: Path) -> TriesFile:
    """Calibrations whose policy files lie in the folder of `out`."""
    path = out.parent / NAME
    if not path.exists():
        return TriesFile()
    try:
        return TriesFile.model_validate(read_json(path, what="list of calibrations"))
    except ValidationError as error:
        raise InputError(
            f"{str(path)!r} is no list of calibrations ({error.errors()[0]['msg']}): it says which "
            "questions were tested before; move it away only if none of these was"
        ) from None


def noted(out: Path, found: Survey) -> None:
    """Add a survey to the list; raises InputError if it is one try too many, writing nothing."""
    if found.advice.kind == "too few":
        return
    known = read_tries(out)
    mine = _tried(found)
    keys = set(mine.questions)
    before = [each for each in known.calibrations if keys & set(each.questions)]
    if any(_is_same(each, mine) for each in before):
        return
    _check(before, mine, out)
    kept = TriesFile(calibrations=(*known.calibrations, mine))
    write_json(out.parent / NAME, kept.model_dump(mode="json"))


def _is_same(one: Tried, other: Tried) -> bool:
    return (
        one.test == other.test
        and set(one.questions) == set(other.questions)
        and (one.max_drop is None or one.max_drop == other.max_drop)
    )


def _check(before: Sequence[Tried], mine: Tried, out: Path) -> None:
    if not before:
        return
    declared = min(each.tries for each in before)
    if len(before) < declared and mine.tries == declared:
        return
    last = before[-1]
    limit = "" if last.max_drop is None else f"limit {100 * last.max_drop:g}%, "
    shared = len(set(mine.questions) & set(last.questions))
    if declared > 1 and mine.tries != declared and len(before) < declared:
        raise InputError(
            f"{declared} tries were declared on these questions: pass --tries {declared} again, so "
            "that this one is tested at its share"
        )
    raise InputError(
        f"{shared} of these {len(mine.questions)} questions were tested before ({last.said}, "
        f"{limit}seed {last.seed}; {out.parent / NAME}): another test of them is another chance to "
        f"be lucky, and {declared} {'was' if declared == 1 else 'were'} declared. Record new "
        "questions and leave these out (--new-questions); or declare all tries before the first "
        "(--tries 3), which then share the error probability"
    )


def _tried(found: Survey) -> Tried:
    ground, config = found.ground, found.ground.config
    if found.grouped is None:
        paths = [(chain.rules, round(chain.share, 9)) for chain in found.bench.chains]
        index = np.unique(np.concatenate([chain.index for chain in found.bench.chains]))
        said = ", ".join(chain.name for chain in found.bench.chains[:2])
    else:
        paths = [((found.grouped.candidate.text,), float(found.grouped.rules))]
        index, said = found.grouped.candidate.split.certify, found.grouped.candidate.text
    told = [
        paths, ground.baseline.text, found.bench.test.kind, found.bench.test.loss, config.scope,
        config.seed, config.confidence, ground.plays.count,
    ]  # fmt: skip
    return Tried(
        test=hashlib.sha256(json.dumps(told).encode()).hexdigest()[:KEY_CHARACTERS],
        said=said,
        seed=config.seed,
        max_drop=config.max_drop,
        tries=config.tries,
        certified=found.file is not None,
        questions=tuple(ground.questions.keys[n][:KEY_CHARACTERS] for n in index.tolist()),
    )


def new_questions(out: Path, traces: TraceSet) -> TraceSet:
    """The traces without the questions that an earlier calibration has tested."""
    known = {key for each in read_tries(out).calibrations for key in each.questions}
    kept = [
        number
        for number, question in enumerate(traces.questions)
        if question_key(question)[:KEY_CHARACTERS] not in known
    ]
    if not kept:
        raise InputError("every one of these questions was tested before: record new ones")
    return traces if len(kept) == len(traces.questions) else of_questions(traces, np.array(kept))
