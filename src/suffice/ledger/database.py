"""One connection to SQLite or PostgreSQL, behind the same few methods.

Statements are written with `?` and in SQL that both understand. Whatever the driver raises
becomes LedgerError (it will not work as it is) or LedgerAway (it may later: disk full, server gone,
locked).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from suffice.core.errors import InputError, MissingExtra, SufficeError
from suffice.ledger.migrations import MIGRATIONS, VERSION

Value = Any
# Another process may be writing; SQLite's writers wait for each other this long.
BUSY_S = 5.0
CONNECT_S = 5
STATEMENT_MS = 10_000
# Any number that no other program is likely to lock with; it keeps two migrations apart.
_MIGRATION_LOCK = 7_253_881


class LedgerError(SufficeError, RuntimeError):
    """The ledger's database cannot be used as it is."""


class LedgerAway(LedgerError):
    """The ledger's database cannot be used now: full, read-only, locked or unreachable."""


class Database(Protocol):
    """A connection; `transaction()` is all or nothing."""

    types: dict[str, str]

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Rows that the statement gives, if it gives any."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """The statement once per row."""
        ...

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written and synced to disk at its end, or nothing is."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Sqlite:
    """A file in write-ahead-log mode; every commit is synced to disk before it counts.

    The connection is closed between two statements or transactions and never during one, whoever
    runs it: SQLite's own would be freed under another thread, and the process would die.
    """

    types = {"int": "INTEGER", "real": "REAL", "text": "TEXT"}  # noqa: RUF012 - a constant

    def __init__(self, path: str) -> None:
        """`path` may be `:memory:`, which several connections of this process do not share."""
        self._lock = threading.RLock()
        try:
            if path != ":memory:":
                make_private(Path(path))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            # The log is emptied into the file this often (pages of 4 KiB) and cut back afterwards.
            self._connection.execute("PRAGMA journal_size_limit = 67108864")
        except OSError as error:
            raise LedgerError(f"ledger {path!r} cannot be opened: {error.strerror}") from None
        except sqlite3.Error as error:
            raise _sqlite_error(error, path) from None
        self._path = path
        self._closed = False

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Rows that the statement gives, if it gives any."""
        with self._lock:
            connection = self._opened()
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise _sqlite_error(error, self._path) from None

    def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """The statement once per row."""
        with self._lock:
            connection = self._opened()
            try:
                connection.executemany(sql, rows)
            except sqlite3.Error as error:
                raise _sqlite_error(error, self._path) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside, or nothing."""
        with self._lock:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:  # whatever broke it off, it is rolled back and raised again
                # A full disk has rolled back by itself; rolling back twice is an error.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise LedgerAway(f"ledger {self._path!r}: it is closed")
        return self._connection

    def close(self) -> None:
        """Let go of the file once the transaction, or statement, that another thread is in ends."""
        with self._lock:
            self._closed = True
            self._connection.close()


# No file of SQLite's, or a damaged one; and what a wrong statement gives (no such table, syntax).
_BROKEN = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_OUR_MISTAKE = "SQLITE_ERROR"


def make_private(path: Path) -> None:
    """Make the file, and folders that lack, for their owner alone; what is there stays as it is.

    SQLite gives its log beside the file the file's own mode.
    """
    for folder in reversed([each for each in path.parents if not each.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _sqlite_error(error: sqlite3.Error, path: str) -> LedgerError:
    text = f"ledger {path!r}: {error}"
    # Extended codes begin with their primary one; errors of Python's own module have none.
    name: str = getattr(error, "sqlite_errorname", "")
    if name.startswith(_BROKEN):
        return LedgerError(f"{text}; move the file away or give another --ledger")
    if isinstance(error, sqlite3.OperationalError) and name != _OUR_MISTAKE:
        return LedgerAway(text)
    return LedgerError(text)


class Postgres:
    """A PostgreSQL server; reconnects by itself after it has been away."""

    types = {"int": "BIGINT", "real": "DOUBLE PRECISION", "text": "TEXT"}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        try:
            import psycopg  # noqa: PLC0415 - the extra postgres
        except ImportError:
            raise MissingExtra.of("psycopg", "postgres", "a ledger in PostgreSQL") from None
        if not _is_clear(url):
            raise _no_url(url)
        self._driver = psycopg
        self._url = url
        self._lock = threading.RLock()
        self._connection: Any = None
        self._closed = False
        self._connect()

    def _connect(self) -> Any:
        if self._closed:
            raise LedgerAway(f"ledger {shown(self._url)}: it is closed")
        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            self._connection = self._driver.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_S,
                application_name="suffice",
                options=f"-c statement_timeout={STATEMENT_MS} -c lock_timeout={STATEMENT_MS}",
            )
        except self._driver.ProgrammingError:  # its words would show what stands in the URL
            raise _no_url(self._url) from None
        except self._driver.Error as error:
            raise LedgerAway(f"ledger {shown(self._url)}: {_first_line(error)}") from None
        return self._connection

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Rows that the statement gives, if it gives any."""
        with self._lock, self._translated():
            cursor = self._connect().execute(_percent(sql), values)
            return [] if cursor.description is None else cursor.fetchall()

    def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """The statement once per row, in one round trip."""
        with self._lock, self._translated(), self._connect().cursor() as cursor:
            cursor.executemany(_percent(sql), rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside, or nothing."""
        with self._lock, self._translated(), self._connect().transaction():
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            away = isinstance(error, self._driver.OperationalError)
            if away and self._connection is not None and self._connection.broken:
                self._connection.close()
            kind = LedgerAway if away else LedgerError
            raise kind(f"ledger {shown(self._url)}: {_first_line(error)}") from None

    def close(self) -> None:
        """Let go of the connection once the transaction that another thread is in ends."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()


def _is_clear(url: str) -> bool:
    """Whether it is clear what the URL's password is: the driver would show parts of one that is
    taken for something else."""
    server, _, path = url.partition("://")[2].partition("?")[0].partition("/")
    hosts = server.rpartition("@")[2].split(",")
    ports = [host.rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    return server.count("@") <= 1 and "@" not in path and all(port.isdigit() for port in ports)


def _no_url(url: str) -> InputError:
    return InputError(
        f"ledger {shown(url)!r} is not a URL of PostgreSQL: write postgresql://user@host/database; "
        "special characters of a password are written as %XX"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _percent(sql: str) -> str:
    return sql.replace("?", "%s")


def is_postgres(url: str) -> bool:
    """Whether `url` names a PostgreSQL server rather than a file."""
    return url.startswith(("postgres://", "postgresql://"))


def shown(url: str) -> str:
    """The URL without its password and options, whatever is wrong with it."""
    if "password=" in url:
        return "…"
    scheme, mark, rest = url.removeprefix("sqlite:").partition("://")
    if not mark:
        return url
    head, at, tail = rest.partition("?")[0].rpartition("@")
    user = head.partition(":")[0]
    return f"{scheme}://{user}@{tail}" if at and user else f"{scheme}://{tail}"


def holds_password(url: str) -> bool:
    """Whether there is a password in the URL, or what may be one."""
    head = url.partition("://")[2].rpartition("@")[0]
    return ":" in head or "password=" in url


def connect(url: str) -> Database:
    """A connection to `url`: a file's path, `sqlite:PATH`, `:memory:` or `postgresql://…`."""
    if is_postgres(url):
        return Postgres(url)
    if "://" in url or "password=" in url:
        raise InputError(
            f"ledger {shown(url)!r}: give a file's path, or postgresql://user@host/database"
        )
    return Sqlite(url.removeprefix("sqlite:"))


def migrate(database: Database) -> None:
    """Bring the schema to this version. Raises LedgerError on one of a later version."""
    with database.transaction():
        if isinstance(database, Postgres):  # SQLite's transaction has locked the file already
            database.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATION_LOCK,))
        database.execute(_expand(database, "CREATE TABLE IF NOT EXISTS version (number {int})"))
        found = version_of(database)
        if found > VERSION:
            raise LedgerError(
                f"the ledger's schema is version {found}, this suffice knows {VERSION}: upgrade "
                "suffice, or give another ledger"
            )
        if found == VERSION:
            return
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                database.execute(_expand(database, statement))
        database.execute("DELETE FROM version")
        database.execute("INSERT INTO version (number) VALUES (?)", (VERSION,))


def version_of(database: Database) -> int:
    """The schema's version, 0 where there is none yet."""
    rows = database.execute("SELECT number FROM version")
    return int(rows[0][0]) if rows else 0


def _expand(database: Database, statement: str) -> str:
    return statement.format(**database.types)
