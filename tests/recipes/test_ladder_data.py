from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.recipes.ladder.data import DataConfig, make_data
from suffice.training.pretrain.shards import load_split, read_manifest
from suffice.training.pretrain.tokenizer import load_tokenizer

WORDS = tuple("a ladder of small shapes tells what a large one will do".split())  # noqa: SIM905


@pytest.fixture
def source(tmp_path: Path) -> str:
    rng = random.Random(0)
    texts = [f"{i}: " + " ".join(rng.choices(WORDS, k=30)) for i in range(200)]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, *texts[:7]]))
    return str(path)


def test_every_document_is_in_one_split_once(source: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    config = DataConfig(sources=(source,), vocab_size=290, validation_share=0.2, shard_tokens=500)
    manifest = make_data(config, tmp_path / "data")
    assert manifest.repeated_documents == 7
    assert manifest.train.documents + manifest.validation.documents == 200
    assert 15 < manifest.validation.documents < 65
    assert len(manifest.train.shards) > 3
    tokenizer = load_tokenizer(tmp_path / "data")
    seen = []
    for split in ("train", "validation"):
        ids = load_split(tmp_path / "data", manifest, split)
        ends = np.flatnonzero(ids == tokenizer.end_of_document)
        seen += [tokenizer.model.decode(part.tolist()) for part in np.split(ids, ends + 1)[:-1]]
    wanted = [json.loads(line)["text"] for line in Path(source).read_text().splitlines()[:200]]
    assert sorted(seen) == sorted(wanted)


def test_the_same_text_gives_the_same_fingerprint(source: str, tmp_path: Path) -> None:
    config = DataConfig(sources=(source,), tokenizer="bytes", validation_share=0.2)
    first = make_data(config, tmp_path / "a")
    second = make_data(config, tmp_path / "b")
    other = make_data(
        DataConfig(sources=(source,), tokenizer="bytes", validation_share=0.3), tmp_path / "c"
    )
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_a_finished_folder_is_left_alone(source: str, tmp_path: Path) -> None:
    config = DataConfig(sources=(source,), tokenizer="bytes", validation_share=0.2)
    make_data(config, tmp_path / "data")
    before = (tmp_path / "data" / "data.json").stat().st_mtime_ns
    said: list[str] = []
    make_data(config, tmp_path / "data", say=said.append)
    assert (tmp_path / "data" / "data.json").stat().st_mtime_ns == before
    assert "nothing to do" in said[-1]


def test_a_limit_on_the_text(source: str, tmp_path: Path) -> None:
    config = DataConfig(
        sources=(source,), tokenizer="bytes", validation_share=0.2, max_bytes=10_000
    )
    manifest = make_data(config, tmp_path / "data")
    total = manifest.train.text_bytes + manifest.validation.text_bytes
    assert 9_000 < total <= 10_000


def test_a_given_tokenizer_is_used(source: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    config = DataConfig(sources=(source,), vocab_size=290, validation_share=0.2)
    first = make_data(config, tmp_path / "a")
    given = DataConfig(sources=(source,), tokenizer=str(tmp_path / "a"), validation_share=0.2)
    assert make_data(given, tmp_path / "b").fingerprint == first.fingerprint


def test_bad_requests(source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text was given"):
        DataConfig(sources=())
    with pytest.raises(InputError, match="validation share"):
        DataConfig(sources=(source,), validation_share=0.0)
    one = tmp_path / "one.txt"
    one.write_text("a single document")
    with pytest.raises(InputError, match="split is empty"):
        make_data(DataConfig(sources=(str(one),), tokenizer="bytes"), tmp_path / "data")
    assert not (tmp_path / "data" / "data.json").exists()
    assert read_manifest(make_small(tmp_path)).vocab_size == 257


def make_small(folder: Path) -> Path:
    """A data folder of a few documents."""
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"document {i} " + " ".join(WORDS[: i % 9]))
    config = DataConfig(sources=(str(folder),), tokenizer="bytes", validation_share=0.3)
    make_data(config, folder / "small")
    return folder / "small"
