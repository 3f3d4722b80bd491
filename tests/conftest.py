"""Settings of every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from suffice.testing.postgres import PostgresServer, why_not

# A time limit for one example fails on a busy machine and says nothing about the code.
# The same examples every time: a run that fails can be repeated.
settings.register_profile("suffice", deadline=None, derandomize=True, database=None)
settings.load_profile("suffice")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, where its programs and the driver are installed."""
    pytest.importorskip("psycopg")
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with PostgresServer() as server:
        yield server
