"""Speed and memory of the NumPy runtime on one thread: CPU seconds a token, start-up, resident set.

    python benchmarks/runtime/nano_runtime.py [MODEL_FOLDER]

Without a folder it is the model that ships. Times are the least of
several repeats of CPU time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from suffice.backends.nano.backend import shipped_folder  # noqa: E402
from suffice.backends.nano.runtime import NanoModel, greedy  # noqa: E402


def least_s(run: object, repeats: int = 7) -> float:
    """Least CPU time of a call."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        run()  # type: ignore[operator]
        best = min(best, time.process_time() - started)
    return best


def main() -> None:
    """Print one JSON line."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_folder()
    load_s = least_s(lambda: NanoModel(folder), 3)
    model = NanoModel(folder)
    ids = model.vocabulary.prompt("3bfacd")
    prefill_s = least_s(lambda: model.advance(ids, model.start()))
    tokens = 100

    def decode() -> None:
        cache = model.start(128)
        model.advance(ids, cache)
        for _ in range(tokens):
            model.advance([9], cache)

    decode_s = (least_s(decode) - prefill_s) / tokens
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "parameters": model.parameters,
                "load_s": round(load_s, 5),
                "prefill_8_tokens_s": round(prefill_s, 6),
                "decode_s_per_token": round(decode_s, 6),
                "decode_tokens_per_s": round(1 / decode_s),
                "resident_bytes": kib * 1024,
                "sample": greedy(model, ids, max_tokens=4),
                "numpy": np.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
