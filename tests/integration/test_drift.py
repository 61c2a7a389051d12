"""The source's schema changes, before a run and in the middle of one: what SEMANTICS.md's table says, by value."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import Answer, Cli, Database, Project, during_copy

MODES = ("full", "incremental", "append", "snapshot")
_POSTGRES = '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'
_DDL = """
create table {t} (id int primary key, n int, big bigint, amount numeric(10, 2), short varchar(5), note text,
    other int not null, at timestamptz not null);
insert into {t} select i, i, i, i / 8.0, 's' || i, 'n' || i, 100 + i, timestamptz '2024-01-01 00:00+00'
    + make_interval(hours => i) from generate_series(1, 20) i;
"""
_NEW = "insert into {t} (id, other, at) values (1000, 1100, '2024-06-01')"
_COLUMNS = ("id", "n", "big", "amount", "short", "note", "other", "at")


@dataclass(frozen=True)
class Change:
    """What somebody does to a table.

    Attributes:
        said: What the run's lines, and its report, say of it under ``evolve``; None: there is nothing to say.
        frozen: Whether ``freeze`` refuses it.
        gone: Columns that the source does not have any more.
        new: The column that it has instead, or besides.
        types: The types that a column has at the destination afterwards: in DuckDB and in PostgreSQL.
    """

    ddl: str
    said: str | None
    frozen: bool = True
    gone: tuple[str, ...] = ()
    new: str | None = None
    types: dict[str, tuple[str, str]] = field(default_factory=dict)


_CHANGES = {
    "added": Change("alter table {t} add extra int default 7", "column extra added", new="extra"),
    "dropped": Change("alter table {t} drop note", "column note is gone", gone=("note",)),
    "renamed": Change("alter table {t} rename note to remark", "column remark added", gone=("note",), new="remark"),
    "wider_int": Change(
        "alter table {t} alter n type bigint",
        "column n changed",
        types={"n": ("BIGINT", "bigint")},
    ),
    "wider_numeric": Change(
        "alter table {t} alter amount type numeric(12, 2)",
        "column amount changed",
        types={"amount": ("DECIMAL(12,2)", "numeric(12,2)")},
    ),
    "wider_varchar": Change("alter table {t} alter short type varchar(50)", None, frozen=False),
    "text": Change("alter table {t} alter short type text", None, frozen=False),
    "narrower": Change("alter table {t} alter big type int", "column big changed"),
    "other_type": Change("alter table {t} alter n type text using 'x' || n", "'n' was"),
    "nullable": Change("alter table {t} alter other drop not null", None, frozen=False),
    "required": Change(
        "update {t} set note = coalesce(note, '-'); alter table {t} alter note set not null", None, frozen=False
    ),
    "rekeyed": Change("alter table {t} drop constraint {t}_pkey, add primary key (other)", None, frozen=False),
    "still": Change("select", None, frozen=False),
}


def _new_row(name: str) -> str:
    if name == "required":
        return "insert into required (id, other, at, note) values (1000, 1100, '2024-06-01', 'here')"
    return _NEW.format(t=name)


@dataclass
class Drift:
    """A job over one table for every change."""

    database: Database
    project: Project
    cli: Cli
    mode: str
    destination: str

    def __post_init__(self) -> None:
        self.project.environ["SOURCE_DSN"] = self.database.dsn

    def job(self, policy: str = "evolve", tables: str = "public.*", more: str = "") -> None:
        cursor = ", cursor: at" if self.mode in ("incremental", "append") else ""
        to = _POSTGRES if self.destination == "postgres" else "{type: duckdb, dataset: raw}"
        self.project.job(
            f'name: drift\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\ndestination: {to}\nschema: {policy}\n'
            f"{more}tables:\n  {tables}: {{mode: {self.mode}{cursor}}}\n"
        )

    def run(self, *arguments: str) -> Answer:
        return self.cli("backfill", "job.yml", *arguments)

    def there(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.rows(sql) if self.destination == "postgres" else self.project.query(sql)

    def report(self) -> str:
        newest = max(self.project.folder.glob(".runner/runs/*"))
        return (newest / "report.html").read_text("utf-8")

    def current(self) -> str:
        return " and _dlt_valid_to is null" if self.mode == "snapshot" else ""

    def same(self, table: str, columns: tuple[str, ...], where: str = "true", source: str | None = None) -> None:
        """See that destination and source hold the same rows, as text so that a wider type is equal."""
        texts = ", ".join(f"cast({name} as varchar)" if name != "at" else '"at"' for name in columns)
        query = "select {} from {}.{} where {}"
        here = Counter(self.database.rows(query.format(texts, "public", source or table, where)))
        there = Counter(self.there(query.format(texts, "raw", table, where + self.current())))
        assert here - there == there - here == Counter(), table

    def type_of(self, table: str, column: str) -> str:
        sql = (
            "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'raw.{0}'::regclass "
            "and attname = '{1}'"
            if self.destination == "postgres"
            else "select data_type from duckdb_columns() where schema_name = 'raw' and table_name = '{0}' "
            "and column_name = '{1}'"
        )
        found = self.there(sql.format(table, column))
        return str(found[0][0]) if found else "none"


@pytest.fixture(params=[(mode, to) for mode in MODES for to in ("duckdb", "postgres")], ids="-".join)
def drift(request: pytest.FixtureRequest, database: Database, project: Project, cli: Cli) -> Drift:
    found = Drift(database, project, cli, *request.param)
    database.execute(*(_DDL.format(t=name) for name in (*_CHANGES, "away", "lost")))
    return found


def _upheave(drift: Drift) -> None:
    """Change every table, each in its way, and give each a new row."""
    for name, change in _CHANGES.items():
        drift.database.execute(change.ddl.format(t=name), _new_row(name))
    drift.database.execute("alter table away rename to away_new", "drop table lost")


def _failed(answer: Answer) -> set[str]:
    marker = "ERROR table_failed: public."
    return {line.partition(marker)[2].partition(":")[0] for line in answer.err.splitlines() if marker in line}


def _line(answer: Answer, table: str, words: str) -> bool:
    """Tell whether a line of the run, and its report, say something of a table."""
    return any(f"public.{table}: " in line and words in line for line in answer.err.splitlines())


def test_every_change_is_taken_over_or_named(drift: Drift) -> None:
    drift.job()
    first = drift.run()
    assert first.code == 0, first.err
    lost = drift.there("select * from raw.lost order by id")
    _upheave(drift)
    answer = drift.run()
    report = drift.report()
    replaced = drift.mode == "full"
    failed = set() if replaced else {"other_type"}
    assert _failed(answer) == failed, answer.err
    assert answer.code == (1 if failed else 0)
    for name, change in _CHANGES.items():
        if change.said is not None:
            words = "column n changed" if name == "other_type" and replaced else change.said
            assert _line(answer, name, words), (name, answer.err)
            assert words.replace("'", "&#x27;") in report, name
        if name not in failed:
            _check(drift, name, change, replaced=replaced)
    _check_moved(drift, answer, lost)
    if failed:
        assert "'n' was" in answer.out
        assert "--full-refresh" in answer.out
        drift.same("other_type", ("id",), "id <= 20")  # nothing of it was published
        assert drift.there("select count(*) from raw.other_type where id = 1000") == [(0,)]
        same = drift.run("--tables", "public.other_type")
        assert _failed(same) == failed, "the same command says the same"
        again = drift.run("--full-refresh", "--yes", "--tables", "public.other_type")
        assert again.code == 0, again.err
        drift.same("other_type", _COLUMNS)
    last = drift.run()
    assert last.code == 0, last.err
    drift.same("still", _COLUMNS)
    drift.same("other_type", _COLUMNS)


def _check(drift: Drift, name: str, change: Change, *, replaced: bool) -> None:
    drift.same(name, tuple(column for column in _COLUMNS if column not in change.gone))
    for column, types in change.types.items():
        assert drift.type_of(name, column) == types[drift.destination == "postgres"], name
    for column in change.gone:
        if drift.type_of(name, column) == "none":
            assert replaced, f"{column} stays where rows are only added"
            continue
        where = f"id = 1000{drift.current()}"
        assert drift.there(f"select {column} from raw.{name} where {where}") == [(None,)], name
    if change.new is not None:
        if drift.mode in ("full", "snapshot"):
            drift.same(name, (change.new, "id"))
        else:
            sql = f"select {change.new} from raw.{name} where id = 1"
            assert drift.there(sql) == [(None,)], f"{name}: rows that are not read again have NULL"
            drift.same(name, ("id", change.new), "id = 1000")


def _check_moved(drift: Drift, answer: Answer, lost: list[tuple[Any, ...]]) -> None:
    assert drift.there("select * from raw.lost order by id") == lost
    drift.same("away", _COLUMNS, source="away_new")
    drift.same("away_new", _COLUMNS)
    for name in ("lost", "away"):
        assert _line(answer, name, "is not at the source now: dropped, renamed or excluded"), answer.err
    assert "is not at the source now" in drift.report()


@pytest.mark.parametrize(
    "drift", [("full", "postgres"), ("incremental", "duckdb"), ("snapshot", "duckdb")], indirect=True, ids="-".join
)
def test_a_frozen_schema_refuses_every_change_and_keeps_the_table(drift: Drift) -> None:
    drift.job("freeze")
    assert drift.run().code == 0
    before = {name: drift.there(f"select * from raw.{name} order by id") for name in _CHANGES}
    _upheave(drift)
    answer = drift.run()
    assert answer.code == 1
    refused = {name for name, change in _CHANGES.items() if change.frozen}
    assert _failed(answer) == refused, answer.err
    report = drift.report()
    for name in refused:
        said = _CHANGES[name].said or ""
        said = "column n changed" if name == "other_type" else said
        assert _line(answer, name, f"frozen and differs: {said}") or _line(answer, name, said), (name, answer.err)
        assert said in report
        assert drift.there(f"select * from raw.{name} order by id") == before[name]
    for name in set(_CHANGES) - refused:
        drift.same(name, _COLUMNS)
    assert _failed(drift.run("--full-refresh", "--yes")) == refused, "a refresh takes no change over either"
    assert "Set schema: evolve" in answer.out
    drift.job("evolve")
    assert drift.run("--full-refresh", "--yes").code == 0
    for name in _CHANGES:
        drift.same(name, tuple(column for column in _COLUMNS if column not in _CHANGES[name].gone))


@pytest.mark.parametrize("policy", ["evolve", "freeze"])
@pytest.mark.parametrize("drift", [("incremental", "duckdb"), ("incremental", "postgres")], indirect=True)
def test_another_key_reads_the_table_as_a_whole_once(drift: Drift, policy: str) -> None:
    drift.job(policy, "public.rekeyed")
    assert drift.run().code == 0
    drift.database.execute(
        _CHANGES["rekeyed"].ddl.format(t="rekeyed"),
        "update rekeyed set id = 7, note = 'its cursor stays' where other = 105",
        _NEW.format(t="rekeyed"),
    )
    answer = drift.run()
    assert answer.code == 0, answer.err
    words = "the key changed from (id) to (other): the table is read as a whole"
    assert _line(answer, "rekeyed", words), answer.err
    assert words in drift.report()
    drift.same("rekeyed", _COLUMNS)
    drift.database.execute("update rekeyed set note = 'not seen' where other = 106")
    answer = drift.run()
    assert answer.code == 0, answer.err
    assert "as a whole" not in answer.err
    assert drift.there("select count(*) from raw.rekeyed where note = 'not seen'") == [(0,)]


@pytest.mark.parametrize("drift", [("incremental", "duckdb"), ("append", "postgres")], indirect=True)
def test_a_cursor_of_another_type_reads_the_table_as_a_whole(drift: Drift) -> None:
    drift.job(tables="public.still")
    assert drift.run().code == 0
    drift.database.execute("alter table still alter at type timestamp using at at time zone 'UTC'")
    answer = drift.run()
    assert answer.code == 0, answer.err
    assert _line(answer, "still", "the cursor at is timestamp without time zone now"), answer.err
    drift.same("still", _COLUMNS)
    assert drift.run().code == 0
    drift.same("still", _COLUMNS)


@pytest.mark.parametrize("drift", [("snapshot", "duckdb"), ("snapshot", "postgres")], indirect=True)
def test_equal_rows_stay_as_many_as_they_are_when_a_column_comes_or_goes(drift: Drift) -> None:
    drift.database.execute(
        "create table loose (a int, b text)",
        "insert into loose values (1, 'a'), (1, 'b'), (2, 'c'), (3, 'x'), (3, 'x')",
    )
    drift.job(tables="public.loose")
    assert drift.run("--verify", "hash").code == 0
    for change in ("drop b", "add c int", "alter a type bigint"):
        drift.database.execute(f"alter table loose {change}")
        assert drift.run("--verify", "hash").code == 0
        drift.same("loose", ("a",))
        assert drift.there("select count(*) from raw.loose") == [(5,)], f"{change}: no row has a new version"


# In the middle of a run. The first chunk is at work; whatever changes the table waits for it to end.

_BIG = (
    "create table big as select i as id, i as n, 'v' as v, 'w' as w, 's'::varchar(5) as s, "
    "timestamptz '2024-01-01 00:00+00' + make_interval(secs => i) as at from generate_series(1, 2400) i",
    "alter table big add primary key (id), alter at set not null",
    "create function slow(int) returns bool language sql volatile as "
    "'select case when $1 % 10 = 0 then pg_sleep(0.002) is not null else true end'",
    "create table beside as select i as id, now() as at from generate_series(1, 50) i",
    "alter table beside add primary key (id), alter at set not null",
    "analyze",
)
_READ = ("id", "n", "v", "w", "s", "at")
# What is done, what the failure says; None: nothing is wrong with a table that is read as it was planned.
_MEANWHILE = {
    "added": ("alter table big add extra int", None),
    "dropped": ("alter table big drop w", "w was dropped"),
    "renamed": ("alter table big rename w to remark", "remark was added, w was dropped"),
    "replaced": ("begin; alter table big rename w to x; alter table big add w text; commit", "x was added"),
    "swapped": (
        "begin; alter table big rename v to x; alter table big rename w to v; alter table big rename x to w; commit",
        "the order of its columns",
    ),
    "wider": ("alter table big alter n type bigint", "n changed from integer to bigint"),
    "longer": ("alter table big alter s type varchar(50)", None),
    "other_type": ("alter table big alter n type text using 'x' || n", "n changed from integer to text"),
    "table_renamed": ("alter table big rename to bigger", '"public.big" does not exist'),
    "table_dropped": ("drop table big", '"public.big" does not exist'),
    "table_swapped": (
        "create table fresh (like big including all); insert into fresh select id, -n, v, w, s, at from big; "
        "begin; alter table big rename to bygone; alter table fresh rename to big; commit",
        None,
    ),
    "truncated": ("begin; truncate big; insert into big values (1, 1, 'v', 'w', 's', now()); commit", None),
}


@pytest.mark.parametrize("change", _MEANWHILE)
def test_a_change_in_the_middle_of_a_run(
    change: str, database: Database, project: Project, cli: Cli, request: pytest.FixtureRequest
) -> None:
    number = list(_MEANWHILE).index(change)
    drift = Drift(database, project, cli, MODES[number % 4], ("duckdb", "postgres")[number // 4 % 2])
    statements, said = _MEANWHILE[change]
    database.execute(*_BIG)
    cursor = ", cursor: at" if drift.mode in ("incremental", "append") else ""
    drift.job(
        tables=f'public.beside: {{mode: {drift.mode}{cursor}}}\n  "public.big*": {{where: "slow(id)"}}\n  public.big',
        more="limits: {chunk_rows: 800, connections: 1}\n",
    )
    with during_copy(database, "big", *statements.split("; ", 0 if "begin" in statements else -1)):
        answer = drift.run()
    drift.same("beside", ("id", "at"))
    assert answer.code == (1 if said else 0), answer.err
    if said:
        assert _failed(answer) == {"big"}
        assert _line(answer, "big", said), answer.err
        assert said.replace('"', "&quot;") in drift.report()
        tables = drift.there("select table_name from information_schema.tables where table_schema = 'raw'")
        assert ("big",) not in tables, "nothing of it was published"
    again = drift.run()
    if change in ("table_renamed", "table_dropped"):
        assert again.code == 1, again.err
        assert "public.big is not at the source" in again.out
    else:
        assert again.code == 0, again.err
        extra = ("extra",) if change == "added" and drift.mode in ("full", "snapshot") else ()
        columns = tuple(one for one in _READ if database.rows(_HAS.format(one))) + extra
        drift.same("big", columns)
    drift.same("beside", ("id", "at"))
    assert json.loads(cli("show", "latest", "--json").out)["run"]["exit_code"] == again.code


_HAS = "select 1 from pg_attribute where attrelid = 'public.big'::regclass and attname = '{}' and not attisdropped"
