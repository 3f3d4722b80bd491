"""The embedded machines and what a malformed file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError, UnknownName
from suffice.hardware import hardware_names, hardware_text, load_hardware
from suffice.hardware.cpu import measure_cpu_ceilings


@pytest.mark.parametrize("name", hardware_names())
def test_every_number_has_a_source(name: str) -> None:
    machine = load_hardware(name)
    numbers = {
        "memory_bytes",
        "memory_bytes_per_s",
        "interconnect_bytes_per_s",
        "peak_flops",
        "usd_per_hour",
    }
    if machine.interconnect_latency_s:
        numbers |= {"interconnect_latency_s"}
    assert set(dict(machine.sources)) == numbers
    assert machine.name == name
    assert machine.utilisation.source


def test_the_required_machines_are_embedded() -> None:
    required = {"a100-40gb", "a100-80gb", "h100", "h200", "b200", "l40s", "l4", "rtx-4090", "cpu"}
    required |= {"b300", "rtx-pro-6000"}
    assert required <= set(hardware_names())


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean h100"):
        load_hardware("h10")


def test_a_file_overrides_utilisation(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(hardware_text("h100") + "\n[utilisation]\nkv_bandwidth = 0.5\n")
    machine = load_hardware(path)
    assert machine.utilisation.kv_bandwidth == 0.5
    assert machine.utilisation.gemm == load_hardware("h100").utilisation.gemm
    assert str(path) in machine.utilisation.source


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("memory_bytes_per_s = 3.35e12", "memory_bytes_per_s = -1.0", "memory_bytes_per_s"),
        ("memory_bytes_per_s = 3.35e12", "", "field required"),
        ('kind = "gpu"', 'kind = "tpu"', "kind"),
        ("[sources]", "[source]", "source"),
        ("bf16 = 989.4e12", "bf16 = 0.0", "positive"),
        ("bf16 = 989.4e12", "", "bf16"),
        ("[sources]", "[utilisation]\nspeed = 1.0\n[sources]", "unknown utilisation"),
        ("[sources]", "[utilisation]\ngemm = 1.5\n[sources]", "gemm must lie in"),
        ("[sources]", "[sources", "not valid TOML"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(hardware_text("h100").replace(before, after, 1))
    with pytest.raises(InputError, match=complaint):
        load_hardware(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_hardware(tmp_path / "none.toml")


def test_a_dtype_the_device_lacks_is_widened() -> None:
    a100 = load_hardware("a100-40gb")
    assert a100.multiplies_in("fp8") == "bf16"
    assert a100.matmul_flops("fp8") == a100.peak_flops["bf16"]
    assert load_hardware("h100").multiplies_in("fp8") == "fp8"
    assert load_hardware("h100").multiplies_in("int4") == "bf16"


def test_measured_cpu_is_a_loadable_file(tmp_path: Path) -> None:
    ceilings = measure_cpu_ceilings(repeats=1)
    path = tmp_path / "this.toml"
    path.write_text(ceilings.to_toml())
    machine = load_hardware(path)
    assert machine.kind == "cpu"
    assert machine.memory_bytes_per_s == pytest.approx(ceilings.memory_bytes_per_s, rel=1e-3)
    # Any machine that runs this test moves over .5 GB/s and computes over 1 GFLOP/s.
    assert machine.memory_bytes_per_s > 5e8
    assert machine.peak_flops["fp32"] > 1e9


def test_cli_lists_and_shows() -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["hardware", "--json"])
    assert {entry["name"] for entry in json.loads(listed.output)} == set(hardware_names())
    shown = runner.invoke(app, ["hardware", "show", "l4"])
    assert shown.exit_code == 0
    assert "data sheet" in shown.output
    assert "kv_bandwidth" in shown.output
    text = runner.invoke(app, ["hardware", "show", "l4", "--toml"]).output
    assert text == hardware_text("l4")
