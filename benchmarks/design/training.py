"""How much of the machine's matrix rate training a rung uses (model FLOPs utilisation).

    python benchmarks/design/training.py [--device cpu|cuda] [--sizes 200K,350K,1M] [--seconds 4]

For each size one shape is trained for a few seconds on random ids, after a warm-up, by the same
step as `suffice ladder run` (on a GPU: bf16, compiled layers, a CUDA graph). Model FLOPs are
6 (N + d V) + 6 L T d_q per token, forward and backward, causal half of the attention; nothing is
added for the optimiser or for what is computed twice. The ceiling is a large matrix product in the
same precision, measured before and after with the same clock. One JSON line per size.

On a CPU one thread is used and processor time is taken, so that neighbours disturb little.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from suffice.architecture.counts import non_embedding_parameters
from suffice.core.quantities import parse_count
from suffice.throughput.ceilings import measure_ceilings
from suffice.training.model import LossFunction, build_model
from suffice.training.optimiser import build_optimiser, initialise
from suffice.training.pretrain.batches import window_order
from suffice.training.pretrain.flops import training_flops
from suffice.training.pretrain.pool import limit_threads
from suffice.training.pretrain.stepper import Stepper
from suffice.training.pretrain.trainer import device_name
from suffice.training.rung import LadderRung, Recipe, ladder_shape

# hidden, MLP, layers, query heads, KV heads; heads of 32 below 10M parameters, of 64 above.
SHAPES = {
    2e5: (96, 256, 2, 2, 2),
    3.5e5: (96, 352, 2, 8, 4),
    1e6: (128, 384, 5, 4, 2),
    5e6: (256, 704, 8, 8, 4),
    2e7: (512, 1408, 7, 8, 4),
}
VOCAB_SIZE = 1024


def rung_of(size: float, tokens: int) -> LadderRung:
    nearest = min(SHAPES, key=lambda known: abs(known - size))
    hidden, mlp, layers, heads, kv_heads = SHAPES[nearest]
    shape = ladder_shape(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=32 if nearest < 1e7 else 64, vocab_size=VOCAB_SIZE,
    )  # fmt: skip
    return LadderRung(shape=shape, tokens=tokens)


def stepper_of(rung: LadderRung, recipe: Recipe, device: torch.device) -> Stepper:
    on_gpu = device.type == "cuda"
    model = build_model(rung.shape)
    initialise(model, recipe, rung.shape.num_hidden_layers, seed=0)
    model.to(device).train()
    ids = torch.randint(0, VOCAB_SIZE, (1 << 20,), dtype=torch.int16, device=device)
    stepper = Stepper(
        model=model,
        optimiser=build_optimiser(model, recipe, 1.0, device),
        loss_of=LossFunction(model, sequence_length=recipe.sequence_length, compiled=on_gpu),
        recipe=recipe,
        ids=ids,
        order=window_order(len(ids), recipe, rung.tokens, 0),
        micro_batch_sequences=128,
    )
    if on_gpu:
        stepper.capture()
    return stepper


def steps_per_s(
    stepper: Stepper, seconds: float, clock: Callable[[], float], device: torch.device
) -> list[float]:
    """Five rates, each over a fifth of `seconds`."""
    stepper.advance(3)
    rates = []
    for _ in range(5):
        steps, begun = 0, now(clock, device)
        while now(clock, device) - begun < seconds / 5:
            stepper.advance(2)
            steps += 2
        rates.append(steps / (now(clock, device) - begun))
        stepper.seek(0)
    return rates


def now(clock: Callable[[], float], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", default="")
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    if not on_gpu:
        limit_threads(1)
    clock: Callable[[], float] = time.perf_counter if on_gpu else time.process_time
    precision: Any = "bf16" if on_gpu else "fp32"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    sizes = arguments.sizes or ("1M,5M,20M" if on_gpu else "200K,350K,1M")
    before = measure_ceilings(device, dtype, clock=clock).matmul_flops_per_s
    lines = []
    for size in sizes.split(","):
        # About 250 steps of a long run: the batch is what a ladder of this size would use.
        tokens = round(5 * parse_count(size))
        recipe = Recipe(precision=precision)
        rung = rung_of(parse_count(size), tokens)
        rates = steps_per_s(stepper_of(rung, recipe, device), arguments.seconds, clock, device)
        batch_tokens = recipe.batch_sequences(tokens) * recipe.sequence_length
        per_token = training_flops(rung, recipe) / recipe.trained_tokens(tokens)
        lines.append((rung, batch_tokens, per_token, rates))
    after = measure_ceilings(device, dtype, clock=clock).matmul_flops_per_s
    ceiling = (before + after) / 2
    for rung, batch_tokens, per_token, rates in lines:
        flops = [rate * batch_tokens * per_token for rate in rates]
        print(json.dumps({
            "case": "training",
            "parameters": int(non_embedding_parameters(rung.shape)),
            "hidden_size": rung.shape.hidden_size,
            "num_hidden_layers": rung.shape.num_hidden_layers,
            "batch_tokens": batch_tokens,
            "tokens_per_s": round(statistics.median(rates) * batch_tokens, 1),
            "model_flops_per_s": round(statistics.median(flops)),
            "utilisation": round(statistics.median(flops) / ceiling, 4),
            "utilisation_range": [round(min(flops) / ceiling, 4), round(max(flops) / ceiling, 4)],
            "matmul_flops_per_s": [round(before), round(after)],
            "precision": precision,
            "clock": "wall" if on_gpu else "cpu",
            "threads": None if on_gpu else 1,
            "device": device_name(arguments.device),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
