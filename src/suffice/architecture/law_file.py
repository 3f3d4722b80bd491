"""Laws on disk: one JSON schema for the embedded published sets and for our own fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from suffice.architecture.laws import (
    AbsoluteLaw,
    ConditionalLaw,
    Domain,
    Interval,
    Law,
    LossNoise,
    Provenance,
    build_law,
    load_family,
)
from suffice.architecture.laws.law import EMBEDDED
from suffice.core.errors import InputError, UnknownName
from suffice.core.files import read_json, write_json
from suffice.core.strict import Strict

SCHEMA_VERSION = 1
# Draws carry no more than this; it keeps a law file of 1,000 draws near 60 kB.
_DRAW_DIGITS = 8


class ProvenanceRecord(Strict):
    """Where the coefficients come from."""

    source: str
    fitted_on: str
    method: str = ""
    accuracy: str = ""


class IntervalRecord(Strict):
    """Evidence for one variable."""

    variable: str
    low: float
    high: float
    basis: str
    enforced: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> IntervalRecord:
        if self.low > self.high:
            raise ValueError(f"{self.variable}: low {self.low} is above high {self.high}")
        return self


class NoiseRecord(Strict):
    """Scatter of single shapes about the law, as a standard deviation of ln(loss)."""

    relative_sd: float = Field(gt=0)
    degrees_of_freedom: int | None = Field(default=None, ge=1)
    basis: str


class LawRecord(Strict):
    """A law file, version 1."""

    schema_version: Literal[1] = 1
    kind: Literal["suffice-law"] = "suffice-law"
    name: str = Field(min_length=1)
    family: str
    coefficients: dict[str, float]
    provenance: ProvenanceRecord
    parameter_count: Literal["non-embedding", "total", "as given"] = "non-embedding"
    domain: tuple[IntervalRecord, ...] = ()
    noise: NoiseRecord | None = None
    errata: tuple[str, ...] = ()
    not_modelled: tuple[str, ...] = ()
    reported_optimum: str = ""
    optimal_loss: float | None = Field(default=None, gt=0)
    diagnostics: dict[str, Any] = Field(default_factory=dict)
    draws: list[list[float]] | None = None


def law_names() -> tuple[str, ...]:
    """Names of the embedded laws."""
    return tuple(_embedded())


def embedded_laws() -> tuple[AbsoluteLaw | ConditionalLaw, ...]:
    """The embedded laws, in the order of their names."""
    return tuple(_embedded().values())


EMBEDDED.append(embedded_laws)


def load_law(source: str | Path) -> AbsoluteLaw | ConditionalLaw:
    """The embedded law `source`, or the law file at that path; UnknownName or InputError."""
    if not Path(source).exists() and str(source).lower() in _embedded():
        return _embedded()[str(source).lower()]
    path = Path(source)
    if path.exists() or path.suffix == ".json":
        return law_from_record(read_json(path, what="law file"), where=str(path))
    raise UnknownName.of(
        "law", str(source), _embedded(),
        "— `suffice laws` lists what is embedded; a path to a law file works too",
    )  # fmt: skip


def save_law(path: Path, law: Law) -> None:
    """Write `law` to `path`, whole or not at all."""
    write_json(path, record_of(law))


def record_of(law: Law) -> dict[str, Any]:
    """The JSON value of `law`."""
    draws = None
    if law.draws is not None:
        finite = law.draws[np.isfinite(law.draws).all(axis=1)]
        draws = [[float(f"{v:.{_DRAW_DIGITS}g}") for v in row] for row in finite.tolist()]
    record = LawRecord(
        name=law.name,
        family=law.family.name,
        coefficients=dict(zip(law.family.parameters, law.coefficients, strict=True)),
        provenance=ProvenanceRecord(**_fields(law.provenance)),
        parameter_count=law.parameter_count,  # type: ignore[arg-type]
        domain=tuple(IntervalRecord(**_fields(interval)) for interval in law.domain.intervals),
        noise=None if law.noise is None else NoiseRecord(**_fields(law.noise)),
        errata=law.errata,
        not_modelled=law.not_modelled,
        reported_optimum=law.reported_optimum,
        optimal_loss=law.optimal_loss,
        diagnostics=dict(law.diagnostics),
        draws=draws,
    )
    return record.model_dump(mode="json")


def law_from_record(value: Any, *, where: str) -> AbsoluteLaw | ConditionalLaw:
    """The law behind a parsed law file; InputError names the field that is wrong."""
    try:
        record = LawRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"law file {where!r}: {field}: {first['msg']}") from None
    family = load_family(record.family)
    if set(record.coefficients) != set(family.parameters):
        raise InputError(
            f"law file {where!r}: family {family.name} has the coefficients "
            f"{', '.join(family.parameters)}, got {', '.join(record.coefficients)}"
        )
    if any(len(draw) != len(family.parameters) for draw in record.draws or []):
        raise InputError(
            f"law file {where!r}: each draw needs {len(family.parameters)} numbers, in the order "
            f"{', '.join(family.parameters)}"
        )
    draws = np.asarray(record.draws, dtype=np.float64) if record.draws else None
    return build_law(
        family,
        name=record.name,
        coefficients=tuple(record.coefficients[name] for name in family.parameters),
        provenance=Provenance(**record.provenance.model_dump()),
        parameter_count=record.parameter_count,
        domain=Domain(intervals=tuple(Interval(**i.model_dump()) for i in record.domain)),
        noise=None if record.noise is None else LossNoise(**record.noise.model_dump()),
        errata=record.errata,
        not_modelled=record.not_modelled,
        reported_optimum=record.reported_optimum,
        optimal_loss=record.optimal_loss,
        diagnostics=record.diagnostics,
        draws=draws,
    )


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@cache
def _embedded() -> Mapping[str, AbsoluteLaw | ConditionalLaw]:
    folder = files("suffice.architecture").joinpath("data/laws")
    laws = {}
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".json"):
            law = law_from_record(
                json.loads(entry.read_text(encoding="utf-8")), where=f"embedded {entry.name}"
            )
            laws[law.name] = law
    return laws
