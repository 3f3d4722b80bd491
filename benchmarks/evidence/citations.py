"""Do the papers that the questions cite say what they are cited for? Counted, nothing is run.

    python benchmarks/evidence/citations.py --out citations.json

data/evidence/citations.toml lists each citation with what it is cited for and what the paper is
about by its title and abstract; a date is checked against the month in the id.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from suffice.core.files import read_toml, write_json


def of_place(rows: list[dict[str, Any]]) -> dict[str, Any]:
    wrong = [row["id"] for row in rows if row["cited_for"] not in row["about"]]
    dates = [row for row in rows if "dated" in row]
    misdated = [row["id"] for row in dates if row["dated"] != f"20{row['id'][:2]}-{row['id'][2:4]}"]
    return {
        "cited": len(rows), "wrong": len(wrong), "wrong_ids": wrong,
        "dated": len(dates), "misdated": len(misdated),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--list", type=Path, default=Path("data/evidence/citations.toml"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = read_toml(given.list, what="citations")[0]["citation"]
    places = dict.fromkeys(row["place"] for row in rows)
    found = {place: of_place([row for row in rows if row["place"] == place]) for place in places}
    found["all"] = of_place(rows)
    write_json(given.out, found)


if __name__ == "__main__":
    main()
