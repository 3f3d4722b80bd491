"""Train the small planner on generated questions; goes on where it stopped.

B  sequences   P  tokens of instructions that all rows of a batch begin with   T  tokens after these
N  tokens that are learned

Instructions are most of a prompt and always the same. A batch has one kind of them, read once: rows
attend to their keys and values. Short rows come first (`curriculum_share`). Every hundred questions
are about another country, so that facts cannot be learned: they must be read from results. Input
and output embeddings are the same weights: a token is copied by what it is, however rare.
"""

from __future__ import annotations

import inspect
import json
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
from transformers import DynamicCache

from small_planner.data import Pair, pairs
from small_planner.questions import Country, Split, questions
from small_planner.vocabulary import END, load_vocabulary, template, train_vocabulary
from suffice.architecture.shape import Shape
from suffice.core.files import write_json, write_text
from suffice.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from suffice.training.model import autocast, build_model, save_model
from suffice.training.optimiser import build_optimiser, initialise, schedule
from suffice.training.rung import Precision, Recipe

QUESTIONS_A_COUNTRY = 100
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerTraining:
    """Size of the model, of its data and of its training."""

    hidden_size: int = 128
    layers: int = 4
    heads: int = 2
    vocab_size: int = 1_024
    questions: int = 12_000
    steps: int = 1_800
    # After these, twice: rates begin at half the peak and fall in a line.
    more_steps: tuple[int, ...] = (1_000, 1_600)
    batch_tokens: int = 2_048  # of a batch, instructions not counted
    most_tokens: int = 1_024  # of a prompt and its reply; also the context of the model
    learning_rate: float = 2e-3
    curriculum_share: float = 0.2  # of the steps, in which ever longer rows are let in
    precision: Precision = "bf16"
    seed: int = 0
    checkpoint_every: int = 100
    held_out: int = 200  # questions whose replies are checked while training

    @property
    def run_id(self) -> str:
        """What a checkpoint must agree with."""
        return repr(sorted(asdict(self).items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A conversation in tokens: its instructions, and what follows them."""

    head: tuple[int, ...]
    ids: tuple[int, ...]
    learned: tuple[bool, ...]  # of `ids`: what the model says, end marks included


def train_planner(config: PlannerTraining, out: Path, tell: Tell = print) -> None:
    """Write model, tokenizer and `record.json` to `out`; a checkpoint there is gone on with."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    tokenizer, rows, held_out = _data(config, out, tell)
    shape = Shape(
        hidden_size=config.hidden_size,
        intermediate_size=config.hidden_size * 8 // 3 // 8 * 8,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.hidden_size // config.heads,
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        config={"max_position_embeddings": config.most_tokens, "rope_theta": 10_000.0},
    )
    recipe = Recipe(
        peak_learning_rate=config.learning_rate,
        base_fan_in=160,
        embedding_std=config.hidden_size**-0.5,
    )
    model = build_model(shape)
    initialise(model, recipe, config.layers, config.seed)
    start_by_copying(model, config.seed)
    optimiser = build_optimiser(model, recipe, 1.0, torch.device("cpu"))
    kept = out / "checkpoint.pt"
    progress = Progress(step=0, losses=(), evaluations=(), elapsed_s=0.0, resumes=0)
    if kept.exists():
        progress = load_checkpoint(kept, config.run_id, model, optimiser)
        tell(f"going on at step {progress.step}")
    progress = _loop(
        config, recipe, model, optimiser, rows=rows, held_out=held_out, progress=progress,
        kept=kept, tell=tell,
    )  # fmt: skip
    for config_of in (model.config, model.generation_config):
        config_of.eos_token_id, config_of.bos_token_id = tokenizer.eos_token_id, None
        config_of.pad_token_id = tokenizer.pad_token_id
    save_model(model, out)
    tokenizer.save_pretrained(out)
    count = sum(weight.numel() for weight in model.parameters())
    last = float(np.mean(progress.losses[-50:]))
    record = {"config": asdict(config), "parameters": count, "loss": last,
              "held_out_right": right_rates(model, held_out),
              "elapsed_s": progress.elapsed_s, "rows": len(rows)}  # fmt: skip
    write_json(out / "record.json", record)
    tell(f"{count:,} parameters, loss {last:.4f}, {progress.elapsed_s:.0f} s")


def start_by_copying(model: Any, seed: int) -> None:
    """Let every head write what it looks at, so that only where to look is to be learned.

    Value and output matrices of a layer become an orthogonal matrix and its transpose, at the
    output's own scale: together a multiple of the identity, and with tied embeddings the token
    looked at is likelier next. After 2305.09828, whose product has the other sign.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.model.layers:
            value, output = layer.self_attn.v_proj.weight, layer.self_attn.o_proj.weight
            gain = output.std() * value.shape[0] ** 0.5
            turned, _ = torch.linalg.qr(torch.randn(value.shape, generator=generator))
            value.copy_(turned)
            output.copy_(gain * turned.T)


def _data(config: PlannerTraining, out: Path, tell: Tell) -> tuple[Any, list[Row], list[Row]]:
    """The tokenizer, rows to train on and held-out ones; texts are kept beside the model."""
    found = _texts(out / "conversations.json", config.questions, "train", config.seed)
    held_out = _texts(out / "held_out.json", config.held_out, "held_out", config.seed)
    tell(f"{len(found):,} conversations of {config.questions:,} questions")
    if (out / "tokenizer.json").exists():
        tokenizer = load_vocabulary(out)
    else:
        rng = random.Random(config.seed)
        some = rng.sample(found, min(len(found), 4_000))
        tokenizer = train_vocabulary((p.prompt + p.reply for p in some), config.vocab_size)
        tokenizer.save_pretrained(out)
    rows = [row_of(pair, tokenizer) for pair in found]
    rows = [row for row in rows if len(row.head) + len(row.ids) <= config.most_tokens]
    heads = {row.head for row in rows}
    length, learned = (
        np.mean([len(row.ids) for row in rows]), np.mean([sum(row.learned) for row in rows])
    )  # fmt: skip
    tell(
        f"{len(tokenizer)} tokens in the vocabulary; mean {length:.0f} a row, {learned:.0f} of "
        "them learned; "
        f"{len(heads)} kinds of instructions of {sorted(map(len, heads))} tokens"
    )
    return tokenizer, rows, [row_of(pair, tokenizer) for pair in held_out]


def _texts(kept: Path, count: int, split: Split, seed: int) -> list[Pair]:
    """Conversations of `count` questions, in a file once played; country 0 is left for evaluation."""
    if kept.exists():
        read = json.loads(kept.read_text(encoding="utf-8"))
        return [Pair(prompt=prompt, reply=reply, learned_from=at) for prompt, reply, at in read]
    found: list[Pair] = []
    for block in range(math.ceil(count / QUESTIONS_A_COUNTRY)):
        own = f"{seed}/{split}/{block}"
        country = Country(f"country {own}")
        some = min(QUESTIONS_A_COUNTRY, count - block * QUESTIONS_A_COUNTRY)
        asked = questions(some, seed=own, split=split, country=country)
        found += pairs(asked, template(), seed=own, country=country)
    write_text(kept, json.dumps([[p.prompt, p.reply, p.learned_from] for p in found]))
    return found


def row_of(pair: Pair, tokenizer: Any) -> Row:
    """A conversation in tokens; what an assistant says in it from some place on is learned."""
    text = f"{pair.prompt}{pair.reply}{END}"
    given = len(pair.prompt) if pair.learned_from is None else pair.learned_from
    cut = text.index(END) + len(END) if text.startswith("<|system|>") else 0
    head = tokenizer(text[:cut], add_special_tokens=False)["input_ids"]
    read = tokenizer(text[cut:], add_special_tokens=False, return_offsets_mapping=True)
    ids, places = read["input_ids"], read["offset_mapping"]
    speaks, ends = tokenizer.convert_tokens_to_ids(["<|assistant|>", END])
    learned, speaking = [], False
    for token, (place, _) in zip(ids, places, strict=True):
        learned.append(speaking and cut + place >= given)
        speaking = token == speaks or (speaking and token != ends)
    return Row(head=tuple(head), ids=tuple(ids), learned=tuple(learned))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rows with the same instructions, by length; `weight`: how often a batch is of this kind."""

    rows: tuple[Row, ...]
    weight: float


def kinds_of(rows: Sequence[Row]) -> list[Kind]:
    """Rows by their instructions.

    The weight is the number of learned tokens, and a little of all of them: short replies to long
    prompts are to be learned too.
    """
    by_head: dict[tuple[int, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: len(row.ids)):
        by_head.setdefault(row.head, []).append(row)
    return [
        Kind(rows=tuple(each), weight=sum(sum(row.learned) + 0.1 * len(row.ids) for row in each))
        for each in by_head.values()
    ]


def batch_of(
    kinds: Sequence[Kind], batch_tokens: int, share: float, rng: random.Random
) -> list[Row]:
    """Rows of one kind and like length, at most `batch_tokens` with their padding (or one row).

    Only the shortest `share` of a kind is used.
    """
    rows = rng.choices(kinds, [kind.weight for kind in kinds])[0].rows
    among = max(1, math.ceil(len(rows) * share))
    centre = rng.randrange(among)
    count = max(1, batch_tokens // len(rows[centre].ids))
    near = rows[max(0, centre - count) : min(centre + count, among)]
    found = sorted(rng.sample(near, min(count, len(near))), key=lambda row: len(row.ids))
    while len(found) > 1 and len(found) * len(found[-1].ids) > batch_tokens:
        found.pop()
    return found


def _loop(
    config: PlannerTraining,
    recipe: Recipe,
    model: Any,
    optimiser: torch.optim.AdamW,
    *,
    rows: list[Row],
    held_out: list[Row],
    progress: Progress,
    kept: Path,
    tell: Tell,
) -> Progress:
    kinds = kinds_of(rows)
    shares = shares_of(config, recipe)
    losses = list(progress.losses)
    began_s = time.monotonic() - progress.elapsed_s
    model.train()
    for step in range(progress.step, len(shares)):
        rng = random.Random(f"{config.seed}/{step}")
        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(group["peak"] * float(shares[step]))
        grown = step / max(config.steps * config.curriculum_share, 1.0)
        batch = batch_of(kinds, config.batch_tokens, min(1.0, 0.3 + 0.7 * grown), rng)
        with autocast(torch.device("cpu"), config.precision):
            loss = _loss(model, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimiser.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss of step {step} is {losses[-1]}")
        done = step + 1
        if done % config.checkpoint_every == 0 or done == len(shares):
            progress = Progress(
                step=done,
                losses=tuple(losses),
                evaluations=(),
                elapsed_s=time.monotonic() - began_s,
                resumes=progress.resumes,
            )
            save_checkpoint(kept, config.run_id, model, optimiser, progress)
            rates = " ".join(f"{rate:.2f}" for rate in right_rates(model, held_out).values())
            tell(
                f"step {done}: loss {np.mean(losses[-50:]):.4f}, held-out conversations right "
                f"{rates}, {progress.elapsed_s:.0f} s"
            )
    return progress


def shares_of(config: PlannerTraining, recipe: Recipe) -> list[float]:
    """Share of the peak learning rate at each step: the recipe's, then lower hills."""
    later = [
        max(0.02, 0.5 * min(1.0, (step + 1) / 50) * (more - step) / more)
        for more in config.more_steps
        for step in range(more)
    ]
    return [*schedule(recipe, config.steps).tolist(), *later]


def _loss(model: Any, batch: Sequence[Row]) -> torch.Tensor:
    """Mean cross-entropy in nats over the learned tokens."""
    logits_NV, wanted_N, _ = _read(model, batch)
    return functional.cross_entropy(logits_NV.float(), wanted_N)


def right_rates(model: Any, rows: Sequence[Row], batch_tokens: int = 4_096) -> dict[str, float]:
    """Share of conversations whose every learned token is the likeliest, by their instructions.

    Tokens before it are those of the right conversation, so that this is no success of a way.
    """
    rates: dict[str, float] = {}
    model.eval()
    with torch.inference_mode():
        for number, kind in enumerate(kinds_of(rows)):
            each = max(1, batch_tokens // len(kind.rows[-1].ids))
            wrong = 0
            for start in range(0, len(kind.rows), each):
                logits_NV, wanted_N, row_N = _read(model, kind.rows[start : start + each])
                wrong += len(row_N[logits_NV.argmax(-1) != wanted_N].unique())
            rates[f"{number}"] = 1.0 - wrong / len(kind.rows)
    model.train()
    return rates


def _read(model: Any, batch: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, right token and number of the row for each learned token; the head is read once."""
    most = max(len(row.ids) for row in batch)
    ids_BT = torch.zeros(len(batch), most, dtype=torch.long)
    learned_BT = torch.zeros(len(batch), most, dtype=torch.bool)
    for number, row in enumerate(batch):
        ids_BT[number, : len(row.ids)] = torch.tensor(row.ids)
        learned_BT[number, : len(row.ids)] = torch.tensor(row.learned)
    named: dict[str, Any] = {}
    if batch[0].head:
        seen = DynamicCache()
        named = {_cache_name(model.model): seen, "use_cache": True}
        model.model(input_ids=torch.tensor(batch[0].head)[None], **named)
        seen.batch_repeat_interleave(len(batch))
    # Padding stands after a row: causal attention never looks at it.
    read = model.model(input_ids=ids_BT, **(named or {"use_cache": False}))
    hidden_BTd = read.last_hidden_state[:, :-1]
    wanted = learned_BT[:, 1:]
    return model.lm_head(hidden_BTd[wanted]), ids_BT[:, 1:][wanted], wanted.nonzero()[:, 0]


def _cache_name(body: Any) -> str:
    """What transformers calls keys and values of earlier tokens; it has changed the name."""
    return "cache" if "cache" in inspect.signature(body.forward).parameters else "past_key_values"
