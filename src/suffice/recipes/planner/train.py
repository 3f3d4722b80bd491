"""Train the small planner on generated questions; goes on where it stopped."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from suffice.architecture.shape import Shape
from suffice.core.files import write_json
from suffice.recipes.planner.data import Pair, pairs
from suffice.recipes.planner.questions import Country, questions
from suffice.recipes.planner.vocabulary import load_vocabulary, template, train_vocabulary
from suffice.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from suffice.training.model import build_model, save_model
from suffice.training.optimiser import build_optimiser, initialise, schedule
from suffice.training.rung import Recipe

IGNORED = -100
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerTraining:
    """Size of the model, of its data and of its training."""

    hidden_size: int = 160
    layers: int = 4
    heads: int = 5
    vocab_size: int = 640
    questions: int = 12_000
    steps: int = 1_600
    batch_tokens: int = 3_600
    most_tokens: int = 1_024  # of a prompt and its reply; also the context of the model
    learning_rate: float = 4e-3
    seed: int = 0
    checkpoint_every: int = 50

    @property
    def run_id(self) -> str:
        """What a checkpoint must agree with."""
        return repr(sorted(asdict(self).items()))


def train_planner(config: PlannerTraining, out: Path, tell: Tell = print) -> None:
    """Write model, tokenizer and `record.json` to `out`; a checkpoint there is gone on with."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    tokenizer, rows = _data(config, out, tell)
    shape = Shape(
        hidden_size=config.hidden_size,
        intermediate_size=config.hidden_size * 8 // 3 // 8 * 8,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.hidden_size // config.heads,
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        config={"max_position_embeddings": config.most_tokens, "rope_theta": 10_000.0},
    )
    recipe = Recipe(peak_learning_rate=config.learning_rate, base_fan_in=160)
    model = build_model(shape)
    initialise(model, recipe, config.layers, config.seed)
    optimiser = build_optimiser(model, recipe, 1.0, torch.device("cpu"))
    kept = out / "checkpoint.pt"
    progress = Progress(step=0, losses=(), evaluations=(), elapsed_s=0.0, resumes=0)
    if kept.exists():
        progress = load_checkpoint(kept, config.run_id, model, optimiser)
        tell(f"going on at step {progress.step}")
    progress = _loop(
        config, recipe, model, optimiser, rows=rows, progress=progress, kept=kept, tell=tell
    )
    save_model(model, out)
    tokenizer.save_pretrained(out)
    count = sum(weight.numel() for weight in model.parameters())
    last = float(np.mean(progress.losses[-50:]))
    record = {"config": asdict(config), "parameters": count, "loss": last,
              "elapsed_s": progress.elapsed_s, "pairs": len(rows)}  # fmt: skip
    write_json(out / "record.json", record)
    tell(f"{count:,} parameters, loss {last:.4f}, {progress.elapsed_s:.0f} s")


Row = tuple[list[int], int]  # ids, and how many of them are the prompt


def _data(config: PlannerTraining, out: Path, tell: Tell) -> tuple[Any, list[Row]]:
    country = Country()
    asked = questions(config.questions, seed=config.seed, split="train", country=country)
    found = list(pairs(asked, template(), seed=config.seed, country=country))
    tell(f"{len(found):,} prompts of {len(asked):,} questions")
    if (out / "tokenizer.json").exists():
        tokenizer = load_vocabulary(out)
    else:
        rng = random.Random(config.seed)
        some = rng.sample(found, min(len(found), 4_000))
        tokenizer = train_vocabulary((p.prompt + p.reply for p in some), config.vocab_size)
        tokenizer.save_pretrained(out)
    rows = [row for pair in found if len((row := _ids(pair, tokenizer))[0]) <= config.most_tokens]
    lengths = [len(ids) for ids, _ in rows]
    tell(f"{len(tokenizer)} tokens in the vocabulary; mean {np.mean(lengths):.0f} a row")
    return tokenizer, rows


def _ids(pair: Pair, tokenizer: Any) -> Row:
    prompt = tokenizer(pair.prompt, add_special_tokens=False)["input_ids"]
    reply = tokenizer(pair.reply, add_special_tokens=False)["input_ids"]
    return [*prompt, *reply, tokenizer.eos_token_id], len(prompt)


def batch_of(rows: Sequence[Row], batch_tokens: int, rng: random.Random) -> list[Row]:
    """Rows of like length, together about `batch_tokens` with their padding."""
    centre = rng.randrange(len(rows))
    length = len(rows[centre][0])
    count = max(1, batch_tokens // length)
    low = max(0, min(centre - count, len(rows) - 2 * count))
    return rng.sample(rows[low : low + 2 * count], min(count, len(rows)))


def _loop(
    config: PlannerTraining,
    recipe: Recipe,
    model: Any,
    optimiser: torch.optim.AdamW,
    *,
    rows: list[Row],
    progress: Progress,
    kept: Path,
    tell: Tell,
) -> Progress:
    rows = sorted(rows, key=lambda row: len(row[0]))
    shares = schedule(recipe, config.steps)
    losses = list(progress.losses)
    began_s = time.monotonic() - progress.elapsed_s
    model.train()
    for step in range(progress.step, config.steps):
        rng = random.Random(f"{config.seed}/{step}")
        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(group["peak"] * float(shares[step]))
        loss = _loss(model, batch_of(rows, config.batch_tokens, rng))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimiser.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss of step {step} is {losses[-1]}")
        done = step + 1
        if done % config.checkpoint_every == 0 or done == config.steps:
            progress = Progress(
                step=done,
                losses=tuple(losses),
                evaluations=(),
                elapsed_s=time.monotonic() - began_s,
                resumes=progress.resumes,
            )
            save_checkpoint(kept, config.run_id, model, optimiser, progress)
            tell(f"step {done}: loss {np.mean(losses[-50:]):.4f}, {progress.elapsed_s:.0f} s")
    return progress


def _loss(model: Any, batch: Sequence[Row]) -> torch.Tensor:
    """Mean cross-entropy in nats over the replies' tokens."""
    most = max(len(ids) for ids, _ in batch)
    ids_BT = torch.zeros(len(batch), most, dtype=torch.long)
    labels_BT = torch.full((len(batch), most), IGNORED)
    for number, (ids, prompt) in enumerate(batch):
        ids_BT[number, : len(ids)] = torch.tensor(ids)
        labels_BT[number, prompt : len(ids)] = torch.tensor(ids[prompt:])
    # Padding stands after the reply: causal attention never looks at it.
    hidden_BTd = model.model(input_ids=ids_BT).last_hidden_state[:, :-1]
    wanted = labels_BT[:, 1:] != IGNORED
    logits_NV = model.lm_head(hidden_BTd[wanted])
    return functional.cross_entropy(logits_NV.float(), labels_BT[:, 1:][wanted])
