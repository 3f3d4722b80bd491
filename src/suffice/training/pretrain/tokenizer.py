"""Tokenizers of a ladder: raw bytes, a byte-level BPE trained on its own text, or a given one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import InputError, MissingExtra

END_OF_DOCUMENT = "<|end|>"
BYTE_VALUES = 256
# Names under which well-known tokenizers keep the token that ends a document.
_END_NAMES = (END_OF_DOCUMENT, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")

TokenArray = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderTokenizer:
    """Text to ids. `model` is a `tokenizers.Tokenizer`, or None for raw bytes."""

    vocab_size: int
    end_of_document: int
    model: Any = None

    @property
    def dtype(self) -> type[np.uint16 | np.uint32]:
        """Smallest unsigned integer that holds every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        """Ids of each text, followed by the id that ends a document."""
        if self.model is None:
            rows = [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]
        else:
            encoded = self.model.encode_batch(list(texts), add_special_tokens=False)
            rows = [np.asarray(row.ids, dtype=self.dtype) for row in encoded]
        end = np.array([self.end_of_document], dtype=self.dtype)
        return [np.concatenate([row.astype(self.dtype), end]) for row in rows]

    def to_json(self) -> str:
        """The `tokenizer.json`; for raw bytes an empty string."""
        return "" if self.model is None else str(self.model.to_str())

    @property
    def sha256(self) -> str:
        """Hash of what decides the ids."""
        return hashlib.sha256((self.to_json() or f"bytes {BYTE_VALUES}").encode()).hexdigest()


def byte_tokenizer() -> LadderTokenizer:
    """One id per byte, and 256 for the end of a document."""
    return LadderTokenizer(vocab_size=BYTE_VALUES + 1, end_of_document=BYTE_VALUES)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> LadderTokenizer:
    """Byte-level BPE of `vocab_size` ids, every byte and the end of a document among them."""
    library = _library()
    if vocab_size <= BYTE_VALUES + 1:
        raise InputError(
            f"a trained tokenizer needs more than {BYTE_VALUES + 1} ids, got {vocab_size}: "
            "use --tokenizer bytes for raw bytes"
        )
    model = library.Tokenizer(library.models.BPE())
    model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    if model.get_vocab_size() < vocab_size:
        raise InputError(
            f"the text supports only {model.get_vocab_size()} ids, {vocab_size} were asked for: "
            "give more text or a smaller --vocab-size"
        )
    return LadderTokenizer(
        vocab_size=vocab_size, end_of_document=model.token_to_id(END_OF_DOCUMENT), model=model
    )


def load_tokenizer(path: Path) -> LadderTokenizer:
    """A `tokenizer.json`, or the folder that holds one; checked by a round trip."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"tokenizer {str(path)!r} does not exist: give a tokenizer.json, its folder, or `bytes`"
        )
    library = _library()
    try:
        model = library.Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception for bad files
        raise InputError(f"tokenizer {str(file)!r} cannot be read: {error}") from None
    vocabulary: dict[str, int] = model.get_vocab(with_added_tokens=True)
    end = next((vocabulary[name] for name in _END_NAMES if name in vocabulary), None)
    if end is None:
        raise InputError(
            f"tokenizer {str(file)!r} has no token that ends a document: one of "
            f"{', '.join(_END_NAMES)} is needed"
        )
    sample = "A ladder, 3 rungs: «naïve» x != y\n\tend."
    if model.decode(model.encode(sample, add_special_tokens=False).ids).strip() != sample:
        raise InputError(
            f"tokenizer {str(file)!r} does not give text back unchanged (it lower-cases, "
            "normalises or has unknown tokens), losses per byte would be wrong: use a byte-level "
            "one"
        )
    return LadderTokenizer(
        vocab_size=max(vocabulary.values()) + 1, end_of_document=end, model=model
    )


def _library() -> Any:
    try:
        import tokenizers  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("tokenizers", "train", "a BPE tokenizer") from None
    return tokenizers
