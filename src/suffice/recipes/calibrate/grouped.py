"""`--scope group`: a claim in every question group at once, each tested on a path of its own."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.core.errors import InputError
from suffice.evals.statistics.sequence import fixed_sequence
from suffice.recipes.calibrate.certify import RuleEffect, Test
from suffice.recipes.calibrate.fitted import (
    FittedOption,
    QuestionSplit,
    candidates,
    laid,
    laid_by_group,
    promise,
)
from suffice.recipes.calibrate.gates_and_samplers import Setting, merged
from suffice.recipes.calibrate.inputs import Inputs


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grouped:
    """What the paths of all groups came to at one limit."""

    candidate: FittedOption
    setting: Setting | None  # None: no group shows anything
    step: RuleEffect | None
    fallbacks: tuple[str, ...]  # by group: why the baseline answers there; empty: it does not
    alpha: float  # of each group (Bonferroni)
    rules: int
    shown: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroupPaths:
    """The option that promised most on the fitting questions, and a path for each group."""

    candidate: FittedOption
    paths: tuple[tuple[Setting, ...], ...]

    @classmethod
    def of(cls, ground: Inputs, split: QuestionSplit) -> GroupPaths:
        """Fitted on the fitting questions; the same for every limit."""
        found = candidates(ground, split)
        if not found:
            raise InputError(
                "no option has both right and wrong answers among the fitting questions: with one "
                "class there is nothing to tell apart; if a model is always right, serve it alone"
            )
        best = max(found, key=lambda each: promise(each, laid(each, ground), ground))
        return cls(candidate=best, paths=laid_by_group(best, ground))

    def at(self, ground: Inputs, test: Test, limit: float) -> Grouped:
        """The rules that hold in every group at once, at alpha by the number of groups."""
        best = self.candidate
        alpha = ground.config.alpha / best.groups
        needed = test.flawless(limit, alpha)
        chosen: list[Setting | None] = []
        fallbacks: list[str] = []
        shown_in_all = 0
        for number, path in enumerate(self.paths):
            mask = best.group == number
            shown = 0
            if mask.sum() < needed:
                why = f"{int(mask.sum())} certifying questions, {needed} are needed"
            else:
                steps = (best.certify.step(setting).within(mask) for setting in path)
                shown = fixed_sequence((test.p_value(s, limit, alpha) for s in steps), alpha)
                why = "" if shown else "no rule was shown"
            chosen.append(path[shown - 1] if shown else None)
            fallbacks.append(why)
            shown_in_all += shown
        setting = merged(chosen, best.closed) if shown_in_all else None
        return Grouped(
            candidate=best,
            setting=setting,
            step=None if setting is None else best.certify.step(setting),
            fallbacks=tuple(fallbacks),
            alpha=alpha,
            rules=sum(map(len, self.paths)),
            shown=shown_in_all,
        )
