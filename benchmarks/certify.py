"""Certificates on recorded public outcomes: cascades, harder sets, random splits, savings to beat.

    python benchmarks/certify.py cascades splits pools --out results/certify

cascades  agreement of two cheap models in front of a strong one, uncalibrated and calibrated
splits    calibrate on one half, test on the other, 200 random splits: violations and saving
pools     40 models' answers as samples of one: certified two-sided stopping beside
          Adaptive-Consistency and ESC, on the same samples
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from recorded import as_models, as_pool, zeroeval

from suffice.core.errors import InputError, NothingFeasible
from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.statistics.paired import Pairs, drop_interval
from suffice.policies import prompt_features
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate import fit
from suffice.recipes.calibrate.arms import Proposal, Safe, Table
from suffice.recipes.calibrate.certify import shown_steps
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.families import lay_path
from suffice.recipes.calibrate.play import Recorded, TokenWeights, play
from suffice.recipes.calibrate.prepare import Split, models_of, usable_weights
from suffice.recipes.calibrate.votes import count_votes

FOUR_O, O1 = "gpt-4o-2024-08-06", "o1-mini-2024-09-12"
MINI = "gpt-4o-mini-2024-07-18"
LLAMA, GEMMA = "Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it"
# Published list prices of a completion token relative to the small open models' hosted price.
CASCADES = (
    ("gsm", (LLAMA, GEMMA), FOUR_O),
    ("math-l5", ("Qwen2.5-7B-Instruct", MINI), O1),
    ("crux", (MINI, "Qwen2.5-32B-Instruct"), O1),
    ("crux", ("Qwen2.5-7B-Instruct", LLAMA), FOUR_O),
)
STRONG_WEIGHT = 25.0  # a strong model's token in tokens of a cheap one; an assumption, said aloud


def cascades(folder: Path) -> list[dict]:
    """Accept wherever the two agree: accuracy, escalation, and what it loses against the strong."""
    found = []
    for task, pair, strong in CASCADES:
        questions, rows = zeroeval(folder, [task])
        known = {model for answers in rows.values() for model in answers}
        lacking = [m for m in (*pair, strong) if m not in known]
        if lacking:
            print(f"{task}: {lacking} not recorded; known: {sorted(known)}")
            continue
        traces = as_models(questions, rows, (*pair, strong))
        policy = parse_policy(f"agreement:models={'+'.join(pair)} > single@{strong}")
        everyone = range(len(traces.questions))
        cascade = play(policy, Recorded(traces), everyone)
        safe = play(parse_policy(f"single@{strong}"), Recorded(traces), everyone)
        pairs = Pairs.of(safe.correct, cascade.correct)
        agreed = np.array(["rung 1" in why for why in cascade.why])
        drop = drop_interval(pairs, 0.95)
        row = {
            "task": task, "cheap": list(pair), "strong": strong, "n": len(agreed),
            "agree": float(agreed.mean()), "accuracy_agreed": float(cascade.correct[agreed].mean()),
            "cascade": float(cascade.correct.mean()), "always_strong": float(safe.correct.mean()),
            "harmed": pairs.harmed, "helped": pairs.helped,
            "drop": [drop.estimate, drop.low, drop.high],
        }  # fmt: skip
        found.append(row)
        print(f"{task:8} {'+'.join(pair)} > {strong}: agree {100 * row['agree']:.1f} % at "
              f"{100 * row['accuracy_agreed']:.1f}, cascade {100 * row['cascade']:.1f}, strong "
              f"{100 * row['always_strong']:.1f}, drop {drop}", flush=True)  # fmt: skip
    return found


def remember_prompts() -> None:
    """Every split looks at the same prompts: their counts and forms are worked out once."""
    prompt_features.hashed_counts = lru_cache(maxsize=None)(prompt_features.hashed_counts)
    fit.hashed_counts = prompt_features.hashed_counts
    fit.form = lru_cache(maxsize=None)(fit.form)
    fit.WORD_PENALTIES = (1e6, 10.0)  # a coarser search, 40 fits a split otherwise


def splits(folder: Path, count: int, only: str) -> list[dict]:
    """Random halves: what was certified on one, seen on the other."""
    remember_prompts()
    found = []
    mixture = ("gsm", "math-l5", "crux")
    for name, tasks, pair, strong, target in (
        ("gsm, overall", ("gsm",), (LLAMA, GEMMA), FOUR_O, CalibrateConfig(max_drop=0.02)),
        ("mixture, one threshold", mixture, (MINI, "Qwen2-72B-Instruct"), O1,
         CalibrateConfig(max_drop=0.02, clusters=1, mixed=True)),
        ("mixture, by cluster", mixture, (MINI, "Qwen2-72B-Instruct"), O1,
         CalibrateConfig(max_drop=0.02, clusters=6, mixed=True)),
    ):  # fmt: skip
        if only not in name:
            continue
        questions, rows = zeroeval(folder, tasks)
        traces = as_models(questions, rows, (*pair, strong))
        weights = usable_weights(traces, TokenWeights(((strong, STRONG_WEIGHT),)))
        table = Table.of(traces, weights)
        config = replace(target, dimensions=64, steps=12)
        proposal = _gate(table, f"agreement:models={'+'.join(pair)}", f"single@{strong}")
        dataset = np.array([traces.questions[q].dataset for q in table.questions])
        runs = [_split(proposal, config, seed, dataset) for seed in range(count)]
        found.append(_summary(name, runs, config))
        print(found[-1], flush=True)
    return found


def _gate(table: Table, cheap: str, strong: str) -> Proposal:
    cache: dict[str, object] = {}

    class Cached(type(table)):  # plays every policy once for all splits
        def play(self, policy):
            key = repr(policy)
            if key not in cache:
                cache[key] = super().play(policy)
            return cache[key]

    kept = Cached(traces=table.traces, recorded=table.recorded, weights=table.weights,
                  questions=table.questions)  # fmt: skip
    policy, safe = parse_policy(cheap), parse_policy(strong)
    return Proposal(
        table=kept,
        safe=Safe(text=strong, models=models_of(safe), outcomes=kept.play(safe), votes=None),
        text=cheap, policy=policy, models=models_of(policy), is_gate=True,
    )  # fmt: skip


def _split(proposal: Proposal, config: CalibrateConfig, seed: int, dataset) -> dict:
    questions = proposal.table.questions
    order = np.random.default_rng(seed).permutation(len(questions))
    half = len(order) // 2
    quarter = half * 2 // 5
    fitting, certify, test = order[:quarter], order[quarter:half], order[half:]
    config = replace(config, seed=seed)
    # The test half is judged like the certifying one; the path only sees the fitting questions.
    both = np.concatenate((certify, test))
    candidate = proposal.planned(Split(fit=questions[fitting], certify=questions[both]), config)
    path = lay_path(candidate.fit, candidate.fit_safe_cost, candidate.clusters, net=True,
                    steps=config.steps, limit=config.max_drop)  # fmt: skip
    mask = np.arange(len(both)) < len(certify)
    steps = [candidate.certify.step(setting) for setting in path]
    shown = shown_steps([step.within(mask) for step in steps], config)
    naive = [i for i, s in enumerate(steps) if s.within(mask).pairs.drop <= config.max_drop]
    out = {"certified": bool(shown)}
    for label, number in (("ours", shown - 1), ("naive", naive[-1] if naive else -1)):
        if number < 0:
            out[label] = {"drop": 0.0, "whole": 0.0, "saving": 0.0, "stopped": 0.0, "by_set": {}}
            continue
        step = steps[number]
        seen, cost = step.within(~mask), candidate.certify_safe_cost[~mask]
        fitted = candidate.fit.step(path[number])
        lost = step.harmed.sum() - step.helped.sum() + fitted.harmed.sum() - fitted.helped.sum()
        names = dataset[both][~mask]
        out[label] = {
            "drop": seen.pairs.drop,
            "whole": float(lost) / len(order),
            "saving": 1.0 - float(seen.cost.sum() / cost.sum()),
            "stopped": float(seen.stopped.mean()),
            "by_set": {n: seen.within(names == n).pairs.drop for n in sorted(set(names.tolist()))},
        }
    return out


def _summary(name: str, runs: list[dict], config: CalibrateConfig) -> dict:
    found = {"name": name, "splits": len(runs), "max_drop": config.max_drop,
             "certified": sum(run["certified"] for run in runs)}  # fmt: skip
    for label in ("ours", "naive"):
        each = [run[label] for run in runs]
        late = sum(one["drop"] > config.max_drop for one in each)
        whole = sum(one["whole"] > config.max_drop for one in each)
        rate = clopper_pearson(late, len(each), 0.95)
        saving = np.array([one["saving"] for one in each])
        sets = sorted({n for one in each for n in one["by_set"]})
        found[label] = {
            "over_on_test_half": late, "over_interval": [rate.low, rate.high],
            "over_on_all_questions": whole,
            "mean_drop": float(np.mean([one["drop"] for one in each])),
            "mean_saving": float(saving.mean()),
            "saving_range": np.quantile(saving, [0.025, 0.975]).tolist(),
            "mean_stopped": float(np.mean([one["stopped"] for one in each])),
            "mean_drop_by_set": {
                n: float(np.mean([one["by_set"].get(n, 0.0) for one in each])) for n in sets
            },
        }  # fmt: skip
    return found


def pools(folder: Path, shuffles: int, size: int = 40) -> list[dict]:
    """Samples needed at equal accuracy; tuned rules are chosen on one half, seen on the other."""
    found = []
    for task in ("gsm", "crux", "math-l5"):
        questions, rows = zeroeval(folder, [task])
        sums: dict[str, list] = {}
        drawn = []
        for seed in range(shuffles):
            traces = as_pool(questions, rows, size, seed)
            n = len(traces.questions)
            votes = count_votes(traces, "pool", range(n), size)
            full = votes.outcomes(votes.stop(2.0, None, 1)).correct
            drawn.append((votes, full))
            seen = votes.outcomes(votes.stop(0.95, None, 4))
            everyone = np.arange(n)
            sums.setdefault("adaptive_consistency .95", []).append(
                (everyone, seen.samples, seen.correct.astype(float), full)
            )
            if seed < 5:  # played sample by sample: slow, and exact enough
                esc = play(parse_policy(f"esc:max_samples={size}"), Recorded(traces), range(n))
                sums.setdefault("esc, window 5", []).append(
                    (everyone, esc.samples, esc.correct.astype(float), full)
                )
        order = np.random.default_rng(0).permutation(n)
        halves = order[: n // 2], order[n // 2 :]
        for part, rest in (halves, halves[::-1]):
            for name, two_sided, limit in (
                ("two_sided, .1 point", True, 0.001),
                ("one-sided, .1 point", False, 0.001),
                ("two_sided, 1 point", True, 0.01),
                ("one-sided, 1 point", False, 0.01),
            ):
                fitted = [(v.at(part), f[part]) for v, f in drawn]
                options = _tuned(fitted, limit, two_sided=two_sided)
                print(f"{task:8} {name}: {options}", flush=True)
                for votes, full in drawn:
                    tests = votes.at(rest)
                    seen = tests.outcomes(tests.stop(*options))
                    sums.setdefault(name, []).append(
                        (rest, seen.samples, seen.correct.astype(float), full[rest])
                    )
        for name, runs in sums.items():
            row = _pool_row(task, name, runs, n, size)
            found.append(row)
            print(f"{task:8} {name:26} saves {100 * row['saving'][0]:.1f} % "
                  f"[{100 * row['saving'][1]:.1f}, {100 * row['saving'][2]:.1f}] of samples, drop "
                  f"{100 * row['drop'][0]:.2f} [{100 * row['drop'][1]:.2f}, "
                  f"{100 * row['drop'][2]:.2f}] points, vote of {size}: {100 * row['full']:.1f}",
                  flush=True)  # fmt: skip
    return found


def _tuned(drawn: list, limit: float, *, two_sided: bool) -> tuple:
    """The stopping rule that saves most among those that lose at most `limit` here.

    With one standard error to spare: a rule that merely looks free is the likely winner otherwise.
    At a tenth of a point not below the customary threshold of .95.
    """
    best, least = (0.999, None, 4), np.inf
    base = np.mean([full for _, full in drawn], axis=0)
    strict = (0.999, 0.995, 0.99, 0.98, 0.97, 0.95)
    for threshold in strict if limit < 0.005 else (*strict, 0.925, 0.9, 0.85, 0.8):
        for hopeless in (None, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5) if two_sided else (None,):
            for patience in (4, 6, 8, 12, 16):
                if hopeless is None and patience != 4:
                    continue
                seen = [v.outcomes(v.stop(threshold, hopeless, patience)) for v, _ in drawn]
                lost = base - np.mean([each.correct for each in seen], axis=0)
                spent = float(np.sum([each.samples.sum() for each in seen]))
                error = lost.std(ddof=1) / np.sqrt(len(lost))
                if lost.mean() + error <= limit + 1e-12 and spent < least:
                    best, least = (threshold, hopeless, patience), spent
    return best


def _pool_row(task: str, name: str, runs: list, n: int, size: int) -> dict:
    spent, right, full, times = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for index, samples, correct, reference in runs:
        spent[index] += samples
        right[index] += correct
        full[index] += reference
        times[index] += 1
    saving = ratio_interval(size * times - spent, size * times)
    drop = ratio_interval(full - right, times)
    return {
        "task": task, "rule": name, "n": n,
        "saving": [saving.estimate, saving.low, saving.high],
        "drop": [drop.estimate, drop.low, drop.high], "full": float(full.sum() / times.sum()),
        "mean_samples": float(spent.sum() / times.sum()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=("cascades", "splits", "pools"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/runtime"))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--only", default="", help="splits whose name contains this")
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/certify"))
    options = parser.parse_args()
    folder = options.data / "zeroeval_matrix"
    for part in options.parts:
        began = time.process_time()
        try:
            rows = {
                "cascades": lambda: cascades(folder),
                "splits": lambda: splits(folder, options.splits, options.only),
                "pools": lambda: pools(folder, options.shuffles),
            }[part]()
        except (InputError, NothingFeasible) as error:
            print(f"{part}: {error}")
            continue
        print(f"{part}: {time.process_time() - began:.0f} CPU s")
        name = f"{part}-{options.only.replace(' ', '-')}" if options.only else part
        write_json(options.out / f"{name}.json", {"command": f"benchmarks/certify.py {part}",
                                                  "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
