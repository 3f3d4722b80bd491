"""Writes statsmodels_references.json: what statsmodels makes of the cases in the tests.

    python -m venv refs && refs/bin/pip install statsmodels
    refs/bin/python tests/golden/statsmodels_references.py

statsmodels brings pandas and 150 MB, so its values are kept here rather than itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import statsmodels
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import binom_test, proportion_confint

CASES = [(0, 10), (3, 10), (10, 10), (1, 299), (17, 660), (500, 1319)]
P_VALUES = [
    [0.001, 0.01, 0.02, 0.04, 0.2],
    [0.04, 0.04, 0.0101, 0.9],
    [0.012, 0.0126, 0.025, 0.06],
    [0.3, 0.0001],
]


def main() -> None:
    found = {
        "statsmodels": statsmodels.__version__,
        "clopper_pearson": [
            [count, n, level, *map(float, proportion_confint(count, n, 1 - level, "beta"))]
            for count, n in CASES
            for level in (0.9, 0.95, 0.99)
        ],
        "wilson": [
            [count, n, *map(float, proportion_confint(count, n, 0.05, "wilson"))]
            for count, n in CASES
        ],
        "binomial": [
            [count, n, 0.02, *(float(binom_test(count, n, 0.02, side)) for side in
                               ("smaller", "larger"))]
            for count, n in CASES
        ],
        "bonferroni": [
            [values, [bool(x) for x in multipletests(values, 0.05, "bonferroni")[0]]]
            for values in P_VALUES
        ],
    }  # fmt: skip
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
