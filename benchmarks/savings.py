"""Savings at equal accuracy, all rules on the same votes in one run, a strong arm behind some.

    python benchmarks/savings.py pools --out results/certify/savings.json
    python benchmarks/savings.py own --out results/certify/savings-own.json

pools  greedy answers of 40 models as 40 samples of one (ZeroEval, Apache-2.0); the strong arm is
       kept out of the pool, and one sample of it costs --weight pool samples. Each split fits on a
       quarter of the questions, certifies on a quarter and tests on the other half.
own    data/traces/stepwise.parquet, the set with token confidences: DeepConf's rules beside the
       others. One model was recorded there, so nothing stands behind a vote.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from recorded import _trace, zeroeval

from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.trace_files import read_traces, trace_set
from suffice.evals.traces import MISSING
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate import families
from suffice.recipes.calibrate.certify import shown_steps
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.families import PRICES, SamplerPart, lay_path
from suffice.recipes.calibrate.tables import Strong, fit_table, stops_of
from suffice.recipes.calibrate.votes import count_votes
from suffice.recipes.replay.run import ReplayConfig, replay_traces

_FITTED: dict[tuple, object] = {}


def remembered(orders, reference, price, strong=None):
    """`fit_table`, once for the same votes and price: three limits ask for the same tables."""
    key = (hash(orders[0].lead.tobytes()), float(price), strong is None)
    if key not in _FITTED:
        _FITTED[key] = fit_table(orders, reference, price, strong)
    return _FITTED[key]


families.fit_table = remembered
CAP = 40
ORDERS = 12
STRONG = {
    "gsm": "claude-3-5-sonnet-20241022",
    "crux": "o1-mini-2024-09-12",
    "math-l5": "o1-mini-2024-09-12",
}
REFERENCE = "adaptive_consistency .95"


def pool_of(folder: Path, task: str, strong: str):
    """(traces of the pool, whether the strong arm is right) on questions with enough answers."""
    questions, rows = zeroeval(folder, [task])
    traces, right = [], []
    for key, found in rows.items():
        names = [name for name in sorted(found) if name != strong]
        if strong in found and len(names) >= CAP:
            traces += [_trace(questions[key], found[n], "pool", i) for i, n in enumerate(names)]
            right.append((questions[key].name, found[strong]["correct"] == "1"))
    whole = trace_set(traces)
    by_name = dict(right)
    return whole, np.array([by_name[question.name] for question in whole.questions])


def esc_stops(traces, seed: int, window: int = 5) -> np.ndarray:
    """Samples that ESC draws, in the orders of `count_votes` with this seed."""
    arm, stops = traces.arm_index("pool"), []
    for question in range(len(traces.questions)):
        rows = traces.rows(question, arm)
        listed = np.arange(rows.start, rows.stop)
        np.random.default_rng((seed, question)).shuffle(listed)
        codes = traces.answer[listed[:CAP]].reshape(-1, window)
        same = (codes == codes[:, :1]).all(axis=1) & (codes[:, 0] != MISSING)
        stops.append(window * (int(np.argmax(same)) + 1) if same.any() else CAP)
    return np.array(stops)


class Rules:
    """What each rule draws and gets right on test halves, summed over splits."""

    def __init__(self, count: int) -> None:
        self.count, self.sums = count, {}

    def add(self, name: str, index, cost, right, full) -> None:
        """One split's test half."""
        sums = self.sums.setdefault(name, np.zeros((4, self.count)))
        for row, values in zip(sums, (cost, right, full, 1.0), strict=True):
            row[index] += values

    def rows(self, task: str) -> list[dict]:
        """Saving and drop of each rule, and its cost against the reference rule's, paired."""
        found = []
        tested = self.sums[REFERENCE][3] > 0
        base = self.sums[REFERENCE][:, tested]
        for name, sums in self.sums.items():
            cost, right, full, times = sums[:, tested]
            saving = ratio_interval(CAP * times - cost, CAP * times)
            drop = ratio_interval(full - right, times)
            per, theirs = cost / times, base[0] / base[3]
            paired = ratio_interval(theirs - per, theirs)
            ahead = ratio_interval(right / times - base[1] / base[3], np.ones(len(times)))
            found.append({
                "task": task, "rule": name, "cost": float(per.mean()),
                "saving": [saving.estimate, saving.low, saving.high],
                "drop": [drop.estimate, drop.low, drop.high],
                "cheaper_than_ac": [paired.estimate, paired.low, paired.high],
                "accuracy_above_ac": [ahead.estimate, ahead.low, ahead.high],
            })  # fmt: skip
        return found


def pools(folder: Path, splits: int, weight: float) -> list[dict]:
    """All rules on three pools."""
    found = []
    for task, strong_name in STRONG.items():
        traces, strong_right = pool_of(folder, task, strong_name)
        n = len(traces.questions)
        everyone = range(n)
        by_sample = _by_sample(weight, strong_name)
        orders = [
            count_votes(traces, "pool", everyone, CAP, weights=by_sample, seed=seed)
            for seed in range(ORDERS)
        ]
        esc = [esc_stops(traces, seed) for seed in range(ORDERS)]
        strong = Strong(
            right=strong_right,
            answered=np.ones(n, dtype=bool),
            answer=np.zeros(n, dtype=int),
            cost=np.full(n, weight),
        )
        rules, tally = Rules(n), {}
        for split in range(splits):
            _split(split, orders, esc, strong, rules, tally)
        rows = rules.rows(task)
        head = {
            "task": task, "n": n, "splits": splits, "strong": strong_name, "weight": weight,
            "vote": float(np.mean([v.right[:, -1].mean() for v in orders])),
            "strong_accuracy": float(strong_right.mean()),
            "single": float(np.mean([v.right[:, 0].mean() for v in orders])),
            "coin": _coin(orders, strong_right, weight), "certified": _rates(tally, splits),
        }  # fmt: skip
        found.append({"head": head, "rows": rows})
        print(head, flush=True)
        for row in rows:
            print(f"{row['rule']:34} cost {row['cost']:6.2f} saves {_points(row['saving'])} % "
                  f"drop {_points(row['drop'], 2)} cheaper than AC by "
                  f"{_points(row['cheaper_than_ac'])} %", flush=True)  # fmt: skip
    return found


def _by_sample(weight: float, strong: str):
    from suffice.recipes.calibrate.play import TokenWeights  # noqa: PLC0415

    return TokenWeights(((strong, weight),), by_sample=True)


def _points(triple: list[float], digits: int = 1) -> str:
    value, low, high = (f"{100 * each:.{digits}f}" for each in triple)
    return f"{value} [{low}, {high}]"


def _coin(orders, strong_right, weight: float) -> float | None:
    """Cost of a coin between one pool sample and the strong arm, as accurate as the whole vote."""
    one = float(np.mean([v.right[:, 0].mean() for v in orders]))
    vote = float(np.mean([v.right[:, -1].mean() for v in orders]))
    strong = float(strong_right.mean())
    if strong <= vote:
        return None
    share = (vote - one) / (strong - one)
    return (1 - share) * 1.0 + share * weight


def _split(  # noqa: PLR0917 - one caller, all of it in hand
    split: int, orders, esc, strong: Strong, rules: Rules, tally: dict
) -> None:
    n = len(strong.right)
    _FITTED.clear()
    shuffled = np.random.default_rng(split).permutation(n)
    half = n // 2
    fit, certify, test = shuffled[: half // 2], shuffled[half // 2 : half], shuffled[half:]
    votes = orders[split % ORDERS]
    tested = votes.at(test)
    full = tested.right[:, -1]
    rows = np.arange(len(test))

    def simple(name: str, stop) -> None:
        rules.add(name, test, stop, tested.right[rows, stop - 1], full)

    simple(REFERENCE, tested.stop(0.95, None, 4))
    simple("esc, window 5", esc[split % ORDERS][test])
    rules.add("always strong", test, strong.cost[test], strong.right[test], full)
    for name, behind in (("vote table alone", None), ("vote table > strong", strong)):
        part, of_certify, of_test = (
            SamplerPart(
                votes.at(index), np.zeros(len(index), dtype=np.int64), votes.right[index, -1],
                np.full(len(index), float(CAP)), None if behind is None else behind.at(index),
                tuple(v.at(index) for v in orders) if index is fit else (),
            )
            for index in (fit, certify, test)
        )  # fmt: skip
        for limit in (0.001, 0.01, 0.02):
            config = CalibrateConfig(max_drop=limit)
            path = lay_path(part, part.safe_cost, 1, net=True, steps=12, limit=limit)
            shown = shown_steps([of_certify.step(setting) for setting in path], config)
            label = f"{name}, certified at {100 * limit:g}"
            counts = tally.setdefault(label, [0, 0])
            counts[0] += bool(shown)
            if not shown:
                rules.add(label, test, float(CAP), full, full)
                continue
            step = of_test.step(path[shown - 1])
            right = (full & ~step.harmed) | step.helped
            rules.add(label, test, step.cost, right, full)
            counts[1] += bool(full.mean() - right.mean() > limit)
        both = np.concatenate((fit, certify))
        table = _tuned(orders, both, behind, 0.001)
        stop, given = stops_of(table, tested)
        right = np.where(given, strong.right[test], tested.right[rows, stop - 1])
        rules.add(f"{name}, tuned to .1", test, stop + given * strong.cost[test], right, full)


def _tuned(orders, index, strong: Strong | None, limit: float):
    """The cheapest table that loses at most `limit` on the questions it is fitted on.

    With one standard error to spare, as the tuned rules of benchmarks/certify.py.
    """
    some = tuple(votes.at(index) for votes in orders)
    behind = None if strong is None else strong.at(index)
    reference = np.mean([votes.right[:, -1] for votes in some], axis=0)
    best, least = None, np.inf
    for price in PRICES:
        table = remembered(some, reference, CAP * price, behind)
        right, cost = np.zeros(len(index)), 0.0
        for votes in some:
            stop, given = stops_of(table, votes)
            got = votes.right[np.arange(len(index)), stop - 1]
            if behind is not None:
                got = np.where(given, behind.right, got)
                cost += float((given * behind.cost).mean())
            right += got / len(some)
            cost += float(stop.mean())
        lost = reference - right
        error = lost.std(ddof=1) / np.sqrt(len(lost))
        if best is None or (lost.mean() + error <= limit and cost < least):
            best, least = table, cost
    return best


def _rates(tally: dict, splits: int) -> dict:
    found = {}
    for name, (shown, over) in tally.items():
        rate = clopper_pearson(over, splits, 0.95)
        found[name] = {"certified": shown, "over_on_test": over, "rate": [rate.low, rate.high]}
    return found


def own(path: Path, draws: int) -> list[dict]:
    """Rules on the set with token confidences: tokens, accuracy, paired with Adaptive-Consistency.

    `draws` orders of the 16 samples of every question.
    """
    traces = read_traces(path)
    config = ReplayConfig(draws=draws)
    played = {
        text: replay_traces(traces, parse_policy(text), config)
        for text in (
            "self_consistency:samples=16", "adaptive_consistency:max_samples=16",
            "esc:max_samples=16", "two_sided:max_samples=16,hopeless=.25,patience=8",
            "deepconf:max_samples=16,warmup=8,parallel=4,keep=.9",
            "deepconf:max_samples=16,warmup=8,parallel=4,keep=.1",
            "deepconf_offline:samples=16,keep=.9",
        )
    }  # fmt: skip
    n = len(traces.questions)
    vote, ac = (list(played.values())[i] for i in (0, 1))

    def by_question(found, name: str) -> np.ndarray:
        questions = found.column("question").astype(int)
        return np.bincount(questions, found.column(name), n) / draws

    rows = []
    for text, found in played.items():
        tokens, right = by_question(found, "tokens"), by_question(found, "correct")
        full, base = by_question(vote, "tokens"), by_question(ac, "tokens")
        saving = ratio_interval(full - tokens, full)
        drop = ratio_interval(by_question(vote, "correct") - right, np.ones(n))
        cheaper = ratio_interval(base - tokens, base)
        rows.append({
            "rule": text, "tokens": float(tokens.mean()), "accuracy": float(right.mean()),
            "saving": [saving.estimate, saving.low, saving.high],
            "drop": [drop.estimate, drop.low, drop.high],
            "cheaper_than_ac": [cheaper.estimate, cheaper.low, cheaper.high],
        })  # fmt: skip
        print(f"{text:58} {rows[-1]['tokens']:6.0f} tokens, {100 * right.mean():.1f} % right, "
              f"saves {_points(rows[-1]['saving'])}, drop {_points(rows[-1]['drop'])}",
              flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=("pools", "own"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/runtime"))
    parser.add_argument("--traces", type=Path, default=Path("data/traces/stepwise.parquet"))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--weight", type=float, default=25.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began = time.process_time()
    if options.part == "pools":
        rows = pools(options.data / "zeroeval_matrix", options.splits, options.weight)
    else:
        rows = own(options.traces, options.draws)
    print(f"{time.process_time() - began:.0f} CPU s")
    if options.out is not None:
        command = f"benchmarks/savings.py {options.part}"
        write_json(options.out, {"command": command, "rows": rows})


if __name__ == "__main__":
    main()
