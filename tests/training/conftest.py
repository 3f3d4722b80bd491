"""A tiny data folder: text that a seed makes up, with enough structure to learn from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from suffice.recipes.ladder.data import DataConfig, make_data
from suffice.training.rung import LadderRung, ladder_shape

WORDS = ("ladder", "rung", "shape", "token", "width", "depth", "loss", "law", "seed", "model")


def made_up_documents(count: int, words: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{i} " + " ".join(rng.choice(WORDS) for _ in range(words)) + "." for i in range(count)]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="session", name="made_up_documents")
def _made_up_documents() -> Callable[..., list[str]]:
    return made_up_documents


@pytest.fixture(scope="session")
def rung() -> LadderRung:
    shape = ladder_shape(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=257,
    )
    return LadderRung(shape=shape, tokens=100_000, seed=3, purpose="design")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder-data")
    source = write_jsonl(folder / "text.jsonl", made_up_documents(300, 60))
    config = DataConfig(sources=(str(source),), tokenizer="bytes", validation_share=0.1)
    make_data(config, folder / "data")
    return folder / "data"
