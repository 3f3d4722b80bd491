"""Workloads against sums written out, and what a bad file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.throughput.workload import RequestClass, Workload, load_workload

MIX = Workload(
    classes=(
        RequestClass(input_tokens=5, output_tokens=4, weight=3.0),
        RequestClass(input_tokens=9, output_tokens=2, weight=1.0),
    )
)


@pytest.mark.parametrize("window", [None, 3, 7, 100])
def test_sums_equal_the_loops(window: int | None) -> None:
    limit = window or 10**9
    pairs = steps = attended = 0.0
    for c in MIX.classes:
        pairs += c.weight * sum(min(i, limit) for i in range(1, c.input_tokens + 1))
        lengths = range(c.input_tokens + 1, c.input_tokens + c.output_tokens)
        attended += c.weight * sum(min(length, limit) for length in lengths)
        steps += c.weight * len(lengths)
    assert MIX.prompt_pairs(window) == pytest.approx(pairs / 4)
    assert MIX.decode_context_tokens(window) == pytest.approx(attended / steps)


def test_held_tokens_counts_by_time() -> None:
    by_time = (3 * 4 * 9 + 1 * 2 * 11) / (3 * 4 + 1 * 2)
    assert MIX.held_tokens() == pytest.approx(by_time)
    assert MIX.held_tokens(0.5) == pytest.approx((3 * 4 * 7 + 1 * 2 * 10) / 14)
    assert MIX.held_tokens(window=6) == pytest.approx(6)
    assert MIX.longest_tokens == 11


def test_one_class_twice_is_one_class() -> None:
    once = Workload.single(100, 50)
    twice = Workload(classes=(*once.classes, *once.classes))
    assert twice.decode_context_tokens() == once.decode_context_tokens()
    assert twice.held_tokens() == once.held_tokens()


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "chat.toml"
    path.write_text(
        "[[requests]]\ninput_tokens = 5\noutput_tokens = 4\nweight = 3\n"
        "[[requests]]\ninput_tokens = 9\noutput_tokens = 2\n"
    )
    loaded = load_workload(path)
    assert loaded.classes == MIX.classes
    assert loaded.name == "chat"
    other = tmp_path / "chat.json"
    other.write_text('{"requests": [{"input_tokens": 7, "output_tokens": 1}]}')
    assert load_workload(other).classes[0].input_tokens == 7


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.toml", "requests = []", "requests"),
        ("a.toml", "[[requests]]\ninput_tokens = 5\n", "output_tokens"),
        ("a.toml", "[[requests]]\ninput_tokens = 0\noutput_tokens = 1\n", "input_tokens"),
        ("a.toml", "[[requests]]\ninput_tokens = 5\noutput_tokens = 1\nwieght = 2\n", "wieght"),
        ("a.toml", "[[requests]]\ninput_tokens = 5\noutput_tokens = 1\nweight = nan\n", "weight"),
        ("a.toml", "[[requests", "not valid TOML"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[]", "requests"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        load_workload(path)
    assert name in str(caught.value)


def test_bad_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="whole number"):
        Workload.single(1.5, 2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="between 1"):
        Workload.single(-4, 2)
    with pytest.raises(InputError, match="at least one"):
        Workload(classes=())
