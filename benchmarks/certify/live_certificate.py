"""Live certificates: are they ever false, how soon are they there, how soon are they taken back?

    python benchmarks/certify/live_certificate.py validity changes speed --out results/live/certificate.json

validity  2,000 streams of every world of tests/recipes/live/worlds.py, one window of evidence each:
          certificates that were false, against δ by the exact binomial
changes   2,000 streams that are certified at a rate of 2.1 %, then lose 5 points more: shadowed
          requests to the demotion; and unchanged ones: false demotions by shadowed request
speed     recorded public answers as traffic (two small models agree, else the large one): shadowed
          requests to the certificate, with and without labels, beside exact tests of a number of
          rows that is fixed beforehand

Parts that OUT holds already are kept unless they are named. All randomness is seeded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recorded import comparable, zeroeval
from scipy.special import chdtri

from suffice.core.files import write_json
from suffice.evals.statistics.binomial import at_least_p_value, at_most_p_value, clopper_pearson
from suffice.evals.statistics.paired import Pairs, drop_p_value
from suffice.policies.live.state import LiveRule
from suffice.recipes.live.streams import Streams

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.recipes.live.worlds import WORLDS, try_world

Rows = list[dict[str, Any]]
STREAMS = 2000
DELTA = 0.05


def validity(streams: int) -> Iterator[dict[str, Any]]:
    print(f"{'traffic':44} promoted   false   of 5 %, exact p")
    for number, world in enumerate(WORLDS):
        began = time.process_time()
        requests = 4000 if world.share is None else 6400
        found = try_world(world, streams=streams, requests=requests, seed=number)
        p_value = at_least_p_value(found.false, streams, DELTA)
        low, high = _rate(found.false, streams)
        print(
            f"{world.name:44} {found.promoted / streams:8.3f} {found.false / streams:7.4f}   "
            f"[{low:.4f}, {high:.4f}], p {p_value:.2g} "
            f"{'keeps' if p_value >= 0.01 else 'BREAKS'}"
            f"{'' if world.keeps else ' (the contrast)'} ({time.process_time() - began:.0f} s)",
            flush=True,
        )
        yield {
            "traffic": world.name, "streams": streams, "requests": requests,
            "promoted": found.promoted, "false": found.false, "rate": [low, high],
            "allowed": DELTA, "p_value": p_value, "keeps": p_value >= 0.01,
            "expected_to_keep": world.keeps,
        }  # fmt: skip


def _rate(count: int, n: int) -> tuple[float, float]:
    found = clopper_pearson(count, n, 0.95)
    return found.low, found.high


BASE, RISE = 0.021, 0.05
# (run length, shadowed requests between certificate and change)
CHANGES = ((1000, 0), (1000, 500), (1000, 2000), (2000, 500), (5000, 500))
# (rate before, run length) of unchanged traffic
UNCHANGED = ((0.005, 1000), (0.021, 1000), (0.04, 1000), (0.021, 2000), (0.021, 5000))


def changes(streams: int) -> Iterator[dict[str, Any]]:
    for number, (run_length, later) in enumerate(CHANGES):
        rule = LiveRule(share=1.0, share_after=1.0, run_length=run_length)
        run = _until_demoted(rule, streams, BASE, BASE + RISE, later, 5000 + later, number)
        yield _told(run.row() | {"run_length": run_length, "change_after": later, "share": "all"})
    for number, (rate, run_length) in enumerate(UNCHANGED):
        rule = LiveRule(share=1.0, share_after=1.0, run_length=run_length)
        run = _until_demoted(rule, streams, rate, rate, None, 6000, 100 + number)
        yield _told(run.unchanged_row() | {"rate": rate, "run_length": run_length})
    # In requests of clients, with the shares as they are by default, and with a share that stays.
    for name, rule in (
        ("5 %, 25 % on suspicion", LiveRule(run_length=1000)),
        ("5 % always", LiveRule(run_length=1000, share=0.05)),
        ("25 % always", LiveRule(run_length=1000, share=0.25, share_after=0.25)),
    ):
        run = _until_demoted(rule, streams // 8, BASE, BASE + RISE, 500, 25_000, 200)
        yield _told(run.row() | {"run_length": 1000, "change_after": 500, "share": name})


@dataclass
class Run:
    """By stream: shadowed and all requests from the change to the demotion; -1: not within."""

    shadowed: np.ndarray
    requests: np.ndarray
    early: np.ndarray  # demoted before the change
    exposure: int  # shadowed requests, of all streams, while certified and unchanged
    alarms: int  # demotions meanwhile

    def row(self) -> dict[str, Any]:
        late = ~self.early
        shadowed = np.where(self.shadowed < 0, np.inf, self.shadowed)[late]
        requests = np.where(self.requests < 0, np.inf, self.requests)[late]
        return {
            "from": BASE, "to": BASE + RISE, "streams": len(self.early),
            "demoted_before_the_change": int(self.early.sum()),
            "shadowed": _quantiles(shadowed), "requests": _quantiles(requests),
        }  # fmt: skip

    def unchanged_row(self) -> dict[str, Any]:
        """Exact Poisson interval of the rate, turned into run lengths."""
        low = self.exposure / (0.5 * chdtri(2 * self.alarms + 2, 0.025))
        high = self.exposure / (0.5 * chdtri(2 * self.alarms, 0.975)) if self.alarms else None
        return {"streams": len(self.early), "shadowed_requests": self.exposure,
                "demotions": self.alarms, "run_length_measured": [low, high]}  # fmt: skip


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    ordered = np.sort(values)
    if not len(ordered):
        return {"median": None, "p90": None}
    found = {"median": ordered[len(ordered) // 2], "p90": ordered[int(0.9 * len(ordered))]}
    return {name: None if np.isinf(value) else float(value) for name, value in found.items()}


def _until_demoted(  # noqa: PLR0917 - its callers have all of it in hand
    rule: LiveRule, streams: int, before: float, afterwards: float, later: int | None,
    requests: int, seed: int,
) -> Run:  # fmt: skip
    """Change the rate `later` shadowed requests after each stream's certificate."""
    rng = np.random.default_rng(seed)
    found = Streams(rule, streams)
    count = np.zeros(streams, dtype=np.int64)  # shadowed since the certificate
    certified = np.zeros(streams, dtype=bool)
    changed_at = np.full(streams, -1)
    since = np.zeros(streams, dtype=np.int64)  # shadowed since the change
    took = np.full((2, streams), -1)
    early = np.zeros(streams, dtype=bool)
    exposure = alarms = 0
    for i in range(requests):
        changed = changed_at >= 0
        differs = rng.random(streams) < np.where(changed, afterwards, before)
        shadowed = rng.random(streams) < found.share
        exposure += int((certified & ~changed & ~early & shadowed).sum())
        on, off = found.see(
            differs[None], rng.random(streams), share=found.share, shadowed=shadowed
        )
        count += shadowed & certified
        since += shadowed & changed
        gone = off[0] & certified & ~early & (took[0] < 0)
        alarms += int((gone & ~changed).sum())
        early |= gone & ~changed
        took[0] = np.where(gone & changed, since, took[0])
        took[1] = np.where(gone & changed, i + 1 - changed_at, took[1])
        certified |= on[0]
        if later is not None:
            due = certified & (count >= later) & (changed_at < 0) & ~early
            changed_at = np.where(due, i + 1, changed_at)
        if (early | (took[0] >= 0)).all():
            break
    early |= (changed_at < 0) & (later is not None)  # never certified in time: none is expected
    return Run(took[0], took[1], early, exposure, alarms)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(row), flush=True)
    return row


LLAMA, GEMMA, QWEN = "Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it", "Qwen2.5-32B-Instruct"
FOUR_O, MINI, O1 = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "o1-mini-2024-09-12"
POOLS = (
    ("gsm", (LLAMA, GEMMA), FOUR_O, (0.05, 0.03, 0.02)),
    ("crux", (MINI, QWEN), O1, (0.1, 0.05)),
    ("math-l5", (LLAMA, GEMMA), FOUR_O, (0.1, 0.05)),
)
LONGEST = 8000


def speed(folder: Path, streams: int) -> Iterator[dict[str, Any]]:
    for number, (task, small, large, targets) in enumerate(POOLS):
        differs, harmed, helped = compared(folder, task, small, large)
        losses = {
            "differ": differs.astype(float), "harm": harmed.astype(float),
            "drop": harmed.astype(float) - helped,
        }  # fmt: skip
        for target in targets:
            for kind, loss in losses.items():
                row = {
                    "task": task, "small": list(small), "large": large, "questions": len(differs),
                    "target": target, "loss": kind, "mean": float(loss.mean()),
                }  # fmt: skip
                row["live"] = _live(loss, differs, target, streams, number)
                # Rows that an exact test needs, fixed beforehand; half as many again are offline's.
                powers = (("median", 0.5), ("p90", 0.9))
                if kind == "drop":
                    rates = float(harmed.mean()), float(helped.mean())
                    row["fixed_rows"] = {n: rows_for_drop(rates, target, p) for n, p in powers}
                else:
                    rate = float(loss.mean())
                    row["fixed_rows"] = {n: rows_for_power(rate, target, p) for n, p in powers}
                yield _told(row)


def compared(
    folder: Path, task: str, small: tuple[str, ...], large: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By question: the cascade's answer differs, only the large is right, only the cascade is."""
    _, rows = zeroeval(folder, [task])
    found = []
    for answers in rows.values():
        if not all(model in answers for model in (*small, large)):
            continue
        said = [_said(answers[model]) for model in (*small, large)]
        differs = said[0] is not None and len(set(said[:-1])) == 1 and said[0] != said[-1]
        ours, theirs = (answers[model]["correct"] == "1" for model in (small[0], large))
        found.append((differs, differs and theirs and not ours, differs and ours and not theirs))
    return tuple(np.array(found).T)


def _said(row: dict[str, str]) -> str | None:
    return None if row["no_answer"] == "1" else comparable(row["answer"])


def _live(
    loss: np.ndarray, differs: np.ndarray, target: float, streams: int, seed: int
) -> dict[str, Any]:
    """Questions drawn with replacement until the certificate; all of them shadowed."""
    rng = np.random.default_rng(seed)
    rule = LiveRule(target=target, share=1.0, window=LONGEST, share_after=1.0, run_length=10**9)
    found = Streams(rule, streams)
    took = np.full(streams, np.inf)
    for i in range(LONGEST - 1):
        at = rng.integers(len(loss), size=streams)
        on, _ = found.see(differs[at][None], rng.random(streams), losses=loss[at][None])
        took[on[0]] = i + 1
        if np.isfinite(took).all():
            break
    return {"streams": streams, "certified": int(np.isfinite(took).sum()), "within": LONGEST,
            **_quantiles(took)}  # fmt: skip


def rows_for_power(rate: float, target: float, power: float) -> int | None:
    """Least n from which an exact test of n rows certifies with at least this probability."""
    from scipy.stats import binom  # noqa: PLC0415 - slow to import, and only here

    if rate >= target:
        return None
    for n in range(20, 20_000):
        most = int(binom.ppf(DELTA, n, target))
        while most >= 0 and at_most_p_value(most, n, target) > DELTA:
            most -= 1
        if most >= 0 and binom.cdf(most, n, rate) >= power:
            return n
    return None


def rows_for_drop(rates: tuple[float, float], target: float, power: float) -> int | None:
    """Least n at which calibrate's paired test of the net loss certifies with this probability.

    `rates`: harmed, helped. By 1,000 draws at each n.
    """
    rng = np.random.default_rng(0)
    known: dict[tuple[int, int, int], bool] = {}
    for n in (*range(40, 400, 4), *range(400, 3000, 40)):
        certified = 0
        for harmed, helped, _ in rng.multinomial(n, [*rates, 1.0 - sum(rates)], size=1000):
            key = (n, int(harmed), int(helped))
            if key not in known:
                pairs = Pairs(n=n, harmed=key[1], helped=key[2])
                known[key] = drop_p_value(pairs, target) <= DELTA
            certified += known[key]
        if certified >= 1000 * power:
            return n
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="+", choices=("validity", "changes", "speed"))
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--data", type=Path, default=Path("zeroeval_matrix"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    held: dict[str, Any] = {"rule": asdict(LiveRule())}
    if options.out is not None and options.out.exists():
        held = json.loads(options.out.read_text())
    for part in options.parts:
        run = {"validity": validity, "changes": changes}.get(part)
        rows = speed(options.data, options.streams) if run is None else run(options.streams)
        command = f"benchmarks/certify/live_certificate.py {part} --streams {options.streams}"
        held[part] = {"command": command, "rows": list(rows)}
        if options.out is not None:
            write_json(options.out, held)


if __name__ == "__main__":
    main()
