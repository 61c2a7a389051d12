"""What is about to be published: a record that is written before the one statement, and carried out after a crash.

A statement that changes a table commits by itself in Databricks, and so does each row of the books. So the statement
and the history row are written down first. Every such statement can be repeated while nobody else publishes: whoever
comes next and holds the lease sends it again and writes the books. Whether it had been carried out need not be known.
A load's row in ``_dlt_loads`` comes last, and closes its intent.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import DestinationError, LeaseLost, RunnerError
from runner.load import Lease
from runner.naming import literal
from runner.writers.books import STATES
from runner.writers.cursor import Cursor
from runner.writers.databrickssql import LEASE, guarded
from runner.writers.rowleases import Claims

INTENTS = "_runner_intents"
_COLUMNS = "table_name text not null, load_id text not null, statement text not null, history text not null"


@dataclass(frozen=True)
class Intent:
    """A publication that has begun.

    Attributes:
        statement: The one statement, as SQL of the recipe.
        history: The history row, without its time.
    """

    table: str
    load_id: str
    statement: str
    history: Sequence[Any]

    @property
    def makes(self) -> bool:
        """Whether the table is made by it, so that two at the same time leave what one does."""
        return self.statement.startswith("create or replace")

    @property
    def adds(self) -> bool:
        """Whether rows would be there twice if they were read and published again under another id."""
        return self.statement.startswith("copy into")


class Intents:
    """The intents of one dataset.

    Args:
        name: Returns the quoted name of a table of the dataset.
        leases: The leases, which the one statement checks when it starts.
        seconds: The destination's clock as SQL, in seconds since 1970.
        now: The same clock as a timestamp.
    """

    def __init__(self, dataset: str, name: Callable[[str], str], leases: Claims, seconds: str, now: str) -> None:
        self._dataset = dataset
        self._name = name
        self._leases = leases
        self._seconds = seconds
        self._now = now

    def columns(self) -> str:
        """Return the columns of their table, as the books have them."""
        return _COLUMNS

    def open(self, cursor: Cursor, tables: Sequence[str]) -> list[Intent]:
        """Return the intents of some tables that are not closed."""
        listed = ", ".join(literal(table) for table in tables)
        rows = cursor.rows(
            f"select table_name, load_id, statement, history from {self._name(INTENTS)} i "
            f"where table_name in ({listed}) and not exists "
            f"(select 1 from {self._name('_dlt_loads')} l where l.load_id = i.load_id)"
        )
        # A row that was sent twice is there twice.
        loads = {row[1]: Intent(row[0], row[1], row[2], json.loads(row[3])) for row in rows}
        return [*loads.values()]

    def begin(self, cursor: Cursor, lease: Lease, intent: Intent) -> None:
        """Write an intent down and carry it out; the books are left to the caller.

        Raises:
            LeaseLost: Somebody else may publish the table now.
            DestinationError: The statement was refused, and nothing changed.
        """
        noted = (intent.table, intent.load_id, intent.statement, json.dumps(intent.history))
        held = guarded(LEASE, self._leases.condition(lease, [intent.table]))
        # An intent that came after somebody else began would be completed with the rows that they have staged.
        cursor.execute(f"insert into {self._name(INTENTS)} select {', '.join(map(literal, noted))} where {held}")
        try:
            self._carry_out(cursor, lease, intent)
        except RunnerError as error:
            if not error.retriable:
                # Databricks has answered that it changed nothing: there is nothing to complete.
                self.forget(cursor, intent.load_id)
            raise

    def complete(self, cursor: Cursor, lease: Lease, intent: Intent) -> None:
        """Carry out what somebody left, and write its books."""
        if not intent.makes:
            # Its sender is gone, but the statement may still be at work: a change of the table's metadata ends it
            # (docs.databricks.com, "Isolation levels and write conflicts"). The lease keeps it from beginning.
            # Never the same value twice, for that might be no change.
            value = literal(f"{intent.load_id} {uuid.uuid4().hex}")
            cursor.execute(
                f"alter table {self._name(intent.table)} set tblproperties ('orchestra_runner.completed' = {value})"
            )
        self._carry_out(cursor, lease, intent)
        states = self._name("_runner_state")
        if not cursor.rows(f"select 1 from {states} where load_id = ?", [intent.load_id]):
            name, _, columns = STATES.partition(" ")
            marks = ", ".join("?" * len(intent.history))
            cursor.execute(
                f"insert into {self._name(name)} {columns} values ({marks}, {self._seconds})", intent.history
            )
        cursor.execute(
            f"insert into {self._name('_dlt_loads')} values (?, ?, 0, {self._now}, null)",
            [intent.load_id, self._dataset],
        )

    def forget(self, cursor: Cursor, load_id: str) -> None:
        """Delete an intent that is closed, refused, or about to be replaced."""
        cursor.execute(f"delete from {self._name(INTENTS)} where load_id = ?", [load_id])

    def _carry_out(self, cursor: Cursor, lease: Lease, intent: Intent) -> None:
        if LEASE not in intent.statement and intent.table not in self._leases.held(cursor, lease, [intent.table]):
            raise LeaseLost(table=intent.table)
        cursor.execute(guarded(intent.statement, self._leases.condition(lease, [intent.table])))


def cut_off(intent: Intent, error: RunnerError) -> DestinationError:
    """Return the error of a table whose last publication cannot be completed."""
    return DestinationError(
        f"The last publication of the table was cut off and cannot be completed: {error.message}",
        guidance="Remove the cause and run the same command again, or replace the table with --full-refresh.",
        table=intent.table,
    )
