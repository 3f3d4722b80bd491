"""Documents, each one once, from text files, JSONL (plain, gzip, zstd) and Hub data sets."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from suffice.core.errors import InputError, MissingExtra

TEXT_SUFFIXES = (".txt", ".md", ".rst")
JSONL_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
# Shorter paragraphs (headings, "Remarks", "See also") recur legitimately in technical text.
PARAGRAPH_CHARACTERS = 200
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text without its repeats; `fraction` in [0, 1) is decided by the whole text alone.

    A split by `fraction` is the same whatever the order of documents.
    """

    text: str
    fraction: float


@dataclass(slots=True, kw_only=True)
class Deduplication:
    """What was dropped on the way; counts grow while documents are read."""

    documents: int = 0
    repeated_documents: int = 0
    repeated_paragraphs: int = 0
    repeated_bytes: int = 0
    _seen_documents: set[bytes] = field(default_factory=set, repr=False)
    _seen_paragraphs: set[bytes] = field(default_factory=set, repr=False)

    def unique(self, texts: Iterable[str]) -> Iterator[Document]:
        """Documents without repeats: whole documents, and paragraphs seen in an earlier document.

        Two texts are equal when they differ in white space alone. Order is kept.
        """
        for text in texts:
            key = _digest(text)
            if key in self._seen_documents:
                self.repeated_documents += 1
                self.repeated_bytes += len(text.encode())
                continue
            self._seen_documents.add(key)
            kept = self._without_seen_paragraphs(text)
            if kept.strip():
                self.documents += 1
                yield Document(text=kept, fraction=int.from_bytes(key[:8], "big") / 2**64)

    def _without_seen_paragraphs(self, text: str) -> str:
        paragraphs = text.split("\n\n")
        keys = [_digest(p) if len(p) >= PARAGRAPH_CHARACTERS else None for p in paragraphs]
        repeated = [key is not None and key in self._seen_paragraphs for key in keys]
        self._seen_paragraphs.update(key for key in keys if key is not None)
        if not any(repeated):
            return text
        self.repeated_paragraphs += sum(repeated)
        dropped = [p for p, again in zip(paragraphs, repeated, strict=True) if again]
        self.repeated_bytes += sum(len(p.encode()) + 2 for p in dropped)
        return "\n\n".join(p for p, again in zip(paragraphs, repeated, strict=True) if not again)


def read_texts(source: str, *, text_field: str = "text") -> Iterator[str]:
    """Documents of one source, in order.

    A source is a text file (one document), a JSONL file (one document per line, in `text_field`;
    `.gz` and `.zst` are unpacked), a folder of these (sorted by path), or `hf:NAME[:SPLIT]`.
    """
    if source.startswith("hf:"):
        yield from _hub_texts(source[3:], text_field)
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(
            p for p in path.rglob("*") if p.name.endswith(TEXT_SUFFIXES + JSONL_SUFFIXES)
        )
        if not files:
            raise InputError(
                f"folder {source!r} holds no text: it needs {', '.join(TEXT_SUFFIXES)} or "
                f"{', '.join(JSONL_SUFFIXES)} files"
            )
        for file in files:
            yield from read_texts(str(file), text_field=text_field)
    elif not path.exists():
        raise InputError(f"text {source!r} does not exist")
    elif path.name.endswith(JSONL_SUFFIXES):
        yield from _jsonl_texts(path, text_field)
    else:
        yield _whole_file(path)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


def _whole_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"text {str(path)!r} is not UTF-8 (byte {error.start}): convert it first"
        ) from None


def _jsonl_texts(path: Path, text_field: str) -> Iterator[str]:
    failures: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, UnicodeDecodeError)
    if path.suffix == ".zst":
        failures = (*failures, _zstandard().ZstdError)
    with path.open("rb") as raw:
        lines = enumerate(_lines(_chunks(path, raw)), start=1)
        while True:
            # A truncated archive shows itself only in the middle of reading.
            try:
                number, line = next(lines, (0, b""))
                text = line.decode()
            except failures as error:
                raise InputError(
                    f"text {str(path)!r} is damaged or truncated ({error}): copy it again"
                ) from None
            if not number:
                return
            if text.strip():
                yield _text_of(path, number, text, text_field)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _chunks(path: Path, raw: IO[bytes]) -> Iterator[bytes]:
    if path.suffix == ".zst":
        yield from _zstd_chunks(raw)
        return
    stream: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _zstd_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    """Unpacked frames; EOFError if the last one is cut short, which the library's reader hides."""
    frame = None
    while packed := raw.read(_CHUNK_BYTES):
        while packed:
            frame = frame or _zstandard().ZstdDecompressor().decompressobj()
            yield frame.decompress(packed)
            packed = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last zstd frame is incomplete")


def _zstandard() -> Any:
    try:
        import zstandard  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("zstandard", "train", "reading .zst files") from None
    return zstandard


def _text_of(path: Path, number: int, line: str, text_field: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"text {str(path)!r}, line {number} is not valid JSON: {error.msg}"
        ) from None
    text = row.get(text_field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise InputError(
            f"text {str(path)!r}, line {number} has no string {text_field!r}: name the field that "
            "holds the text with --text-field"
        )
    return text


def _hub_texts(name: str, text_field: str) -> Iterator[str]:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("datasets", "train", f"reading hf:{name}") from None
    data_set, _, split = name.partition(":")
    for row in load_dataset(data_set, split=split or "train", streaming=True):
        if not isinstance(row.get(text_field), str):
            raise InputError(
                f"data set {data_set!r} has no text column {text_field!r}; it has "
                f"{', '.join(sorted(row))}: choose with --text-field"
            )
        yield row[text_field]
