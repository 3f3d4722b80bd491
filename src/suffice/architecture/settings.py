"""Typed reading of a `config.json`, with a family's defaults behind what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suffice.core.errors import ConfigError, UnsupportedModel

# Far beyond any published model; catches a swapped or mistyped field before it becomes a count.
_LARGEST = 1 << 31
_LARGEST_BY_KEY = {
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1 << 11,
    "num_attention_heads": 1 << 11,
    "num_key_value_heads": 1 << 11,
    "head_dim": 1 << 12,
    "vocab_size": 1 << 24,
}


class Settings:
    """Values of one config; `filled` collects the sizes that came from the family's defaults."""

    def __init__(
        self,
        given: Mapping[str, Any],
        defaults: Mapping[str, Any],
        aliases: Mapping[str, str],
    ) -> None:
        self.given = {aliases.get(key, key): value for key, value in given.items()}
        self.defaults = {aliases.get(key, key): value for key, value in defaults.items()}
        self._aliases = aliases
        self.filled: dict[str, int] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """The config's value, a null included; the family's default only where the key is absent.

        `default` stands in for a null and for an absent key that the family has no default for.
        """
        key = self._aliases.get(key, key)
        value = self.given[key] if key in self.given else self.defaults.get(key)
        return default if value is None else value

    def has(self, key: str) -> bool:
        """Whether the config itself gives the key, and not as null."""
        return self.given.get(self._aliases.get(key, key)) is not None

    def size(self, key: str, default: int | None = None) -> int:
        """A positive whole number; `default` stands in for an absent or null one."""
        found = self._integer(key, default)
        if found is None:
            raise ConfigError(f"the config has no {key}; it is needed to know the model's shape")
        if found < 1:
            raise ConfigError(_bounds(key, 1, found))
        return found

    def count(self, key: str, default: int = 0) -> int:
        """A whole number of 0 or more."""
        found = self._integer(key, default)
        if found is None or found < 0:
            raise ConfigError(_bounds(key, 0, found))
        return found

    def maybe(self, key: str) -> int | None:
        """A positive whole number, or None where the config says null or 0."""
        value = self.get(key)
        if value in (None, 0, False):
            return None
        found = self._checked(key, value)
        if found < 1:
            raise ConfigError(_bounds(key, 1, found))
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.get(key, default))

    def number(self, key: str, default: float) -> float:
        """A number, whole or not."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key} must be a number, got {value!r}")
        return float(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where there is none."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{key} must be a list of whole numbers, got {value!r}")
        return tuple(self._checked(key, item, largest=_LARGEST) for item in value)

    def names(self, key: str, layers: int) -> tuple[str, ...] | None:
        """A name for each layer; None where the config has no such list."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{key} must be a list of names, one per layer, got {value!r}")
        if len(value) != layers:
            raise ConfigError(f"{key} has {len(value)} entries for {layers} layers")
        return tuple(str(item) for item in value)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A nested object; empty where there is none."""
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} must be an object, got {value!r}")
        return value

    def _integer(self, key: str, default: int | None) -> int | None:
        value = self.get(key)
        if value is None:
            return default
        checked = self._checked(key, value)
        if self._aliases.get(key, key) not in self.given:
            self.filled[key] = checked
        return checked

    def _checked(self, key: str, value: Any, largest: int | None = None) -> int:
        if isinstance(value, list | tuple):
            raise UnsupportedModel(
                f"{key} differs from layer to layer; only uniform layers are modelled for this "
                "family"
            )
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{key} must be a whole number, got {value!r}")
        limit = largest or _LARGEST_BY_KEY.get(key, _LARGEST)
        if abs(value) > limit:
            raise ConfigError(f"{key} must lie between 1 and {limit}, got {value}")
        return value


def _bounds(key: str, least: int, found: int | None) -> str:
    return f"{key} must lie between {least} and {_LARGEST_BY_KEY.get(key, _LARGEST)}, got {found}"
