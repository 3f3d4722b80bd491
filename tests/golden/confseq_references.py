"""Writes confseq_references.json: wealth of betting tests as the package confseq computes it.

    pip download --no-deps --no-binary :all: confseq==0.0.11 && tar xzf confseq-0.0.11.tar.gz
    python -m venv refs && refs/bin/pip install 'numpy<2' scipy pandas matplotlib multiprocess
    PYTHONPATH=confseq-0.0.11/src refs/bin/python tests/golden/confseq_references.py

Its Python modules suffice; the compiled part is not needed. Values in [-1, 1] are mapped to [0, 1],
where confseq works: means and limits alike, variances by a quarter.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from confseq.betting import betting_mart
from confseq.betting_strategies import lambda_predmix_eb

PRIOR_VARIANCE, PRIOR_QUESTIONS, BOLDEST = 0.005, 4, (0.9, 0.999)


def samples() -> dict[str, list[float]]:
    generator = np.random.default_rng(5)
    rates = generator.beta(0.4, 6.0, 150)
    means = generator.binomial(10, rates) / 10 - generator.binomial(10, rates[::-1]) / 10
    pairs = generator.choice([-1.0, 0.0, 1.0], 400, p=[0.03, 0.95, 0.02])
    return {
        "no difference": [0.0] * 160,
        "means of ten": np.round(means, 3).tolist(),
        "pairs": pairs.tolist(),
        "worse": np.round(generator.uniform(-0.5, 1.0, 60), 3).tolist(),
        "one": [0.25],
    }


def wealth(values: list[float], limit: float, alpha: float, boldest: float) -> list[float]:
    x = (np.array(values) + 1.0) / 2.0

    def bets(x: np.ndarray, m: float) -> np.ndarray:
        return lambda_predmix_eb(
            x, alpha=alpha, fixed_n=len(x), prior_mean=0.5, prior_variance=PRIOR_VARIANCE / 4,
            fake_obs=PRIOR_QUESTIONS,
        )  # fmt: skip

    return betting_mart(
        x, (limit + 1.0) / 2.0, alpha=alpha, lambdas_fn_negative=bets, theta=0,
        trunc_scale=boldest, m_trunc=True,
    ).tolist()  # fmt: skip


def main() -> None:
    cases = [
        {"values": name, "limit": limit, "alpha": alpha, "boldest": boldest,
         "largest": max(run), "last": run[-1]}
        for name, values in samples().items()
        for limit in (0.01, 0.02, 0.05, 0.3)
        for alpha in (0.05, 0.01)
        for boldest in BOLDEST
        for run in [wealth(values, limit, alpha, boldest)]
    ]  # fmt: skip
    out = Path(__file__).with_name("confseq_references.json")
    found = {"confseq": "0.0.11", "samples": samples(), "cases": cases}
    out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
