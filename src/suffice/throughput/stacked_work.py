"""Many models' work as one, so that a grid of shapes is predicted at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.throughput.work import Cache, Device, Products, Routed, one_value


def stacked(devices: Sequence[Device]) -> Device:
    """Devices of one row each as one of many rows; caches and experts are padded with nothing."""
    depth = max(len(device.caches) for device in devices)
    kinds = max(len(device.experts) for device in devices)
    zero = one_value(0.0)
    no_cache = Cache(zero, zero, zero, 0.0, 0.0, 0.0)
    none = Routed(zero, 2.0, 1.0, 0.0, Products(zero, 0.0, 1.0))

    def column(values: list[Any]) -> FloatArray:
        return np.concatenate([np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in values])

    def tuples(groups: list[Any]) -> Any:
        first = groups[0]
        return type(first)(
            *(
                tuples([g[i] for g in groups])
                if isinstance(first[i], tuple)
                else column([g[i] for g in groups])
                for i in range(len(first))
            )
        )

    values: dict[str, Any] = {}
    for name in Device._fields:
        found = [getattr(device, name) for device in devices]
        if name == "caches":
            values[name] = tuple(
                tuples([f[i] if i < len(f) else no_cache for f in found]) for i in range(depth)
            )
        elif name == "experts":
            values[name] = tuple(
                tuples([f[i] if i < len(f) else none for f in found]) for i in range(kinds)
            )
        elif name == "products":
            values[name] = tuple(tuples([f[i] for f in found]) for i in range(len(found[0])))
        elif name == "head":
            values[name] = tuples(found)
        else:
            values[name] = column(found)
    return Device(**values)


def selected(device: Device, chosen: Any) -> Device:
    """The rows of a stacked device where `chosen` is true."""
    found: Device = _mapped(device, lambda value: value[chosen])
    return found


def repeated(device: Device, rows: int) -> Device:
    """A device of one row as one of many equal rows."""

    def of(value: Any) -> Any:
        return np.repeat(value, rows) if isinstance(value, np.ndarray) else value

    found: Device = _mapped(device, of)
    return found


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples of tuples with every leaf changed."""
    if not isinstance(value, tuple):
        return change(value)
    made = [_mapped(item, change) for item in value]
    return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
