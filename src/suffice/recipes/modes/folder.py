"""A trained model's folder: what transformers, vLLM and the NumPy runtime load, and its record."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from suffice.backends.nano.runtime import NanoModel
from suffice.backends.nano.vocabulary import END, PAD, Vocabulary
from suffice.backends.nano.weights import RECORD, weights_sha256
from suffice.core.errors import InputError, UnsupportedModel
from suffice.core.files import read_json, write_json
from suffice.core.version import __version__


def save_routed(model: Any, vocabulary: Vocabulary, folder: Path, record: dict[str, Any]) -> None:
    """Write model, tokenizer and `record` (plus the weights' hash) into `folder`."""
    import transformers  # noqa: PLC0415 - torch

    from suffice.training.model import save_model  # noqa: PLC0415

    transformers.utils.logging.disable_progress_bar()
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = None
        settings.eos_token_id = vocabulary.id(END)
        settings.pad_token_id = vocabulary.id(PAD)
    record_path = folder / RECORD
    # An old record would vouch for the new weights until the new one is written.
    record_path.unlink(missing_ok=True)
    save_model(model, folder, tokenizer_json=vocabulary.to_json())
    write_json(
        folder / "tokenizer_config.json",
        vocabulary.tokenizer_config(model.config.max_position_embeddings),
    )
    write_json(record_path, {**record, "weights_sha256": weights_sha256(folder)})


def load_routed(folder: Path) -> tuple[Any, Vocabulary]:
    """(model, vocabulary) of a folder that `suffice train` wrote; the weights are checked."""

    if not (folder / "config.json").is_file():
        raise InputError(f"{str(folder)!r} is no model folder: it has no config.json")
    kind = read_json(folder / "config.json", what="model config").get("model_type")
    if kind != "llama":
        raise UnsupportedModel(
            f"{str(folder)!r} is a {kind} model: the plain trainers take Llama models made by "
            "`suffice train nano`; others are trained in the trl form"
        )
    vocabulary = NanoModel(folder).vocabulary
    import transformers  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    transformers.utils.logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), vocabulary


def versions() -> dict[str, str]:
    """What the weights depend on beside the code."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    return {
        "suffice": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
