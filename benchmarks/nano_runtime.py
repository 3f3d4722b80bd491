"""Speed and memory of the NumPy runtime on one thread: CPU seconds a token, start-up, resident set.

    python benchmarks/nano_runtime.py [MODEL_FOLDER]

Without a folder a random model of suffice-nano's shape is written first. Times are the least of
several repeats of CPU time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from suffice.backends.nano.runtime import NanoModel, greedy  # noqa: E402
from suffice.backends.nano.vocabulary import Vocabulary  # noqa: E402
from suffice.backends.nano.weights import WEIGHTS, expected_shapes, read_config  # noqa: E402
from suffice.training.modes.tasks import ALPHABET  # noqa: E402


def random_model(folder: Path) -> None:
    """A model of the shipped shape with random weights."""
    words = Vocabulary.of(ALPHABET)
    config = {
        "model_type": "llama", "hidden_size": 80, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 10, "num_key_value_heads": 10,
        "head_dim": 16, "vocab_size": len(words), "max_position_embeddings": 256,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(words.to_json())
    rng, header, body = np.random.default_rng(0), {}, b""
    for name, shape in expected_shapes(read_config(folder)).items():
        raw = (0.1 * rng.normal(size=shape)).astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)],
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + body)


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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        if len(sys.argv) == 1:
            random_model(folder)
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
