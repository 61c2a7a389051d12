"""How a staging table becomes visible in Databricks: the checks of every publication, then one statement.

The one statement is atomic for its readers, and harmless to repeat while nobody else publishes: rows are exchanged, or
merged by key, or added by COPY INTO, which skips the files that it has loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.crash import crash_point
from runner.errors import DestinationError, SchemaConflict
from runner.load import Range, TargetColumn
from runner.naming import quote
from runner.profile import stage
from runner.writers import databrickssql as dialect
from runner.writers.databricksintents import Intent
from runner.writers.publication import Publisher

if TYPE_CHECKING:
    from runner.writers.databrickswriter import DatabricksWriter


class StatementPublisher(Publisher):
    """Publishes one table by one statement, which is written down before."""

    writer: DatabricksWriter

    def publish(self, *, one_chunk: bool) -> None:
        self._refuse()
        self.check_basis()
        with stage("verify", within="load"):
            if self.publication.verify:
                self._compare(one_chunk=False)
        crash_point("verify", self.target.source_table)
        if self.publication.check_key or self.publication.collapse:
            # Staging is what the statement of the publication reads: rows that came twice are not taken out of it.
            self._check_key()
        if self.existing is not None:
            self.note_changes(self.existing)
        if (condition := self._gone_condition()) is not None:
            self.outcome.deleted += self.cursor.rows(f"select count(*) from {self.stage} where {condition}")[0][0]
        if (statement := self._statement()) is not None:
            history = self.books.history(self.target, self.publication, None)
            intent = Intent(self.target.name, self.publication.load_id, statement, history)
            self.writer.carry_out(self.cursor, self.books.lease, intent)
        crash_point("swap", self.target.source_table)
        self.books.note_publication(self.target, self.publication, None)

    def _refuse(self) -> None:
        deletion = self.publication.deletion
        if deletion is not None and deletion.column is None:
            raise DestinationError(
                "Rows that are gone at the source cannot be found by comparing keys in Databricks yet.",
                guidance="Use deletes: {column: …} where the source marks them, or mode: full.",
                table=self.target.name,
            )
        if self.publication.slice is not None or self.publication.hashes is not None:
            raise self.writer.dialect.refusal()

    def _statement(self) -> str | None:
        """Return the one statement; None where nothing changes."""
        publication, existing = self.publication, self.existing
        if existing is None or publication.replace:
            return dialect.replace_table(self.table, existing, self.writer.wanted_types(self.target), self._rows())
        self._fit(existing)
        if publication.range is None and not any(publication.chunks.values()):
            return None
        leaves_out = self._gone_condition() is not None
        if self.target.key and publication.mode != "append":
            missing = self._in_range(publication.range, "t.") if publication.range is not None else None
            names = [column.name for column in self.target.columns]
            return dialect.merge(
                self.table,
                self.target.key,
                names,
                self._rows(marked=leaves_out),
                leaves_out=leaves_out,
                missing=missing,
            )
        table = {**existing, **{name: kind for name, kind in self._wanted.items() if name not in existing}}
        if publication.range is not None:
            condition = self._in_range(publication.range, "")
            return dialect.replace_range(self.table, condition, self._rows(table=table))
        if leaves_out:
            raise DestinationError(
                "Rows that are marked as deleted cannot be left out of what is added in Databricks.",
                guidance="Use on_delete: soft, or give the table a key and mode: incremental.",
                table=self.target.name,
            )
        return self._added(table)

    def _added(self, table: dict[str, str]) -> str | None:
        """Return the statement that adds the files whose rows are in staging."""
        files = [row[0] for row in self.cursor.rows(f"select distinct _runner_file from {self.stage} order by 1")]
        if not files:
            return None
        sources = self.writer.in_files(self.target)
        columns = [f"cast({sources.get(name, 'null')} as {kind}) as {quote(name)}" for name, kind in table.items()]
        return dialect.copy_files(self.table, columns, self.writer.folder(self.target.stage), files)

    @property
    def _wanted(self) -> dict[str, str]:
        return self.writer.wanted_types(self.target)

    def _rows(self, *, marked: bool = False, table: dict[str, str] | None = None) -> str:
        """Return the query of the rows in staging.

        Args:
            marked: Whether rows to be deleted are marked; else they are left out.
            table: The published table's columns, where the rows have to be like them.
        """
        values = [quote(column.name) for column in self.target.columns]
        if table is not None:
            staged = {column.name for column in self.target.columns}
            values = [
                f"cast({quote(name) if name in staged else 'null'} as {kind}) as {quote(name)}"
                for name, kind in table.items()
            ]
        conditions = [dialect.LEASE]
        if (gone := self._gone_condition()) is not None:
            if marked:
                values.append(f"{gone} as {quote(dialect.GONE)}")
            else:
                conditions.append(f"not ({gone})")
        return f"select {', '.join(values)} from {self.stage} where {' and '.join(conditions)}"

    def _gone_condition(self) -> str | None:
        """Return the condition of staged rows that the source marks as deleted, where those are to be deleted."""
        deletion = self.publication.deletion
        if deletion is None or deletion.column is None or not deletion.hard:
            return None
        column = self._column(deletion.column)
        return f"{quote(column.name)} is {'true' if str(column.type) == 'bool' else 'not null'}"

    def _in_range(self, bounds: Range, prefix: str) -> str:
        kind = self.writer.sql_type(self._column(bounds.column))
        sides = ((">=", bounds.start), ("<", bounds.end))
        return " and ".join(
            f"{prefix}{quote(bounds.column)} {sign} {self.writer.typed(side, kind)}" for sign, side in sides if side
        )

    def _column(self, name: str) -> TargetColumn:
        return next(column for column in self.target.columns if column.name == name)

    def _fit(self, existing: dict[str, str]) -> None:
        """Add the columns that are new; a column that does not hold the new values is no table to add to.

        Raises:
            SchemaConflict: A column changed in a way that keeps neither the old values nor the new.
        """
        for name, new in self._wanted.items():
            if not self.writer.widens(new, existing.get(name, new)):
                raise SchemaConflict(
                    f"The column {name!r} was {existing[name]} and is {new} now.",
                    guidance="Replace the table with --full-refresh.",
                    table=self.target.name,
                )
        added = {name: kind for name, kind in self._wanted.items() if name not in existing}
        if "TIMESTAMP_NTZ" in added.values():
            # docs.databricks.com, "TIMESTAMP_NTZ type": a table without such a column has to be told first.
            self.cursor.execute(
                f"alter table {self.table} set tblproperties ('delta.feature.timestampNtz' = 'supported')"
            )
        if added:
            columns = ", ".join(f"{quote(name)} {kind}" for name, kind in added.items())
            self.cursor.execute(f"alter table {self.table} add columns ({columns})")
