"""The policy file that `suffice calibrate` writes: thresholds, predictor, certificate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.core.files import read_json, write_json
from suffice.core.strict import Strict
from suffice.policies.monitor import Quantity
from suffice.policies.predictor import EVIDENCE_NAMES
from suffice.policies.prompt_features import FORM_NAMES
from suffice.policies.subject import COMPARED

SCHEMA_VERSION: Literal[2] = 2
Parse = Callable[[str], AnyPolicy]


class Range(Strict):
    """An estimate and the bounds of its interval."""

    estimate: float
    low: float
    high: float
    confidence: float = Field(gt=0, lt=1)


class Data(Strict):
    """The recorded data behind a certificate."""

    digest: str  # SHA-256 of the traces' content
    datasets: tuple[str, ...]
    questions: int = Field(ge=1)  # distinct ones
    recorded: int = Field(ge=1)  # copies of a question included
    fit_questions: int = Field(ge=0)  # chose groups, predictor and path
    certify_questions: int = Field(ge=1)  # tested it
    plays: int = Field(ge=1)  # of every question, each with other samples
    seed: int  # of the order of samples, the split and the fit
    tries: int = Field(ge=1)  # calibrations of these questions that share the error probability
    licence: str = ""


class Target(Strict):
    """What was asked for."""

    max_drop: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    loss: Literal["drop", "harm"]
    method: Literal["fst", "crc"]
    # Chosen before the certifying questions were looked at: see docs/certify.md.
    test: Literal["paired", "binomial", "means", "crc"]
    scope: Literal["overall", "group"]


class Tested(Strict):
    """What the certifying questions of the whole, or of one cluster, showed."""

    n: int = Field(ge=0)  # distinct questions
    stopped: int = Field(ge=0)  # answered without the baseline, in one play of each
    harmed: int = Field(ge=0)  # only the baseline was right
    helped: int = Field(ge=0)  # only the policy was right
    loss: float = 0.0  # mean over all plays, net of the helped where the drop is bounded
    upper_bound: float | None = None  # of the loss, at the confidence; None under crc


class Expected(Strict):
    """What the policy did on the certifying questions."""

    baseline_accuracy: float
    accuracy: float
    option_accuracy: float
    stopped: float  # share answered without the baseline
    saving: Range  # one minus the cost over the baseline's cost
    cost_unit: Literal["usd", "tokens", "samples"]


class ModelTokens(Strict):
    """What an option asks of one model: means per request; None where the recording has no count.

    The first sample of a model in a request reads its prompt; the others find it in the prefix
    cache. Cached tokens are prompt tokens too.
    """

    model: str
    samples: float = Field(ge=0)
    prompt_tokens: float | None = Field(default=None, ge=0)
    cached_tokens: float | None = Field(default=None, ge=0)
    completion_tokens: float | None = Field(default=None, ge=0)


class OptionCost(Strict):
    """What one option costs per request, in the mean over the certifying questions.

    `role`: baseline (what the operator runs today), certified (this file), option (the one that
    may answer in the baseline's place, run alone).
    """

    role: Literal["baseline", "certified", "option"]
    option: str  # as --policy takes it; of the certified policy its option
    accuracy: float
    cost: float = Field(ge=0)  # in `Expected.cost_unit`
    by_model: tuple[ModelTokens, ...]


class About(Strict):
    """What the certificate is about: a request that differs is not covered.

    A field that is None, or a key that `sampling` lacks, was not recorded and is not compared.
    Texts are compared by their SHA-256, with white space reduced to single spaces.
    """

    answer_formats: tuple[str, ...] = ()  # of the recorded questions; the first is the default
    extraction_version: int | None = None  # of the rules that read answers out of texts
    sampling: dict[str, float | int | tuple[str, ...]] = Field(default_factory=dict)
    # With nothing cut short, every limit on completion tokens from here on changes nothing.
    least_max_tokens: int | None = None
    thinking: Literal["default", "on", "off"] | None = None
    tools: bool | None = None  # the questions came with tools
    completions: bool | None = None  # asked by /v1/completions
    single_turn: bool = False  # every recorded conversation was one user turn
    system_sha256: str | None = None  # of the system prompt, that of "" where there was none
    prefix_characters: int = Field(default=0, ge=0)  # what all prompts begin with (a template)
    prefix_sha256: str = ""
    suffix_characters: int = Field(default=0, ge=0)  # what all prompts end with
    suffix_sha256: str = ""
    engine: str = ""  # engine and version that drew the samples, where the recording says so
    precision: dict[str, str] = Field(default_factory=dict)  # by model, as its name tells
    prices: dict[str, str] = Field(default_factory=dict)  # MODEL: PROMPT/COMPLETION[/CACHED]

    @field_validator("sampling")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        unknown = set(value) - set(COMPARED)
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: not among {', '.join(COMPARED)}")
        return value


class PredictorQuality(Strict):
    """The predictor of P(right | prompt, confidence) on the certifying questions."""

    ece: float
    brier: float
    auc: Range | None = None  # None: all answers right, or all wrong


class Certificate(Strict):
    """What is claimed, on which data, by which test."""

    id: str
    statement: str
    data: Data
    target: Target
    tested: Tested
    path: str = ""  # the path that the rule lies on, in words
    path_share: float = Field(default=1.0, gt=0, le=1)  # of the error probability, at the start
    path_steps: int  # rules on the path
    shown_steps: int  # rules that the test passed
    rules_tested: int = 1  # on all paths together
    expected: Expected
    predictor: PredictorQuality | None = None  # of gates: other rules judge no answer
    assumptions: tuple[str, ...]


class Group(Strict):
    """The rule of one question group, and what was seen there."""

    accept: float | None = None
    hopeless: float | None = None
    sampler: str | None = None  # a policy with this group's own thresholds, without a predictor
    centroid: tuple[float, ...] = ()  # empty where the file has no predictor
    words: tuple[str, ...] = ()  # typical of it, for the reader
    fit_questions: int = Field(ge=0)
    tested: Tested
    fallback: str = ""  # why only the baseline answers here; empty: it does not


class HeadTable(Strict):
    """A logistic regression."""

    words: tuple[float, ...]
    dense: tuple[float, ...]
    intercept: float


class PredictorTable(Strict):
    """The predictor's numbers; without heads it tells question groups alone."""

    idf: tuple[float, ...] = Field(min_length=1)
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    right: HeadTable | None = None
    rescue: HeadTable | None = None


class MonitorTable(Strict):
    """What a monitor holds the mean of a quantity against (suffice.policies.monitor)."""

    quantity: Quantity
    low: float = Field(ge=-1, le=1)
    high: float = Field(ge=0, le=1)


class PolicyFile(Strict):
    """A certified policy as it lies on disk."""

    policy: Literal["certified"] = "certified"
    schema_version: Literal[2] = SCHEMA_VERSION
    option: str  # as --policy takes it, with its model
    baseline: str
    models: tuple[str, ...] = Field(min_length=1)
    about: About
    certificate: Certificate
    costs: tuple[OptionCost, ...] = ()
    groups: tuple[Group, ...] = Field(min_length=1)
    monitors: tuple[MonitorTable, ...]
    predictor: PredictorTable | None = None  # None: one rule for all questions

    @model_validator(mode="after")
    def _sizes_agree(self) -> PolicyFile:
        table = self.predictor
        words = 0 if table is None else len(table.idf)
        sizes: list[tuple[str, tuple[float, ...], int]] = [
            (f"groups.{i}.centroid", group.centroid, words) for i, group in enumerate(self.groups)
        ]
        if table is None and len(self.groups) > 1:
            raise ValueError("several groups need a predictor that tells them apart")
        if table is not None and (table.right is None) != (table.rescue is None):
            raise ValueError("predictor needs both heads, or none")
        if table is not None and table.right is not None and table.rescue is not None:
            dense = len(FORM_NAMES) + len(EVIDENCE_NAMES)
            sizes += [
                ("predictor.mean", table.mean, dense),
                ("predictor.scale", table.scale, dense),
                ("predictor.right.dense", table.right.dense, dense),
                ("predictor.rescue.dense", table.rescue.dense, dense),
                ("predictor.right.words", table.right.words, words),
                ("predictor.rescue.words", table.rescue.words, words),
            ]
        for name, values, due in sizes:
            if len(values) != due:
                raise ValueError(f"{name} has {len(values)} numbers, {due} are needed")
        return self


def read_policy_file(path: Path) -> PolicyFile:
    """A policy file; raises InputError that names the field at fault."""
    return policy_file_of(read_json(path, what="policy file"), shown=str(path))


def policy_file_of(table: Any, *, shown: str = "policy table") -> PolicyFile:
    """The checked policy file behind parsed JSON, its certificate's id included."""
    try:
        found = PolicyFile.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "table"
        raise InputError(
            f"{shown!r} is no policy file of this version ({where}: {first['msg']}); "
            "`suffice calibrate` writes one"
        ) from None
    if found.certificate.id != certificate_id(found):
        raise InputError(
            f"{shown!r} was changed after its certificate {found.certificate.id} was written: "
            "calibrate again"
        )
    return found


def write_policy_file(path: Path, file: PolicyFile) -> None:
    """Write it whole or not at all."""
    write_json(path, file.model_dump(mode="json"))


def certificate_id(file: PolicyFile) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of everything but the id itself."""
    table = file.model_dump(mode="json")
    table["certificate"]["id"] = ""
    text = json.dumps(table, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sealed(file: PolicyFile) -> PolicyFile:
    """The file with its certificate's id filled in."""
    named = file.certificate.model_copy(update={"id": certificate_id(file)})
    return file.model_copy(update={"certificate": named})
