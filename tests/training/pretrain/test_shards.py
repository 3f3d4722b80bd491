from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import CorruptData, DiskFull, InputError
from suffice.training.pretrain import shards
from suffice.training.pretrain.shards import ShardWriter, load_split, read_manifest


@pytest.fixture
def copy(data_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(data_folder, tmp_path / "data")
    return tmp_path / "data"


def test_a_split_is_its_documents_one_after_another(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", np.uint16, shard_tokens=10)
    documents = [np.arange(n, dtype=np.uint16) for n in (4, 13, 1, 7)]
    for ids in documents:
        writer.add(ids, text_bytes=2 * len(ids))
    split = writer.finish()
    assert [s.tokens for s in split.shards] == [10, 10, 5]
    assert (split.documents, split.tokens, split.text_bytes) == (4, 25, 50)
    parts = [np.frombuffer((tmp_path / s.file).read_bytes(), dtype="<u2") for s in split.shards]
    assert np.array_equal(np.concatenate(parts), np.concatenate(documents))


def test_the_manifest_reads_back(data_folder: Path) -> None:
    manifest = read_manifest(data_folder)
    assert manifest.vocab_size == 257
    assert (
        manifest.fingerprint == json.loads((data_folder / "data.json").read_text())["fingerprint"]
    )
    train = load_split(data_folder, manifest, "train")
    assert len(train) == manifest.train.tokens
    # Bytes plus one end per document.
    assert manifest.train.tokens == manifest.train.text_bytes + manifest.train.documents


def test_a_flipped_bit_is_found(copy: Path) -> None:
    path = next(copy.glob("train-*.bin"))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptData, match=r"train-0000\.bin.* is corrupt: .* ladder data"):
        load_split(copy, read_manifest(copy), "train")


def test_a_missing_shard_and_a_missing_manifest(copy: Path) -> None:
    next(copy.glob("validation-*.bin")).unlink()
    with pytest.raises(CorruptData, match="is missing"):
        load_split(copy, read_manifest(copy), "validation")
    (copy / "data.json").unlink()
    with pytest.raises(InputError, match=r"holds no data\.json"):
        read_manifest(copy)


@pytest.mark.parametrize("change", [{"vocab_size": None}, {"new": 1}, {"format": 2}])
def test_another_format_is_refused(copy: Path, change: dict[str, object]) -> None:
    raw = json.loads((copy / "data.json").read_text()) | change
    (copy / "data.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    with pytest.raises(CorruptData, match="format 1"):
        read_manifest(copy)


def test_an_edited_hash_is_noticed(copy: Path) -> None:
    text = (copy / "data.json").read_text()
    sha = read_manifest(copy).train.shards[0].sha256
    (copy / "data.json").write_text(text.replace(sha, "0" * 64))
    with pytest.raises(CorruptData, match="was edited"):
        read_manifest(copy)


def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "write_bytes", full)
    writer = ShardWriter(tmp_path, "train", np.uint16, shard_tokens=2)
    with pytest.raises(DiskFull, match=r"disk is full while writing.*train-0000"):
        writer.add(np.zeros(3, dtype=np.uint16), text_bytes=3)
