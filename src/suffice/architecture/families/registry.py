"""Which function reads which `model_type`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from suffice.architecture.model import Model
from suffice.architecture.settings import Settings

Builder = Callable[[Settings], Model]

_BUILDERS: dict[str, Builder] = {}
_OWN_DEFAULTS: dict[str, Mapping[str, Any]] = {}

BUILDERS: Mapping[str, Builder] = MappingProxyType(_BUILDERS)
# Defaults of families whose config class comes with the checkpoint, not with transformers.
OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(_OWN_DEFAULTS)


def family(
    *model_types: str, defaults: Mapping[str, Any] | None = None
) -> Callable[[Builder], Builder]:
    """Register a builder; `defaults` for types that transformers does not know."""

    def register(builder: Builder) -> Builder:
        for model_type in model_types:
            _BUILDERS[model_type] = builder
            if defaults is not None:
                _OWN_DEFAULTS[model_type] = defaults
        return builder

    return register
