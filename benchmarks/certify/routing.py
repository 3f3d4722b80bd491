"""APGR and CPT of prompt-only routers on RouteLLM's recorded outcomes, 5-fold cross-validation.

python benchmarks/certify/routing.py --out results/certify/routing.json
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from recorded import needed
from routers import cross_validated, length_scores

from suffice.core.files import write_json
from suffice.evals.router_metrics import RoutingCurve

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
# RouteLLM's own baselines by our earlier measurement: length, words (ridge), neighbours, oracle.
KNOWN = {"gsm8k": (0.601, 0.607, 0.580, 1.125), "mmlu": (0.586, 0.678, 0.641, 1.285)}


def load(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(prompts, weak right, strong right) of all tables of a folder."""
    texts, weak, strong = [], [], []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                texts.append(row["prompt"])
                weak.append(row[WEAK] == "True")
                strong.append(row[STRONG] == "True")
    return texts, np.array(weak, float), np.array(strong, float)


def interval(score, weak, strong, draws: int = 500) -> tuple[float, float]:
    """95 % of APGR over resampled questions."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        pick = generator.integers(len(score), size=len(score))
        found.append(RoutingCurve.of(score[pick], weak[pick], strong[pick]).apgr)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/recorded"))
    parser.add_argument("--sets", nargs="+", default=["gsm8k", "mmlu"])
    parser.add_argument("--out", type=Path, default=Path("results/certify/routing.json"))
    options = parser.parse_args()
    rows = []
    for name in options.sets:
        texts, weak, strong = load(needed(options.data / f"routellm_{name}"))
        print(f"{name}: {len(texts)} questions, weak {weak.mean():.4f}, strong {strong.mean():.4f}")
        generator = np.random.default_rng(0)
        scores = {
            "random": generator.random(len(texts)),
            "length": length_scores(texts),
            "oracle": strong - weak,
        }
        for router in ("words", "neighbours", "ours"):
            began = time.process_time()
            scores[router] = cross_validated(router, texts, weak, strong)
            print(f"  fitted {router} in {time.process_time() - began:.0f} CPU s", flush=True)
        for router, score in scores.items():
            curve = RoutingCurve.of(score, weak, strong)
            low, high = interval(score, weak, strong)
            row = {"set": name, "router": router, "apgr": curve.apgr, "low": low, "high": high,
                   "cpt50": curve.cpt(0.5), "cpt80": curve.cpt(0.8)}  # fmt: skip
            rows.append(row)
            told = f"CPT50 {100 * row['cpt50']:.0f} CPT80 {100 * row['cpt80']:.0f}"
            print(
                f"  {router:10} APGR {curve.apgr:.3f} [{low:.3f}, {high:.3f}]  {told}", flush=True
            )
    write_json(options.out, {"baselines_known": KNOWN, "rows": rows})


if __name__ == "__main__":
    main()
