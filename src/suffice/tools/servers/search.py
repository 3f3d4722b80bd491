"""Search over one's own documents: SQLite's full-text index, in memory, ranked by BM25."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

from suffice.core.errors import InputError
from suffice.tools.functions import FunctionTools, tool_hints

# Documents are cut at empty lines into passages of about this size.
PASSAGE_CHARS = 1_000
MOST_RESULTS = 10


class Documents:
    """Passages and their index; one connection, used by one thread at a time."""

    def __init__(self, documents: Iterable[tuple[str, str]]) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE passages USING fts5(title, text, tokenize='porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            raise InputError(f"this Python's SQLite has no full-text search: {error}") from None
        rows = ((title, part) for title, text in documents for part in passages(text))
        with self._database:
            self._database.executemany("INSERT INTO passages VALUES (?, ?)", rows)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Documents:
        """Text files, files of folders, and JSON lines with `title` and `text`."""
        return cls(document for path in paths for document in _read(path))

    def search(self, query: str, count: int = 3) -> list[tuple[str, str]]:
        """Titles and texts of the passages that fit best; any of the words is enough."""
        words = re.findall(r"\w+", query)
        if not words:
            return []
        # Each word is quoted: nothing in a query is an operator of the index.
        asked = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            return self._database.execute(
                "SELECT title, text FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?",
                (asked, max(1, min(count, MOST_RESULTS))),
            ).fetchall()

    def close(self) -> None:
        """Free the index."""
        self._database.close()


def passages(text: str) -> list[str]:
    """A document in pieces of about PASSAGE_CHARS, cut between paragraphs."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        part = paragraph.strip()
        if found and part and len(found[-1]) + len(part) <= PASSAGE_CHARS:
            found[-1] += f"\n\n{part}"
        elif part:
            found.append(part)
    return found


def server(documents: Documents) -> FunctionTools:
    """The search as a tool server."""

    @tool_hints(read_only=True, idempotent=True, open_world=False)
    def search(query: str, count: int = 3) -> str:
        """Passages of the documents that fit the words best, with their titles."""
        found = documents.search(query, count)
        return "\n\n".join(f"{title}: {text}" for title, text in found) or "nothing was found"

    return FunctionTools([search], name="search")


def _read(path: Path) -> Iterable[tuple[str, str]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix in (".txt", ".md", ".jsonl"):
                yield from _read(file)
        return
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if path.suffix != ".jsonl":
        yield path.stem, text
        return
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            yield str(row["title"]), str(row["text"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f'{path}, line {number}: write {{"title": …, "text": …}}') from None
