"""Packed token shards on disk: written once, hashed, and refused if they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import CorruptData, InputError
from suffice.core.files import disk_full_is_an_error, read_json, write_bytes, write_json, write_text
from suffice.training.pretrain.tokenizer import LadderTokenizer, TokenArray

MANIFEST = "data.json"
FORMAT = 1
SHARD_TOKENS = 1 << 24
SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFile:
    """One file of little-endian ids."""

    file: str
    tokens: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The shards of one split; `text_bytes` is the UTF-8 length of the text they encode."""

    documents: int
    tokens: int
    text_bytes: int
    shards: tuple[ShardFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataManifest:
    """What `data.json` says: the tokenizer, both splits, and how they came about.

    `fingerprint` hashes tokenizer and shards; it travels with every run, so that losses on
    different data are never fitted together unnoticed.
    """

    vocab_size: int
    dtype: str
    tokenizer: str
    tokenizer_sha256: str
    train: Split
    validation: Split
    sources: tuple[str, ...]
    repeated_documents: int
    repeated_paragraphs: int
    repeated_bytes: int
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the tokenizer and every shard."""
        parts = [self.tokenizer_sha256]
        for split in (self.train, self.validation):
            parts += [shard.sha256 for shard in split.shards]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of validation text per token: nats/token over this is nats/byte."""
        return self.validation.text_bytes / self.validation.tokens


class ShardWriter:
    """Collects the ids of one split and writes a shard whenever one is full."""

    def __init__(
        self, folder: Path, split: str, dtype: type[np.generic], shard_tokens: int
    ) -> None:
        self._folder, self._split, self._dtype = folder, split, np.dtype(dtype).newbyteorder("<")
        self._shard_tokens = shard_tokens
        self._pending: list[NDArray[Any]] = []
        self._pending_tokens = 0
        self._shards: list[ShardFile] = []
        self._documents = 0
        self._text_bytes = 0

    def add(self, ids: TokenArray, text_bytes: int) -> None:
        """Append one document."""
        self._documents += 1
        self._text_bytes += text_bytes
        self._pending.append(ids)
        self._pending_tokens += len(ids)
        while self._pending_tokens >= self._shard_tokens:
            everything = np.concatenate(self._pending)
            self._write(everything[: self._shard_tokens])
            rest = everything[self._shard_tokens :]
            self._pending, self._pending_tokens = [rest], len(rest)

    def finish(self) -> Split:
        """Write what is pending and return the split's record."""
        if self._pending_tokens:
            self._write(np.concatenate(self._pending))
        return Split(
            documents=self._documents,
            tokens=sum(shard.tokens for shard in self._shards),
            text_bytes=self._text_bytes,
            shards=tuple(self._shards),
        )

    def _write(self, ids: NDArray[Any]) -> None:
        data = ids.astype(self._dtype).tobytes()
        name = f"{self._split}-{len(self._shards):04d}.bin"
        with disk_full_is_an_error(self._folder / name):
            write_bytes(self._folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        self._shards.append(ShardFile(file=name, tokens=len(ids), sha256=digest))


def write_manifest(folder: Path, manifest: DataManifest, tokenizer: LadderTokenizer) -> None:
    """Write `tokenizer.json`, if there is one, and last `data.json`: only it makes data whole."""
    with disk_full_is_an_error(folder):
        if tokenizer.model is not None:
            write_text(folder / "tokenizer.json", tokenizer.to_json())
        write_json(folder / MANIFEST, {**asdict(manifest), "fingerprint": manifest.fingerprint})


def read_manifest(folder: Path) -> DataManifest:
    """The manifest of a data folder; unknown or missing keys are an error."""
    if not (folder / MANIFEST).exists():
        raise InputError(
            f"{str(folder)!r} holds no {MANIFEST}: make the data with `suffice ladder data`"
        )
    raw = read_json(folder / MANIFEST, what="data manifest")
    try:
        manifest = _parse(raw)
    except (KeyError, TypeError) as error:
        raise CorruptData(
            f"{str(folder / MANIFEST)!r} is not a data manifest of format {FORMAT} ({error}): "
            "make the data again with `suffice ladder data`"
        ) from None
    if raw.get("fingerprint") != manifest.fingerprint:
        raise CorruptData(
            f"{str(folder / MANIFEST)!r} was edited: its fingerprint does not match its shards; "
            "make the data again with `suffice ladder data`"
        )
    return manifest


def load_split(folder: Path, manifest: DataManifest, split: str) -> TokenArray:
    """All ids of "train" or "validation", every shard checked against its hash."""
    record = {"train": manifest.train, "validation": manifest.validation}[split]
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    return np.concatenate([_load_shard(folder / s.file, s, dtype) for s in record.shards])


def _load_shard(path: Path, shard: ShardFile, dtype: np.dtype[Any]) -> TokenArray:
    again = "copy it again or remake the data with `suffice ladder data`"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CorruptData(f"shard {str(path)!r} is missing: {again}") from None
    except OSError as error:
        raise CorruptData(
            f"shard {str(path)!r} cannot be read ({error.strerror}): {again}"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != shard.sha256:
        raise CorruptData(
            f"shard {str(path)!r} is corrupt: {len(data)} bytes with sha256 {digest[:12]}…, "
            f"{shard.tokens * dtype.itemsize} bytes with {shard.sha256[:12]}… were written: {again}"
        )
    ids: TokenArray = np.frombuffer(data, dtype=dtype)
    return ids


def _parse(raw: Mapping[str, Any]) -> DataManifest:
    known = {f.name for f in fields(DataManifest)}
    values = {key: value for key, value in raw.items() if key != "fingerprint"}
    if set(values) != known or values["format"] != FORMAT:
        raise KeyError(f"keys {sorted(set(values) ^ known)}, format {values.get('format')}")
    for split in SPLITS:
        shards = tuple(ShardFile(**shard) for shard in values[split].pop("shards"))
        values[split] = Split(**values[split], shards=shards)
    return DataManifest(**{**values, "sources": tuple(values["sources"])})
