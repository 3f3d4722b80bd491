"""Vectors in messages: read as torch writes them, written as torch reads them, nothing run."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from suffice.backends.prompt_embeds import prompt_embeds_part, read_prompt_embeds
from suffice.core.errors import InputError

VECTORS = np.random.default_rng(0).normal(size=(3, 5))


def data_of(raw: bytes) -> dict[str, str]:
    return {"type": "prompt_embeds", "data": base64.b64encode(raw).decode()}


def test_what_is_written_is_read_again() -> None:
    part = json.loads(prompt_embeds_part(VECTORS).json)
    assert part["type"] == "prompt_embeds"
    np.testing.assert_array_equal(read_prompt_embeds(part), VECTORS.astype(np.float32))


@pytest.mark.torch
def test_torch_reads_what_is_written() -> None:
    torch = pytest.importorskip("torch")
    raw = base64.b64decode(json.loads(prompt_embeds_part(VECTORS).json)["data"])
    found = torch.load(io.BytesIO(raw), weights_only=True)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), VECTORS.astype(np.float32))


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float64"])
def test_what_torch_writes_is_read(kind: str) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(VECTORS).to(getattr(torch, kind))
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    found = read_prompt_embeds(data_of(buffer.getvalue()))
    np.testing.assert_array_equal(found, tensor.double().numpy())


class Harmful:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(capsys) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harmful()))
    with pytest.raises(InputError, match="print is no part of a tensor"):
        read_prompt_embeds(data_of(buffer.getvalue()))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "part",
    [{}, {"data": 3}, {"data": "!!"}, {"data": base64.b64encode(b"no archive").decode()}],
)
def test_what_is_no_tensor_is_refused(part) -> None:
    with pytest.raises(InputError, match="prompt_embeds"):
        read_prompt_embeds(part)


def test_values_that_are_not_finite_and_other_shapes_are_refused() -> None:
    bad = VECTORS.copy()
    bad[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        read_prompt_embeds(json.loads(prompt_embeds_part(bad).json))
    with pytest.raises(InputError, match=r"got shape \(5,\)"):
        prompt_embeds_part(VECTORS[0])
