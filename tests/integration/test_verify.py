"""Seeded corruption, through the real command: what each way of verifying finds, and what it cannot."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import duckdb
import pyarrow as pa
import pytest

from connectors.postgres.decode import Decoder
from connectors.testing.server import PostgresServer
from runner.load import ChunkLoad, TableWork
from runner.loader import Loader
from runner.rowhash import DUCKDB, POSTGRES, Digest, Field, Slice, by_prefix, total
from runner.writers.duckdb import DuckDBWriter
from runner.writers.postgres import PostgresWriter
from tests.conftest import Answer, Cli, Database, Project

_ROWS = """
select i as id, i * 7::bigint as n, case when i % 10 = 0 then null when i % 10 = 1 then '' else 'note ' || i end as note,
       (i / 100.0)::numeric(10, 2) as price, timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i) as moment
from generate_series(1, 600) i
"""
_FIELDS = [
    Field("id", pa.int32()),
    Field("n", pa.int64()),
    Field("note", pa.string()),
    Field("price", pa.decimal128(10, 2)),
    Field("moment", pa.timestamp("us", "UTC")),
]
# A key in the order of the rows is cut into ranges, one without order into ranges of ctid; small tables stay whole.
_LAYOUTS = {"keys": "", "ctids": "order by md5(i::text)", "whole": "limit 150"}
# What is changed in staging, of which rows, by which statements. {a} and {b} are ids of one chunk.
_CHANGES = {
    "bit": ("n", "true", ["update {s} set n = n # {bit} where id = {a}"]),
    "empty": ("note", "note = ''", ["update {s} set note = null where id = {a}"]),
    "null": ("note", "note is null", ["update {s} set note = '' where id = {a}"]),
    "cut": ("note", "note <> ''", ["update {s} set note = left(note, -1) where id = {a}"]),
    "round": ("price", "price <> round(price, 1)", ["update {s} set price = round(price, 1) where id = {a}"]),
    "hour": ("moment", "true", ["update {s} set moment = moment + interval '1 hour' where id = {a}"]),
    "swap": ("n", "true", ["update {s} set n = 7 * ({a} + {b}) - n where id in ({a}, {b})"]),
    "twice": ("", "true", ["insert into {s} select * from {s} where id = {b}", "delete from {s} where id = {a}"]),
}
_WRITERS: dict[str, Any] = {"duckdb": DuckDBWriter, "postgres": PostgresWriter}


class Corruptor:
    """Stands before a writer's copy: corrupts each named table once, in a seeded chunk, row and bit."""

    def __init__(self, seed: int, changes: dict[str, str]) -> None:
        self.random = random.Random(seed)
        self.left = dict(changes)
        self.skip = {name: self.random.randrange(2) if "whole" not in name else 0 for name in changes}
        self.wanted: dict[str, list[str]] = {}

    def before(self, copy: Callable[..., None]) -> Callable[..., None]:
        def corrupted(
            writer: Any, cursor: Any, stage: str, target: Any, chunks: list[ChunkLoad], *, named: bool
        ) -> None:
            copy(writer, cursor, stage, target, chunks, named=named)
            for chunk in chunks:
                if target.name in self.left and not self.skip[target.name]:
                    self._corrupt(writer, cursor, stage, target, f"_runner_chunk = '{chunk.id}'" if named else "true")
                self.skip[target.name] = 0

        return corrupted

    def _corrupt(self, writer: Any, cursor: Any, stage: str, target: Any, chunk: str) -> None:
        column, rows, statements = _CHANGES[self.left.pop(target.name)]
        a, b = (
            self.random.choice(cursor.rows(f"select id from {stage} where {chunk} and {which}"))[0]
            for which in (rows, "id % 2 = 0")
        )
        b = b if b != a else a - 2 if a > 4 else a + 2
        for statement in statements:
            statement = statement.format(s=stage, a=a, b=b, bit=2 ** self.random.randrange(40))
            if isinstance(writer, DuckDBWriter) and "#" in statement:
                statement = statement.replace("n # ", "xor(n, ").replace(" where", ") where")
            cursor.execute(statement)
        self.wanted[target.name] = [f"id={a}"] + [f"id={b}"] * ("{b}" in statements[0]) + [column]


@pytest.fixture(params=["duckdb", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    project.environ |= {"SOURCE_DSN": database.dsn, "DEST_DSN": database.dsn, "RUNNER_HASH_KEY": "pepper"}
    return database


@pytest.fixture(autouse=True)
def each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tables share a transaction, and are tried alone when one fails: a value corrupted once would be healed."""
    monkeypatch.setattr("runner.writers.transactional._SMALL_BYTES", -1)  # a setting: none is small


def _job(project: Project, kind: str, *tables: str) -> None:
    where = "{type: duckdb, dataset: raw}" if kind == "duckdb" else '{type: postgres, dsn: "${DEST_DSN}", dataset: raw}'
    lines = "\n".join(f"  {table}" for table in tables)
    project.job(f"""
name: verified
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {where}
limits: {{chunk_rows: 200}}
tables:
{lines}
""")


def _create(source: Database, *names: str) -> None:
    for name in names:
        source.execute(f"create table {name} as {_ROWS} {_LAYOUTS[name.partition('_')[0]]}")
        source.execute(f"alter table {name} add primary key (id)", f"analyze {name}")


def _read(kind: str, project: Project, source: Database, sql: str) -> list[tuple[Any, ...]]:
    return project.query(sql) if kind == "duckdb" else source.rows(sql)


def _failed(answer: Answer) -> dict[str, str]:
    """Return what the events say of tables that failed, by name."""
    events = [json.loads(line) for line in answer.out.splitlines()]
    return {one["table"].split(".")[1]: one["message"] for one in events if one["action"] == "table_failed"}


@pytest.mark.parametrize("how", ["hash", "source"])
def test_a_corrupted_row_is_named_and_its_table_is_not_published(
    source: Database, project: Project, cli: Cli, kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts = ("keys", "whole") if how == "hash" else ("ctids", "whole")
    changes = {f"{layout}_{name}": name for layout in layouts for name in _CHANGES}
    _create(source, *changes, "keys_sound")
    _job(project, kind, "public.*: {mode: full}")
    loaded = how == "source"
    if loaded:
        # There is an old table, and it must stay.
        assert cli("backfill", "job.yml", "--verify", "none").code == 0
        source.execute(*[f"delete from {name} where id = 2" for name in changes])
    corruptor = Corruptor(len(kind + how), changes)
    monkeypatch.setattr(_WRITERS[kind], "copy", corruptor.before(_WRITERS[kind].copy))  # the real writer, then a damage
    answer = cli("backfill", "job.yml", "--verify", how, "--json")
    assert answer.code == 1
    assert not corruptor.left
    failed = _failed(answer)
    assert set(failed) == set(changes)
    for name, message in failed.items():
        assert " chunks differ; of chunk " in message, message
        if not name.startswith("whole"):  # see below
            words = re.split(r"[ ;:,()]+", message)
            assert all(word in words for word in corruptor.wanted[name] if word), (name, message, corruptor.wanted)
    states = dict(_read(kind, project, source, "select table_name, count(*) from raw._runner_state group by 1"))
    assert states == {name: 1 for name in changes if loaded} | {"keys_sound": 1 + loaded}
    if loaded:
        for name in changes:
            rows = _read(kind, project, source, f"select sum(n), count(note), count(*) from raw.{name} where id = 2")
            assert rows == [(14, 1, 1)]


def test_a_corrupted_row_of_a_small_table_is_named_too(
    source: Database, project: Project, cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(source, "whole_bit")
    _job(project, kind, "public.*: {mode: full}")
    corruptor = Corruptor(1, {"whole_bit": "bit"})
    monkeypatch.setattr(_WRITERS[kind], "copy", corruptor.before(_WRITERS[kind].copy))  # the real writer, then a damage
    failed = _failed(cli("backfill", "job.yml", "--verify", "hash", "--json"))
    assert f"{corruptor.wanted['whole_bit'][0]}: n" in failed["whole_bit"]


@pytest.mark.parametrize("more", [[], ["--failed"], ["--full-refresh"]])
def test_the_same_command_heals_a_corrupted_table(
    source: Database, project: Project, cli: Cli, kind: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(source, "keys_bit")
    _job(project, kind, "public.*: {mode: full}")
    with monkeypatch.context() as patch:
        patch.setattr(_WRITERS[kind], "copy", Corruptor(1, {"keys_bit": "bit"}).before(_WRITERS[kind].copy))
        assert cli("backfill", "job.yml", "--verify", "hash").code == 1
    assert cli("backfill", "job.yml", "--verify", "hash", *more).code == 0
    assert _read(kind, project, source, "select sum(n) from raw.keys_bit") == [(7 * 600 * 601 // 2,)]


def test_counts_find_a_lost_row_and_miss_a_changed_value(
    source: Database, project: Project, cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(source, "keys_bit", "keys_lost")
    _job(project, kind, "public.*: {mode: full}")
    monkeypatch.setitem(_CHANGES, "lost", ("", "true", ["delete from {s} where id = {a}"]))
    corruptor = Corruptor(3, {"keys_bit": "bit", "keys_lost": "lost"})
    monkeypatch.setattr(_WRITERS[kind], "copy", corruptor.before(_WRITERS[kind].copy))  # the real writer, then a damage
    answer = cli("backfill", "job.yml", "--json", "--verify", "counts")
    assert answer.code == 1
    assert set(_failed(answer)) == {"keys_lost"}
    assert _read(kind, project, source, "select count(*) from raw.keys_bit where n <> 7 * id") == [(1,)]


# A decoder that is wrong once.


def _misread(monkeypatch: pytest.MonkeyPatch, column: str = "n") -> set[str]:
    """Let the decoder get one value of each table wrong, the first time."""
    seen: set[str] = set()
    decode = Decoder.decode

    def wrong(self: Decoder, data: bytes) -> pa.RecordBatch:
        batch = decode(self, data)
        index = batch.schema.get_field_index(column)
        if self.scan.table.qualified in seen or index < 0:
            return batch
        seen.add(self.scan.table.qualified)
        values = batch.column(index).to_pylist()
        values[len(values) // 2] += 1
        return batch.set_column(index, batch.schema.field(index), pa.array(values, batch.schema.types[index]))

    monkeypatch.setattr(Decoder, "decode", wrong)
    return seen


def test_a_value_decoded_wrong_is_found_where_the_rows_are_hashed_as_they_came(
    source: Database, project: Project, cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(source, "keys_read", "keys_float")
    source.execute("alter table keys_float add f float8 default 0.1")
    _job(project, kind, "public.*: {mode: full}")
    _misread(monkeypatch)
    answer = cli("backfill", "job.yml", "--verify", "hash", "--json")
    assert (answer.code, list(_failed(answer))) == (1, ["keys_read"])
    assert "1 changed row (columns n): id=" in _failed(answer)["keys_read"]
    # A float is hashed by its bits, after the decoding.
    assert _read(kind, project, source, "select count(*) from raw.keys_float where n <> 7 * id") == [(1,)]


def test_a_value_decoded_wrong_is_found_by_a_second_look_at_the_source(
    source: Database, project: Project, cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = ("keys_read", "ctids_read", "whole_read")
    _create(source, *tables)
    source.execute(*(f"alter table {name} add f float8 default 0.1" for name in tables))
    _job(project, kind, "public.*: {mode: full}", "public.ctids_read: {columns: {note: hash}}")
    seen = _misread(monkeypatch)
    answer = cli("backfill", "job.yml", "--verify", "source", "--json")
    failed = _failed(answer)
    assert (answer.code, len(seen), len(failed)) == (1, 3, 3)
    assert all("were not decoded as the source has them" in message for message in failed.values())
    assert _read(kind, project, source, "select * from raw._runner_state") == []


def test_a_row_decoded_wrong_is_named(
    source: Database, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(source, "keys_read")
    _job(project, "duckdb", "public.*: {mode: full}")
    _misread(monkeypatch)
    answer = cli("backfill", "job.yml", "--verify", "source", "--json")
    assert "1 changed row (columns n): id=" in _failed(answer)["keys_read"]


def test_rows_that_a_second_look_refused_are_not_published_by_the_next_run(
    source: Database, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(source, "keys_read")
    _job(project, "duckdb", "public.*: {mode: full}")
    with monkeypatch.context() as patch:
        _misread(patch)
        assert cli("backfill", "job.yml", "--verify", "source").code == 1
    cli("backfill", "job.yml", "--verify", "hash")
    assert project.query("select count(*) from raw.keys_read where n <> 7 * id") == [(0,)]


def _together(monkeypatch: pytest.MonkeyPatch, names: set[str]) -> None:
    """Hold the first package back until every table has work in it."""
    load, package = Loader.load, Loader._package
    arrived: set[str] = set()
    complete = anyio.Event()

    async def noted(loader: Loader, work: TableWork) -> Any:
        arrived.add(work.target.name)
        if arrived >= names:
            complete.set()
        return await load(loader, work)

    async def filled(loader: Loader, first: Any) -> None:
        with anyio.fail_after(60):
            await complete.wait()
        await package(loader, first)

    monkeypatch.setattr(Loader, "load", noted)
    monkeypatch.setattr(Loader, "_package", filled)


def test_a_small_table_that_is_corrupted_again_and_again_fails_alone(
    source: Database, project: Project, cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"whole_{letter}" for letter in "abcdef"]
    _create(source, *names)
    _job(project, kind, "public.*: {mode: full}")
    copy = _WRITERS[kind].copy
    transactions: list[list[str]] = []
    begin = _WRITERS[kind]._transaction

    def noted(writer: Any, cursor: Any, lease: Any, works: list[Any]) -> Any:
        transactions.append([work.target.name for work in works])
        return begin(writer, cursor, lease, works)

    def corrupted(writer: Any, cursor: Any, stage: str, target: Any, chunks: Any, *, named: bool) -> None:
        copy(writer, cursor, stage, target, chunks, named=named)
        if target.name == "whole_c":
            cursor.execute(f"update {stage} set n = n + 1 where id = 7")

    monkeypatch.setattr("runner.writers.transactional._SMALL_BYTES", 2**20)
    monkeypatch.setattr(_WRITERS[kind], "copy", corrupted)
    monkeypatch.setattr(_WRITERS[kind], "_transaction", noted)
    _together(monkeypatch, set(names))
    answer = cli("backfill", "job.yml", "--verify", "hash", "--json")
    assert (answer.code, list(_failed(answer))) == (1, ["whole_c"])
    assert "1 changed row (columns n): id=7" in _failed(answer)["whole_c"]
    assert any("whole_c" in works and len(works) > 1 for works in transactions)
    right = set(names) - {"whole_c"}
    assert {row[0] for row in _read(kind, project, source, "select table_name from raw._runner_state")} == right
    assert all(_read(kind, project, source, f"select count(*) from raw.{name}") == [(150,)] for name in right)


# Every kind of table.

_KINDS = r"""
create table types (id int primary key, b bool, i2 int2, i8 int8, f4 float4, f8 float8, d numeric(10, 2),
    w numeric(38, 10), free numeric, t text, v varchar(9), c char(5), x bytea, day date, at time, ts timestamp,
    tz timestamptz, j json, jb jsonb, u uuid, ia int[], ta text[], iv interval, tt timetz, net inet, m money, r int4range);
insert into types values (1, true, -32768, -9223372036854775808, 1e-45, 5e-324, -0.01, -0.0000000001, 1.50, E'a,b\n"\\',
    'é', 'ab', '\x00ff', '0001-01-01', '23:59:59.999999', '9999-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999+02',
    '{"a":  1}', '{"b": [1, "ü"]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,null}', '{"a,b",""}', '1 day 2 hours',
    '12:00:00+02', '10.0.0.1/8', '-5.25', '[1,5)');
insert into types values (2, false, 32767, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 99999999.99,
    9999999999999999999999999999.9999999999, 'NaN', '', '', '', '', '9999-12-31', '00:00', '0001-01-01',
    '2000-01-01+00', '[]', '{}', null, '{}', '{}', '-1 month', null, null, 0, 'empty');
insert into types values (3, null, null, null, '-0', '-0');
insert into types values (4, null, 0, 0, 'nan', 'inf', 0, 0, 0, '~', '-1,', '     ', '\x2c', '1970-01-01', '12:00');
insert into types values (5, null, 1, 1, 0.1, 0.1, 0.10, 0.10, 0.10, 'Zürich 🚲', 'x', 'abcde', '\x01', '2024-02-29');
create table ruled (id int primary key, n int, x text, y text, z numeric, gone date);
insert into ruled select i, i, 'x' || i, nullif(i % 3, 0)::text, i / 8.0, now() from generate_series(1, 500) i;
create table odd (id int primary key, n int, day date, ts timestamp, d numeric(5, 2), at time);
insert into odd values (1, 1, 'infinity', '-infinity', 'NaN', '24:00'), (2, 2, '0044-03-15 BC', '10000-01-01', 1, '00:00'),
    (3, 3, '2024-01-01', '2024-01-01', -1, '12:00'), (4, 4, '9999-12-31', '9999-12-31 23:59:59.999999', 0, null);
create table parted (id int, n int, note text, primary key (id)) partition by range (id);
create table parted_a partition of parted for values from (0) to (300);
create table parted_b partition of parted for values from (300) to (1000);
insert into parted select i, i, 'p' || i from generate_series(1, 600) i;
create view seen as select * from parted;
create materialized view kept as select * from parted;
create table "Odd ""Name"", here" ("Key One" int, "the n" int, n int, "h" int, "Ü" text, primary key ("Key One", "the n"));
insert into "Odd ""Name"", here" select i, -i, i, i, 'ü' || i from generate_series(1, 500) i;
create table empty (id int primary key, n int);
create table loose as select i % 50 as n, 'same' as note from generate_series(1, 600) i;
analyze;
"""
_ENTRIES = [
    "public.*: {mode: full}",
    "public.ruled: {columns: {x: hash, y: mask, z: text, gone: drop}}",
    'public.odd: {special: "null"}',
    "public.seen: {mode: full}",
    "public.kept: {mode: full}",
]


def test_every_kind_of_table_and_type_is_equal_by_a_second_look(
    source: Database, project: Project, cli: Cli, kind: str
) -> None:
    source.execute(_KINDS)
    _job(project, kind, *_ENTRIES)
    answer = cli("backfill", "job.yml", "--verify", "source", "--json")
    assert answer.code == 0, _failed(answer)
    rows = _read(kind, project, source, "select table_name, row_count, hash from raw._runner_state")
    assert len(rows) == 9
    assert all(hashed.startswith(f"{count}:") for _, count, hashed in rows)
    # A sample by eyes other than ours: the hash of the same rows in the destination now.
    fields = [Field("id", pa.int32()), Field("n", pa.int32()), Field("note", pa.string())]
    dialect = DUCKDB if kind == "duckdb" else POSTGRES
    for name in ("parted", "seen", "kept"):
        found = total(by_prefix(_read(kind, project, source, dialect.sql(Digest(), fields, f"raw.{name}"))).values())
        assert {row[0]: row[2] for row in rows}[name] == str(found)


def test_every_kind_of_table_is_looked_at_again(
    source: Database, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.execute(_KINDS, "alter table types add column n int default 1")
    _job(project, "duckdb", *_ENTRIES)
    seen = _misread(monkeypatch)
    answer = cli("backfill", "job.yml", "--verify", "source", "--json")
    assert answer.code == 1
    assert len(seen) == 8  # all but the empty one
    assert len(_failed(answer)) == 8
    assert project.query("select table_name from raw._runner_state") == [("empty",)]


@pytest.mark.parametrize(
    "statement",
    [
        "create table t as select 1 as n, timestamp 'infinity' as at; alter table t alter column at set not null",
        "create table t as select 1 as n, null::timestamp as at; alter table t add constraint c not null at not valid",
    ],
    ids=["special: null", "not valid"],
)
def test_a_null_in_a_column_that_is_called_not_null(
    source: Database, project: Project, cli: Cli, statement: str
) -> None:
    source.execute(statement)
    _job(project, "duckdb", 'public.t: {mode: full, special: "null"}')
    assert cli("backfill", "job.yml", "--verify", "source").code == 0
    assert project.query("select * from raw.t") == [(1, None)]


@contextlib.contextmanager
def _database(server: PostgresServer, encoding: str) -> Iterator[Database]:
    """Lend a database of another encoding."""
    admin, name = Database(server, "postgres"), f"other_{encoding.lower()}"
    admin.execute(f"create database {name} encoding '{encoding}' template template0 locale 'C'")
    try:
        yield Database(server, name)
    finally:
        admin.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize(("encoding", "town"), [("LATIN1", "Zürich"), ("SQL_ASCII", "Zurich")])
def test_a_source_in_another_encoding_is_streamed_again(
    source: Database, project: Project, cli: Cli, encoding: str, town: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _database(source.server, encoding) as other:
        project.environ["SOURCE_DSN"] = other.dsn
        other.execute(
            f"create table t as select i as n, i / 8::float8 as f, '{town} ' || i as note from generate_series(1, 9) i"
        )
        _job(project, "duckdb", "public.t: {mode: full}")
        assert cli("backfill", "job.yml", "--verify", "source").code == 0
        assert project.query("select note from raw.t where n = 9") == [(f"{town} 9",)]
        _misread(monkeypatch)
        assert "were not decoded" in cli("backfill", "job.yml", "--verify", "source").out


def test_a_destination_in_another_encoding_is_verified_by_value(source: Database, project: Project, cli: Cli) -> None:
    with _database(source.server, "LATIN1") as other:
        project.environ["DEST_DSN"] = other.dsn
        source.execute("create table t as select 'Zürich' as note")
        _job(project, "postgres", "public.t: {mode: full}")
        assert cli("backfill", "job.yml", "--verify", "hash").code == 0


# Resuming, and PostgreSQL's own SQL.


@pytest.mark.parametrize("begun", ["counts", "hash"])
def test_a_run_begun_without_hashes_and_killed_reads_again_what_has_none(
    source: Database, project: Project, cli: Cli, kind: str, begun: str
) -> None:
    _create(source, "keys_killed")
    _job(project, kind, "public.*: {mode: full}")
    project.environ["RUNNER_CRASH_AT"] = "load-recorded:2"
    process = project.start("backfill", "job.yml", "--verify", begun, "--quiet")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    del project.environ["RUNNER_CRASH_AT"]
    answer = cli("backfill", "job.yml", "--verify", "hash", "--json", "--debug")
    assert answer.code == 0, answer.out
    events = [json.loads(line) for line in answer.out.splitlines()]
    read = sum(one["rows"] for one in events if one["action"] == "chunk_spooled")
    assert read == 600 if begun == "counts" else read < 600
    dialect = DUCKDB if kind == "duckdb" else POSTGRES
    found = by_prefix(_read(kind, project, source, dialect.sql(Digest(), _FIELDS, "raw.keys_killed")))
    here = by_prefix(source.rows(POSTGRES.sql(Digest(), _FIELDS, "keys_killed")))
    assert found == here
    assert _read(kind, project, source, "select hash from raw._runner_state") == [(str(here[""]),)]


def test_parts_slices_and_rows_are_the_same_in_postgresql_and_duckdb(source: Database) -> None:
    _create(source, "keys_all")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        columns = source.rows("select id, n, note, price, moment::text from keys_all")
        connection.execute("create table t (id int, n bigint, note text, price decimal(10, 2), moment timestamptz)")
        connection.executemany("insert into t values (?, ?, ?, ?, ?)", columns)
        for key in ((), ("id",), ("note", "id")):
            part = Slice(key, ("00", "7f", "a0", "ff", "3c", "42"))
            for ask in (
                Digest(2, key),
                Digest(1, key, part),
                Digest(0, key, part, rows=True),
                Digest(0, key, rows=True, values=True),
            ):
                here = source.rows(POSTGRES.sql(ask, _FIELDS, "keys_all", "n > 70"))
                there = connection.execute(DUCKDB.sql(ask, _FIELDS, "t", "n > 70")).fetchall()
                assert there
                assert sorted(here) == sorted(there) if ask.rows else by_prefix(here) == by_prefix(there)


def test_wider_columns_of_postgresql_keep_the_hash_unless_a_value_has_more_digits(source: Database) -> None:
    source.execute(
        "create table narrow (d numeric(12, 2), f real)",
        "insert into narrow values (1.5, 0.5), (-0.1, 0.1), (null, null), (0, 'nan')",
        "create table wide (d numeric(14, 4), f float8)",
        "insert into wide select d, f from narrow",
        "insert into wide values (1.5001, 0.5), (1.5, 0.1)",
    )
    fields = [Field("d", pa.decimal128(12, 2)), Field("f", pa.float32())]
    wider = [Field(one.name, one.type, wider=True) for one in fields]
    own, other = (source.rows(POSTGRES.sql(Digest(rows=True), *ask)) for ask in ((fields, "narrow"), (wider, "wide")))
    assert [row[0] for row in own] == [row[0] for row in other[:4]]
    assert len({row[0] for row in other}) == 6
