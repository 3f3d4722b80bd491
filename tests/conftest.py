"""Settings of every test."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator

# Arrays in tests are small: threads of the linear algebra library cost more than they do, and
# wait for each other where several tests run at once. Read when numpy is first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import httpcore2  # noqa: E402
import pytest  # noqa: E402
import typer.main  # noqa: E402
import typer.testing  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.postgres import PostgresServer, why_not  # noqa: E402

# A time limit for one example fails on a busy machine and says nothing about the code.
# The same examples every time: a run that fails can be repeated.
settings.register_profile("suffice", deadline=None, derandomize=True, database=None)
settings.load_profile("suffice")

# Building the command line takes .1 s, and nothing changes it between calls.
typer.main.get_command = functools.cache(typer.main.get_command)
setattr(typer.testing, "_get_command", typer.main.get_command)  # noqa: B010

# Every client reads all the certificates that there are, 30 ms; those of the tests speak plain HTTP
# and share what was read once.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """Training in this process rounds them to 0; other tests draw them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, where its programs and the driver are installed."""
    pytest.importorskip("psycopg")
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with PostgresServer() as server:
        yield server


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests of servers wait for half of their time."""
    return (os.cpu_count() or 1) + 1
