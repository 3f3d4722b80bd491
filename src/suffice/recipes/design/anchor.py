"""The absolute level of loss: given, published, or estimated and marked as such."""

from __future__ import annotations

from suffice.architecture.catalog import load_shape
from suffice.architecture.counts import parameter_counts
from suffice.architecture.law_file import load_law
from suffice.architecture.laws import AbsoluteLaw
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError
from suffice.recipes.design.config import DesignConfig
from suffice.recipes.design.result import Anchor

# Training loss after 100B tokens of Dolma v1.7 (arXiv:2510.18245, tables 1 and 2).
_PUBLISHED_TOKENS = 100e9
_PUBLISHED = {
    "meta-llama/Llama-3.2-1B": 2.803,
    "bian2025/panda-1b": 2.782,
    "bian2025/surefire-1b": 2.804,
    "meta-llama/Llama-3.2-3B": 2.625,
    "bian2025/panda-3b": 2.619,
    "bian2025/surefire-3b": 2.620,
    "bian2025/panda-3b-circ": 2.606,
}


def loss_anchor(reference: Shape, config: DesignConfig) -> Anchor:
    """The reference's loss in nats after `config.tokens` training tokens, and its basis."""
    if config.reference_loss is not None:
        return Anchor(loss=config.reference_loss, basis="given", is_estimate=False)
    if abs(config.tokens / _PUBLISHED_TOKENS - 1) < 1e-9:
        for name, loss in _PUBLISHED.items():
            if load_shape(name) == reference:
                return Anchor(
                    loss=loss,
                    basis=f"{name} retrained on 100B tokens of Dolma v1.7, arXiv:2510.18245",
                    is_estimate=False,
                )
    law = load_law("besiroglu2024")
    if not isinstance(law, AbsoluteLaw):
        raise InputError(f"law {law.name!r} must predict an absolute loss")
    total = float(parameter_counts(reference).total)
    return Anchor(
        loss=float(law.loss(total, config.tokens)),
        basis=(
            "an estimate by the Chinchilla replication (arXiv:2404.10102) on other data with "
            "another tokenizer: compare losses here with each other only, or give --reference-loss"
        ),
        is_estimate=True,
    )
