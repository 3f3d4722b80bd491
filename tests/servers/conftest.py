"""The fixture of all tests in this folder."""

from __future__ import annotations

import pytest

from tests.servers.serve_soon import hasten
from tests.servers.tools import Tools

hasten()


@pytest.fixture
def tools() -> type[Tools]:
    return Tools
