"""One model that answers in five modalities (`modality_mix`), trained in some minutes on one CPU.

    python benchmarks/evidence/modality_train.py --seed 0 --out run/modality/seed0

OUT/early is the model after a third of the steps, OUT/model at the end; a stopped run goes on. Loss:
cross-entropy of what the model generates in each modality; what programs return is read only.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suffice.architecture.counts import parameter_counts
from suffice.architecture.shape import Shape
from suffice.backends.nano.vocabulary import END, PAD, SHORT, THINK
from suffice.backends.nano.weights import RECORD
from suffice.recipes.modes.folder import save_routed, versions
from suffice.training.model import build_model
from suffice.training.optimiser import build_optimiser, initialise, schedule
from suffice.training.responses import pad
from suffice.training.run_state import RunState, require_finite
from suffice.training.rung import Recipe

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence.modality_mix import (
    KINDS,
    LATENT,
    SOLVER,
    TOOL,
    VOCABULARY,
    Question,
    draw,
    held_out,
    shown,
)

STEPS, EACH, RATE = 1500, 12, 2e-3
PASSES = ((SHORT, LATENT), (THINK,), (TOOL, SOLVER))  # of like length, so that little is padding
SHAPE = Shape(
    hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=3,
    num_key_value_heads=1, head_dim=32, vocab_size=len(VOCABULARY), tie_word_embeddings=False,
    config={"max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
)  # fmt: skip


def batch_at(seed: int, step: int) -> list[Question]:
    """EACH questions of every kind, the same for the same seed and step."""
    rng, found = random.Random(f"{seed}/{step}"), []
    for kind in KINDS:
        while True:
            question = draw(kind, rng)
            if not held_out(question):
                found.append(question)
                if len(found) % EACH == 0:
                    break
    return found


def rows(questions: Sequence[Question], modalities: Sequence[str]) -> tuple[Any, Any]:
    """(token ids, whether each is learned) of every question in every taught modality."""
    ids, learned = [], []
    for question in questions:
        prompt = VOCABULARY.prompt(question.prompt)
        for modality in modalities:
            parts = shown(question, modality)
            if parts is None:
                continue
            call, given, answer = (VOCABULARY.encode(part) for part in parts)
            after = [*answer, VOCABULARY.id(END)]
            ids.append([*prompt, VOCABULARY.id(modality), *call, *given, *after])
            learned.append(
                [False] * (len(prompt) + 1) + [True] * len(call) + [False] * len(given)
                + [True] * len(after)
            )  # fmt: skip
    ids_BT, _ = pad(ids, VOCABULARY.id(PAD), left=False)
    learned_BT, _ = pad([[int(x) for x in row] for row in learned], 0, left=False)
    return ids_BT, learned_BT.bool()


def loss_of(model: nn.Module, questions: Sequence[Question]) -> torch.Tensor:
    """Mean cross-entropy of a learned token over all modalities, in nats."""
    total, count = torch.zeros(()), 0
    for modalities in PASSES:
        ids_BT, learned_BT = rows(questions, modalities)
        logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
        wanted = learned_BT[:, 1:]
        total = total + nn.functional.cross_entropy(
            logits_BTV[wanted], ids_BT[:, 1:][wanted], reduction="sum"
        )
        count += int(wanted.sum())
    return total / count


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    if (asked.out / "model" / RECORD).exists():
        return
    model: Any = build_model(SHAPE)
    recipe = Recipe(peak_learning_rate=RATE)
    initialise(model, recipe, SHAPE.num_hidden_layers, asked.seed)
    optimiser = build_optimiser(model, recipe, 1.0, torch.device("cpu"))
    about = {"seed": asked.seed, "steps": asked.steps, "each": EACH, "rate": RATE,
             "shape": str(SHAPE)}  # fmt: skip
    state = RunState(path=asked.out / "work.pt", config=about, modules={"model": model},
                     optimisers={"adamw": optimiser})  # fmt: skip
    state.resume()
    record = {**about, "parameters": int(parameter_counts(SHAPE).total), "versions": versions()}
    shares = schedule(recipe, asked.steps)
    began = time.process_time()
    while state.step < asked.steps:
        loss = loss_of(model, batch_at(asked.seed, state.step))
        value = require_finite(loss, state.step, "the modalities")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        for group in optimiser.param_groups:
            group["lr"].fill_(group["peak"] * float(shares[state.step]))
        optimiser.step()
        state.step += 1
        if state.step % 50 == 0:
            state.log({"step": state.step, "loss": value, "cpu_s": time.process_time() - began})
            print(json.dumps((state.lines or [{}])[-1]), flush=True)
        if state.step % 250 == 0:
            state.save()
        if state.step == asked.steps // 3:
            save_routed(model, VOCABULARY, asked.out / "early", {**record, "at_step": state.step})
    save_routed(model, VOCABULARY, asked.out / "model", {**record, "at_step": state.step})


if __name__ == "__main__":
    main()
