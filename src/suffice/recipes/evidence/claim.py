"""A claim as its file says it: source, test, figures, and the rule from figures to a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from suffice.core.figures import Step
from suffice.core.settings import STRICT

Topic = Literal[
    "shape", "adaptive", "parameters", "modes", "catch-up", "when-how", "tools", "width", "pruning",
    "confidence", "frozen", "functions", "composition", "certificates", "citations",
]  # fmt: skip
TOPICS: dict[Topic, str] = {
    "shape": "The shape of a model",
    "adaptive": "Compute by the difficulty of a question",
    "parameters": "Inference instead of parameters",
    "modes": "When to think, when to answer at once",
    "catch-up": "Can models that do not reason catch up?",
    "when-how": "When apart from how",
    "tools": "Reasoning apart from tools",
    "width": "Wider instead of deeper",
    "pruning": "Which tokens matter",
    "confidence": "Confidence step by step",
    "frozen": "A frozen backbone",
    "functions": "Small models that call functions",
    "composition": "Levers and modalities together",
    "certificates": "Certificates",
    "citations": "Citations of the questions",
}
# Where a claim stands in the two questions that the registry answers: twelve notes, the detailed
# note on shapes, six bullets of the research prompt and its anchors, and its three tasks.
PLACES = (
    *(f"note {number}" for number in range(1, 13)),
    "shape note", *(f"bullet {number}" for number in range(1, 7)), "anchors",
    "task 1", "task 2", "task 3a", "task 3b",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One of several runs that differ in their seed alone: another file, or another place."""

    __pydantic_config__ = STRICT
    file: str = ""
    at: tuple[Step, ...] = ()
    minus: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure out of a result: a number, [estimate, low, high], or an object with these.

    `at` leads to it, `minus` to what is taken off; `n_at` to the number of rows behind it, where
    the object has no `n`. With `seeds` it is their mean with Student's 95 % interval.
    """

    __pydantic_config__ = STRICT
    name: str
    says: str  # what it is, in words, with what it is held against
    at: tuple[Step, ...] = ()
    minus: tuple[Step, ...] = ()
    seeds: tuple[Seed, ...] = ()
    n_at: tuple[Step, ...] = ()
    key: str = ""  # name of the estimate beside low and high; estimate or mean by default
    n: int | None = None  # where no result holds it: a count fixed by the design of the test
    of: str = ""  # what n counts: questions, boards, seeds
    unit: str = ""
    scale: float = 1.0
    digits: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A bound of a measure above or below a limit, or above or below another measure's bound."""

    __pydantic_config__ = STRICT
    measure: str
    bound: Literal["estimate", "low", "high"] = "estimate"
    above: float | None = None
    below: float | None = None
    above_measure: str | None = None
    below_measure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large our test is beside the paper's, in one unit; `says` is the report's first line."""

    __pydantic_config__ = STRICT
    says: str
    unit: str
    ours: tuple[float, float]  # least, most
    # counted: from definitions or papers alone; predicted: by a calibrated model of machines;
    # simulated: clocks and a scripted model.
    by: Literal["run", "recorded", "predicted", "simulated", "counted"]
    paper: tuple[float, float] | None = None  # None: there is no paper, or it does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTest:
    """How the result is made. A fast test is made anew by `suffice evidence run --fast`."""

    __pydantic_config__ = STRICT
    # From the clone. OUT is the file to write, OUTDIR the folder for a file of the result's name;
    # without either, standard output is the result.
    command: str
    result: str  # relative to the clone
    fast: bool
    budget_s: float  # processor time on one quiet core, about
    depends: tuple[str, ...]  # code whose change makes the result old
    inputs: tuple[str, ...] = ()  # data that is read
    extra: str = ""  # the extra of the package that it needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer:
    """Later work beside the claim."""

    __pydantic_config__ = STRICT
    id: str
    effect: Literal["supports", "narrows", "overturns"]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim. `holds_if` and `fails_if` are the rule: all conditions of a list must hold."""

    __pydantic_config__ = STRICT
    title: str
    claim: str
    topic: Topic
    places: tuple[str, ...] = ()
    papers: tuple[str, ...]  # arXiv ids of the source; () where it is our own or has no paper
    published: str
    confirms: str
    refutes: str
    # A statement about every model, or without exception: one counter-example refutes it.
    universal: bool = False
    scale: Scale | None = None
    test: ClaimTest | None = None
    measures: tuple[Measure, ...] = ()
    holds_if: tuple[Condition, ...] = ()
    fails_if: tuple[Condition, ...] = ()
    newer: tuple[Newer, ...] = ()
    not_grounded: tuple[str, ...] = ()
    # For a claim without a test: what a test would take.
    untested: str = ""
    reading: str = ""  # what the figures mean, in one or two sentences
