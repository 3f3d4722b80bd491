"""The Vercel AI SDK in every protocol that it has; `scripts/test-clients` installs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Stack

SCRIPT = Path(__file__).with_name("ai_sdk.mjs")


def test_the_vercel_ai_sdk(stack: Stack, model: str) -> None:
    node, clients = shutil.which("node"), os.environ.get("SUFFICE_NODE_CLIENTS")
    if node is None or clients is None:
        pytest.skip("scripts/test-clients sets SUFFICE_NODE_CLIENTS")
    done = subprocess.run(
        [node, str(SCRIPT), stack.url, model],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "CLIENTS": str(Path(clients).resolve())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("embedding") == [0.5, -1.0]
    for protocol, seen in found.items():
        assert seen == {
            "text": "it is 4", "tokens": 3, "streamed": "it is 4", "steps": 2,
            "tools": "it is sunny in Paris", "person": {"name": "Ada", "age": 36},
        }, protocol  # fmt: skip
