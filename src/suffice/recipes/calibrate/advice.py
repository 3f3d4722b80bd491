"""What to do: why nothing is certified, how many questions it would take, the cheapest remedy.

The remedies are worked out from what was seen; whoever follows one and calibrates again does so on
new questions, or pays for a second look (see earlier_calibrations.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from suffice.recipes.calibrate.certify import RuleEffect, Test
from suffice.recipes.calibrate.grouped import Grouped
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.ranking import Bench, ShownRule
from suffice.recipes.calibrate.wording import points

# Nobody is told to allow a larger loss than this.
LARGEST_LIMIT = 0.1
# certified    there is a certificate
# too few      no rule could be shown with so few questions, a flawless one included
# not shown    rules save, the test does not show any of them
# saves none   what is shown saves nothing
Kind = Literal["certified", "too few", "not shown", "saves none"]
Lever = Literal["questions", "samples", "limit", "harm", "prices", "signal", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One thing that would help, with what it takes."""

    lever: Lever
    said: str
    samples: float | None = None  # further samples to record; None: nothing to record
    questions: int | None = None  # in all


PRICES = Remedy(
    lever="prices",
    said="No prices are given, so a small model's token counts like a large one's: give each model "
    "its price (--price MODEL=PROMPT/COMPLETION).",
)


SIGNAL = Remedy(
    lever="signal",
    said="Nothing tells the small model's right answers from its wrong ones: record token "
    "confidences (--top-logprobs 20), or two or more samples of each question, so that agreement "
    "tells.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Where the calibration stands, and what would move it; the cheapest remedy comes first."""

    kind: Kind
    refusal: str = ""
    remedies: tuple[Remedy, ...] = ()


def advice_of(
    ground: Inputs, bench: Bench, choice: ShownRule | None, *,
    grouped: Grouped | None = None,
) -> Advice:  # fmt: skip
    """Advice on a survey."""
    if choice is not None or (
        grouped is not None and grouped.setting is not None and _saves(grouped.step)
    ):
        return Advice(kind="certified")
    limit, test = ground.config.max_drop, bench.test
    needed = min(
        (bench.test_of(c).flawless(limit, bench.level(c)) for c in range(len(bench.chains))),
        default=test.flawless(limit, ground.config.alpha),
    )
    most = max((len(chain.index) for chain in bench.chains), default=len(ground.questions))
    if most < needed:
        return _too_few(ground, bench, limit, most)
    seen = _closest(bench, limit)
    if seen is None:
        return _saves_none(ground, bench)
    chain, rule = seen
    step = bench.chains[chain].step(rule)
    remedies = _remedies(ground, bench, chain, step, limit)
    return Advice(
        kind="not shown",
        refusal=f"nothing is certified: {bench.chains[chain].rules[rule]} "
        f"{_seen(step, test)}, which does not show {_claim(ground, limit)}. "
        + " ".join(each.said for each in remedies[:1]),
        remedies=remedies,
    )


def _unpriced(ground: Inputs) -> bool:
    return len(ground.traces.models) > 1 and not ground.config.prices


def _saves(step: RuleEffect | None) -> bool:
    return step is not None and step.saving > 0.0


def _claim(ground: Inputs, limit: float) -> str:
    what = "loss" if ground.config.used_loss == "drop" else "harm"
    return f"a {what} of at most {points(limit)} at {100 * ground.config.confidence:g} %"


def _seen(step: RuleEffect, test: Test) -> str:
    pairs = step.pairs
    if test.kind == "means":
        lost = 100 * float(step.losses(test.loss).mean())
        return (
            f"loses {lost:.2f} points over {pairs.n} questions, {step.harmed.shape[1]} plays each"
        )
    return f"loses {pairs.harmed} and gains {pairs.helped} of {pairs.n} questions"


def _too_few(ground: Inputs, bench: Bench, limit: float, most: int) -> Advice:
    """No test was made: to come again with more questions costs nothing."""
    chains = range(len(bench.chains))

    def flawless(chain: int, limit: float) -> int:
        return bench.test_of(chain).flawless(limit, bench.level(chain))

    needed = min(
        (_in_all(ground, bench, c, flawless(c, limit)) for c in chains),
        default=bench.test.flawless(limit, ground.config.alpha),
    )
    possible = [
        each
        for each in (0.02, 0.05, 0.1, 0.2)
        if each > limit and any(flawless(c, each) <= len(bench.chains[c].index) for c in chains)
    ]
    looser = (
        f", or allow {points(possible[0])} (--max-drop {100 * possible[0]:g}%)" if possible else ""
    )
    said = (
        f"{len(ground.questions)} distinct questions are too few for any certificate: showing "
        f"{_claim(ground, limit)} takes {needed} of them, and then none may be lost; record "
        f"{needed - len(ground.questions)} more (better twice as many){looser}"
    )
    more = Remedy(lever="questions", said=said, questions=needed,
                  samples=_samples(ground, needed - most))  # fmt: skip
    return Advice(kind="too few", refusal=said, remedies=(more,))


def _in_all(ground: Inputs, bench: Bench, chain: int, certifying: int) -> int:
    """Questions to record so that so many certify a chain."""
    share = len(bench.chains[chain].index) / len(ground.questions)
    return max(certifying, round(certifying / share + 0.5) if share < 1 else certifying)


def _samples(ground: Inputs, questions: int) -> float:
    """Samples that so many further questions take, as densely sampled as these."""
    per_question = sum(ground.samples(model) for model in ground.traces.models)
    return float(questions * per_question)


def _closest(bench: Bench, limit: float) -> tuple[int, int] | None:
    """(chain, rule): of the first rules that are not shown and save, the one with least p-value."""
    shown = bench.shown(limit)
    found = []
    for chain, count in enumerate(shown):
        for rule in range(count, len(bench.chains[chain])):
            step = bench.chains[chain].step(rule)
            if step.saving > 0.0:
                # What stands in the way is the first rule that is not shown.
                blocked = bench.p_value(chain, count, limit) if bench.test.kind != "crc" else 1.0
                lost = float(step.losses(bench.test.loss).mean())
                found.append((blocked, lost, chain, rule))
                break
    return min(found)[2:] if found else None


def _remedies(
    ground: Inputs, bench: Bench, chain: int, step: RuleEffect, limit: float
) -> tuple[Remedy, ...]:
    """More questions, more samples, a looser limit, harm: those that help, the cheapest first."""
    test, level = bench.test_of(chain), bench.level(chain)
    found = []
    if test.kind == "crc":
        return (Remedy(lever="limit", said="Allow a larger loss, or record more questions."),)
    certifying = test.questions_for(step, limit, level)
    n = len(ground.questions)
    if certifying is not None:
        total = _in_all(ground, bench, chain, certifying)
        found.append(
            Remedy(
                lever="questions",
                said=f"With as many differences, {total} questions would show it: record "
                f"{max(1, total - n)} more.",
                questions=total,
                samples=_samples(ground, max(1, total - n)),
            )
        )
    found += _by_samples(ground, bench, chain, step, limit)
    bound = test.bound(step, 1.0 - level)
    if bound is not None and bound <= LARGEST_LIMIT:
        up = max(limit, -(-round(bound * 1e5) // 50) * 5e-4)
        found.append(
            Remedy(
                lever="limit",
                said=f"A limit of {points(round(up, 4))} is shown by these questions "
                f"(--max-drop {100 * up:.4g}%); that is another try, so name it for new ones.",
            )
        )
    if test.loss == "drop":
        harm = replace(test, loss="harm", kind="means" if test.kind == "means" else "binomial")
        if harm.p_value(step, limit, level) <= level:
            found.append(
                Remedy(lever="harm", said="Lost answers alone (--loss harm) stay within the limit.")
            )
    if not found:
        found.append(
            _elsewhere(ground, bench)
            or Remedy(
                lever="none",
                said="It loses more than the limit: no number of questions would show it.",
            )
        )
    free = [each for each in found if each.samples is None]
    paid = sorted(
        (each for each in found if each.samples is not None), key=lambda r: r.samples or 0
    )
    return (*paid, *free)


def _by_samples(
    ground: Inputs, bench: Bench, chain: int, step: RuleEffect, limit: float
) -> list[Remedy]:
    """Whether asking each question more often would show it, by how its plays differ."""
    plays = step.harmed.shape[1]
    if bench.test.kind == "means" or plays < 2:
        return []
    means = Test(kind="means", loss=bench.test.loss)
    level = bench.level(chain)
    if means.p_value(step, limit, level) > level:
        return []
    further = 4 * len(ground.traces.models)
    return [
        Remedy(
            lever="samples",
            said="The same questions asked four times or more (their means are then tested) "
            "would show it.",
            samples=float(further * len(ground.questions)),
        )
    ]


def _saves_none(ground: Inputs, bench: Bench) -> Advice:
    """Nothing that is shown saves anything: why, and whether anything would help."""
    remedy = _elsewhere(ground, bench) or Remedy(
        lever="none",
        said="No remedy: the options cost as much as the baseline; a cheaper model is needed.",
    )
    said = f"no rule in front of {ground.baseline.text} saves anything: {remedy.said[0].lower()}"
    return Advice(kind="saves none", refusal=said + remedy.said[1:], remedies=(remedy,))


def _elsewhere(ground: Inputs, bench: Bench) -> Remedy | None:
    """What no further question would mend: missing prices, or nothing that tells right from wrong.

    Agreement of samples or of models tells, and so does a token confidence.
    """
    if _unpriced(ground):
        return PRICES
    told = any(
        chain.kind != "fitted" and (chain.kind != "sure" or len(chain) > 1)
        for chain in bench.chains
    )
    return None if told else SIGNAL
