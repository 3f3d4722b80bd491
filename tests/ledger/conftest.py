"""A PostgreSQL server of the tests' own (where its programs are installed), and ledgers in both."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suffice.ledger.store import Store

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def program(name: str) -> str | None:
    found = shutil.which(name)
    return found or next((str(p / name) for p in PLACES if (p / name).exists()), None)


class Server:
    """`initdb` and `pg_ctl` on a private folder; listens on a Unix socket only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "-D", f"{folder}/data", "-A", "trust", "--no-sync", "-U", self.user)

    def _run(self, name: str, *arguments: str) -> None:
        path = program(name)
        assert path is not None
        subprocess.run(
            [path, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=60, cwd=self.folder, user="postgres" if os.geteuid() == 0 else None,
        )  # fmt: skip

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off -c max_connections=40"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", f"{self.folder}/log",
                  "-o", options, "start")  # fmt: skip

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def new_url(self) -> str:
        import psycopg

        name = f"t{uuid.uuid4().hex[:12]}"
        host = str(self.folder).replace("/", "%2F")
        with psycopg.connect(f"postgresql://{self.user}@{host}/postgres", autocommit=True) as one:
            one.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return f"postgresql://{self.user}@{host}/{name}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    pytest.importorskip("psycopg")
    if program("initdb") is None or program("pg_ctl") is None:
        pytest.skip("PostgreSQL's programs are not installed")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    # A Unix socket's path may have 107 bytes; pytest's own folders are longer.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    server: Server = request.getfixturevalue("postgres")
    return server.new_url()


@pytest.fixture
def opened() -> Iterator[Callable[[str], Store]]:
    stores: list[Store] = []

    def make(url: str) -> Store:
        stores.append(Store(url))
        return stores[-1]

    yield make
    for store in stores:
        store.close()
