"""Well-known open shapes, embedded, and shapes from files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar

from suffice.architecture.hf_config import shape_from_config
from suffice.architecture.model import Model
from suffice.architecture.reading import model_from_config
from suffice.architecture.shape import Shape
from suffice.core.errors import ConfigError, InputError, UnknownName, UnsupportedModel
from suffice.core.files import read_json
from suffice.core.quantities import format_bytes, format_count

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Reader(Protocol[T_co]):
    def __call__(self, config: Mapping[str, Any], *, name: str | None = None) -> T_co: ...


@cache
def catalog() -> Mapping[str, Mapping[str, Any]]:
    """Embedded `config.json` contents by Hugging Face id, reduced to what a shape needs.

    The shapes under `bian2025/` are the final models of arXiv:2510.18245, which published neither
    weights nor configs; their heads follow from r, GQA and head size.
    """
    text = files("suffice.architecture").joinpath("data/shapes.json").read_text(encoding="utf-8")
    configs: dict[str, dict[str, Any]] = json.loads(text)
    return configs


@cache
def served() -> Mapping[str, Mapping[str, Any]]:
    """Further embedded models, which a search does not vary: experts, latent attention, hybrids."""
    text = files("suffice.architecture").joinpath("data/models.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


@cache
def configs() -> Mapping[str, Mapping[str, Any]]:
    """Every embedded config by Hugging Face id."""
    return {**catalog(), **served()}


@cache
def _names() -> Mapping[str, str]:
    short = [name.rsplit("/", 1)[1].lower() for name in configs()]
    unique = {s: n for s, n in zip(short, configs(), strict=True) if short.count(s) == 1}
    return {**{name.lower(): name for name in configs()}, **unique}


def load_shape(source: str | Path) -> Shape:
    """Shape of an embedded model (`meta-llama/Llama-3.2-1B`), a `config.json` or its folder.

    Letters' case and the owner before the slash may be left out. Raises UnknownName, ConfigError,
    or UnsupportedModel for one whose layers are not dense and alike: see `load_model`.
    """
    return _load(source, shape_from_config)


def load_model(source: str | Path) -> Model:
    """Model of any architecture: an embedded one by name, a `config.json` or its folder.

    Raises UnknownName, ConfigError or UnsupportedModel.
    """
    return _load(source, model_from_config)


def _stored(folder: Path) -> str:
    """What the index of a checkpoint's files says of one whose layers nobody here knows."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return ""
    index = read_json(path, what="index of weights")
    metadata = index.get("metadata") if isinstance(index, dict) else None
    if not isinstance(metadata, dict):
        return ""
    size, count = metadata.get("total_size"), metadata.get("total_parameters")
    said = []
    if isinstance(count, int):
        said.append(f"{format_count(count)} parameters")
    if isinstance(size, int):
        said.append(f"{format_bytes(size)}")
    return f"; its files hold {' in '.join(said)}" if said else ""


def _load(source: str | Path, read: _Reader[T]) -> T:
    known = _names().get(str(source).lower())
    if known is not None and not Path(source).exists():
        return read(configs()[known], name=known)
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if path.exists() or path.suffix == ".json":
        config = read_json(path, what="model config")
        try:
            return read(config, name=None)
        except UnsupportedModel as error:
            stored = _stored(path.parent)
            raise UnsupportedModel(f"{str(source)!r}: {error}{stored}") from None
        except (ConfigError, InputError) as error:
            raise type(error)(f"{str(source)!r}: {error}") from None
    raise UnknownName.of(
        "model", str(source), configs(),
        "— `suffice shapes` lists what is embedded; a path to a config.json works too",
    )  # fmt: skip
