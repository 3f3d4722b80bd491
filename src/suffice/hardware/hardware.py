"""Machines: what they can hold, move and compute at most, each number with its source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from suffice.core.errors import InputError, UnknownName
from suffice.core.strict import Strict
from suffice.hardware.utilisation import Utilisation, default_utilisation

Kind = Literal["gpu", "cpu"]
DType = Literal["fp32", "bf16", "fp16", "fp8", "int8", "fp4", "int4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One device and its limits.

    `peak_flops` is dense, by the dtype that the multiplication runs in. `interconnect_bytes_per_s`
    is what one device can send in one direction to its peers, and `interconnect_latency_s` what a
    sum over them takes beyond NVLink's. Up to `node_devices` are joined so; more devices talk over
    a network of `network_bytes_per_s` each. `generation` names devices whose measured
    coefficients go together. `sources` pairs a field with where
    its number comes from. `utilisation` says how much of the limits is reached in practice.
    """

    name: str
    title: str
    kind: Kind
    memory_bytes: float
    memory_bytes_per_s: float
    peak_flops: Mapping[str, float] = field(hash=False)
    interconnect_bytes_per_s: float
    usd_per_hour: float
    sources: tuple[tuple[str, str], ...]
    utilisation: Utilisation
    generation: str | None = None
    interconnect_latency_s: float = 0.0
    node_devices: int = 8
    network_bytes_per_s: float = 50e9
    network_latency_s: float = 20e-6

    def multiplies_in(self, weight_dtype: str) -> str:
        """The dtype in which weights stored as `weight_dtype` are multiplied.

        A type that the device lacks, and int4 always, is widened to 16 bits first. MXFP4 is
        multiplied as fp4 is.
        """
        name = "fp4" if weight_dtype == "mxfp4" else weight_dtype
        native = name in self.peak_flops and name != "int4"
        return name if native else "bf16"

    def matmul_flops(self, weight_dtype: str) -> float:
        """Dense peak in FLOP/s of a product whose weights are stored as `weight_dtype`."""
        return self.peak_flops[self.multiplies_in(weight_dtype)]


class _HardwareFile(Strict):
    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    kind: Kind
    memory_bytes: float = Field(gt=0)
    memory_bytes_per_s: float = Field(gt=0)
    interconnect_bytes_per_s: float = Field(gt=0)
    usd_per_hour: float = Field(ge=0)
    peak_flops: dict[DType, float]
    sources: dict[str, str]
    utilisation: dict[str, float] = Field(default_factory=dict)
    generation: str | None = None
    interconnect_latency_s: float = Field(default=0.0, ge=0)
    node_devices: int = Field(default=8, ge=1)
    network_bytes_per_s: float = Field(default=50e9, gt=0)
    network_latency_s: float = Field(default=20e-6, ge=0)


@cache
def hardware_names() -> tuple[str, ...]:
    """Names of the embedded machines, in order of memory bandwidth."""
    folder = files("suffice.hardware").joinpath("data")
    loaded = [
        _parse(entry.read_text(encoding="utf-8"), entry.name)
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    ]
    return tuple(machine.name for machine in sorted(loaded, key=lambda m: -m.memory_bytes_per_s))


def load_hardware(source: str | Path) -> Hardware:
    """Machine of an embedded name (`h100`), or of a TOML file laid out like the embedded ones.

    Raises UnknownName for a name that is not embedded, InputError for a file that is malformed.
    """
    if Path(source).suffix == ".toml":  # may change between calls: never cached
        return _parse(hardware_text(source), str(source))
    return _embedded(str(source).lower())


@cache
def _embedded(name: str) -> Hardware:
    return _parse(hardware_text(name), name)


def hardware_text(source: str | Path) -> str:
    """The hardware file behind a name or path, verbatim."""
    path = Path(source)
    if path.suffix == ".toml":
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"hardware file {str(path)!r} is not UTF-8 text") from None
        except OSError as error:
            raise InputError(
                f"hardware file {str(path)!r} cannot be read: {error.strerror}"
            ) from None
    name = str(source).lower()
    if name not in hardware_names():
        raise UnknownName.of(
            "hardware", str(source), hardware_names(),
            "— `suffice hardware` lists what is known; a .toml file works too",
        )  # fmt: skip
    return files("suffice.hardware").joinpath("data", f"{name}.toml").read_text(encoding="utf-8")


def _parse(text: str, where: str) -> Hardware:
    try:
        record = _HardwareFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"hardware file {where!r} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"hardware file {where!r}: {place}: {first['msg'].lower()}; see "
            "`suffice hardware show h100 --toml` for a complete one"
        ) from None
    if "bf16" not in record.peak_flops or min(record.peak_flops.values()) <= 0:
        raise InputError(f"hardware file {where!r}: peak_flops needs bf16, and positive values")
    utilisation = default_utilisation(record.kind, record.generation)
    try:
        utilisation = utilisation.updated(record.utilisation, source=f"hardware file {where}")
    except InputError as error:
        raise InputError(f"hardware file {where!r}: {error}") from None
    return Hardware(
        name=record.name,
        title=record.title,
        kind=record.kind,
        memory_bytes=record.memory_bytes,
        memory_bytes_per_s=record.memory_bytes_per_s,
        peak_flops={str(dtype): peak for dtype, peak in record.peak_flops.items()},
        interconnect_bytes_per_s=record.interconnect_bytes_per_s,
        usd_per_hour=record.usd_per_hour,
        sources=tuple(record.sources.items()),
        utilisation=utilisation,
        generation=record.generation,
        interconnect_latency_s=record.interconnect_latency_s,
        node_devices=record.node_devices,
        network_bytes_per_s=record.network_bytes_per_s,
        network_latency_s=record.network_latency_s,
    )
