"""What is asked of databases, without one."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import anyio
import pytest

from connectors.sql.client import Column, enclosed, find_column
from connectors.sql.connect import prepare
from connectors.sql.dialect import Dialect, Snowflake
from connectors.sql.manifest import FreshSource
from connectors.sql.newer import Newer
from connectors.sql.threads import run
from connectors.sql.values import alike, key_of, ready
from runner.errors import RequestRefused, UsageError
from runner.job import SourceSpec

_LIGHT = """
import sys
from sensors.types import database, dbt, freshness, sql
from connectors.sql import connect, duckdb, postgres, snowflake
print([name for name in ("pyarrow", "dlt", "duckdb", "snowflake.connector", "aiohttp") if name in sys.modules])
"""


def test_sensors_of_databases_load_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "json_ready"),
    [
        (Decimal("1E+2"), "100"),
        (Decimal("0.10"), "0.10"),
        (Decimal("NaN"), "NaN"),
        (2**70, 2**70),
        (True, True),
        (float("inf"), "inf"),
        (datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))), "2024-01-01T10:00:00+00:00"),
        (datetime(2024, 1, 1, 12), "2024-01-01T12:00:00"),
        (-timedelta(seconds=1.5), "-P0DT1.5S"),
        (memoryview(b"\x00\xff"), "00ff"),
        ({"a": [Decimal("1.0"), {2, 1}]}, {"a": ["1.0", [1, 2]]}),
    ],
)
def test_values_become_json_and_stay_exact(value: object, json_ready: object) -> None:
    assert ready(value) == json_ready
    assert json.loads(json.dumps(ready(value))) == json_ready


@pytest.mark.parametrize("value", [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1), date(2024, 1, 1), 7, Decimal("7.50"), "b"])  # fmt: skip
def test_what_was_kept_compares_with_what_comes(value: object) -> None:
    assert alike(ready(value), value) == value


def test_different_values_never_have_one_key() -> None:
    values = [["1"], [None], ["null"], [True], ["[null]"], ["a", "b"], ["a,b"], ['["a","b"]'], ["x" * 500], ["x" * 501]]
    keys = [key_of(one) for one in values]
    assert len(set(keys)) == len(keys)
    assert max(map(len, keys)) <= 200
    assert key_of([42]) == "42"


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("select 1;", "select 1"),
        ("select 1 ; -- done\n /* really; */", "select 1"),
        ("select 1 -- done", "select 1 -- done"),
        ("select '; -- x'", "select '; -- x'"),
        ("select ';'", "select ';'"),
    ],
)
def test_a_query_stands_inside_another(query: str, kept: str) -> None:
    assert enclosed(query) == f"(\n{kept}\n) as _asked"


@pytest.mark.parametrize(
    ("dialect", "name", "quoted"),
    [
        (Dialect(), "shop.Orders", '"shop"."Orders"'),
        (Dialect(), 'a."b.""c".d', '"a"."b.""c"."d"'),
        (Snowflake(), 'raw.orders."Odd"', '"RAW"."ORDERS"."Odd"'),
        (Snowflake(), "raw.Mixed", '"RAW"."Mixed"'),
        (Dialect(), "a.b.c.d", None),
        (Dialect(), "a; drop table b", '"a; drop table b"'),
        (Dialect(), 'a" b', None),
        (Dialect(), "a.", None),
    ],
)
def test_names_of_tables_are_quoted(dialect: Dialect, name: str, quoted: str | None) -> None:
    if quoted is None:
        with pytest.raises(UsageError, match="is not the name of a table"):
            dialect.table(name)
    else:
        assert dialect.table(name) == quoted


def test_parameters_stand_in_the_order_in_which_they_are_bound() -> None:
    column = Column("AT", "timestamp_tz", "aware")
    newer = Newer(Snowflake(), "select 1", (column,), column, (), timedelta(minutes=1))
    statement = newer.page(since="s", floor="f", after=("a", "t"), top="p", mark="m", limit=5)
    assert statement.parameters == ("m", "a", "a", "a", "t", "f", "p")
    assert statement.text.count("?") == 7
    assert statement.text.index("dateadd(millisecond, -60000, cast(? as timestamp_tz))") < statement.text.index("where")


def test_a_column_is_found_in_any_case_where_one_is_meant() -> None:
    columns = [Column("ID", "int", "number"), Column("Id", "int", "number"), Column("AT", "date", "date")]
    assert find_column(columns, "at").name == "AT"
    assert find_column(columns, "Id").name == "Id"
    with pytest.raises(RequestRefused, match="2 columns named 'id'"):
        find_column(columns, "id")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"type": "rest"}, "cannot be asked in SQL"),
        ({"type": "postgres", "port": "hunter2"}, "port: "),
        ({"type": "duckdb"}, "path: Field required"),
    ],
)
def test_a_source_that_is_wrong_is_told_without_its_values(source: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(SourceSpec.model_validate(source))
    assert words in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("minutes", "warn", "error", "status"),
    [(59, 60, 120, "pass"), (61, 60, 120, "warn"), (121, 60, 120, "error"), (121, None, 120, "error"),
     (999, 60, None, "warn"), (None, 60, None, "warn"), (None, 60, 120, "error")],
)  # fmt: skip
def test_a_status_is_what_dbt_would_say(minutes: int | None, warn: int | None, error: int | None, status: str) -> None:
    def after(count: int | None) -> timedelta | None:
        return None if count is None else timedelta(minutes=count)

    assert FreshSource("id", "a.b", "a.b", "select 1", after(warn), after(error)).status(after(minutes)) == status


async def test_a_thread_that_never_ends_is_not_waited_for_in_vain() -> None:
    import threading

    release, stopped = threading.Event(), threading.Event()
    with anyio.move_on_after(0.05) as scope:
        await run(release.wait, lambda: (stopped.set(), release.set())[0], threads=anyio.CapacityLimiter(1), seconds=9)
    assert scope.cancelled_caught
    assert stopped.is_set()
