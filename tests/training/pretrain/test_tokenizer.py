from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.training.pretrain.tokenizer import byte_tokenizer, load_tokenizer, train_tokenizer

TEXT = "A ladder, 3 rungs: «naïve» x != y\n\tend."


def test_bytes_are_their_own_ids() -> None:
    tokenizer = byte_tokenizer()
    (ids,) = tokenizer.encode([TEXT])
    assert ids.dtype == np.uint16
    assert ids[:-1].astype(np.uint8).tobytes().decode() == TEXT
    assert ids[-1] == tokenizer.end_of_document == 256


def test_a_trained_tokenizer_survives_disk_and_gives_text_back(
    tmp_path: Path, made_up_documents: Callable[..., list[str]]
) -> None:
    pytest.importorskip("tokenizers")
    tokenizer = train_tokenizer(made_up_documents(50, 40), 300)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    again = load_tokenizer(tmp_path)
    (first,), (second,) = tokenizer.encode([TEXT]), again.encode([TEXT])
    assert np.array_equal(first, second)
    assert tokenizer.sha256 == again.sha256
    assert tokenizer.model.decode(first[:-1].tolist()) == TEXT
    assert (again.vocab_size, first[-1]) == (300, tokenizer.end_of_document)


def test_too_little_text_for_the_vocabulary() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(InputError, match="supports only"):
        train_tokenizer(["ab"], 1000)
    with pytest.raises(InputError, match="more than 257"):
        train_tokenizer(["ab"], 100)


def _word_tokenizer(**extra: object) -> str:
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, **extra}, "unk_token": "[UNK]"}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None, "decoder": None, "model": model,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "cannot be read"),
        ("not json", "cannot be read"),
        (_word_tokenizer(), "no token that ends a document"),
        (_word_tokenizer(**{"</s>": 1}), "does not give text back unchanged"),
    ],
)
def test_a_bad_tokenizer_is_refused(tmp_path: Path, content: str, message: str) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_tokenizer(path)


def test_a_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_tokenizer(tmp_path / "nothing")
