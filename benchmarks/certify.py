"""Random halves of recorded questions: certificates, plain rules beside them, and the plug-in.

    python benchmarks/certify.py splits --splits 200 --set gsm crux votes-gsm

Calibrate on one half, look at the other: violations, power, saving (halves.py holds the sets;
without --set all of them). votes-codet and votes-game24 need --data with the published samples.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from halves import SETS, splits

from suffice.core.errors import InputError, NothingFeasible
from suffice.core.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=("splits",))
    parser.add_argument("--data", type=Path, default=Path("data/recorded"))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--set", nargs="+", choices=SETS, default=list(SETS), dest="sets")
    parser.add_argument("--out", type=Path, default=Path("results/certify"))
    options = parser.parse_args()
    for name in options.sets:
        command = f"splits --splits {options.splits} --set {name}"
        began = time.process_time()
        try:
            rows = splits(options.data, options.splits, name)
        except (InputError, NothingFeasible) as error:
            print(f"{command}: {error}")
            continue
        print(f"{command}: {time.process_time() - began:.0f} CPU s", flush=True)
        write_json(options.out / f"splits-{name}.json",
                   {"command": f"benchmarks/certify.py {command}", "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
