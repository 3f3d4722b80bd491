"""Random halves of recorded questions: what was certified on one half, seen on the other.

A half calibrates as `suffice calibrate` does: rules that need no fitting are tested on all of it,
fitted ones on the two thirds that did not fit them, with shares of the error probability. `ours` is
the certified rule that saves most on the half; `naive` (the plug-in rule) the one that saves most
among all whose observed drop there is within the limit. Plain rules are played on the other half
beside them. Where nothing is certified the baseline answers: such a half counts with no drop and no
saving. Results are spreads over calibrations.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from recorded import ROUTED_STRONG, ROUTED_WEAK, as_models, as_pool, needed, routellm, zeroeval

from suffice.core.prices import Prices
from suffice.evals.importers import importer
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.evals.statistics.sequence import chains_shown
from suffice.evals.traces.files import read_traces, trace_set
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies import prompt_features
from suffice.recipes.calibrate import fit_predictor as fit
from suffice.recipes.calibrate.certify import RuleEffect, Test
from suffice.recipes.calibrate.chains import WEIGHTS, RuleChain, chain_of, fixed_chains
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.fitted import QuestionSplit, candidates, laid, promise
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.plain import plain_rules

FOUR_O, O1 = "gpt-4o-2024-08-06", "o1-mini-2024-09-12"
MINI, QWEN = "gpt-4o-mini-2024-07-18", "Qwen2.5-7B-Instruct"
LLAMA, GEMMA = "Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it"
FLASH = "gemini-1.5-flash"
# Fewer than ship, for speed: out of fold on the fitting questions of MMLU, 512 dimensions rank
# "only the large one is right" no better than 64 do (AUC .62 and .63 on two splits either way).
DIMENSIONS = 64
LIMITS = (0.01, 0.02, 0.05)
CUSTOMARY = "threshold=0.95,"
# A vote rule that loses no more than this on all questions of a set loses nothing.
NOTHING_LOST = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A recording, what is served today, and what may answer in its place."""

    name: str
    read: Callable[[Path], TraceSet]
    baseline: str | None = None
    options: tuple[str, ...] = ()
    dear: str | None = None  # the model whose tokens cost more
    price: float = 25  # of its token, in tokens of a small one; an assumption, said aloud
    limits: tuple[float, ...] = LIMITS
    groups: int | None = None
    fitted: bool | None = None
    routed: bool = False  # the prompt alone decides, so the weak model is not asked first


def _small(name: str, tasks: tuple[str, ...], small: tuple[str, str, str], strong: str,
           **options: object) -> Setup:  # fmt: skip
    """Two small models that agree, or three, in front of a large one, on ZeroEval's questions."""

    def read(folder: Path) -> TraceSet:
        return as_models(*zeroeval(folder / "zeroeval_matrix", tasks), (*small, strong))

    return Setup(
        name=name, read=read, baseline=f"single@{strong}", dear=strong,
        options=tuple(f"agreement:models={'+'.join(small[:n])}" for n in (2, 3)), **options,
    )  # fmt: skip


def _routed(name: str, folder_name: str) -> Setup:
    return Setup(
        name=name,
        read=lambda folder: routellm(folder, folder_name),
        options=(f"single@{ROUTED_WEAK}",),
        baseline=f"single@{ROUTED_STRONG}",
        dear=ROUTED_STRONG,
        groups=1,
        routed=True,
    )


def _pool(name: str, task: str, size: int = 40) -> Setup:
    """Greedy answers of 40 models as if they were 40 samples of one: votes that end early."""

    def read(folder: Path) -> TraceSet:
        return as_pool(*zeroeval(folder / "zeroeval_matrix", [task]), size, 0)

    return Setup(name=name, read=read)


def _codet(folder: Path) -> TraceSet:
    """100 programs for each of 164 problems; equal programs are equal answers."""
    found = json.loads(Path("results/certify/humaneval.json").read_text())
    verdicts = {name: f"{int(bits, 16):0100b}" for name, bits in found["verdicts"].items()}
    name = "codet_humaneval_100samples"
    return trace_set(
        replace(
            trace,
            answer=" ".join(trace.text.split()) or None,
            correct=verdicts[trace.question.name][trace.sample] == "1",
        )
        for trace in importer(name).read(needed(folder / name))
    )


def _game24(folder: Path) -> TraceSet:
    """100 puzzles, 100 chains of thought each; expressions are compared as they are written."""
    traces = [
        t for t in importer("tot_game24").read(needed(folder / "tot_game24")) if t.sample < 100
    ]
    modes = sorted({t.mode for t in traces})
    return trace_set(replace(t, mode="answer") for t in traces if t.mode == modes[0])


def _own(name: str, model: str | None = None) -> Callable[[Path], TraceSet]:
    def read(folder: Path) -> TraceSet:
        del folder
        whole = read_traces(Path("data/traces") / name)
        if model is None:
            return whole
        return trace_set(trace for trace in whole if trace.model == model)

    return read


_MIXTURE = ("gsm", "math-l5", "crux")
_MIXED = (MINI, "Qwen2-72B-Instruct", FLASH)
SETS = {
    "gsm": _small("GSM8K, 8B models", ("gsm",), (LLAMA, GEMMA, "Qwen2-7B-Instruct"), FOUR_O),
    "one-threshold": _small("mixture, one threshold", _MIXTURE, _MIXED, O1, groups=1),
    "by-group": _small("mixture, thresholds for 6 groups", _MIXTURE, _MIXED, O1, groups=6),
    "math-l5": _small("MATH level 5", ("math-l5",), (QWEN, MINI, FLASH), O1),
    "crux": _small("CRUX, 4o-mini", ("crux",), (MINI, "Qwen2.5-32B-Instruct", FLASH), O1),
    "crux-small": _small("CRUX, 7B models", ("crux",), (QWEN, LLAMA, GEMMA), FOUR_O),
    "routellm-gsm8k": _routed("GSM8K, routed", "routellm_gsm8k"),
    "routellm-mmlu": _routed("MMLU, routed", "routellm_mmlu"),
    "votes-gsm": _pool("GSM8K, vote of 40", "gsm"),
    "votes-crux": _pool("CRUX, vote of 40", "crux"),
    "votes-math-l5": _pool("MATH level 5, vote of 40", "math-l5"),
    "votes-codet": Setup(name="HumanEval, vote of 40 programs", read=_codet),
    "votes-game24": Setup(name="game of 24, vote of 40", read=_game24),
    "votes-stepwise": Setup(name="SmolLM2-135M, vote of 16", read=_own("stepwise.parquet")),
    "votes-two-arms": Setup(
        name="0.1M puzzles, vote of 40", read=_own("two-arms.parquet", "small-think")
    ),
}  # fmt: skip


def splits(folder: Path, count: int, name: str) -> list[dict]:
    """One row per limit of a set's `count` random halves."""
    setup = SETS[name]
    remember_prompts()
    bench = HalvesOf(setup, setup.read(folder))
    runs: dict[float, list[dict]] = {limit: [] for limit in setup.limits}
    for seed in range(count):
        calibrated = bench.calibrated(seed)
        for limit in setup.limits:
            runs[limit].append(calibrated.at(limit))
    found = []
    for limit, each in runs.items():
        found.append(bench.facts() | _summary(setup, each, limit))
        print({k: v for k, v in found[-1].items() if k not in ("naive", "plain")}, flush=True)
    return found


def remember_prompts() -> None:
    """Every split looks at the same prompts: their counts and forms are worked out once."""
    if not hasattr(fit.form, "cache_info"):
        prompt_features.hashed_counts = lru_cache(maxsize=None)(prompt_features.hashed_counts)
        fit.hashed_counts = prompt_features.hashed_counts
        fit.form = lru_cache(maxsize=None)(fit.form)
        fit.WORD_PENALTIES = (1e6, 10.0)  # a coarser search, 40 fits a split otherwise


class HalvesOf:
    """One set, every rule worked out once on all its questions."""

    def __init__(self, setup: Setup, traces: TraceSet) -> None:
        self.setup = setup
        # Where a router keeps a call off the large model it saves what that costs beyond the weak
        # one: the weak one's price is the floor that everything is counted from.
        cheap = 0 if setup.routed else 1
        prices = [f"*=0/{cheap}"]
        if setup.dear is not None:
            prices.append(f"{setup.dear}=0/{1 if setup.routed else setup.price:g}")
        self.config = CalibrateConfig(
            max_drop=max(setup.limits), baseline=setup.baseline, options=setup.options,
            groups=setup.groups, mixed=True, dimensions=DIMENSIONS, fitted=setup.fitted,
            prices=Prices.parse(prices),
        )  # fmt: skip
        self.ground = Inputs.of(traces, self.config)
        self.n = len(self.ground.questions)
        self.plans = [] if setup.routed else fixed_chains(self.ground, np.arange(0))
        self.everywhere = [chain_of(self.ground, *plan) for plan in self.plans]
        self.test = Test.of("drop", means=self.ground.means)
        self.plain = self._plain()
        self.gated = setup.options != () if setup.fitted is None else setup.fitted

    def _plain(self) -> dict[str, RuleEffect]:
        ground, found = self.ground, {}
        baseline = ground.played(ground.baseline.text)
        for rule in plain_rules(ground):
            option = ground.played(rule.rule)
            costs = ground.cost(option), ground.cost(baseline)
            reverts = ground.reverts(rule.rule)
            found[rule.name] = RuleEffect.of(option, baseline, costs, reverts=reverts)
        return found

    def facts(self) -> dict:
        ground = self.ground
        right = ground.played(ground.baseline.text).correct
        return {
            "n": self.n, "baseline": ground.baseline.text, "baseline_accuracy": float(right.mean()),
            "test": self.test.kind, "plays": right.shape[1], "cost_unit": ground.tariff.unit,
            "prices": self.config.prices.table(),
            "loses_nothing": self._flawless(),
        }  # fmt: skip

    def _flawless(self) -> list[str]:
        """Vote rules that lose nothing on all questions together."""
        return [
            chain.rules[number]
            for chain in self.everywhere
            for number in range(len(chain))
            if chain.kind == "stop" and _drop(chain.step(number)) <= NOTHING_LOST
        ]

    def calibrated(self, seed: int) -> Half:
        """The half of a seed, with what its fitting part makes of it."""
        order = np.random.default_rng(seed).permutation(self.n)
        half, test = order[: self.n // 2], order[self.n // 2 :]
        fitting = half[: max(60, round(self.config.fit_share * len(half)))]
        left = half[len(fitting) :]
        config = replace(self.config, seed=seed)
        ground = replace(self.ground, config=config)
        fitted: tuple[RuleChain, int] | None = None
        if self.gated and len(left) >= 30:
            split = QuestionSplit(fit=fitting, certify=np.concatenate((left, test)))
            found = [(c, laid(c, ground)) for c in candidates(ground, split)]
            found = [(c, path) for c, path in found if path]
            if found:
                best = max(found, key=lambda each: promise(*each, ground))
                fitted = best[0].chain(best[1]), len(left)
        return Half(self, half, test, fitted)


class Half:
    """A half that certifies, the other that tests."""

    def __init__(self, of: HalvesOf, half: np.ndarray, test: np.ndarray,
                 fitted: tuple[RuleChain, int] | None) -> None:  # fmt: skip
        self.of, self.half, self.test = of, half, test
        # (chain, rows that certify, rows that test, rows of all that were not fitted on)
        self.chains = [(chain, half, test, slice(None)) for chain in of.everywhere]
        if fitted is not None:
            chain, count = fitted
            rows = np.arange(len(chain.index))
            self.chains.append((chain, rows[:count], rows[count:], slice(None)))
        self._p: dict[tuple[int, int, float], float] = {}

    def _step(self, c: int, rule: int, part: int) -> RuleEffect:
        chain = self.chains[c]
        return chain[0].step(rule).within(chain[part])

    def _p_value(self, c: int, rule: int, limit: float) -> float:
        key = c, rule, limit
        if key not in self._p:
            total = sum(WEIGHTS[chain[0].kind] for chain in self.chains)
            level = self.of.config.alpha * WEIGHTS[self.chains[c][0].kind] / total
            test = self.chains[c][0].tested_by(self.of.test)
            self._p[key] = test.p_value(self._step(c, rule, 1), limit, level)
        return self._p[key]

    def at(self, limit: float) -> dict:
        """What this half certifies at a limit, and what the other half says of it."""
        numbers = range(len(self.chains))
        shown, _ = chains_shown(
            [lambda rule, c=c: self._p_value(c, rule, limit) for c in numbers],
            [len(self.chains[c][0]) for c in numbers],
            [WEIGHTS[self.chains[c][0].kind] for c in numbers],
            self.of.config.alpha,
        )
        ours = [(self._step(c, r, 1).saving, c, r) for c in numbers for r in range(shown[c])]
        naive = [
            (step.saving, c, r)
            for c in numbers
            for r in range(len(self.chains[c][0]))
            if _drop(step := self._step(c, r, 1)) <= limit
        ]
        out: dict = {"certified": bool(ours) and max(ours)[0] > 0.0}
        for label, found in (("ours", ours), ("naive", naive)):
            best = max(found, default=(0.0, 0, 0))
            out[label] = NOTHING if best[0] <= 0.0 else self._seen(best[1], best[2])
        out["plain"] = {
            name: {"drop": _drop(step.within(self.test)), "saving": step.within(self.test).saving}
            for name, step in self.of.plain.items()
        }
        out["shown"] = {
            self.chains[c][0].rules[r] for c in numbers for r in range(shown[c])
        }  # fmt: skip
        return out

    def _seen(self, c: int, rule: int) -> dict:
        """A rule on the test half, and its drop on all questions that did not fit it."""
        seen, whole = self._step(c, rule, 2), self._step(c, rule, 3)
        names = np.array([
            self.of.ground.traces.questions[copies[0]].dataset
            for copies in self.of.ground.questions.copies
        ])[self.chains[c][0].index][self.chains[c][2]]  # fmt: skip
        return {
            "drop": _drop(seen), "whole": _drop(whole), "saving": seen.saving,
            "stopped": float(seen.stopped.mean()), "kind": self.chains[c][0].kind,
            "by_set": {n: _drop(seen.within(names == n)) for n in sorted(set(names.tolist()))},
        }  # fmt: skip


NOTHING = {"drop": 0.0, "whole": 0.0, "saving": 0.0, "stopped": 0.0, "kind": "", "by_set": {}}


def _drop(step: RuleEffect) -> float:
    return float(step.losses("drop").mean())


def _spread(values: np.ndarray) -> list[float]:
    """Median, 5 % and 95 % over calibrations."""
    return [float(np.quantile(values, q)) for q in (0.5, 0.05, 0.95)]


def _summary(setup: Setup, runs: list[dict], limit: float) -> dict:
    found = {"name": setup.name, "splits": len(runs), "max_drop": limit,
             "certified": sum(run["certified"] for run in runs)}  # fmt: skip
    # Of a large call's price, the weak call's is not saved.
    scale = 1.0 - 1.0 / setup.price if setup.routed else 1.0
    for label in ("ours", "naive"):
        each = [run[label] for run in runs]
        late = sum(one["drop"] > limit for one in each)
        whole = sum(one["whole"] > limit for one in each)
        rate = clopper_pearson(whole, len(each), 0.95)
        saving = np.array([one["saving"] for one in each]) * scale
        sets = sorted({n for one in each for n in one["by_set"]})
        kinds = sorted({one["kind"] for one in each})
        found[label] = {
            "over_on_test_half": late, "over_on_all_questions": whole,
            "over_interval": [rate.low, rate.high],
            "mean_drop": float(np.mean([one["drop"] for one in each])),
            "mean_saving": float(saving.mean()), "saving": _spread(saving),
            "mean_stopped": float(np.mean([one["stopped"] for one in each])),
            "kinds": {kind: sum(one["kind"] == kind for one in each) for kind in kinds},
            "mean_drop_by_set": {
                n: float(np.mean([one["by_set"].get(n, 0.0) for one in each])) for n in sets
            },
        }  # fmt: skip
    found["plain"] = {
        name: {
            "saving": _spread(np.array([run["plain"][name]["saving"] for run in runs]) * scale),
            "drop": _spread(np.array([run["plain"][name]["drop"] for run in runs])),
            "over_on_test_half": sum(run["plain"][name]["drop"] > limit for run in runs),
        }
        for name in runs[0]["plain"]
    }
    found["shown"] = {
        rule: sum(rule in run["shown"] for run in runs)
        for rule in sorted({rule for run in runs for rule in run["shown"] if CUSTOMARY in rule
                            or "threshold" in rule})
    } if not setup.options else {}  # fmt: skip
    customary = [name for name in found["plain"] if name.startswith("Adaptive-Consistency at")]
    if customary:
        found["dearer_than_customary"] = sum(
            run["ours"]["saving"] < run["plain"][customary[0]]["saving"] - 1e-12 for run in runs
        )
    return found
