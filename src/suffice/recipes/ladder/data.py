"""Text to packed, hashed, deduplicated token shards with a held-out split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from suffice.core.errors import InputError
from suffice.training.pretrain.corpus import Deduplication, Document, read_texts
from suffice.training.pretrain.shards import (
    MANIFEST,
    SHARD_TOKENS,
    DataManifest,
    ShardWriter,
    read_manifest,
    write_manifest,
)
from suffice.training.pretrain.tokenizer import (
    LadderTokenizer,
    byte_tokenizer,
    load_tokenizer,
    train_tokenizer,
)

# Enough for a stable vocabulary of a few thousand ids; more only costs time.
TOKENIZER_TRAINING_BYTES = 24_000_000
_ENCODE_BATCH_BYTES = 4_000_000
# Long documents are cut for training the tokenizer, so that one book does not fill the sample.
_TOKENIZER_DOCUMENT_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What to make. `tokenizer` is "bpe", "bytes" or a path; `max_bytes` limits the text read."""

    sources: tuple[str, ...]
    tokenizer: str = "bpe"
    vocab_size: int = 2048
    validation_share: float = 0.01
    max_bytes: int | None = None
    text_field: str = "text"
    shard_tokens: int = SHARD_TOKENS

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("no text was given: name files, folders or hf:NAME with --text")
        if not 0.0 < self.validation_share < 0.5:
            raise InputError(
                f"the validation share must lie between 0 and .5, got {self.validation_share}"
            )


def make_data(
    config: DataConfig, folder: Path, *, say: Callable[[str], None] = lambda _: None
) -> DataManifest:
    """Write shards, tokenizer and manifest into `folder`; a finished folder is returned as it is.

    Documents are assigned to a split by the hash of their text. The tokenizer is trained on
    training documents only.
    """
    if (folder / MANIFEST).exists():
        say(f"{folder} is complete: nothing to do")
        return read_manifest(folder)
    tokenizer = _tokenizer(config, say)
    dedup = Deduplication()
    writers = {
        held_out: ShardWriter(folder, name, tokenizer.dtype, config.shard_tokens)
        for held_out, name in ((False, "train"), (True, "validation"))
    }
    for batch in _batches(_limited(dedup.unique(_texts(config)), config.max_bytes)):
        rows = tokenizer.encode([document.text for document in batch])
        for document, ids in zip(batch, rows, strict=True):
            held_out = document.fraction < config.validation_share
            writers[held_out].add(ids, len(document.text.encode()))
        say(f"{dedup.documents} documents packed")
    train, validation = writers[False].finish(), writers[True].finish()
    for name, split in (("train", train), ("validation", validation)):
        if not split.tokens:
            raise InputError(
                f"the {name} split is empty ({dedup.documents} documents in all): give more "
                "documents or another --validation-share"
            )
    manifest = DataManifest(
        vocab_size=tokenizer.vocab_size,
        dtype=np.dtype(tokenizer.dtype).name,
        tokenizer="bytes" if tokenizer.model is None else "tokenizer.json",
        tokenizer_sha256=tokenizer.sha256,
        train=train,
        validation=validation,
        sources=tuple(Path(s).name if not s.startswith("hf:") else s for s in config.sources),
        repeated_documents=dedup.repeated_documents,
        repeated_paragraphs=dedup.repeated_paragraphs,
        repeated_bytes=dedup.repeated_bytes,
    )
    write_manifest(folder, manifest, tokenizer)
    return manifest


def _tokenizer(config: DataConfig, say: Callable[[str], None]) -> LadderTokenizer:
    if config.tokenizer == "bytes":
        return byte_tokenizer()
    if config.tokenizer != "bpe":
        return load_tokenizer(Path(config.tokenizer))
    say(f"training a tokenizer of {config.vocab_size} ids")
    return train_tokenizer(_tokenizer_sample(config), config.vocab_size)


def _tokenizer_sample(config: DataConfig) -> Iterator[str]:
    """Training documents, taken from the sources in turn so that each is represented."""
    share = TOKENIZER_TRAINING_BYTES // len(config.sources)
    for source in config.sources:
        documents = Deduplication().unique(read_texts(source, text_field=config.text_field))
        training = (d for d in documents if d.fraction >= config.validation_share)
        for document in _limited(training, share):
            yield document.text[:_TOKENIZER_DOCUMENT_CHARACTERS]


def _texts(config: DataConfig) -> Iterator[str]:
    return chain.from_iterable(read_texts(s, text_field=config.text_field) for s in config.sources)


def _limited(documents: Iterable[Document], max_bytes: int | None) -> Iterator[Document]:
    total = 0
    for document in documents:
        total += len(document.text.encode())
        if max_bytes is not None and total > max_bytes:
            return
        yield document


def _batches(documents: Iterable[Document]) -> Iterator[Sequence[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _ENCODE_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
