"""What is said to Databricks: whole works against files that were read by eye; nobody ever answered."""

from __future__ import annotations

import datetime
import itertools
import os
import re
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.errors import (
    CredentialsRejected,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    LeaseLost,
    NotOurs,
    ReadOnly,
    SchemaConflict,
    Unreachable,
    UsageError,
    VerifyFailed,
)
from runner.load import (
    ChunkLoad,
    Deletion,
    Lease,
    Outcome,
    Publication,
    Range,
    RunRecord,
    TableWork,
    Target,
    TargetColumn,
)
from runner.rowhash import Digest, Fingerprint, Slice
from runner.writers import databricks, databricksintents, databrickswriter
from runner.writers.databricks import Databricks
from runner.writers.databricksconnection import contact_error, translated
from runner.writers.databricksfiles import file_names, readable
from runner.writers.databrickssql import book_columns, column_type, copy_files, spelled, widens
from runner.writers.databrickswriter import DatabricksWriter
from tests.unit.databricks_double import Double, RequestError, ServerOperationError

_GOLDEN = Path(__file__).with_name("golden") / "databricks"
_LEASE = Lease("shop", "run-1", "token-1", "host", 1)
_TYPES = [
    ("yes", pa.bool_()),
    ("small", pa.int16()),
    ("middle", pa.int32()),
    ("id", pa.int64()),
    ("approx", pa.float32()),
    ("exact", pa.float64()),
    ("price", pa.decimal128(38, 9)),
    ("name", pa.string()),
    ("bytes", pa.binary()),
    ("day", pa.date32()),
    ("hour", pa.time64("us")),
    ("naive", pa.timestamp("us")),
    ("moment", pa.timestamp("us", "UTC")),
]
_KINDS = {
    "yes": "boolean", "small": "smallint", "middle": "int", "id": "bigint", "approx": "float", "exact": "double",
    "price": "decimal(38,9)", "name": "string", "bytes": "binary", "day": "date", "hour": "string",
    "naive": "timestamp_ntz", "moment": "timestamp", "details": "string",
}  # fmt: skip
_ALL = Target(
    "all_types",
    (
        *(TargetColumn(name.title(), name, kind, name != "id") for name, kind in _TYPES),
        TargetColumn("details", "details", pa.string(), True, json=True),
    ),
    ("id",),
    "shop_pg",
    "public.all_types",
)
_ORDERS = Target(
    "orders",
    (
        TargetColumn("shop", "shop", pa.string(), False),
        TargetColumn("id", "id", pa.int64(), False),
        TargetColumn("total", "total", pa.decimal128(10, 2), True),
        TargetColumn("updated_at", "updated_at", pa.timestamp("us", "UTC"), True),
        TargetColumn("deleted_at", "deleted_at", pa.timestamp("us"), True),
    ),
    ("shop", "id"),
    "shop_pg",
    "public.orders",
)
_ORDER_KINDS = {
    "shop": "string", "id": "bigint", "total": "decimal(10,2)", "updated_at": "timestamp", "deleted_at": "timestamp_ntz",
}  # fmt: skip
_EVENTS = Target("events", _ORDERS.columns, (), "shop_pg", "public.events")


class Work:
    """A writer, its double, and the works that a run would give it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.double = Double()
        self.writer = self.another()

    def another(self) -> DatabricksWriter:
        """Return a writer of a fresh process."""
        return DatabricksWriter(self.double.connect, "lake", "", "raw", {})

    def chunk(self, name: str, rows: int = 3, epoch: int = 1) -> ChunkLoad:
        file = self.folder / f"{name}.parquet"
        pq.write_table(pa.table({"shop": ["a"] * rows, "id": list(range(rows))}), file)
        return ChunkLoad(name, epoch, (file,), rows, file.stat().st_size)

    def publication(self, target: Target, mode: str, chunks: dict[str, int], **more: Any) -> Publication:
        newest = self.double.states[-1][9] if self.double.states else None
        more = {"load_id": f"load-{len(self.double.states) + 1}", "base": newest, **more}
        return Publication(mode=mode, chunks=chunks, digest="digest", **more)

    def do(self, target: Target, *chunks: ChunkLoad, fresh: bool = False, **publication: Any) -> Outcome:
        self.double.staged = {chunk.id: chunk.rows for chunk in chunks} or self.double.staged
        rows = {**self.double.staged}
        publish = (
            self.publication(target, chunks=publication.pop("chunks", rows), **publication) if publication else None
        )
        return self.writer.apply(_LEASE, [TableWork(target, [*chunks], publish, fresh)])[0]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    numbers = itertools.count(1)
    named = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"unique{next(numbers)}"))
    monkeypatch.setattr(databrickswriter, "uuid", named)
    monkeypatch.setattr(databricksintents, "uuid", named)
    found = Work(tmp_path)
    found.writer.acquire(_LEASE, ["all_types", "events", "orders"])
    found.double.taken()
    return found


def golden(name: str, found: str) -> None:
    file = _GOLDEN / f"{name}.sql"
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found)
    assert found == file.read_text()


def published(work: Work, target: Target, kinds: dict[str, str], **more: Any) -> None:
    """Publish a table for the first time, and forget what was said."""
    outcome = work.do(
        target, work.chunk("c1"), fresh=True, mode="incremental" if target.key else "append", replace=False, **more
    )
    assert outcome.error is None
    work.double.columns[target.name] = kinds
    work.double.taken()


# Whole works.


def test_prepare(work: Work) -> None:
    work.double.schema = False
    work.writer.prepare()
    golden("prepare", work.double.taken())


def test_leases(work: Work) -> None:
    assert work.writer.acquire(_LEASE, ["orders", "events"]) == []
    work.writer.renew(_LEASE)
    work.writer.release(_LEASE)
    golden("leases", work.double.taken())


def test_a_lease_is_renewed_before_a_statement_that_checks_it(work: Work) -> None:
    work.writer._renewed -= 16
    assert work.do(_ORDERS, work.chunk("c1"), fresh=True).error is None
    said = work.double.taken().split(";\n\n")
    renewed = next(place for place, one in enumerate(said) if "_runner_leases` (table_name" in one)
    assert "raise_error" in said[renewed + 1]


def test_read_state(work: Work) -> None:
    book = {"table_name": "string"}
    work.double.columns = {"_runner_state": book, "_runner_plans": book, "orders": {"id": "bigint"}}
    state = work.writer.read_state("run-1")
    assert state.existing["orders"] == {"id": "BIGINT"}
    golden("read_state", work.double.taken())


def test_first_full_load_of_two_chunks(work: Work) -> None:
    target = _ALL
    assert work.do(target, work.chunk("c1"), fresh=True).error is None
    assert work.double.chunks == {("all_types", "c1"): 1}
    work.double.staged = {"c1": 3, "c2": 2}
    chunk = work.chunk("c2", 2)
    publication = work.publication(
        target, "full", {"c1": 3, "c2": 2}, replace=True, check_key=True, cursor="moment", mark="it's 1\\2"
    )
    outcome = work.writer.apply(_LEASE, [TableWork(target, [chunk], publication)])[0]
    assert outcome.error is None
    assert outcome.rows == 2
    assert outcome.cost is not None
    assert outcome.cost.statements > 5
    assert outcome.cost.staged == chunk.bytes
    assert work.double.loads == ["load-1"]
    assert work.double.states[0][8] == "it's 1\\2"
    assert not work.double.intents
    assert not work.double.files
    golden("full_first", work.double.taken())


def test_second_full_refresh(work: Work) -> None:
    published(work, _ALL, _KINDS)
    outcome = work.do(_ALL, work.chunk("c1"), fresh=True, mode="full", replace=True)
    assert outcome.error is None
    assert outcome.changes == []
    golden("full_second", work.double.taken())


def test_full_refresh_with_other_columns(work: Work) -> None:
    published(work, _ORDERS, {**_ORDER_KINDS, "total": "string"})
    outcome = work.do(_ORDERS, work.chunk("c1"), fresh=True, mode="full", replace=True)
    assert outcome.changes == ["column total changed from STRING to DECIMAL(10,2)"]
    golden("full_other_columns", work.double.taken())


def test_incremental_with_a_composite_key(work: Work) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    assert work.do(_ORDERS, work.chunk("c2"), fresh=True, mode="incremental", replace=False).error is None
    golden("incremental", work.double.taken())


def test_nothing_new_changes_nothing(work: Work) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    empty = ChunkLoad("c2", 1, (), 0, 0)
    assert work.do(_ORDERS, empty, fresh=True, mode="incremental", replace=False).error is None
    said = work.double.taken()
    assert "merge" not in said
    assert "insert into `lake`.`raw`.`_runner_intents`" not in said
    assert work.double.loads == ["load-1", "load-2"]


def test_hard_delete_by_column(work: Work) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    work.double.gone = 2
    deletion = Deletion(hard=True, column="deleted_at")
    outcome = work.do(_ORDERS, work.chunk("c2"), fresh=True, mode="incremental", replace=False, deletion=deletion)
    assert outcome.error is None
    assert outcome.deleted == 2
    golden("incremental_hard_delete", work.double.taken())


def test_a_range_is_replaced(work: Work) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    between = Range("updated_at", "2024-01-01", "2024-02-01")
    assert (
        work.do(_ORDERS, work.chunk("c2"), fresh=True, mode="incremental", replace=False, range=between).error is None
    )
    golden("range_by_key", work.double.taken())


def test_a_range_without_a_key_is_replaced(work: Work) -> None:
    published(work, _EVENTS, {**_ORDER_KINDS, "old": "int"})
    between = Range("updated_at", "2024-01-01", "2024-02-01")
    assert work.do(_EVENTS, work.chunk("c2"), fresh=True, mode="append", replace=False, range=between).error is None
    golden("range_without_key", work.double.taken())


def test_append(work: Work) -> None:
    published(work, _EVENTS, {**_ORDER_KINDS, "old": "int"})
    assert work.do(_EVENTS, work.chunk("c2"), fresh=True, mode="append", replace=False).error is None
    golden("append", work.double.taken())


def test_a_column_that_comes(work: Work) -> None:
    kinds = {name: kind for name, kind in _ORDER_KINDS.items() if name not in ("total", "deleted_at")}
    published(work, _ORDERS, kinds)
    outcome = work.do(_ORDERS, work.chunk("c2"), fresh=True, mode="incremental", replace=False)
    assert outcome.changes == ["column total added (DECIMAL(10,2))", "column deleted_at added (TIMESTAMP_NTZ)"]
    golden("column_added", work.double.taken())


def test_a_chunk_of_another_epoch_is_exchanged(work: Work) -> None:
    work.do(_ORDERS, work.chunk("c1"), work.chunk("c2"), fresh=True)
    work.double.taken()
    assert work.do(_ORDERS, work.chunk("c2", epoch=2)).error is None
    golden("chunk_again", work.double.taken())


def test_the_run_and_dlts_schema_are_recorded(work: Work) -> None:
    work.writer.record_run(RunRecord("run-1", "shop", "backfill", "shop_pg", "host", "0.1", "2024-01-01T00:00:00Z"))
    work.writer.register([_ORDERS])
    golden("recorded", re.sub(r"'{\\?\"version\\?\".*}'", "'{…}'", work.double.taken()))


def test_discard_and_doctor(work: Work) -> None:
    work.writer.discard(_ORDERS)
    assert [check[0] for check in work.writer.diagnose()] == ["ok"]
    golden("discard", work.double.taken())


# Crashes.


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("crash_before_the_statement", "^copy into"),
        ("crash_after_the_statement", "after:^copy into"),
        ("crash_before_the_load", "insert into `lake`.`raw`.`_dlt_loads`"),
    ],
)
def test_what_was_begun_is_completed_by_the_next_one(work: Work, name: str, failure: str) -> None:
    published(work, _EVENTS, _ORDER_KINDS)
    work.double.failures.append((failure, RequestError("the line is dead")))
    with pytest.raises(DestinationDown):
        work.do(_EVENTS, work.chunk("c2"), fresh=True, mode="append", replace=False, mark="2024", cursor="updated_at")
    assert work.double.intents
    assert work.double.loads == ["load-1"]
    work.double.taken()
    # A fresh container: another process that knows nothing but the dataset's name.
    work.writer = work.another()
    assert work.writer.acquire(Lease("shop", "run-2", "token-2", "other", 2), ["events"]) == []
    assert work.double.loads == ["load-1", "load-2"]
    assert [state[9] for state in work.double.states] == ["load-1", "load-2"]
    assert work.double.states[1][5:9] == ["run-1", "append", "updated_at", "2024"]
    assert not work.double.intents
    golden(name, work.double.taken())


def test_the_same_work_again_is_found_done(work: Work) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    work.double.failures.append(("after:^merge", RequestError("the line is dead")))
    again = {"fresh": True, "mode": "incremental", "replace": False, "load_id": "load-2", "base": "load-1"}
    with pytest.raises(DestinationDown):
        work.do(_ORDERS, work.chunk("c2"), **again)
    assert work.do(_ORDERS, work.chunk("c2"), **again).error is None
    said = work.double.taken()
    assert said.count("\n\nmerge into") == 2
    assert said.count("insert into `lake`.`raw`.`_dlt_loads`") == 1
    assert said.count("create or replace table") == 1


def test_a_refused_statement_leaves_no_intent(work: Work) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    work.double.failures.append(("^merge", ServerOperationError("[DELTA_MULTIPLE_SOURCE_ROW_MATCHING]")))
    outcome = work.do(_ORDERS, work.chunk("c2"), fresh=True, mode="incremental", replace=False)
    assert isinstance(outcome.error, DestinationError)
    assert not work.double.intents
    assert work.double.loads == ["load-1"]


@pytest.mark.parametrize("statement", ["^merge", "^insert into `lake`.`raw`.`_runner_intents`"])
def test_a_lost_lease_leaves_nothing_to_complete(work: Work, statement: str) -> None:
    published(work, _ORDERS, _ORDER_KINDS)
    lost = ServerOperationError("[USER_RAISED_EXCEPTION] orchestra-runner: another run took the table over")
    work.double.failures.append((statement, lost))
    outcome = work.do(_ORDERS, work.chunk("c2"), fresh=True, mode="incremental", replace=False)
    assert isinstance(outcome.error, LeaseLost)
    assert not work.double.intents
    assert work.double.loads == ["load-1"]


def test_what_cannot_be_completed_concerns_its_table_alone(work: Work) -> None:
    published(work, _EVENTS, _ORDER_KINDS)
    work.double.failures.append(("^copy into", RequestError("the line is dead")))
    with pytest.raises(DestinationDown):
        work.do(_EVENTS, work.chunk("c2"), fresh=True, mode="append", replace=False)
    refused = ("^copy into", ServerOperationError("[PATH_NOT_FOUND] gone"))
    work.double.failures.append(refused)
    assert work.writer.acquire(_LEASE, ["events"]) == []
    work.double.failures.append(refused)
    assert work.do(_EVENTS, work.chunk("c3"), fresh=True).error is None
    work.double.failures.append(refused)
    outcome = work.do(_EVENTS, work.chunk("c3"), fresh=True, mode="append", replace=False)
    assert outcome.error is not None
    assert "cut off" in outcome.error.message
    assert "--full-refresh" in outcome.error.advice
    work.double.failures.append(refused)
    assert work.do(_EVENTS, work.chunk("c3"), fresh=True, mode="append", replace=True).error is None
    assert not work.double.intents


# What is refused.


def test_rows_that_did_not_arrive(work: Work) -> None:
    chunks = work.chunk("c1"), work.chunk("c2")
    outcome = work.do(_ORDERS, *chunks, fresh=True, mode="full", replace=True, chunks={"c1": 4, "c2": 3})
    assert isinstance(outcome.error, VerifyFailed)
    assert not work.double.intents
    assert work.double.chunks == {("orders", "c1"): 1, ("orders", "c2"): 1}


def test_a_table_of_somebody_else(work: Work) -> None:
    work.double.columns["orders"] = _ORDER_KINDS
    outcome = work.do(_ORDERS, work.chunk("c1"), fresh=True, mode="full", replace=True)
    assert isinstance(outcome.error, NotOurs)


def test_a_type_that_keeps_neither(work: Work) -> None:
    published(work, _ORDERS, {**_ORDER_KINDS, "total": "decimal(8,2)"})
    outcome = work.do(_ORDERS, work.chunk("c1"), fresh=True, mode="incremental", replace=False)
    assert isinstance(outcome.error, SchemaConflict)
    assert "was DECIMAL(8,2) and is DECIMAL(10,2) now" in outcome.error.message


@pytest.mark.parametrize(
    ("target", "publication", "words"),
    [
        (_ORDERS, {"mode": "incremental", "deletion": Deletion(hard=True)}, "comparing keys"),
        (_ORDERS, {"mode": "incremental", "hashes": {"c1": Fingerprint()}}, "hashed in Databricks"),
        (_ORDERS, {"mode": "incremental", "slice": Slice(("a",), ())}, "hashed in Databricks"),
        (_EVENTS, {"mode": "append", "deletion": Deletion(hard=True, column="deleted_at")}, "marked as deleted"),
    ],
)
def test_what_is_not_done_is_refused_in_words(
    work: Work, target: Target, publication: dict[str, Any], words: str
) -> None:
    published(work, target, _ORDER_KINDS)
    outcome = work.do(target, work.chunk("c1"), fresh=True, replace=False, **publication)
    assert outcome.error is not None
    assert words in outcome.error.message


def test_comparing_by_value_is_refused(work: Work) -> None:
    work.double.columns["orders"] = _ORDER_KINDS
    with pytest.raises(DestinationError, match="hashed in Databricks"):
        work.writer.digest(_ORDERS, Digest())


def test_too_many_files() -> None:
    with pytest.raises(DestinationError, match="1,001 files"):
        copy_files("t", [], "/Volumes/x", [str(one) for one in range(1001)])


# The dialect.


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ('select "a" from "raw"."t"', "select `a` from `raw`.`t`"),
        ('select "a""b`c\\d"', 'select `a"b``c\\d`'),
        ("select 'it''s', ''", "select 'it\\'s', ''"),
        ("select 'C:\\dir\n\r'", "select 'C:\\\\dir\\n\\r'"),
    ],
)
def test_statements_are_spelled(sql: str, wanted: str) -> None:
    assert spelled(sql) == wanted


def test_books_have_databricks_types() -> None:
    books = "a text not null, seq bigint, at double precision not null, inserted_at timestamp with time zone not null"
    wanted = "a STRING not null, seq BIGINT, at DOUBLE not null, inserted_at TIMESTAMP not null"
    assert book_columns(books) == wanted


def test_a_number_that_does_not_fit_is_refused() -> None:
    assert column_type(TargetColumn("x", "x", pa.decimal128(2, 5), True)) == "DECIMAL(5,5)"
    with pytest.raises(SchemaConflict, match="40 digits"):
        column_type(TargetColumn("x", "x", pa.decimal256(40, 1), True))


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("INT", "INT", True),
        ("SMALLINT", "BIGINT", True),
        ("BIGINT", "INT", False),
        ("FLOAT", "DOUBLE", True),
        ("DECIMAL(10,2)", "DECIMAL(12,4)", True),
        ("DECIMAL(10,2)", "DECIMAL(10,4)", False),
        ("DECIMAL(10,2)", "STRING", False),
    ],
)
def test_a_type_widens_where_it_keeps_every_value(old: str, new: str, wanted: bool) -> None:
    assert widens(old, new) is wanted


def test_files_are_sent_as_they_are_unless_they_could_not_be_read(tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"id": [1]}), plain)
    with readable(plain) as found:
        assert found == plain
    odd = tmp_path / "odd.parquet"
    rows = {
        "a b": [1, 2],
        "A": [Decimal("1.5"), None],
        "at": pa.array([datetime.time(1, 2, 3, 4), None], pa.time64("us")),
    }
    pq.write_table(pa.table(rows), odd)
    names = file_names(["a b", "A", "at"])
    assert names == {"A": "c0", "a b": "c1", "at": "c2"}
    with readable(odd) as found:
        assert pq.read_table(found).to_pydict() == {
            "c1": [1, 2],
            "c0": [Decimal("1.5"), None],
            "c2": ["01:02:03.000004", None],
        }
    assert not found.exists()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServerOperationError("[DELTA_CONCURRENT_APPEND] …"), DestinationBusy),
        (ServerOperationError("io.delta.exceptions.ConcurrentDeleteReadException: …"), DestinationBusy),
        (ServerOperationError("[INSUFFICIENT_PERMISSIONS] …"), ReadOnly),
        (ServerOperationError("[PARSE_SYNTAX_ERROR] …"), DestinationError),
        (ServerOperationError("Operation was canceled"), DestinationDown),
        (RequestError("timed out"), DestinationDown),
        (OSError("reset"), DestinationDown),
    ],
)
def test_errors_say_what_they_mean(error: Exception, kind: type[Exception]) -> None:
    assert type(translated(error)) is kind


def test_first_contact() -> None:
    assert isinstance(
        contact_error(RequestError("HTTP 403: Invalid access token"), contacted=False), CredentialsRejected
    )
    assert isinstance(contact_error(OSError("no such host"), contacted=False), Unreachable)
    assert isinstance(contact_error(OSError("reset"), contacted=True), DestinationDown)


# The destination.

_OPTIONS = {"server_hostname": "dbc.example", "http_path": "/sql/1", "catalog": "lake", "token": "dapi-hunter2hunter2"}


def destination(monkeypatch: pytest.MonkeyPatch, **options: str) -> Databricks:
    monkeypatch.setattr(databricks, "find_spec", lambda name: True)
    return Databricks({**_OPTIONS, **options}, folder=Path(), memory=0)


def test_secrets_are_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    found = destination(monkeypatch)
    assert "hunter2" not in found.describe() + repr(found._config) + repr(found)
    error = translated(RequestError("the header said dapi-hunter2hunter2"))
    assert "hunter2" not in error.message
    assert found.writer("raw").registry_client().destination == "databricks"


def test_a_volume_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = destination(monkeypatch, volume="lake.files.landing").writer("raw")
    assert writer.folder("stage") == "/Volumes/lake/files/landing/raw/stage"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"catalog": ""}, "lacks catalog"),
        ({"token": ""}, "either a token"),
        ({"client_id": "a", "client_secret": "hunter2hunter2"}, "either a token"),
        ({"volume": "landing"}, "CATALOG.SCHEMA.VOLUME"),
    ],
)
def test_keys_that_are_missing(monkeypatch: pytest.MonkeyPatch, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        destination(monkeypatch, **options)
    assert "hunter2" not in str(caught.value)


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(databricks, "find_spec", missing)
    with pytest.raises(ModuleNotFoundError) as caught:
        Databricks(_OPTIONS, folder=Path(), memory=0)
    assert caught.value.name == "databricks-sql-connector"


def test_dlts_own_variables() -> None:
    prefix = "DESTINATION__DATABRICKS__CREDENTIALS__"
    keys = {"SERVER_HOSTNAME": "h", "HTTP_PATH": "/p", "CATALOG": "c", "ACCESS_TOKEN": "t", "CLIENT_ID": ""}
    wanted = {"server_hostname": "h", "http_path": "/p", "catalog": "c", "token": "t"}
    assert Databricks.options_from_dlt({prefix + key: value for key, value in keys.items()}) == wanted
