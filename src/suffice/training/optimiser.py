"""AdamW whose learning rate follows each matrix's fan-in, and the schedule over steps.

The rule is µP's (arXiv:2203.03466, table 8, for Adam), written without multipliers in the forward
pass so that the trained weights are a plain Llama model:

    matrix of fan-in n   init std n^-1/2,  learning rate  η · base_fan_in / n
    o and down proj      the same, init further divided by sqrt(2 · layers)
    input embedding      init std constant, learning rate η
    output matrix        init zero,         learning rate  η · base_fan_in / d
    norm weights         init one,          learning rate η

With `layer_rate_exponent` e, matrices inside layers learn at (base_layers / layers)^e times that;
e = 1/2 is the depth rule for Adam (arXiv:2310.02244). With `repeated_kv_rate`, key and value
matrices that g query heads share learn at 2 / (1 + sqrt(g)) times that, at an unchanged start: the
repeated matrix has sqrt(g) times the spectral norm of the one that is stored (arXiv:2605.15290; the
factor is that of its first author's public code, as multiplier and start together).

A fan-in rule, not a width rule: a down projection's fan-in is f and an output projection's is d_q,
so shapes with a wide MLP or narrow attention are treated as evenly as wide and narrow ones.
Weight decay is the same per step for all matrices (learning rate times decay is constant), which
keeps the rule's transfer (arXiv:2309.14322, independent weight decay).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from suffice.architecture.shape import Shape
from suffice.core.errors import ConfigError
from suffice.training.rung import Recipe


def matrix_kind(name: str) -> str:
    """ "embedding", "head", "residual" (writes to the residual stream), "inner" or "norm"."""
    if "embed_tokens" in name:
        return "embedding"
    if "lm_head" in name:
        return "head"
    if "norm" in name:
        return "norm"
    return "residual" if name.endswith(("o_proj.weight", "down_proj.weight")) else "inner"


def initialise(model: nn.Module, recipe: Recipe, layers: int, seed: int) -> None:
    """Draw all weights of `model` in place from `seed`, on the CPU so that devices agree."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            kind = matrix_kind(name)
            if kind == "norm":
                weight.fill_(1.0)
            elif kind == "head":
                weight.zero_()
            else:
                std = recipe.embedding_std if kind == "embedding" else weight.shape[1] ** -0.5
                if kind == "residual":
                    std /= math.sqrt(2 * layers)
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)


def rate_scale(name: str, fan_in: int, recipe: Recipe, shape: Shape | None) -> float:
    """Learning rate of the weight `name` over the recipe's; `shape` is what depth and KV ask for.

    Raises ConfigError if the recipe asks for a rule that needs a shape and there is none.
    """
    kind = matrix_kind(name)
    if kind not in ("head", "residual", "inner"):
        return 1.0
    scale = recipe.base_fan_in / fan_in
    if kind == "head" or not (recipe.layer_rate_exponent or recipe.repeated_kv_rate):
        return scale
    if shape is None:
        raise ConfigError("layer_rate_exponent and repeated_kv_rate need a shape of layers")
    scale *= math.pow(recipe.base_layers / shape.num_hidden_layers, recipe.layer_rate_exponent)
    if recipe.repeated_kv_rate and name.endswith(("k_proj.weight", "v_proj.weight")):
        shared_by = shape.num_attention_heads / shape.num_key_value_heads
        scale *= 2 / (1 + math.sqrt(shared_by))
    return scale


def build_optimiser(
    model: nn.Module, recipe: Recipe, learning_rate_factor: float, device: torch.device,
    shape: Shape | None = None,
) -> torch.optim.AdamW:  # fmt: skip
    """AdamW with one group per learning rate; rates are tensors, so a captured graph reads them.

    Each group's `peak` is its highest learning rate.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        kind = matrix_kind(name)
        matrix = kind in ("head", "residual", "inner")
        scale = rate_scale(name, weight.shape[-1], recipe, shape)
        decay = recipe.weight_decay / scale if matrix else 0.0
        groups.setdefault((scale, decay), []).append(weight)
    settings: list[dict[str, Any]] = []
    for (scale, decay), weights in groups.items():
        peak = recipe.peak_learning_rate * learning_rate_factor * scale
        # The decay of a step is rate * decay; at another base rate it should stay what it was.
        rate = torch.tensor(peak, dtype=torch.float32, device=device)
        decay_at_factor = decay / learning_rate_factor
        settings.append(
            {"params": weights, "lr": rate, "peak": peak, "weight_decay": decay_at_factor}
        )
    return torch.optim.AdamW(
        settings,
        lr=torch.tensor(recipe.peak_learning_rate, device=device),
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
        fused=True,
        capturable=device.type == "cuda",
    )


def schedule(recipe: Recipe, steps: int) -> torch.Tensor:
    """Share of the peak learning rate at each step, float32 of length `steps`."""
    return torch.tensor(list(_shares(recipe, steps)), dtype=torch.float32)


def _shares(recipe: Recipe, steps: int) -> Iterator[float]:
    warmup = max(1, round(recipe.warmup_share * steps))
    floor = recipe.final_learning_rate_share
    decay = max(1, round(recipe.decay_share * steps))
    for step in range(steps):
        if step < warmup:
            yield (step + 1) / warmup
        elif recipe.schedule == "cosine":
            progress = (step - warmup) / max(1, steps - warmup)
            yield floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
        else:
            yield floor + (1 - floor) * min(1.0, (steps - step) / decay)
