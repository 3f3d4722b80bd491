"""A rung's model: transformers' own modules, driven layer by layer.

B  sequences   T  tokens per sequence   d  hidden size   V  vocabulary
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from suffice.architecture.hf_config import config_from_shape
from suffice.architecture.shape import Shape
from suffice.core.errors import MissingExtra
from suffice.core.files import write_text
from suffice.training.rung import Precision, Recipe


def build_model(shape: Shape) -> nn.Module:
    """A causal language model of transformers with `shape`, on the CPU, in float32.

    Where the heads do not divide the hidden size, the config is Mistral's (the same network).
    """
    try:
        from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("transformers", "torch", "training a rung") from None
    config = AutoConfig.for_model(**config_from_shape(shape))
    model: nn.Module = AutoModelForCausalLM.from_config(
        config, attn_implementation="sdpa", dtype=torch.float32
    )
    return model


def save_model(model: nn.Module, folder: Path, *, tokenizer_json: str = "") -> None:
    """Write config, weights and tokenizer so that transformers and vLLM load the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    saver: Any = model
    saver.save_pretrained(folder)
    if tokenizer_json:
        write_text(folder / "tokenizer.json", tokenizer_json)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """bfloat16 matrix products where `precision` asks for them; weights stay in float32."""
    context: AbstractContextManager[Any] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False
    )
    return context


class LossFunction:
    """Mean cross-entropy in nats per token of sequences of T + 1 ids.

    Drives the decoder layers directly: the attention mask is causal and nothing is cached, so
    transformers' mask building and output records, which a captured graph cannot hold, are not
    needed. A test holds it equal to the model's own forward pass. With `compiled`, the layer and
    the head are each compiled once for all layers.
    """

    def __init__(self, model: nn.Module, *, sequence_length: int, compiled: bool) -> None:
        body: Any = model.get_submodule("model")
        self._embed: nn.Module = body.embed_tokens
        self._layers: list[Callable[..., Any]] = list(body.layers)
        self._norm: nn.Module = body.norm
        self._head: nn.Module = model.get_submodule("lm_head")
        self._head_loss: Callable[..., torch.Tensor] = _head_loss
        device = self._embed.weight.device
        positions = torch.arange(sequence_length, device=device)[None]
        probe = torch.zeros(1, dtype=torch.float32, device=device)
        # Rotary angles depend on positions alone: computed once, in float32.
        self._cos, self._sin = body.rotary_emb(probe, positions)
        if compiled:
            for layer in body.layers:
                layer.forward = torch.compile(layer.forward, dynamic=False, fullgraph=True)
            self._head_loss = torch.compile(_head_loss, dynamic=False)

    def __call__(self, ids_BT1: torch.Tensor) -> torch.Tensor:
        """Loss of a batch, int64 ids of shape (B, T + 1)."""
        hidden_BTd = self._embed(ids_BT1[:, :-1])
        for layer in self._layers:
            hidden_BTd = layer(
                hidden_BTd, position_embeddings=(self._cos, self._sin), attention_mask=None
            )
        return self._head_loss(hidden_BTd, ids_BT1[:, 1:], self._norm, self._head)


def _head_loss(
    hidden_BTd: torch.Tensor, targets_BT: torch.Tensor, norm: nn.Module, head: nn.Module
) -> torch.Tensor:
    logits_BTV = head(norm(hidden_BTd))
    return functional.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


def evaluate(
    loss_of: LossFunction,
    ids: torch.Tensor,
    recipe: Recipe,
    batch_sequences: int,
    *,
    compiled: bool,
) -> float:
    """Mean loss in nats per token over the first `evaluation_sequences` windows of held-out `ids`.

    Always the same windows in the same order, summed in float64. Compiled code is kept in its
    training form (gradients enabled, never used): a second compilation would cost more.
    """
    windows = evaluation_windows(ids, recipe)
    total = torch.zeros((), dtype=torch.float64, device=ids.device)
    for start in range(0, len(windows), batch_sequences):
        batch = windows[start : start + batch_sequences].to(torch.int64)
        with torch.set_grad_enabled(compiled), autocast(ids.device, recipe.precision):
            total += loss_of(batch).detach().double() * len(batch)
    return float(total / len(windows))


def evaluation_windows(ids: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Windows of T + 1 ids spread evenly over held-out `ids`; they overlap by one id at most."""
    length = recipe.sequence_length
    available = (len(ids) - 1) // length
    count = min(recipe.evaluation_sequences, available)
    windows = ids.unfold(0, length + 1, length)
    return windows[torch.arange(count, device=ids.device) * available // count]
