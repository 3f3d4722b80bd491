"""Read the registry: claims, sources and constraints, strictly, from one folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from suffice.core.errors import ConfigError, UnknownName
from suffice.core.files import read_toml
from suffice.core.settings import STRICT
from suffice.recipes.evidence.claim import PLACES, Claim, Condition, Topic

T = TypeVar("T")
FOLDER = Path("data") / "evidence"
CLAIMS = TypeAdapter(Claim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A paper: `read` says how much of it was seen by us, "title" that only id and title were."""

    __pydantic_config__ = STRICT
    id: str
    title: str
    date: str  # year and month, as the id says
    read: Literal["paper", "abstract", "second-hand", "title"]
    whole_title: bool = True  # False: part of the title, or what the paper is about


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What newer models, engines or hardware did to a constraint of the questions, by papers."""

    __pydantic_config__ = STRICT
    topic: Topic
    constraint: str
    models: str
    engines: str
    hardware: str
    still_bites: str
    effect: Literal["relaxed", "kept", "inverted", "narrowed"]
    against: str  # the strongest work against it


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A research question: what exists, what is missing, and the first experiment on it."""

    __pydantic_config__ = STRICT
    place: str
    question: str
    exists: str
    missing: str
    experiment: str
    found: str
    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Claims by name, sources by id, constraints in their order; `root` is the clone."""

    root: Path
    claims: dict[str, Claim]
    sources: dict[str, Source]
    constraints: tuple[Constraint, ...]
    questions: tuple[Question, ...]

    def claim(self, name: str) -> Claim:
        """The claim `name`; raises UnknownName with the nearest ones."""
        if name not in self.claims:
            raise UnknownName.of("claim", name, self.claims, "(suffice evidence list)")
        return self.claims[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    __pydantic_config__ = STRICT
    source: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Constraints:
    __pydantic_config__ = STRICT
    constraint: tuple[Constraint, ...]
    question: tuple[Question, ...] = ()


def read_registry(root: Path) -> Registry:
    """The registry of the clone at `root`; raises ConfigError that names file and field."""
    folder = root / FOLDER
    if not (folder / "claims").is_dir():
        raise ConfigError(
            f"{str(root)!r} holds no {FOLDER}/claims: run this in a clone of the project, or give "
            "its folder with --root"
        )
    sources = {
        each.id: each for each in _read(folder / "sources.toml", TypeAdapter(_Sources)).source
    }
    claims = {path.stem: _read(path, CLAIMS) for path in sorted((folder / "claims").glob("*.toml"))}
    for name, claim in claims.items():
        if wrong := next(iter(_faults(claim, sources)), None):
            raise ConfigError(f"{FOLDER}/claims/{name}.toml: {wrong}")
    read = _read(folder / "constraints.toml", TypeAdapter(_Constraints))
    for question in read.question:
        if unknown := [name for name in question.claims if name not in claims]:
            raise ConfigError(f"constraints.toml: no claim is called {unknown[0]!r}")
    return Registry(
        root=root,
        claims=claims,
        sources=sources,
        constraints=read.constraint,
        questions=read.question,
    )


def _read(path: Path, kind: TypeAdapter[T]) -> T:
    table, _ = read_toml(path, what="file")
    try:
        found = kind.validate_python(table)
    except ValidationError as error:
        # An unknown field is more telling than the one that is missing for it.
        first = sorted(error.errors(), key=lambda each: each["type"] == "missing")[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path.name}: {place}: {first['msg'].lower()}") from None
    return found


def _faults(claim: Claim, sources: dict[str, Source]) -> Iterable[str]:
    """What no type says: names that must be known, and parts that go together."""
    for id_ in (*claim.papers, *(each.id for each in claim.newer)):
        if id_ not in sources:
            yield f"arXiv:{id_} is not in sources.toml: add it there with title and date"
    yield from (f"place {each!r}: known are {', '.join(PLACES)}" for each in claim.places
                if each not in PLACES)  # fmt: skip
    if claim.test is None:
        if not claim.untested:
            yield "has no test: say in `untested` what one would take"
        if claim.measures or claim.holds_if or claim.fails_if:
            yield "has no test, so it cannot have measures or rules"
        return
    if claim.scale is None or not claim.measures or not (claim.holds_if or claim.fails_if):
        yield "has a test: it needs scale, measures, and holds_if or fails_if"
    names = {each.name for each in claim.measures}
    for condition in (*claim.holds_if, *claim.fails_if):
        yield from _condition_faults(condition, names)


def _condition_faults(condition: Condition, names: set[str]) -> Iterable[str]:
    limits = (condition.above, condition.below, condition.above_measure, condition.below_measure)
    if sum(each is not None for each in limits) != 1:
        yield f"a condition on {condition.measure!r} takes exactly one of above, below and the like"
    for name in (condition.measure, condition.above_measure, condition.below_measure):
        if name is not None and name not in names:
            yield f"a condition names {name!r}, and the measures are {', '.join(sorted(names))}"
