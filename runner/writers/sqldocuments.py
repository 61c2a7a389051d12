"""Documents in a table of a SQL database, replaced by compare and swap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from runner.naming import quote
from runner.writers.folder import Changed, Document, FoundT, ItemT

if TYPE_CHECKING:
    from runner.writers.transactional import TransactionalWriter

_TABLE = "documents"


class SqlDocuments:
    """Documents whose paths begin with a prefix; leases go by the database's clock.

    Args:
        writer: Its dataset is the schema of the table.
    """

    def __init__(self, writer: TransactionalWriter, prefix: str) -> None:
        self._writer = writer
        self._prefix = prefix
        self._table = writer.name(_TABLE)

    def prepare(self) -> None:
        with self._writer.session() as cursor:
            if self._writer.existing_columns(cursor, _TABLE):
                return
            cursor.execute("begin")
            # Who makes a schema at the same time as another fails, IF NOT EXISTS or not.
            self._writer.lock_table(cursor, _TABLE)
            cursor.execute(f"create schema if not exists {quote(self._writer.dataset)}")
            cursor.execute(
                f"create table if not exists {self._table} "
                "(path text primary key, data text not null, version bigint not null)"
            )
            cursor.execute("commit")

    def probe(self) -> str:
        self.prepare()
        return f"{self._table} can be written"

    def now(self) -> float:
        with self._writer.session() as cursor:
            return float(cursor.rows(f"select {self._writer.seconds}")[0][0])

    def read(self, path: str) -> Document | None:
        with self._writer.session() as cursor:
            found = cursor.rows(f"select data, version from {self._table} where path = ?", [self._prefix + path])
        return Document(found[0][0].encode(), found[0][1]) if found else None

    def replace(self, path: str, data: bytes, before: Document | None) -> None:
        text = data.decode()
        with self._writer.session() as cursor:
            if before is None:
                written = cursor.rows(
                    f"insert into {self._table} (path, data, version) values (?, ?, 1) on conflict do nothing "
                    "returning version",
                    [self._prefix + path, text],
                )
            else:
                written = cursor.rows(
                    f"update {self._table} set data = ?, version = version + 1 where path = ? and version = ? "
                    "returning version",
                    [text, self._prefix + path, before.version],
                )
        if not written:
            raise Changed

    def each(self, function: Callable[[ItemT], FoundT], items: Iterable[ItemT]) -> list[FoundT]:
        return [function(item) for item in items]

    def close(self) -> None:
        self._writer.close()
