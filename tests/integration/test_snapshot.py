"""Mode snapshot: every version of a row with the time it held, in both destinations."""

from __future__ import annotations

import datetime
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from runner.rowhash import Fingerprint
from tests.conftest import Answer, Cli, Database, Project

_JOB = """
name: history
source: {type: postgres, dsn: "${SOURCE_DSN}"}
destination: DESTINATION
limits: {chunk_rows: 100}
tables: {public.t: {mode: snapshot}}
"""


@dataclass
class History:
    """A source, its destination, and what the source held when."""

    kind: str
    source: Database
    project: Project
    cli: Cli

    def run(self, *more: str, code: int = 0) -> Answer:
        answer = self.cli("backfill", "job.yml", "--verify", "hash", "--json", *more)
        assert answer.code == code, answer.out
        return answer

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.project.query(sql) if self.kind == "duckdb" else self.source.rows(sql)

    def versions(self, columns: str = "id, note") -> Counter[tuple[Any, ...]]:
        """Return all versions, each with whether it is current."""
        return Counter(self.rows(f"select {columns}, _dlt_valid_to is null from raw.t"))

    def valid(self, moment: str, columns: str = "id, note") -> Counter[tuple[Any, ...]]:
        at = f"timestamptz '{moment}'"
        where = f"_dlt_valid_from <= {at} and (_dlt_valid_to is null or _dlt_valid_to > {at})"
        return Counter(self.rows(f"select {columns} from raw.t where {where}"))

    def everything(self) -> list[tuple[Any, ...]]:
        """Return all that is written, on PostgreSQL down to the row versions."""
        own = "_dlt_valid_from::text, _dlt_valid_to::text, _dlt_id" + (
            ", ctid::text, xmin::text" * (self.kind == "postgres")
        )
        return sorted(self.rows(f"select coalesce(t::text, ''), {own} from raw.t"), key=str)


@pytest.fixture(params=["duckdb", "postgres"])
def history(request: pytest.FixtureRequest, project: Project, database: Database, cli: Cli) -> History:
    project.environ["SOURCE_DSN"] = database.dsn
    kind = str(request.param)
    where = (
        "{type: duckdb, dataset: raw}" if kind == "duckdb" else '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'
    )
    project.job(_JOB.replace("DESTINATION", where))
    return History(kind, database, project, cli)


def _now() -> str:
    time.sleep(0.002)
    now = datetime.datetime.now(datetime.UTC).isoformat()
    time.sleep(0.002)
    return now


def test_rows_that_come_change_go_and_come_back(history: History) -> None:
    source = history.source
    source.execute(
        "create table t (id int primary key, note text)", "insert into t values (1, 'a'), (2, 'b'), (3, null)"
    )
    history.run()
    assert history.versions() == {(1, "a", True): 1, (2, "b", True): 1, (3, None, True): 1}
    source.execute(
        "insert into t values (4, 'd')", "update t set note = 'B' where id = 2", "delete from t where id = 1"
    )
    source.execute("update t set note = '' where id = 3")
    history.run()
    second = {
        (1, "a", False): 1, (2, "b", False): 1, (2, "B", True): 1, (3, None, False): 1, (3, "", True): 1, (4, "d", True): 1,
    }  # fmt: skip
    assert history.versions() == second
    source.execute("insert into t values (1, 'a')", "update t set note = 'b' where id = 2")
    history.run()
    del second[2, "B", True]
    assert history.versions() == second | {(1, "a", True): 1, (2, "B", False): 1, (2, "b", True): 1}
    # No two versions of a row hold at the same time, and none ends before it began.
    assert history.rows("select count(*) from raw.t where _dlt_valid_to <= _dlt_valid_from") == [(0,)]
    assert history.rows(
        "select count(*) from raw.t a join raw.t b on a.id = b.id and a._dlt_valid_from < b._dlt_valid_from "
        "where a._dlt_valid_to is null or a._dlt_valid_to > b._dlt_valid_from"
    ) == [(0,)]
    assert history.rows("select count(distinct _dlt_id), count(*) from raw.t where _dlt_valid_to is null") == [(4, 4)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_rows_valid_at_a_time_are_those_that_the_source_had(history: History, seed: int) -> None:
    """Without a key, with equal rows, over several chunks, with a column that comes."""
    chance, source = random.Random(seed), history.source
    source.execute(
        "create table t (id int, note text)", "insert into t select i % 40, 'n' || i % 7 from generate_series(1, 250) i"
    )
    changes = [
        "insert into t select i % 5, 'n' || i % 3 from generate_series(1, {n}) i",
        "delete from t where ctid in (select ctid from t order by md5(ctid::text || {n}) limit {n})",
        "update t set note = 'n' || {n} % 5 where id % 11 = {n} % 11",
        "update t set note = null where id = {n}",
        "delete from t where id = {n} % 40",
        "insert into t select id, note from t where id % 13 = {n} % 13",
    ]
    held: list[tuple[str, Counter[tuple[Any, ...]]]] = []
    for turn in range(5):
        if turn:
            source.execute(
                *[one.format(n=chance.randrange(1, 30)) for one in chance.sample(changes, chance.randrange(4))]
            )
        if turn == 3:
            source.execute("alter table t add column extra int", "update t set extra = id where id % 2 = 0")
        history.run()
        held.append((_now(), Counter(source.rows("select id, note from t"))))
    for moment, rows in held:
        assert history.valid(moment) == rows
    current = source.rows("select id, note, extra from t")
    assert history.valid(_now(), "id, note, extra") == Counter(current)
    hashed = history.rows("select hash from raw._runner_state order by seq desc limit 1")[0][0]
    assert Fingerprint.parse(hashed).rows == len(current)


def test_where_nothing_changed_nothing_is_written(history: History) -> None:
    history.source.execute(
        "create table t (id int, note text, doc json, at timestamptz default now())",
        "insert into t select i % 100, 'n', '{\"a\":  1}' from generate_series(1, 300) i",
        "insert into t values (null, null, null, null), (null, null, null, null)",
    )
    history.run()
    before = history.everything()
    history.source.execute("update t set note = note")  # new row versions of the same values, in another order
    history.run()
    assert history.everything() == before
    assert len(before) == 302


def test_equal_rows_without_a_key_are_versions_of_their_own(history: History) -> None:
    source = history.source
    source.execute("create table t (id int, note text)", "insert into t select 1, 'x' from generate_series(1, 3)")
    history.run()
    source.execute("insert into t values (1, 'x')")
    history.run()
    assert history.versions() == {(1, "x", True): 4}
    source.execute("delete from t where ctid in (select ctid from t limit 3)")
    history.run()
    assert history.versions() == {(1, "x", True): 1, (1, "x", False): 3}
    source.execute("insert into t values (1, 'x')")
    history.run()
    assert history.versions() == {(1, "x", True): 2, (1, "x", False): 3}


def test_a_column_that_comes_gives_a_new_version_only_to_rows_that_have_a_value_in_it(history: History) -> None:
    source = history.source
    source.execute(
        "create table t (id int primary key, note text)", "insert into t select i, 'n' from generate_series(1, 50) i"
    )
    history.run()
    source.execute("alter table t add column extra int", "update t set extra = 7 where id <= 3")
    history.run()
    assert history.versions("extra") == {(None, True): 47, (7, True): 3, (None, False): 3}
    before = history.everything()
    history.run()
    assert history.everything() == before
    source.execute("alter table t add column more text default 'm'")
    history.run()
    assert history.versions("more") == {("m", True): 50, (None, False): 53}


def test_wider_types_and_a_column_that_goes_give_no_new_versions(history: History) -> None:
    source = history.source
    source.execute(
        "create table t (id int primary key, n int, price numeric(10, 2), note text)",
        "insert into t select i, i, i / 8.0, 'n' from generate_series(1, 50) i",
    )
    history.run()
    source.execute("alter table t alter column n type bigint, alter column price type numeric(14, 4)")
    history.run()
    assert history.versions("id > 0") == {(True, True): 50}
    source.execute("alter table t drop column note", "update t set price = price + 0.0001 where id = 9")
    history.run()
    assert history.versions("id = 9") == {(False, True): 49, (True, True): 1, (True, False): 1}


def test_a_column_that_comes_gives_equal_rows_no_new_version(history: History) -> None:
    source = history.source
    source.execute("create table t (id int, note text)", "insert into t values (1, 'x'), (1, 'x'), (2, 'y')")
    history.run()
    source.execute("alter table t add column extra int")
    history.run()
    assert history.versions() == {(1, "x", True): 2, (2, "y", True): 1}


def test_rows_that_are_equal_once_a_column_is_gone_stay_as_many_as_they_are(history: History) -> None:
    source = history.source
    source.execute("create table t (id int, note text)", "insert into t values (1, 'a'), (1, 'b'), (2, 'c')")
    history.run()
    source.execute("alter table t drop column note")
    history.run()
    assert history.valid(_now(), "id") == {(1,): 2, (2,): 1}


def test_a_change_is_not_reported_as_a_row_that_is_gone(history: History) -> None:
    source = history.source
    source.execute("create table t (id int primary key, note text)", "insert into t values (1, 'a'), (2, 'b')")
    history.run()
    source.execute("update t set note = 'A' where id = 1")
    events = [json.loads(line) for line in history.run().out.splitlines()]
    assert [one for one in events if one["action"] == "rows_deleted"] == []


def test_columns_named_as_the_queries_name_theirs(history: History) -> None:
    source = history.source
    source.execute(
        "create table t (h int, n int, v int, a int, b int, s int)",
        "insert into t values (1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2)",
    )
    history.run()
    source.execute("update t set v = 3 where v = 2", "insert into t values (1, 1, 1, 1, 1, 1)")
    history.run()
    assert history.versions("h, v") == {(1, 1, True): 2, (2, 2, False): 1, (2, 3, True): 1}


def test_a_source_with_a_column_of_ours_is_refused_in_the_plan(history: History) -> None:
    history.source.execute("create table t (id int primary key, _dlt_id text)")
    answer = history.cli("backfill", "job.yml")
    assert answer.code == 2
    assert "_dlt_id" in answer.err


def test_a_table_that_was_refreshed_until_now_becomes_the_first_version(history: History) -> None:
    source = history.source
    source.execute("create table t (id int primary key, note text)", "insert into t values (1, 'a')")
    job = history.project.folder / "job.yml"
    snapshot = job.read_text()
    job.write_text(snapshot.replace("snapshot", "full"))
    history.run()
    job.write_text(snapshot)
    history.run()
    source.execute("update t set note = 'b'")
    history.run()
    assert history.versions() == {(1, "a", False): 1, (1, "b", True): 1}
