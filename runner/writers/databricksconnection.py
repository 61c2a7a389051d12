"""One session of a SQL warehouse, and what its errors mean.

Facts: github.com/databricks/databricks-sql-python, client.py (a PUT of ``__input_stream__`` sends an open file; REMOVE
asks for ``staging_allowed_local_path``) and exc.py; docs.databricks.com, "Error conditions" and "Isolation levels and
write conflicts" (of two statements that change the same rows the second fails).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    LeaseLost,
    ReadOnly,
    RunnerError,
    Unreachable,
)
from runner.naming import inlined, literal
from runner.secrets import redact
from runner.writers.databrickssql import LEASE_LOST, spelled

_ENDED = re.compile(r"cancel|timed? ?out|terminated|closed", re.IGNORECASE)
_TRANSACTION = ("begin", "commit", "rollback")


class Warehouse:
    """A session that is opened when it is needed.

    Args:
        connect: Opens a connection of the driver.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._running: Any = None
        self._contacted = False
        self.statements = 0

    def cursor(self) -> WarehouseCursor:
        """Return a cursor; opens the session."""
        if self._connection is None:
            try:
                self._connection = self._connect()
            # The driver raises errors of its transports beside its own.
            except Exception as error:
                raise contact_error(error, contacted=self._contacted) from error
            self._contacted = True
        return WarehouseCursor(self)

    def run(self, sql: str, **more: Any) -> list[tuple[Any, ...]]:
        """Execute a statement that is spelled for Databricks; return its rows."""
        self.statements += 1
        try:
            with self._connection.cursor() as cursor:
                self._running = cursor
                cursor.execute(sql, **more)
                # A statement that moved a file has no result.
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        except Exception as error:
            raise translated(error) from error
        finally:
            self._running = None

    def interrupt(self) -> None:
        """Cancel the statement under way, from another thread."""
        if (running := self._running) is not None:
            with contextlib.suppress(Exception):
                running.cancel()

    def close(self) -> None:
        """Close the session."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A session that is gone already cannot be closed, and need not be.
            with contextlib.suppress(Exception):
                connection.close()


class WarehouseCursor:
    """Statements of the recipe, each of which is committed when it ends."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        if sql not in _TRANSACTION:
            self.rows(sql, values)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._warehouse.run(spelled(inlined(sql, values)))

    def put(self, file: Path, place: str) -> None:
        """Upload a file into a volume, in place of what is there."""
        with file.open("rb") as opened:
            self._warehouse.run(f"put '__input_stream__' into {spelled(literal(place))} overwrite", input_stream=opened)

    def empty(self, folder: str) -> None:
        """Remove all files of a folder of a volume."""
        # docs.databricks.com, LIST: path, name, size, modification time.
        for _, name, *_ in self.rows(f"list {literal(folder)}"):
            self._warehouse.run(f"remove {spelled(literal(f'{folder}/{name}'))}")


def contact_error(error: Exception, *, contacted: bool) -> RunnerError:
    """Return what a session that did not open means."""
    text = _words(error)
    lower = text.lower()
    if contacted:
        return DestinationDown(f"Databricks: {text}")
    if any(sign in lower for sign in ("401", "403", "unauthorized", "invalid access token", "invalid_client")):
        return CredentialsRejected(f"Databricks refused us: {text}")
    return Unreachable(f"Databricks does not answer: {text}")


def translated(error: Exception) -> RunnerError:
    """Return what a failed statement means."""
    if isinstance(error, RunnerError):
        return error
    text = _words(error)
    if LEASE_LOST in text:
        return LeaseLost()
    if "DELTA_CONCURRENT" in text or ("Concurrent" in text and "Exception" in text) or "MetadataChanged" in text:
        return DestinationBusy(
            f"Databricks: {text}", guidance="Somebody else changes the same table; run the same command again."
        )
    # Only this one is an answer: the statement failed and changed nothing. After any other it may have ended well, and
    # so may one that was cancelled while it committed.
    answered = "ServerOperationError" in {kind.__name__ for kind in type(error).__mro__}
    if not answered or _ENDED.search(text):
        return DestinationDown(f"Databricks: {text}")
    if "NO_SUCH_CATALOG" in text or "CATALOG_NOT_FOUND" in text:
        return DatabaseMissing(f"Databricks: {text}")
    if "PERMISSION" in text or "UNAUTHORIZED" in text:
        return ReadOnly(
            f"Databricks refused us: {text}",
            guidance="Grant use catalog, use schema, create table, select and modify; and read and write volume.",
        )
    return DestinationError(f"Databricks: {text}")


def _words(error: Exception) -> str:
    return redact(" ".join(str(getattr(error, "message", None) or error).split()))[:1000]
