from __future__ import annotations

from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.core.files import write_json, write_text
from suffice.core.quantities import (
    format_bytes,
    format_count,
    format_seconds,
    parse_count,
    parse_duration,
    parse_integer,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("100B", 1e11), ("1.5T", 1.5e12), ("2e9", 2e9), ("4096", 4096), ("10_000", 1e4), ("3k", 3e3)],
)
def test_counts_as_people_write_them(text: str, value: float) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "-5", "0", "100 apples", "1e999", "nan", "B", "1..2"])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(InputError):
        parse_count(text, what="--tokens")


def test_whole_numbers_only() -> None:
    assert parse_integer("4K") == 4000
    with pytest.raises(InputError, match="whole number"):
        parse_integer("1.5")


def test_durations() -> None:
    assert [parse_duration(t) for t in ("90s", "30m", "2h", "45")] == [90, 1800, 7200, 45]
    with pytest.raises(InputError):
        parse_duration("2 weeks")


def test_formats() -> None:
    assert format_count(973_078_528) == "973M"
    assert format_count(1e11) == "100B"
    assert format_bytes(32_768) == "32.0 KiB"
    assert format_seconds(0.00316) == "3.16 ms"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"kept": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"lost": float("nan")})
    assert path.read_text() == '{\n  "kept": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_text(path, "x")
    plain = tmp_path / "plain"
    plain.open("w").close()
    assert path.stat().st_mode == plain.stat().st_mode
