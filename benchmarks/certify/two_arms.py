"""Votes of a small model, a large one behind it, with the confidence of every token: all stopping
rules on the same traces in one run.

    python benchmarks/certify/two_arms.py train --out arms              # about 10 minutes, one core
    python benchmarks/certify/two_arms.py record --arms arms --out data/traces/two-arms.parquet   # about 20
    python benchmarks/certify/two_arms.py compare --out results/certify/two-arms.json   # about 20

train    two models of the mode tasks from nothing: 0.1M parameters, stopped while it still errs at
         arithmetic, and 1.2M, which errs nowhere; both think
record   40 samples of the small and two of the large model for every held-out puzzle of four, five
         and six steps, temperature 1, seeded
compare  saving against the vote of 40 and against Adaptive-Consistency, in tokens of the small
         model; a token of the large one costs as many as its parameters are more. The certified
         rule is calibrated on random halves and played on the others. The traces are committed
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suffice.backends.nano.backend import NanoBackend
from suffice.backends.nano.weights import weights_sha256
from suffice.core.errors import InputError, NothingFeasible
from suffice.core.files import write_json
from suffice.core.prices import Prices, TokenPrice
from suffice.core.requests import Sampling
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.traces.files import of_questions, read_traces
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.policy_of_file import certified_policy
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.chains import unanimous
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.run import calibrate
from suffice.recipes.modes.items import item_of
from suffice.recipes.modes.train import NanoTraining, train_nano
from suffice.recipes.record.config import RecordConfig
from suffice.recipes.record.run import record
from suffice.recipes.replay.run import ReplayConfig, Replayed, replay_traces
from suffice.tasks.puzzles import Mixture
from suffice.throughput.pricing import cost_model
from suffice.training.modes.settings import Routing, WarmUp

TASKS = ("chain", "logic", "arithmetic")
STEPS = (4, 5, 6)
PER_CELL = 234
SMALL, LARGE = "small-think", "large-think"
SAMPLES = {"small": 40, "large": 2}
NO_ROUTING = Routing(method="gate", steps=1, fold_steps=0)  # both always think here
ARMS = {
    "small": NanoTraining(
        tasks=("chain", "arithmetic", "logic"), parameters=1e5, warm_up=WarmUp(steps=800),
        routing=NO_ROUTING,
    ),
    "large": NanoTraining(
        tasks=("chain", "arithmetic", "logic"), parameters=1.2e6, layers=4,
        warm_up=WarmUp(steps=700), routing=NO_ROUTING,
    ),
}  # fmt: skip
VOTE = f"self_consistency:samples=40@{SMALL}"
AC = f"adaptive_consistency:threshold=.95,max_samples=40,scatter=none@{SMALL}"
RULES = {
    "vote of 40": VOTE,
    "always large": f"single@{LARGE}",
    "one sample of the small": f"single@{SMALL}",
    "Adaptive-Consistency, .95": AC,
    "two agree, else large": f"{unanimous(2)}@{SMALL} > single@{LARGE}",
    "three agree, else large": f"{unanimous(3)}@{SMALL} > single@{LARGE}",
    "ESC, window 5": f"esc:window=5,max_samples=40@{SMALL}",
    "DeepConf online, keep .9": f"deepconf:max_samples=40,warmup=16,keep=.9@{SMALL}",
    "DeepConf online, keep .1": f"deepconf:max_samples=40,warmup=16,keep=.1@{SMALL}",
    "DeepConf offline, keep .9": f"deepconf_offline:samples=40,keep=.9@{SMALL}",
}
REFERENCE, BASE = "vote of 40", "Adaptive-Consistency, .95"
# (largest drop, scope) that is certified on each set: what so many questions can show at all.
CERTIFIED = {"all": ((0.01, "overall"), (0.03, "group"))}
ALONE = ((0.02, "overall"),)
SPREAD = (0.05, 0.5, 0.95)


def train(out: Path) -> None:
    """Both arms; what is finished is left as it is."""
    for name, config in ARMS.items():
        began_s = time.perf_counter()
        train_nano(config, out / name, evaluated_per_cell=20)
        backend = NanoBackend(out / name, name=name)
        print(f"{name}: {backend.parameters:,} parameters, {time.perf_counter() - began_s:.0f} s")


async def draw(arms: Path, out: Path) -> None:
    """Resumable: a second call draws what the file lacks."""
    mixture = Mixture(tasks=TASKS, difficulties=STEPS)
    cells = mixture.distinct(PER_CELL, seed=17, split="held_out").values()
    items = [item_of(problem, problem.task) for cell in cells for problem in cell]
    backends = {name: NanoBackend(arms / name, name=name) for name in SAMPLES}
    source = "; ".join(
        f"{name}: {backend.parameters} parameters, weights {weights_sha256(arms / name)[:12]}"
        for name, backend in backends.items()
    )
    for name, samples in SAMPLES.items():
        config = RecordConfig(
            samples=samples,
            model=f"{name}-think",
            sampling=Sampling(temperature=1.0, max_tokens=40, top_logprobs=20, seed=0),
            description="a small and a large model on the same puzzles, both thinking",
            licence="CC0-1.0",
            source=source,
            server="suffice, embedded runtime",
        )
        began_s = time.perf_counter()
        found = (await record(items, backends[name], out, config)).progress
        share = found.correct / max(1, found.judged)
        print(f"{name}: {found.drawn} samples, {share:.1%} right, "
              f"{time.perf_counter() - began_s:.0f} s")  # fmt: skip


@dataclass
class ByQuestion:
    """Cost and right answers of a rule, summed by question over its plays."""

    cost: np.ndarray
    right: np.ndarray
    plays: np.ndarray

    @classmethod
    def empty(cls, n: int) -> ByQuestion:
        return cls(*(np.zeros(n) for _ in range(3)))

    def add(self, questions: np.ndarray, played: Replayed) -> None:
        """A replay of some questions, given by their codes in the whole set."""
        at = questions[played.column("question").astype(int)]
        np.add.at(self.cost, at, played.column("usd"))  # tokens of the small model
        np.add.at(self.right, at, played.column("correct"))
        np.add.at(self.plays, at, 1.0)


class Comparison:
    """One set of questions; every rule is played on all, the certified one on test halves."""

    def __init__(self, traces: TraceSet, ratio: float, draws: int, splits: int) -> None:
        self.traces, self.ratio, self.draws, self.splits = traces, ratio, draws, splits
        self.n = len(traces.questions)
        price = {SMALL: TokenPrice(prompt_usd=0, completion_usd=1e6),
                 LARGE: TokenPrice(prompt_usd=0, completion_usd=1e6 * ratio)}  # fmt: skip
        self.cost_model = cost_model(price)
        self.found: dict[str, ByQuestion] = {}
        self.notes: dict[str, dict] = {}

    def play(self, traces: TraceSet, policy, draws: int, seed: int = 0) -> Replayed:
        config = ReplayConfig(draws=draws, seed=seed)
        return replay_traces(traces, policy, config, cost_model=self.cost_model)

    def rules(self) -> None:
        everyone = np.arange(self.n)
        for name, text in RULES.items():
            sums = self.found[name] = ByQuestion.empty(self.n)
            sums.add(everyone, self.play(self.traces, parse_policy(text), self.draws))

    def certified(self, limit: float, scope: str) -> None:
        """Calibrate on one half, play on the other; a half that shows nothing keeps the vote."""
        name = f"certified at {100 * limit:g} {scope}, large behind"
        sums = self.found[name] = ByQuestion.empty(self.n)
        shown = over = 0
        refused, costs, drops = "", [], []  # of each calibration on its own test half
        for split in range(self.splits):
            order = np.random.default_rng(split).permutation(self.n)
            halves = np.sort(order[: self.n // 2]), np.sort(order[self.n // 2 :])
            first, second = (of_questions(self.traces, half) for half in halves)
            config = CalibrateConfig(
                max_drop=limit,
                scope=scope,
                baseline=VOTE,
                large=f"single@{LARGE}",
                groups=3 if scope == "group" else None,
                mixed=True,
                seed=split,
                prices=Prices.parse(["*=0/1", f"{LARGE}=0/{self.ratio}"]),
            )
            vote = self.found[REFERENCE]
            try:
                file = calibrate(first, config).file
            except (InputError, NothingFeasible) as error:
                refused = str(error)  # the vote stands
                sums.cost[halves[1]] += (vote.cost / vote.plays)[halves[1]]
                sums.right[halves[1]] += (vote.right / vote.plays)[halves[1]]
                sums.plays[halves[1]] += 1
                costs.append(float((vote.cost / vote.plays)[halves[1]].mean()))
                drops.append(0.0)
                continue
            assert [q.key for q in second.questions] == [
                self.traces.questions[n].key for n in halves[1]
            ]
            played = self.play(second, certified_policy(file, parse_policy), 1, seed=split)
            sums.add(halves[1], played)
            shown += 1
            full = float((vote.right / vote.plays)[halves[1]].mean())
            costs.append(float(played.column("usd").mean()))
            drops.append(full - float(played.column("correct").mean()))
            over += drops[-1] > limit
        rate = clopper_pearson(over, max(1, shown), 0.95)
        self.notes[name] = {"splits": self.splits, "certified": shown, "over_on_test": over,
                            "rate": [rate.low, rate.high], "refusal": refused[:120],
                            "cost_spread": np.quantile(costs, SPREAD).tolist(),
                            "drop_spread": np.quantile(drops, SPREAD).tolist()}  # fmt: skip

    def rows(self, mask: np.ndarray) -> list[dict]:
        """Figures over the questions of `mask`, paired by question."""
        rows = []
        for name, sums in self.found.items():
            keep = mask & (sums.plays > 0)
            mine, vote, base = (
                self._means(self.found[each], keep) for each in (name, REFERENCE, BASE)
            )
            cost, right = (float(each.mean()) for each in mine)
            row = {"rule": name, "questions": int(keep.sum()), "cost": cost, "accuracy": right}
            for key, top, below in (
                ("saving", vote[0] - mine[0], vote[0]),
                ("drop", vote[1] - mine[1], np.ones(keep.sum())),
                ("cheaper_than_ac", base[0] - mine[0], base[0]),
            ):
                interval = ratio_interval(top, below)
                row[key] = [interval.estimate, interval.low, interval.high]
            rows.append(row | self.notes.get(name, {}))
        return rows

    @staticmethod
    def _means(sums: ByQuestion, keep: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(each[keep] / sums.plays[keep] for each in (sums.cost, sums.right))


def compare(  # noqa: PLR0917 - its one caller has all of it in hand
    traces: TraceSet, names: list[str], ratio: float, draws: int, splits: int, say: Callable
) -> list[dict]:
    """The mixture with its parts, and parts calibrated alone."""
    tasks = np.array([question.dataset for question in traces.questions])
    found = []
    for name in names:
        chosen = traces
        if name != "all":
            chosen = of_questions(traces, np.flatnonzero(tasks == name))
        run = Comparison(chosen, ratio, draws, splits)
        run.rules()
        for limit, scope in CERTIFIED.get(name, ALONE):
            run.certified(limit, scope)
        of = np.array([question.dataset for question in chosen.questions])
        parts = {name: np.ones(run.n, dtype=bool)}
        if name == "all":
            parts |= {f"{task} in all": of == task for task in TASKS}
        for part, mask in parts.items():
            rows = run.rows(mask)
            found.append({"set": part, "n": int(mask.sum()), "coin": coin(rows), "rows": rows})
            say(found[-1])
    return found


def coin(rows: list[dict]) -> float | None:
    """Cost of a coin between one small and one large sample, as accurate as the whole vote."""
    by_name = {row["rule"]: row for row in rows}
    one, large = by_name["one sample of the small"], by_name["always large"]
    share = (by_name[REFERENCE]["accuracy"] - one["accuracy"]) / (
        large["accuracy"] - one["accuracy"]
    )
    if not 0 <= share <= 1:
        return None
    return (1 - share) * one["cost"] + share * large["cost"]


def show(part: dict) -> None:
    print(f"\n{part['set']}, {part['n']} questions; coin {part['coin']}")
    for row in part["rows"]:
        note = f"; {row['certified']} of {row['splits']} splits" if "certified" in row else ""
        print(f"  {row['rule']:30} {row['cost']:7.1f} tokens, {100 * row['accuracy']:5.1f} % right,"
              f" drop {_points(row['drop'], 2)}, saves {_points(row['saving'])} %, over AC "
              f"{_points(row['cheaper_than_ac'])} %{note}",
              flush=True)  # fmt: skip


def _points(triple: list[float], digits: int = 1) -> str:
    value, low, high = (f"{100 * each:.{digits}f}" for each in triple)
    return f"{value} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("part", choices=("train", "record", "compare"))
    parser.add_argument("--arms", type=Path, default=Path("arms"))
    parser.add_argument("--traces", type=Path, default=Path("data/traces/two-arms.parquet"))
    parser.add_argument("--ratio", type=float, help="cost of a token of the large model")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=["all", *TASKS])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path, help="default: arms, two-arms.parquet, two-arms.json")
    options = parser.parse_args()
    usual = {"train": "arms", "record": "two-arms.parquet", "compare": "two-arms.json"}
    options.out = options.out or Path(usual[options.part])
    if options.part == "train":
        train(options.out)
    elif options.part == "record":
        asyncio.run(draw(options.arms, options.out))
    else:
        traces = read_traces(options.traces)
        ratio = options.ratio or parameter_ratio(traces)
        rows = compare(traces, options.sets, ratio, options.draws, options.splits, show)
        write_json(options.out, {"command": "benchmarks/certify/two_arms.py compare", "ratio": ratio,
                                 "draws": options.draws, "sets": rows})  # fmt: skip


def parameter_ratio(traces: TraceSet) -> float:
    """Parameters of the large model over those of the small one, as the file's source says."""
    import re  # noqa: PLC0415

    counts = dict(re.findall(r"(small|large): (\d+) parameters", traces.information.source))
    return int(counts["large"]) / int(counts["small"])


if __name__ == "__main__":
    main()
