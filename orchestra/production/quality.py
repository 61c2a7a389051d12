"""Data quality after a load: one query for each kind of check, over all tables, whose rows are what it found.

A test of the platform compares the *number* of rows with its thresholds, error before warning; both are ``> 0`` unless
they are said (Orchestra docs, "Data quality tests"; the guides of orchestra-skills for those who come from Airflow or
Dagster say that it is the first value of the first row). So the rows are steps: there are as many as what was found is
bad, and each names the tables that are that bad. The first step is a warning, the last an error. The last comes first
and begins with its number, so that both readings come to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from runner.naming import literal, quote

# More in one statement would neither be read nor compiled in reasonable time.
_TABLES = 300
_CURRENT = "_dlt_valid_to"


@dataclass(frozen=True)
class CheckedTable:
    """A table that is tested.

    Attributes:
        name: At the destination.
        mode: full, append, incremental or snapshot.
        key: The columns that make a row unique, at the destination; empty where none do.
        time: The cursor, where it is a time; age: how far behind its newest value may be.
        counted: Whether the rows are all those that the record counts: not where rows are deleted as they are merged.
    """

    name: str
    mode: str
    key: tuple[str, ...] = ()
    time: str | None = None
    age: timedelta | None = None
    counted: bool = True


@dataclass(frozen=True)
class Check:
    """One query and what its number of rows means.

    Attributes:
        id: Of the task; name: what people read.
        warn: The threshold of a warning; None where any finding is an error.
    """

    id: str
    name: str
    sql: str
    error: str
    warn: str | None = None


@dataclass(frozen=True)
class Dialect:
    """How a destination spells the queries, and the test job of the platform that asks them.

    Attributes:
        statement: The parameter that takes the query.
        epoch: From a time to seconds since 1970; one without a zone is UTC.
        joined: From a column to all its values in one text.
        first: From the fingerprint of a table to the rows that it counts.
    """

    integration: str
    job: str
    statement: str = "statement"
    quoted: Callable[[str], str] = quote
    epoch: Callable[[str], str] = "extract(epoch from {})".format
    joined: Callable[[str], str] = "string_agg({}, ', ')".format
    first: Callable[[str], str] = "split_part({}, ':', 1)".format
    parameters: dict[str, Any] = field(default_factory=dict)
    needed: tuple[str, ...] = ()


def _upper(name: str) -> str:
    return quote(name.upper())


def _ticks(name: str) -> str:
    return f"`{name}`"


# That POSTGRES_RUN_TEST calls its query a statement, as its neighbours do, is not shown anywhere.
DIALECTS = {
    "postgres": Dialect("POSTGRES", "POSTGRES_RUN_TEST"),
    "snowflake": Dialect(
        "SNOWFLAKE",
        "SNOWFLAKE_RUN_TEST",
        quoted=_upper,
        epoch="date_part(epoch_second, {})".format,
        joined="listagg({}, ', ')".format,
    ),
    "bigquery": Dialect(
        "GCP_BIG_QUERY",
        "GCP_BQ_RUN_TEST",
        statement="query",
        quoted=_ticks,
        epoch="unix_seconds(timestamp({}))".format,
        first="split({}, ':')[offset(0)]".format,
        parameters={"enable_drive_scope": False},
    ),
    "databricks": Dialect(
        "DATABRICKS",
        "DATABRICKS_RUN_TEST",
        quoted=_ticks,
        epoch="unix_timestamp({})".format,
        joined="array_join(collect_list({}), ', ')".format,
        needed=("warehouse_id",),
    ),
}
# What a person can ask by hand; the platform has no test job for it.
DUCKDB = Dialect("", "")


class Checks:
    """The queries over the tables of one dataset.

    Args:
        schema: The names before that of a table: database or catalog where they are known, and the dataset.
    """

    def __init__(self, dialect: Dialect, schema: Sequence[str]) -> None:
        self._dialect = dialect
        self._schema = ".".join(map(dialect.quoted, schema))

    def all(self, tables: Iterable[CheckedTable], *, keys: bool, counts: bool, error_after: int) -> list[Check]:
        """Return every check that has something to look at; at most 300 tables in one."""
        tables = list(tables)
        keyed = [one for one in tables if one.key and one.mode != "append"] if keys else []
        counted = [one for one in tables if one.counted] if counts else []
        timed = [one for one in tables if one.time and one.age]
        found = []
        for suffix, words, part in _parts(keyed):
            found.append(Check(f"unique_keys{suffix}", f"Keys are unique{words}", self.unique(part), "> 0"))
            found.append(Check(f"keys_not_null{suffix}", f"Keys are not null{words}", self.not_null(part), "> 0"))
        for suffix, words, part in _parts(counted):
            name = f"Rows against the record of the load{words}"
            found.append(Check(f"row_counts{suffix}", name, self.counts(part), "> 1", "> 0"))
        for suffix, words, part in _parts(timed):
            sql, error = self.freshness(part, error_after), f"> {error_after - 1}"
            found.append(Check(f"freshness{suffix}", f"Cursors are fresh{words}", sql, error, "> 0"))
        return found

    def unique(self, tables: Sequence[CheckedTable]) -> str:
        """Return the query of tables with a key that several rows have: twice, table_name."""
        parts = [
            f"select count(*) as twice, {literal(one.name)} as table_name from "
            f"(select 1 as one from {self._rows(one)} group by {self._listed(one.key)} having count(*) > 1) k"
            for one in tables
        ]
        return f"select twice, table_name from (\n{_union(parts)}\n) found where twice > 0 order by table_name"

    def not_null(self, tables: Sequence[CheckedTable]) -> str:
        """Return the query of tables with rows without a key: without_key, table_name."""
        parts = [
            f"select count(*) as without_key, {literal(one.name)} as table_name from {self._table(one.name)} "
            f"where {' or '.join(f'{self._dialect.quoted(name)} is null' for name in one.key)}"
            for one in tables
        ]
        return (
            f"select without_key, table_name from (\n{_union(parts)}\n) found where without_key > 0 order by table_name"
        )

    def counts(self, tables: Sequence[CheckedTable]) -> str:
        """Return the query of tables that are not what their record says: step, finding, tables.

        The newest history row counts the rows of its load, and its fingerprint, where the run made one, those of the
        whole table. More rows than were loaded are the first step, fewer or no record at all the second.
        """
        # A word of GoogleSQL's own.
        hashed = self._dialect.quoted("hash")
        parts = [
            f"select {literal(one.name)} as table_name, count(*) as present from {self._rows(one)}" for one in tables
        ]
        return (
            "with history as (\n"
            f"select table_name, run, mode, row_count, {hashed} as fingerprint, "
            "row_number() over (partition by table_name order by seq desc) as nth\n"
            f"from {self._table('_runner_state')}\n"
            "), newest as (\n"
            "select table_name, row_count as at_least, "
            "case when fingerprint is not null and mode in ('full', 'incremental') "
            f"then cast({self._dialect.first('fingerprint')} as bigint) "
            f"when mode in ('full', 'snapshot') and run not in (\n{self._parts_of_tables()}\n) "
            "then row_count end as exactly\n"
            "from history where nth = 1\n"
            "), counted as (\n"
            f"{_union(parts)}\n"
            "), found as (\n"
            "select counted.table_name, case when at_least is null or present < coalesce(exactly, at_least) then 2 "
            "when present > exactly then 1 else 0 end as bad\n"
            "from counted left join newest on newest.table_name = counted.table_name\n"
            ")\n"
            "select step, case step when 1 then 'other rows than the record of the load' "
            "else 'fewer rows than were loaded, or no record' end as finding, "
            f"{self._dialect.joined('table_name')} as in_tables\n"
            f"from found join ({_steps(2)}) steps on bad >= step group by step order by step desc"
        )

    def freshness(self, tables: Sequence[CheckedTable], steps: int) -> str:
        """Return the query of tables whose cursor is behind: step, tables; a row for every time the age has passed."""
        now = self._dialect.epoch("current_timestamp")
        parts = []
        for one in tables:
            assert one.time is not None
            assert one.age is not None
            newest = self._dialect.epoch(f"max({self._dialect.quoted(one.time)})")
            seconds = int(one.age.total_seconds())
            parts.append(
                f"select {literal(one.name)} as table_name, ({now} - {newest}) / {seconds}.0 as behind "
                f"from {self._table(one.name)}"
            )
        return (
            f"with found as (\n{_union(parts)}\n)\n"
            f"select step, {self._dialect.joined('table_name')} as in_tables\n"
            f"from found join ({_steps(steps)}) steps on behind >= step group by step order by step desc"
        )

    def _parts_of_tables(self) -> str:
        """Return the query of runs that brought only a part of each table, and counted that."""
        words = " or ".join(f"command like '{word}'" for word in ("%--since %", "%--until %", "% repair"))
        return f"select run from {self._table('_runner_runs')} where {words}"

    def _table(self, name: str) -> str:
        return f"{self._schema}.{self._dialect.quoted(name)}"

    def _rows(self, one: CheckedTable) -> str:
        """Return a table as the source has it: without the versions that are history."""
        current = f" where {self._dialect.quoted(_CURRENT)} is null" if one.mode == "snapshot" else ""
        return f"{self._table(one.name)}{current}"

    def _listed(self, names: Iterable[str]) -> str:
        return ", ".join(map(self._dialect.quoted, names))


def _parts(tables: list[CheckedTable]) -> Iterator[tuple[str, str, list[CheckedTable]]]:
    for number, start in enumerate(range(0, len(tables), _TABLES), 1):
        several = len(tables) > _TABLES
        part = tables[start : start + _TABLES]
        yield f"_{number}" if several else "", f", part {number}" if several else "", part


def _union(parts: Iterable[str]) -> str:
    return "\nunion all ".join(parts)


def _steps(count: int) -> str:
    return " union all ".join(f"select {step}{' as step' if step == 1 else ''}" for step in range(1, count + 1))
