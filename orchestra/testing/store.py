"""A workspace in a file of SQLite: one row for each object, as JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

_TABLE = "create table if not exists objects (kind text, id text, body text not null, primary key (kind, id))"


class Store:
    """The objects of one workspace; each change is there when ``put`` returns.

    Args:
        path: The file; it and its folder are made when they are not there.

    Raises:
        sqlite3.Error: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The server that writes has a thread of its own, and nobody else writes meanwhile.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = normal")
            self._connection.execute(_TABLE)
        except sqlite3.Error:
            self.close()
            raise

    def put(self, kind: str, name: str, body: str) -> None:
        """Keep an object."""
        # An object keeps its place.
        said = "insert into objects values (?, ?, ?) on conflict do update set body = excluded.body"
        self._connection.execute(said, (kind, name, body))

    def drop(self, kind: str, name: str) -> None:
        """Forget an object."""
        self._connection.execute("delete from objects where kind = ? and id = ?", (kind, name))

    def all(self, kind: str) -> Iterator[tuple[str, str]]:
        """Give the objects of a kind in the order in which they came."""
        yield from self._connection.execute("select id, body from objects where kind = ? order by rowid", (kind,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
