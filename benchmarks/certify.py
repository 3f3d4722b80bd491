"""Certificates on recorded public outcomes: cascades, harder sets, random splits, savings to beat.

    python benchmarks/certify.py cascades splits pools --out results/certify
    python benchmarks/certify.py splits --splits 200 --set routellm-mmlu

cascades  agreement of two cheap models in front of a strong one, uncalibrated and calibrated
splits    calibrate on one half, test on the other, 200 random splits: violations and saving
          (halves.py; all its sets, or those named by --set)
pools     40 models' answers as samples of one: certified two-sided stopping beside
          Adaptive-Consistency and ESC, on the same samples
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from halves import FOUR_O, GEMMA, LLAMA, MINI, O1, QWEN, SETS, splits
from recorded import as_models, as_pool, zeroeval

from suffice.core.errors import InputError, NothingFeasible
from suffice.core.files import write_json
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.statistics.paired import Pairs, drop_interval
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.play import Recorded, play
from suffice.recipes.calibrate.votes import count_votes

CASCADES = (
    ("gsm", (LLAMA, GEMMA), FOUR_O),
    ("math-l5", (QWEN, MINI), O1),
    ("crux", (MINI, "Qwen2.5-32B-Instruct"), O1),
    ("crux", (QWEN, LLAMA), FOUR_O),
)


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
        agreed = np.array([taken == "accepted" for taken in cascade.exit])
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
    parser.add_argument("--set", nargs="+", choices=SETS, default=list(SETS), dest="sets")
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/certify"))
    options = parser.parse_args()
    for part in options.parts:
        for name, command, rows_of in _work(part, options):
            began = time.process_time()
            try:
                rows = rows_of()
            except (InputError, NothingFeasible) as error:
                print(f"{command}: {error}")
                continue
            print(f"{command}: {time.process_time() - began:.0f} CPU s", flush=True)
            write_json(options.out / f"{name}.json",
                       {"command": f"benchmarks/certify.py {command}", "rows": rows})  # fmt: skip


def _work(part: str, options: argparse.Namespace) -> list[tuple[str, str, Callable[[], list]]]:
    """(name of the file of results, command, what makes its rows) of a part."""
    folder = options.data / "zeroeval_matrix"
    if part == "cascades":
        return [(part, part, lambda: cascades(folder))]
    if part == "pools":
        return [(part, part, lambda: pools(folder, options.shuffles))]
    return [
        (
            f"splits-{name}",
            f"splits --splits {options.splits} --set {name}",
            partial(splits, options.data, options.splits, name),
        )
        for name in options.sets
    ]


if __name__ == "__main__":
    main()
