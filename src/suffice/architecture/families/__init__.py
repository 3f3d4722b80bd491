"""What each model family's layers are made of."""

from suffice.architecture.families import (
    encoder_style,
    gemma,
    hybrid,
    latent,
    newest,
    older,
    recurrent,
    short_convolutions,
    sparse,
    sparse_windows,
    uniform,
    with_checkpoint,
)
from suffice.architecture.families.registry import BUILDERS, OWN_DEFAULTS

__all__ = [
    "BUILDERS",
    "OWN_DEFAULTS",
    "encoder_style",
    "gemma",
    "hybrid",
    "latent",
    "newest",
    "older",
    "recurrent",
    "short_convolutions",
    "sparse",
    "sparse_windows",
    "uniform",
    "with_checkpoint",
]
