"""Vectors inside a chat message: content parts of type `prompt_embeds`, as vLLM takes them.

    {"type": "prompt_embeds", "data": base64 of what `torch.save` writes of an (n, d) tensor}

`torch.save` writes a zip archive: a pickle that names a storage, its shape and strides, and the
storage's bytes. Both directions are done here without torch, and reading runs nothing that the
pickle names: three names are known, all others are refused. vLLM must be started with
`--enable-prompt-embeds`.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.core.requests import OpaquePart

KIND = "prompt_embeds"
_MOST_BYTES = 64 * 2**20
_TYPES: Mapping[str, str] = {
    "FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "<u2",
}  # fmt: skip


def prompt_embeds_part(vectors_nd: FloatArray) -> OpaquePart:
    """The content part that stands for `vectors_nd`, sent as float32."""
    data = base64.b64encode(_saved(np.asarray(vectors_nd, dtype="<f4"))).decode()
    return OpaquePart(json=json.dumps({"type": KIND, "data": data}))


def read_prompt_embeds(part: Mapping[str, Any]) -> FloatArray:
    """(n, d) vectors of a content part, float64. Raises InputError."""
    data = part.get("data")
    if not isinstance(data, str):
        raise InputError("a prompt_embeds part needs `data`: base64 of a saved tensor")
    try:
        raw = base64.b64decode(data, validate=True)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _loaded(archive)
    except (binascii.Error, zipfile.BadZipFile, pickle.UnpicklingError, KeyError, ValueError,
            EOFError, struct.error, IndexError, TypeError, AttributeError) as error:  # fmt: skip
        raise InputError(
            f"prompt_embeds: not an (n, d) tensor that torch.save wrote ({error})"
        ) from None


@dataclass(frozen=True, slots=True)
class _Storage:
    kind: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    kind: str
    key: str
    shape: tuple[int, ...]


class _Reader(pickle.Unpickler):
    """Knows how a tensor is written, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _TYPES:
            return _Storage(name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor of numbers")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        kind, storage, key, *_ = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("something other than a storage")
        return storage.kind, str(key)


def _tensor(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], stride: tuple[int, ...],
    *_: Any,
) -> _Tensor:  # fmt: skip
    if offset or len(shape) != 2 or stride != (shape[1], 1):
        raise pickle.UnpicklingError(f"shape {shape} with strides {stride}; make it contiguous")
    return _Tensor(*storage, shape)


def _loaded(archive: zipfile.ZipFile) -> FloatArray:
    names = archive.namelist()
    pickled = next(name for name in names if name.endswith("/data.pkl"))
    if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES // 2**20} MiB")
    found = _Reader(io.BytesIO(archive.read(pickled))).load()
    if not isinstance(found, _Tensor):
        raise pickle.UnpicklingError("no tensor")
    folder = pickled.rpartition("/")[0]
    if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != b"little":
        raise ValueError("big-endian bytes")
    flat = np.frombuffer(archive.read(f"{folder}/data/{found.key}"), dtype=_TYPES[found.kind])
    if found.kind == "BFloat16Storage":  # the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    values = flat[: found.shape[0] * found.shape[1]].reshape(found.shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    return values


def _saved(vectors_nd: Any) -> bytes:
    if vectors_nd.ndim != 2 or not vectors_nd.size:
        raise InputError(f"vectors must be (n, d), got shape {vectors_nd.shape}")
    rows, width = vectors_nd.shape

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    # In order: storage, offset 0, shape, strides, no gradient, no hooks.
    pickled = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage")
        + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(rows * width) + b"tQ"
        + number(0) + number(rows) + number(width) + b"\x86" + number(width) + number(1) + b"\x86"
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", np.ascontiguousarray(vectors_nd).tobytes())
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()
