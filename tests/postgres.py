"""A PostgreSQL server of a test's own: a private folder, a Unix socket, no network."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def program(name: str) -> str | None:
    """Path of one of PostgreSQL's programs, None if it is not installed."""
    found = shutil.which(name)
    return found or next((str(p / name) for p in _PLACES if (p / name).exists()), None)


def why_not() -> str | None:
    """Why no server can be started here, None if one can."""
    if program("initdb") is None or program("pg_ctl") is None:
        return "PostgreSQL's programs are not installed"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user postgres"
    return None


class PostgresServer:
    """`with PostgresServer() as server:` runs until the block ends; `server.new_url()` per test."""

    def __init__(self) -> None:
        # A Unix socket's path may have 107 bytes, so the folder's name is short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._account = "postgres" if os.geteuid() == 0 else None
        self.user = self._account or pwd.getpwuid(os.geteuid()).pw_name
        if self._account is not None:
            entry = pwd.getpwnam(self._account)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)

    def __enter__(self) -> Self:
        data = f"{self.folder}/data"
        self._run("initdb", "-D", data, "-A", "trust", "--no-sync", "-U", self.user)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start, or start again after `stop`."""
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off -c max_connections=40"
        log = f"{self.folder}/log"
        self._run(
            "pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", log, "-o", options, "start"
        )  # fmt: skip

    def stop(self) -> None:
        """Go away at once, as after a crash."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def pause(self) -> None:
        """Answer nothing any more, as a machine does that hangs; connections stay open."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        first = Path(f"{self.folder}/data/postmaster.pid").read_text().split("\n")[0]
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [int(first), *map(int, children)]

    def new_url(self) -> str:
        """URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h", str(self.folder), "-U", self.user, name)
        host = str(self.folder).replace("/", "%2F")
        return f"postgresql://{self.user}@{host}/{name}"

    def _run(self, name: str, *arguments: str) -> None:
        path = program(name)
        assert path is not None
        subprocess.run(
            [path, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            cwd=self.folder,
            user=self._account,
        )
