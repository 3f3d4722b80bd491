"""The entry point, called in this process: what a user gets, without a start for every call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from suffice.cli.main import main

Suffice = Callable[..., CompletedProcess[str]]


@pytest.fixture
def suffice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Suffice:
    """`suffice WORDS`: exit code, standard output and standard error."""

    def run(*words: str) -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["suffice", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        assert code is None or isinstance(code, int)
        printed = capsys.readouterr()
        return CompletedProcess(list(words), code or 0, printed.out, printed.err)

    return run
