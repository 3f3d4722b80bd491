"""Certificates on recorded public outcomes: cascades, harder sets, random splits, savings to beat.

    python benchmarks/certify/certify.py cascades splits pools --out results/certify
    python benchmarks/certify/certify.py splits --splits 200 --set votes-gsm

cascades  agreement of two small models in front of a large one, uncalibrated
splits    calibrate on one half, test on the other, 200 random splits: violations, power, saving,
          plain rules beside (halves.py; all its sets, or those named by --set)
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
from suffice.evals.statistics.binomial import lower_bound, upper_bound
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.statistics.paired import Pairs
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.inputs import Inputs
from suffice.recipes.calibrate.stopping_times import count_votes

CASCADES = (
    ("gsm", (LLAMA, GEMMA), FOUR_O),
    ("math-l5", (QWEN, MINI), O1),
    ("crux", (MINI, "Qwen2.5-32B-Instruct"), O1),
    ("crux", (QWEN, LLAMA), FOUR_O),
)


def drop_interval(pairs: Pairs, confidence: float) -> tuple[float, float]:
    """Two-sided bounds of the drop from four of Clopper and Pearson; wide, but exact."""
    tail = 1.0 - (1.0 - confidence) / 4.0
    n, harmed, helped = pairs.n, pairs.harmed, pairs.helped
    return (
        lower_bound(harmed, n, tail) - upper_bound(helped, n, tail),
        upper_bound(harmed, n, tail) - lower_bound(helped, n, tail),
    )


def cascades(folder: Path) -> list[dict]:
    """Accept wherever the two agree: accuracy, escalation, and what it loses against the large."""
    found = []
    for task, pair, strong in CASCADES:
        questions, rows = zeroeval(folder, [task])
        known = {model for answers in rows.values() for model in answers}
        lacking = [m for m in (*pair, strong) if m not in known]
        if lacking:
            print(f"{task}: {lacking} not recorded; known: {sorted(known)}")
            continue
        traces = as_models(questions, rows, (*pair, strong))
        ground = Inputs.of(traces, CalibrateConfig(max_drop=0.02, baseline=f"single@{strong}"))
        cascade = ground.played(f"agreement:models={'+'.join(pair)} > single@{strong}")
        right, agreed = cascade.correct[:, 0], cascade.early[:, 0]
        standard = ground.played(ground.baseline.text).correct[:, 0]
        pairs = Pairs.of(standard, right)
        low, high = drop_interval(pairs, 0.95)
        row = {
            "task": task, "small": list(pair), "large": strong, "n": len(agreed),
            "agree": float(agreed.mean()), "accuracy_agreed": float(right[agreed].mean()),
            "cascade": float(right.mean()), "always_large": float(standard.mean()),
            "harmed": pairs.harmed, "helped": pairs.helped,
            "drop": [pairs.drop, low, high],
        }  # fmt: skip
        found.append(row)
        print(f"{task:8} {'+'.join(pair)} > {strong}: agree {100 * row['agree']:.1f} % at "
              f"{100 * row['accuracy_agreed']:.1f}, cascade {100 * row['cascade']:.1f}, large "
              f"{100 * row['always_large']:.1f}, drop {pairs.drop:.4f} [{low:.4f}, {high:.4f}]", flush=True)  # fmt: skip
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
            full = votes.right[:, -1]
            drawn.append((votes, full))
            everyone, stop = np.arange(n), votes.stop(0.95, None, 4)
            sums.setdefault("adaptive_consistency .95", []).append(
                (everyone, stop, votes.right_after(stop).astype(float), full)
            )
            if seed < 5:  # as exact as is needed
                stop = esc_stops(traces, size)
                sums.setdefault("esc, window 5", []).append(
                    (everyone, stop, votes.right_after(stop).astype(float), full)
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
                    stop = tests.stop(*options)
                    sums.setdefault(name, []).append(
                        (rest, stop, tests.right_after(stop).astype(float), full[rest])
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


def esc_stops(traces, size: int, window: int = 5) -> np.ndarray:
    """Samples that ESC draws, in recorded order: up to the first window of equal answers."""
    codes = traces.answer.reshape(-1, size // window, window)
    same = (codes == codes[:, :, :1]).all(axis=2) & (codes[:, :, 0] >= 0)
    return np.where(same.any(axis=1), window * (np.argmax(same, axis=1) + 1), size)


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
                stops = [v.stop(threshold, hopeless, patience) for v, _ in drawn]
                right = [v.right_after(stop) for (v, _), stop in zip(drawn, stops, strict=True)]
                lost = base - np.mean(right, axis=0)
                spent = float(np.sum(stops))
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
    parser.add_argument("--data", type=Path, default=Path("data/recorded"))
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
                       {"command": f"benchmarks/certify/certify.py {command}", "rows": rows})  # fmt: skip


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
