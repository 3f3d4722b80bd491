"""Whatever is given as a file, there is one clear line, soon."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suffice.core import files
from suffice.core.errors import ConfigError, InputError
from suffice.core.files import MOST_LEVELS, read_json, read_toml, shallow
from suffice.gateway.config_file import load_config
from suffice.policies.policy_file import read_policy_file
from suffice.throughput.workload import load_workload
from suffice.training.modes.settings import WarmUp
from suffice.training.settings import from_toml

READERS: dict[str, Callable[[Path], Any]] = {
    "toml": lambda path: read_toml(path, what="config"),
    "json": lambda path: read_json(path, what="config"),
    "gateway": load_config,
    "workload": load_workload,
    "policy": read_policy_file,
    "training": lambda path: from_toml(WarmUp, path),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_device_or_a_silent_pipe_has_an_end(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SILENCE_S", 0.01)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in (
        (Path("/dev/zero"), "neither a file nor a pipe"),
        (pipe, "nothing is written"),
        (tmp_path, "folder"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / "none" / "none", "does not exist"),
        (tmp_path / "a\x00b", "cannot be read"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            READERS[reader](path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [MOST_LEVELS + 1, 500, 100_000])
def test_deep_nesting_is_one_line(depth: int, tmp_path: Path) -> None:
    deep_json, deep_toml = tmp_path / "deep.json", tmp_path / "deep.toml"
    deep_json.write_text("[" * depth + "]" * depth)
    deep_toml.write_text("a = " + "[" * depth + "]" * depth)
    inline = tmp_path / "inline.toml"
    inline.write_text("a = " + "{a = " * depth + "1" + "}" * depth)
    dotted = tmp_path / "dotted.toml"
    dotted.write_text("policies." + ".".join(["a"] * min(depth, 5000)) + " = 1")
    for path in (deep_toml, inline, dotted):
        with pytest.raises(InputError, match="nested deeper"):
            read_toml(path, what="config")
        with pytest.raises(ConfigError, match="nested deeper"):
            load_config(path)
    for reader in ("json", "workload", "policy"):
        with pytest.raises(InputError, match="nested deeper"):
            READERS[reader](deep_json)


def test_what_is_not_too_deep_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("\ufeff" + "[" * MOST_LEVELS + "]" * MOST_LEVELS, encoding="utf-8")
    assert read_json(path, what="x") == shallow(read_json(path, what="x"), "x")
    assert shallow(3, "x") == 3


def test_a_pipe_with_a_writer_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("port = 1\n" + "# x\n" * 50_000,))
    writer.start()
    assert load_config(pipe).port == 1
    writer.join()


def test_a_file_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = 1\nb = '\xff'")
    with pytest.raises(InputError, match=r"is not UTF-8 text \(line 2\)"):
        read_toml(path, what="config")
    path.write_bytes(b"#" * (files.MOST_SETTINGS_BYTES + 1))
    with pytest.raises(InputError, match="too many for one"):
        read_toml(path, what="config")


def test_a_locale_without_utf8_is_no_reason_to_end(tmp_path: Path) -> None:
    config = tmp_path / "größe.toml"
    config.write_text('policy = "größe"\n', encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for arguments in (
        ["config", "check", str(config)],
        ["config", "show", str(config)],
        ["policies"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "suffice", *arguments], env=environment, capture_output=True,
            check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        assert done.returncode == (0 if arguments == ["policies"] else 2)
