"""`suffice calibrate`: which rules save anything, which are shown, and the file that serves one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from suffice.core.errors import InputError, NothingFeasible
from suffice.evals.statistics.calibration import Bin, reliability
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.policy_file import PolicyFile, Range
from suffice.recipes.calibrate.advice import Advice, advice_of
from suffice.recipes.calibrate.certify import RuleEffect, Test, saving_of
from suffice.recipes.calibrate.chains import RuleChain, chain_of, fixed_chains
from suffice.recipes.calibrate.config import LEAST_LEFT, USUAL_LIMITS, CalibrateConfig
from suffice.recipes.calibrate.file import file_of, grouped_file
from suffice.recipes.calibrate.fitted import (
    QuestionSplit,
    candidates,
    laid,
    promise,
    split_questions,
)
from suffice.recipes.calibrate.grouped import Grouped, GroupPaths
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.plain import Plain, plain_rules
from suffice.recipes.calibrate.ranking import Bench, ShownRule, ranked

# Beyond so many chains a part of the questions chooses which of them are tested on the others.
MOST_CHAINS = 4
KEPT_CHAINS = 3
# Questions with a wrong answer up to which it may be the same one by chance.
FEW_WRONG = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """One line of the table: the cheapest rule that is shown at a limit."""

    limit: float
    rule: str | None  # None: none is shown that saves anything
    saving: Range | None = None
    loss: float | None = None  # observed, in the loss that is bounded
    accuracy: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Survey:
    """Everything that a calibration found, whether it ended in a certificate or not."""

    ground: Inputs
    bench: Bench
    rows: tuple[LimitRow, ...]
    plain: tuple[Plain, ...]
    advice: Advice
    warnings: tuple[str, ...]
    file: PolicyFile | None
    choice: ShownRule | None
    grouped: Grouped | None = None
    considered: tuple[tuple[str, float], ...] = ()  # fitted options and what they promised

    @property
    def refusal(self) -> str:
        """Why there is no certificate, in one sentence; empty where there is one."""
        return "" if self.file is not None else self.advice.refusal


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CalibratedPolicy:
    """The policy file, and what its report draws."""

    file: PolicyFile
    survey: Survey
    path: tuple[RuleEffect, ...]  # of every rule on the chosen chain
    shown: int
    reliability: tuple[Bin, ...] = field(default=())


def calibrate(traces: TraceSet, config: CalibrateConfig) -> CalibratedPolicy:
    """The certified policy of recorded traces.

    Raises InputError for data that cannot support a certificate, NothingFeasible if the test shows
    no rule that saves anything.
    """
    return calibration_of(survey(traces, config))


def calibration_of(found: Survey) -> CalibratedPolicy:
    """A survey's certificate with what its report draws. Raises NothingFeasible, InputError."""
    if found.file is None:
        if found.advice.kind == "too few":
            raise InputError(found.refusal)
        raise NothingFeasible(found.refusal)
    path: tuple[RuleEffect, ...] = ()
    shown = 0
    bins: tuple[Bin, ...] = ()
    if found.choice is not None:
        chain = found.bench.chains[found.choice.chain]
        shown = found.choice.shown[found.choice.chain]
        path = tuple(chain.step(rule) for rule in range(min(len(chain), shown + 8)))
        if chain.fitted is not None:
            bins = _reliability(chain.fitted[0])
    elif found.grouped is not None:
        bins = _reliability(found.grouped.candidate)
    return CalibratedPolicy(file=found.file, survey=found, path=path, shown=shown, reliability=bins)


def _reliability(candidate: object) -> tuple[Bin, ...]:
    sure, right = getattr(candidate, "sure", None), getattr(candidate, "option_right", None)
    return () if sure is None or right is None else reliability(sure, right)


def survey(traces: TraceSet, config: CalibrateConfig) -> Survey:
    """Every sensible rule beside the baseline, and the certificate if one is shown."""
    ground = Inputs.of(traces, config)
    split = split_questions(ground)
    test = Test.of(config.used_loss, means=ground.means, crc=config.method == "crc")
    if config.scope == "group":
        return _survey_groups(ground, split, test)
    chains, considered = _chains(ground, split)
    bench = Bench(chains, test, config)
    rows = tuple(_row(ground, bench, limit) for limit in config.limits)
    choice = bench.best(config.max_drop)
    file = None if choice is None else file_of(ground, bench, choice, split)
    plain = plain_rules(ground)
    return Survey(
        ground=ground,
        bench=bench,
        rows=rows,
        plain=plain,
        advice=advice_of(ground, bench, choice),
        warnings=warnings_of(ground),
        file=file,
        choice=choice,
        considered=considered,
    )


def _chains(
    ground: Inputs, split: QuestionSplit
) -> tuple[tuple[RuleChain, ...], tuple[tuple[str, float], ...]]:
    """The chains that are tested, and what fitted options promised."""
    config = ground.config
    plans = fixed_chains(ground, split.fit)
    fitted, considered = _fitted_chain(ground, split, bool(plans))
    if len(plans) > MOST_CHAINS or _many_models(ground):
        pilots = [chain_of(ground, *plan, split.fit) for plan in plans]
        best = ranked(pilots, USUAL_LIMITS, net=config.used_loss == "drop")[:KEPT_CHAINS]
        kept = {chain.name for chain in best}
        chains = [chain_of(ground, *p, split.certify) for p in plans if p[1] in kept]
    else:
        chains = [chain_of(ground, *plan) for plan in plans]
    chains += fitted
    if not chains:
        raise InputError(
            f"the traces hold {ground.baseline.text} and nothing that could answer in its place: "
            "record a cheaper model too, or three samples or more per question"
        )
    if config.method == "crc":  # a bound in expectation is for one path
        chains = [max(chains, key=lambda chain: chain.share)]
    return tuple(chains), considered


def _many_models(ground: Inputs) -> bool:
    return len(ground.others) > 3 and not ground.config.options


def _fitted_chain(
    ground: Inputs, split: QuestionSplit, others: bool
) -> tuple[list[RuleChain], tuple[tuple[str, float], ...]]:
    """The fitted option that promised most on the fitting questions, as a chain."""
    config = ground.config
    wanted = config.fitted
    if wanted is None:
        # A vote alone gains nothing by it (docs/certify.md); a model behind it, or a gate, may.
        named = any("two_sided" in text for text in config.options)
        alone = ground.votes is not None and ground.large is None and not config.groups
        wanted = not alone or named or not others
    enough = len(split.certify) >= LEAST_LEFT
    if not wanted or not enough:
        return [], ()
    plans = [(c, laid(c, ground)) for c in candidates(ground, split)]
    plans = [(candidate, path) for candidate, path in plans if path]
    if not plans:
        return [], ()
    promised = [(c.text, promise(c, path, ground)) for c, path in plans]
    best = max(range(len(plans)), key=lambda number: promised[number][1])
    candidate, path = plans[best]
    return [candidate.chain(path)], tuple(promised)


def _row(ground: Inputs, bench: Bench, limit: float) -> LimitRow:
    choice = bench.best(limit)
    if choice is None:
        return LimitRow(limit=limit, rule=None)
    chain, step = bench.chains[choice.chain], bench.step(choice)
    return _row_of(ground, bench.test, limit, chain.rules[choice.rule], step, chain.index)


def _row_of(  # noqa: PLR0917 - one line of a table
    ground: Inputs, test: Test, limit: float, rule: str, step: RuleEffect, index: np.ndarray
) -> LimitRow:
    standard = ground.played(ground.baseline.text).correct[index].mean()
    return LimitRow(
        limit=limit,
        rule=rule,
        saving=saving_of(step, ground.config.confidence, ground.config.seed),
        loss=float(step.losses(test.loss).mean()),
        accuracy=float(standard - step.losses("drop").mean()),
    )


def _survey_groups(ground: Inputs, split: QuestionSplit, test: Test) -> Survey:
    """The claim in every question group at once."""
    paths = GroupPaths.of(ground, split)
    found = {limit: paths.at(ground, test, limit) for limit in ground.config.limits}
    chosen = found[ground.config.max_drop]
    certify = split.certify
    rows = []
    for limit, grouped in found.items():
        step = grouped.step
        if grouped.setting is None or step is None or not step.saving > 0.0:
            rows.append(LimitRow(limit=limit, rule=None))
            continue
        rule = f"{grouped.candidate.text}, by {grouped.candidate.groups} question groups"
        rows.append(_row_of(ground, test, limit, rule, step, certify))
    saves = chosen.step is not None and chosen.step.saving > 0.0
    bench = Bench((), test, ground.config)
    plain = plain_rules(ground)
    return Survey(
        ground=ground,
        bench=bench,
        rows=tuple(rows),
        plain=plain,
        advice=advice_of(ground, bench, None, grouped=chosen),
        warnings=warnings_of(ground),
        file=grouped_file(ground, chosen, test) if chosen.setting is not None and saves else None,
        choice=None,
        grouped=chosen,
    )


def _often_wrong(ground: Inputs) -> bool:
    """Whether so many samples are wrong that one wrong answer alone is no chance."""
    wrong = ground.traces.correct == 0.0
    return len(np.unique(ground.traces.question[wrong])) > FEW_WRONG


def warnings_of(ground: Inputs) -> tuple[str, ...]:
    """What the reader must know before any figure: one line each."""
    found: list[str] = []
    models: Sequence[str] = ground.traces.models
    if len(models) > 1 and not ground.config.prices:
        found.append(
            f"no prices: a token of {', '.join(models)} counts alike; give each one "
            "(--price MODEL=PROMPT/COMPLETION)"
        )
    if ground.tariff.by_sample:
        found.append("some token counts are missing: costs count samples")
    elif bool(np.isnan(ground.traces.prompt_tokens).any()):
        found.append("prompt tokens were not recorded: costs count completion tokens alone")
    if ground.votes is not None and not ground.has_answers and _often_wrong(ground):
        found.append(
            "every wrong answer is the same: this vote is over verdicts, and one over answers may "
            "go otherwise"
        )
    copies = ground.questions.rows - len(ground.questions)
    if copies:
        found.append(
            f"{ground.questions.rows} recorded questions are {len(ground.questions)} distinct "
            "ones: copies of a question count once"
        )
    return tuple(found)
