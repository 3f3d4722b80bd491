from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.training.pretrain.corpus import Deduplication, read_texts

LONG = "A paragraph that is long enough to count as a repeat. " * 5


def test_a_folder_is_read_in_order_of_its_paths(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n\n')
    (tmp_path / "ignored.bin").write_bytes(b"\x00")
    assert list(read_texts(str(tmp_path))) == ["first", "second"]


def test_gzip_and_zstd_give_the_same_documents(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = b"".join(json.dumps({"body": f"document {i}"}).encode() + b"\n" for i in range(3))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    gz, zst = (
        list(read_texts(str(tmp_path / f"a.jsonl.{end}"), text_field="body"))
        for end in ("gz", "zst")
    )
    assert gz == zst == ["document 0", "document 1", "document 2"]


@pytest.mark.parametrize("end", ["gz", "zst"])
def test_a_truncated_archive_is_named(tmp_path: Path, end: str) -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = b"".join(json.dumps({"text": f"document {i}"}).encode() + b"\n" for i in range(2000))
    packed = gzip.compress(lines) if end == "gz" else zstandard.compress(lines)
    path = tmp_path / f"a.jsonl.{end}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=rf"a\.jsonl\.{end}"):
        list(read_texts(str(path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", "not UTF-8"),
        ("a.jsonl", b"{nonsense", "line 1 is not valid JSON"),
        ("a.jsonl", b'{"body": "x"}', "no string 'text'"),
    ],
)
def test_bad_text_says_what_to_do(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_texts(str(tmp_path / name)))


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(read_texts(str(tmp_path / "nothing.txt")))
    with pytest.raises(InputError, match="holds no text"):
        list(read_texts(str(tmp_path)))


def test_repeats_are_dropped_and_counted() -> None:
    dedup = Deduplication()
    texts = ["one", f"{LONG}\n\nshort", "one  ", f"new\n\n{LONG}\n\nshort"]
    kept = [d.text for d in dedup.unique(texts)]
    # The long paragraph goes the second time, the short one may recur.
    assert kept == ["one", f"{LONG}\n\nshort", "new\n\nshort"]
    assert (dedup.documents, dedup.repeated_documents, dedup.repeated_paragraphs) == (3, 1, 1)
    assert dedup.repeated_bytes == len("one  ") + len(LONG) + 2


def test_the_split_is_decided_by_the_text_alone() -> None:
    texts = [f"document {i}" for i in range(400)]
    forwards = {d.text: d.fraction for d in Deduplication().unique(texts)}
    backwards = {d.text: d.fraction for d in Deduplication().unique(reversed(texts))}
    assert forwards == backwards
    assert 0.4 < sum(f < 0.5 for f in forwards.values()) / 400 < 0.6
