"""Are certificates true where a judge errs? Simulated judges of free text, thousands of gateways.

    python benchmarks/certify/text_judge.py

In every gateway the candidate is worse exactly as often as the target, or a little more. A judge
with a true sensitivity by kind of loss is measured on planted pairs anew in each; then the
gateway's rule runs over requests whose losses are of the kind that the judge notices least. Beside:
the same without carrying the judge's mistakes into the rule. Result: results/live/text-judge.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from suffice.core.errors import InputError
from suffice.core.files import write_json
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.evals.text_judge import KindCount, MeasuredJudge, split
from suffice.gateway.certificates.live_ways import judged_rule
from suffice.policies.live.evidence import BETS, PARTS
from suffice.policies.live.state import LiveRule

REQUESTS = 4000  # a window
PAIRS = 100  # planted of each kind


def run(worse: float, notices: tuple[float, ...], blames: float, streams: int, seed: int) -> Any:
    """Share of gateways that were ever certified: with the judge carried, and without."""
    rng = np.random.default_rng(seed)
    rule = LiveRule()
    target, reach, low = np.zeros(streams), np.zeros(streams), np.zeros(streams)
    for stream in range(streams):
        found = {
            str(kind): KindCount(n=PAIRS, worse=int(rng.binomial(PAIRS, sensitivity)))
            for kind, sensitivity in enumerate(notices)
        }
        judge = MeasuredJudge(model="simulated", noticed=found)
        low[stream] = judge.sensitivity(split(rule.confidence)[0])
        try:
            judged = judged_rule(rule, judge)
        except InputError:  # it is refused: nothing is ever certified
            target[stream], reach[stream] = rule.target, np.inf
            continue
        target[stream], reach[stream] = judged.target, judged.reach
    chance = worse * min(notices) + (1.0 - worse) * blames
    ever = [np.zeros(streams, dtype=bool), np.zeros(streams, dtype=bool)]
    first = np.full(streams, np.inf)
    rules = ((target, reach), (np.full(streams, rule.target), np.full(streams, rule.reach)))
    logs = [np.tile(np.log(PARTS)[:, None], (1, streams)) for _ in rules]
    bets = np.array(BETS)[:, None]
    for number in range(REQUESTS):
        x = rng.random(streams) < chance
        for which, (aim, needed) in enumerate(rules):
            logs[which] += np.log1p(bets / (1.0 - aim) * (aim - x))
            ever[which] |= np.logaddexp.reduce(logs[which], axis=0) >= needed
        first = np.where(ever[0] & np.isinf(first), number + 1, first)
    return {
        "worse": worse, "notices": list(notices), "blames": blames, "gateways": streams,
        "measured_at_least": float(np.median(low)), "refused": int(np.isinf(reach).sum()),
        "certified": int(ever[0].sum()), "certified_blindly": int(ever[1].sum()),
        "median_requests": float(np.median(first)) if ever[0].mean() > 0.5 else None,
    }  # fmt: skip


def main() -> None:
    """Run every kind of judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("results/live/text-judge.json"))
    given = parser.parse_args()
    cases = [
        (worse, notices, blames)
        for notices, blames in (((0.95,), 0.0), ((0.95, 0.8), 0.0), ((0.8, 0.7, 0.9, 0.9), 0.0),
                                ((0.95, 0.8), 0.02))
        for worse in (0.05, 0.055, 0.01, 0.0)
    ]  # fmt: skip
    rows = []
    for seed, (worse, notices, blames) in enumerate(cases):
        row = run(worse, notices, blames, given.gateways, seed)
        rows.append(row)
        share = clopper_pearson(row["certified"], given.gateways, 0.95)
        print(
            f"worse {worse:.1%}, notices {notices}, blames {blames:.0%}: certified "
            f"{share.estimate:.2%} [{share.low:.2%}, {share.high:.2%}], blindly "
            f"{row['certified_blindly'] / given.gateways:.1%}, median {row['median_requests']}"
        )
    write_json(given.out, {"requests": REQUESTS, "pairs_of_a_kind": PAIRS, "rows": rows})


if __name__ == "__main__":
    main()
