"""The NumPy runtime against transformers: tokenizer, logits, greedy tokens; damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suffice.backends.nano.runtime import NanoModel, greedy
from suffice.backends.nano.vocabulary import CONTROL_TOKENS, Vocabulary
from suffice.backends.nano.weights import RECORD, WEIGHTS
from suffice.core.errors import CorruptData, InputError, UnsupportedModel

ALPHABET = "0123456789abcdef+-*,"
VOCABULARY = Vocabulary.of(ALPHABET)
CONFIG = {
    "model_type": "llama", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "vocab_size": len(VOCABULARY), "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip


def write_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    """The format, written from its description."""
    header, body = {}, b""
    for name, value in tensors.items():
        raw = np.asarray(value, dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32", "shape": list(value.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random model, without torch."""
    from suffice.backends.nano.weights import expected_shapes, read_config

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text(VOCABULARY.to_json())
    rng = np.random.default_rng(0)
    shapes = expected_shapes(read_config(tmp_path))
    write_safetensors(
        tmp_path / WEIGHTS, {name: 0.3 * rng.normal(size=shape) for name, shape in shapes.items()}
    )
    return tmp_path


def test_step_by_step_equals_all_at_once(folder: Path) -> None:
    model = NanoModel(folder)
    ids = VOCABULARY.prompt("3+4*7abc,19")
    whole = model.advance(ids, model.start())
    cache = model.start(capacity=2)  # grows on the way
    for token in ids:
        last = model.advance([token], cache)
    assert np.allclose(whole, last, atol=1e-5)
    assert cache.length == len(ids)


def test_a_copied_cache_is_independent(folder: Path) -> None:
    model = NanoModel(folder)
    cache = model.start()
    model.advance(VOCABULARY.prompt("12"), cache)
    copied = cache.copy()
    first = model.advance([9], cache)
    model.advance([11, 12], copied)
    again = model.start()
    model.advance(VOCABULARY.prompt("12"), again)
    assert np.allclose(first, model.advance([9], again), atol=1e-6)


def test_the_parameters_are_counted(folder: Path) -> None:
    tensors = json.loads((folder / WEIGHTS).read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert NanoModel(folder).parameters == sum(
        int(np.prod(entry["shape"])) for entry in tensors.values()
    )


def test_text_round_trip_and_alphabet() -> None:
    ids = VOCABULARY.encode("<think>, a 3</think>3<end>")
    assert VOCABULARY.decode(ids) == "<think>,a3</think>3<end>"
    assert VOCABULARY.decode(ids, skip_special_tokens=True) == "<think>,a3</think>3"
    with pytest.raises(InputError, match="'h' is outside this model's alphabet"):
        VOCABULARY.encode("hello")


def test_a_vocabulary_without_control_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="<short>, <think>, </think>: mode routing needs"):
        Vocabulary((*CONTROL_TOKENS[:5], "a"))


def test_the_vocabulary_survives_its_file() -> None:
    again = Vocabulary.from_json(VOCABULARY.to_json(), source="t")
    assert again == VOCABULARY
    other = json.loads(VOCABULARY.to_json())
    other["model"]["type"] = "BPE"
    with pytest.raises(InputError, match="serve others with transformers or vLLM"):
        Vocabulary.from_json(json.dumps(other), source="t")
    with pytest.raises(CorruptData, match="not a tokenizer"):
        Vocabulary.from_json("{", source="t")


@pytest.mark.parametrize("damage", ["cut", "header", "shape", "nan", "missing"])
def test_damaged_weights_are_named(folder: Path, damage: str) -> None:
    path = folder / WEIGHTS
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "header":
        path.write_bytes(data[:5])
    elif damage == "shape":
        (folder / "config.json").write_text(json.dumps({**CONFIG, "intermediate_size": 41}))
    elif damage == "nan":
        path.write_bytes(data[:-4] + np.float32(np.nan).tobytes())
    else:
        path.unlink()
    with pytest.raises(CorruptData, match=r"weights '.*model.safetensors'"):
        NanoModel(folder)


def test_a_flipped_bit_is_seen_where_the_hash_was_recorded(folder: Path) -> None:
    from suffice.backends.nano.weights import weights_sha256

    path = folder / WEIGHTS
    (folder / RECORD).write_text(json.dumps({"weights_sha256": weights_sha256(folder)}))
    NanoModel(folder)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptData, match="differ from the hash"):
        NanoModel(folder)


def test_other_models_are_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gemma2"}))
    with pytest.raises(UnsupportedModel, match="computes Llama models alone"):
        NanoModel(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "attention_bias": True}))
    with pytest.raises(UnsupportedModel, match="biases"):
        NanoModel(folder)


def test_too_long_a_sequence_is_an_error(folder: Path) -> None:
    model = NanoModel(folder)
    with pytest.raises(InputError, match="takes 128 at most"):
        model.advance([8] * 129, model.start())


@pytest.mark.torch
@pytest.mark.parametrize("tied", [False, True])
def test_greedy_tokens_and_logits_equal_transformers(tmp_path: Path, tied: bool) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    values = {k: v for k, v in CONFIG.items() if k not in ("model_type", "rope_theta")}
    config = transformers.LlamaConfig(
        **{**values, "tie_word_embeddings": tied}, bos_token_id=None,
        eos_token_id=VOCABULARY.id("<end>"), pad_token_id=0, initializer_range=0.4,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(VOCABULARY.to_json())
    nano = NanoModel(tmp_path)
    rng = np.random.default_rng(2)
    for _ in range(20):
        text = "".join(rng.choice(list(ALPHABET), size=int(rng.integers(1, 12))))
        ids = VOCABULARY.prompt(text)
        with torch.inference_mode():
            theirs = model(torch.tensor([ids])).logits[0, -1].numpy()
            whole = model.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=40, do_sample=False,
            )[0, len(ids) :].tolist()  # fmt: skip
        assert np.allclose(nano.advance(ids, nano.start()), theirs, atol=2e-4)
        assert greedy(nano, ids, max_tokens=40) == whole


@pytest.mark.torch
def test_the_tokenizers_package_reads_the_same_ids(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_str(VOCABULARY.to_json())
    for text in ("<user>3 + 4*7<assistant>", "<think>,a3,b9</think>9<end>", "0", "<short>5<end>"):
        assert theirs.encode(text).ids == VOCABULARY.encode(text)
        assert theirs.decode(
            VOCABULARY.encode(text), skip_special_tokens=True
        ) == VOCABULARY.decode(VOCABULARY.encode(text), skip_special_tokens=True)


@pytest.mark.torch
def test_the_chat_template_makes_the_prompt(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(VOCABULARY.to_json())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(VOCABULARY.tokenizer_config(128)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    turns = [{"role": "user", "content": "3bf"}]

    def ids(**variables: Any) -> Any:
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **variables
        )
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    assert ids() == VOCABULARY.prompt("3bf")
    assert ids(enable_thinking=True) == [*VOCABULARY.prompt("3bf"), VOCABULARY.id("<think>")]
    assert ids(enable_thinking=False) == [*VOCABULARY.prompt("3bf"), VOCABULARY.id("<short>")]
    turns.insert(0, {"role": "system", "content": "be brief"})
    with pytest.raises(Exception, match="single user message"):
        ids()
