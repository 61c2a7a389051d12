"""What is said to Microsoft Fabric, without anybody who answers: compared with files that were read by eye.

GOLDEN=write writes the files anew; whoever does that reads what changed.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    DestinationRefused,
    ReadOnly,
    RunnerError,
    SchemaConflict,
    TooManyDeleted,
    Unreachable,
    UsageError,
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
from runner.rowhash import Digest
from runner.writers import fabricfiles
from runner.writers.books import TABLES
from runner.writers.fabric import Fabric, FabricWriter
from runner.writers.fabriclogin import FabricConfig, contact_error, login_arguments, store_options, translated
from runner.writers.tsql import book_columns, column_type, moment, spelled, stored_type, widens

_GOLDEN = Path(__file__).parent / "golden" / "fabric"
_OPTIONS = {
    "server": "x.datawarehouse.fabric.microsoft.com",
    "database": "sales",
    "tenant_id": "t",
    "client_id": "c",
    "client_secret": "hunter2hunter2",
    "stage_url": "az://stage/runner",
    "stage_location": "https://acme.blob.core.windows.net/stage/runner",
    "stage_credential": "sv=2024-11-04&sig=abcdefghij",
}
_LEASE = Lease("shop", "run1", "token1", "host", os.getpid())
_TYPES: dict[str, pa.DataType] = {
    "id": pa.int64(),
    "small": pa.int16(),
    "middle": pa.int32(),
    "note": pa.string(),
    "amount": pa.decimal128(12, 2),
    "at": pa.timestamp("us", "UTC"),
    "local": pa.timestamp("us"),
    "day": pa.date32(),
    "clock": pa.time64("us"),
    "doc": pa.string(),
    "raw": pa.binary(),
    "share": pa.float64(),
    "narrow": pa.float32(),
    "done": pa.bool_(),
}
_VALUES: dict[str, Any] = {
    "note": "a",
    "amount": Decimal("1.50"),
    "at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "local": datetime.datetime(2024, 1, 1),
    "day": datetime.date(2024, 1, 1),
    "clock": datetime.time(8, 30),
    "doc": "{}",
    "raw": b"\x00",
    "done": True,
}
_STATE = ("db", "public.orders", "shop", "run0", "full", None, None, "load0", "d", 2, None, None, "")


def _target(*names: str, key: tuple[str, ...] = (), types: dict[str, pa.DataType] | None = None) -> Target:
    kinds = _TYPES | (types or {})
    columns = [TargetColumn(name, name, kinds[name], name not in key, json=name == "doc") for name in names]
    return Target("orders", tuple(columns), key, "db", "public.orders")


class Service:
    """Keeps what is said to it, and answers what it was told to answer."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.answers: list[tuple[str, list[tuple[Any, ...]]]] = []
        self.refuses: dict[str, str] = {}

    def answer(self, pattern: str, *rows: tuple[Any, ...]) -> None:
        """Answer a statement that has the pattern; what is told last counts first."""
        self.answers.insert(0, (pattern, list(rows)))

    def table(self, name: str, **columns: str) -> None:
        rows = [(name, column, *_stored(kind)) for column, kind in columns.items()]
        self.answer(rf"INFORMATION_SCHEMA.*TABLE_NAME = '{name}'", *rows)

    def say(self, sql: str) -> list[tuple[Any, ...]]:
        self.said.append(sql)
        for pattern, words in self.refuses.items():
            if re.search(pattern, sql):
                raise sys.modules["mssql_python"].Error("ProgrammingError", words)  # type: ignore[attr-defined]
        return next((rows for pattern, rows in self.answers if re.search(pattern, sql)), [])


def _stored(kind: str) -> tuple[Any, ...]:
    plain, _, sizes = kind.rstrip(")").partition("(")
    if plain == "decimal":
        precision, scale = sizes.split(",")
        return plain, None, int(precision), int(scale), None
    if plain in ("time", "datetime2"):
        return plain, None, None, None, int(sizes)
    return plain, -1 if sizes == "max" else None, None, None, None


class _Connection:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._rows: list[tuple[Any, ...]] = []

    def cursor(self) -> _Connection:
        return self

    @property
    def description(self) -> list[str]:
        return ["column"] * bool(self._rows)

    def execute(self, sql: str, *, use_prepare: bool) -> None:
        assert not use_prepare
        self._rows = self._service.say(sql)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        pass


class _Files:
    """The object store: files are named in the order of their statements."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def copy(self, path: str, source: Path) -> int:
        self._service.said.append(f"-- put {path}: {', '.join(pq.read_schema(source).names)}")
        return 0

    def delete(self, paths: Sequence[str]) -> None:
        self._service.said.extend(f"-- delete {path}" for path in paths)

    def write(self, path: str, parts: Sequence[bytes]) -> int:
        return 0


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    module = ModuleType("mssql_python")
    module.__spec__ = ModuleSpec("mssql_python", None)

    class Error(Exception):
        def __init__(self, driver_error: str, ddbc_error: str) -> None:
            self.ddbc_error = ddbc_error
            super().__init__(f"{driver_error}; {ddbc_error}")

    vars(module).update(Error=Error, pooling=lambda **_: None, connect=lambda **_: _Connection(service))
    monkeypatch.setitem(sys.modules, "mssql_python", module)
    monkeypatch.setattr(fabricfiles, "Objects", lambda *_: _Files(service))
    service.answer("Collation", ("Latin1_General_100_BIN2_UTF8",))
    service.answer("_runner_leases.* having max", ("orders", "token1", 1.0))
    service.answer(r"object_id\('\[raw\].*'U'\)$", (42,))
    return service


@pytest.fixture
def writer(service: Service) -> FabricWriter:
    return Fabric(_OPTIONS, folder=Path(), memory=0).writer("raw")


@pytest.fixture
def golden(service: Service, request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare what a test said with its file."""
    yield
    said = ";\n".join(service.said) + ";\n"
    name = request.node.name.removeprefix("test_")
    file = _GOLDEN / f"{re.sub(r'[^a-z0-9]+', '_', name).strip('_')}.sql"
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(said)
    assert said == file.read_text()


@pytest.fixture
def chunk(tmp_path: Path) -> Callable[..., ChunkLoad]:
    def made(name: str, target: Target, rows: int = 2) -> ChunkLoad:
        file = tmp_path / f"{name}.parquet"
        columns = [pa.array([_VALUES.get(c.source, 1)] * rows, c.type) for c in target.columns]
        pq.write_table(pa.table(columns, [c.source for c in target.columns]), file)
        return ChunkLoad(name, 1, (file,), rows, 100)

    return made


def _known(service: Service, target: Target, *, state: tuple[Any, ...] = _STATE, **columns: str) -> None:
    """Let a table be there, published by an earlier run."""
    kinds = {column.name: column_type(column) for column in target.columns} | columns
    service.table("orders", **kinds)
    service.answer(r"from \[raw\]\.\[_runner_state\] where exists", ("orders", 1, *state))


def _apply(service: Service, writer: FabricWriter, target: Target, chunks: list[ChunkLoad], **how: Any) -> Outcome:
    counts = {one.id: one.rows for one in chunks}
    publication = Publication("load1", **{"mode": "full", "replace": True, "chunks": counts, "digest": "d", **how})
    service.answer(r"count_big\(\*\) from \[raw\]\.\[_runner_stage_\w+\] (group|having)", *counts.items())
    work = TableWork(target, chunks, publication, fresh=True, plan='{"chunks": 1}')
    (outcome,) = writer.apply(_LEASE, [work])
    return outcome


def test_prepare(service: Service, writer: FabricWriter, golden: None) -> None:
    writer.prepare()


def test_prepare_again(service: Service, writer: FabricWriter, golden: None) -> None:
    service.answer("sys.schemas", (1,))
    columns = re.findall(r"\w+(?= (?:text|bigint|double))", TABLES["_runner_state"])
    kinds = [("_runner_state", name, *_stored("bigint")) for name in columns if name != "key_columns"]
    service.answer("INFORMATION_SCHEMA", *kinds)
    writer.prepare()


def test_full_first_load(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None) -> None:
    target = _target(*_TYPES, key=("id",))
    outcome = _apply(service, writer, target, [chunk("c1", target), chunk("c2", target)])
    assert outcome.error is None
    assert outcome.rows == 4
    assert outcome.cost is not None
    assert outcome.cost.statements == sum(not said.startswith("--") for said in service.said)
    assert outcome.cost.staged == 200


def test_full_left_unpublished(
    service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None
) -> None:
    target = _target("id", "note")
    service.table("orders", id="bigint")
    service.table("_runner_made", object_id="bigint")
    service.answer("from .raw..._runner_made.$", (42,))
    service.answer("sys.tables", ("orders", 42), ("others", 43))
    assert _apply(service, writer, target, [chunk("c1", target)]).error is None


def test_full_refresh(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None) -> None:
    target = _target("id", "note")
    _known(service, target)
    assert _apply(service, writer, target, [chunk("c1", target)], base="load0").error is None


def test_chunks_go_on(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None) -> None:
    target = _target("id", "note")
    service.answer(r"max\(epoch\)", ("orders", "c1", 0))
    (outcome,) = writer.apply(_LEASE, [TableWork(target, [chunk("c1", target), chunk("c2", target)])])
    assert outcome.error is None


def test_merge(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None) -> None:
    target = _target("id", "note", "at", key=("id", "note"))
    _known(service, target, state=(*_STATE[:4], "incremental", "at", "2024-01-01", *_STATE[7:]))
    how = {"mode": "incremental", "replace": False, "base": "load0", "cursor": "at", "mark": "2024-02-01 00:00:00+00"}
    bounds = Range("at", "2024-01-01 01:00:00+01", None)
    chunks = [chunk("c1", target), chunk("c2", target)]
    assert _apply(service, writer, target, chunks, **how, range=bounds, check_key=True).error is None


def test_append(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None) -> None:
    target = _target("id", "note")
    _known(service, target)
    how = {"mode": "append", "replace": False, "base": "load0"}
    assert _apply(service, writer, target, [chunk("c1", target)], **how).error is None


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_deleted_by_column(
    service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None, hard: bool
) -> None:
    target = _target("id", "done", key=("id",))
    _known(service, target)
    service.answer(r"\] where \[done\] = 1$", (1,))
    how = {"mode": "incremental", "replace": False, "base": "load0", "deletion": Deletion(hard, "done")}
    assert _apply(service, writer, target, [chunk("c1", target)], **how).error is None


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_deleted_by_comparing(
    service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None, hard: bool
) -> None:
    target = _target("id", "note", key=("id", "note"))
    _known(service, target, **({} if hard else {"_deleted_at": "datetime2(6)"}))
    keys = chunk("keys", _target("id", "note"), 3).files
    service.answer("count_big", (1,))
    service.answer("count_big.* from .raw..._runner_stage_[0-9a-f]+.$", (3,))
    deletion = Deletion(hard, None, keys, 3, None)
    how = {"mode": "incremental", "replace": False, "base": "load0", "deletion": deletion, "compares": True}
    outcome = _apply(service, writer, target, [chunk("c1", target)], **how)
    assert outcome.error is None
    assert outcome.deleted == 1


def test_too_many_deleted_is_undone(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad]) -> None:
    target = _target("id", key=("id",))
    _known(service, target, _deleted_at="datetime2(6)")
    service.answer("count_big", (3,))
    deletion = Deletion(False, None, chunk("keys", target, 3).files, 3, 0.1)
    how = {"mode": "incremental", "replace": False, "base": "load0", "deletion": deletion}
    outcome = _apply(service, writer, target, [chunk("c1", target)], **how)
    assert isinstance(outcome.error, TooManyDeleted)
    assert service.said[-1] == "if @@trancount > 0 rollback transaction"


def test_column_that_comes_and_wider_types(
    service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad], golden: None
) -> None:
    target = _target("id", "amount", "note", key=("id",))
    _known(service, _target("id", "amount"), id="int", amount="decimal(10,2)")
    how = {"mode": "incremental", "replace": False, "base": "load0"}
    assert _apply(service, writer, target, [chunk("c1", target)], **how).error is None


def test_leases(service: Service, writer: FabricWriter, golden: None) -> None:
    lease = replace(_LEASE, host="a", pid=1)
    held = ("customers", "token2", 0.5)
    service.answer("having max", ("orders", "token1", 1.0), ("customers", "token1", 1.0), held)
    service.answer("select top 1 token", ("old",))
    service.answer("select distinct run, token", ("run1", "token0", "b", 7), ("run9", "token2", "b", 8))
    service.answer("group by table_name, run, host, pid", ("customers", "run9", "b", 8, Decimal("12.5")))
    (other,) = writer.acquire(lease, ["orders", "customers"])
    assert (other.table, other.seconds) == ("customers", 12.5)
    writer.renew(lease)
    writer.release(lease)


def test_read_state(service: Service, writer: FabricWriter, golden: None) -> None:
    tables = {"_runner_state": "run", "_runner_plans": "plan", "_runner_chunks": "chunk", "orders": "id", "left": "id"}
    columns = [(name, column, "varchar", -1, None, None, None) for name, column in tables.items()]
    service.answer("INFORMATION_SCHEMA", *columns)
    service.table("_runner_made", object_id="bigint")
    service.answer("from .raw..._runner_made.$", (42,))
    service.answer("sys.tables", ("left", 42), ("orders", 43))
    service.answer("from .raw..._runner_state. s where seq", ("orders", *_STATE))
    service.answer("select table_name, .plan.", ("orders", "{}"))
    service.answer("select table_name, chunk, run", ("orders", "c1", "run1", 1, 2, None, None))
    state = writer.read_state("run1")
    assert state.tables["orders"].load_id == "load0"
    assert set(state.existing) == {*tables} - {"left"}
    assert state.plans == {"orders": "{}"}


def test_register_and_record(service: Service, writer: FabricWriter, golden: None, monkeypatch: Any) -> None:
    schema = {"version": 1, "engine_version": 11, "version_hash": "h", "name": "it's"}
    monkeypatch.setattr("runner.writers.transactional.grown", lambda *_: schema)
    writer.register([_target("id")])
    writer.record_run(RunRecord("run1", "shop", "backfill", "db", "host", "0.1", "2024-01-01", rows=3))
    writer.discard(_target("id"))


def test_diagnose(service: Service, writer: FabricWriter, golden: None) -> None:
    service.answer("suser_sname", ("loader", "sales"))
    assert [check[0] for check in writer.diagnose()] == ["ok", "ok"]


def test_many_rows_are_several_statements(service: Service, writer: FabricWriter) -> None:
    targets = [Target(f"t{number}", ()) for number in range(1001)]
    with writer.session() as cursor:
        writer._note_schemas(cursor, targets)
    assert [said.count("(") for said in service.said[1:]] == [1000, 1]


def test_another_collation_is_refused(service: Service, writer: FabricWriter) -> None:
    service.answer("Collation", ("Latin1_General_100_CI_AS_KS_WS_SC_UTF8",))
    with pytest.raises(DestinationRefused, match="CI_AS"):
        writer.prepare()
    service.answer("suser_sname", ("loader", "sales"))
    ((verdict, words, _),) = writer.diagnose()
    assert verdict == "fail"
    assert "CI_AS" in words


def test_a_conflict_is_tried_again_and_undone(
    service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad]
) -> None:
    target = _target("id")
    _known(service, target)
    service.refuses["^commit"] = "Snapshot isolation transaction aborted due to update conflict."
    with pytest.raises(DestinationBusy):
        _apply(service, writer, target, [chunk("c1", target)], base="load0")
    assert service.said[-1] == "if @@trancount > 0 rollback transaction"


def test_rows_are_not_hashed(service: Service, writer: FabricWriter) -> None:
    target = _target("id")
    service.table("orders", id="bigint")
    with pytest.raises(DestinationError, match="in Fabric yet"):
        writer.digest(target, Digest())


def test_no_secret_is_told(service: Service, writer: FabricWriter, chunk: Callable[..., ChunkLoad]) -> None:
    destination = Fabric(_OPTIONS, folder=Path(), memory=0)
    service.refuses["^copy"] = "Cannot read with secret = 'sv=2024-11-04&sig=abcdefghij' for hunter2hunter2"
    target = _target("id")
    outcome = _apply(service, writer, target, [chunk("c1", target)])
    told = repr(destination.config) + destination.describe() + str(outcome.error) + repr(outcome.error)
    assert outcome.error is not None
    assert "hunter2" not in told
    assert "abcdefghij" not in told
    assert outcome.error.__cause__ is None


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ('select "a]b" from "raw"."t"', "select [a]]b] from [raw].[t]"),
        ("select 'it''s \"x\" is true plan'", "select 'it''s \"x\" is true plan'"),
        ("select 'C:\\dir', 'C:\\\n\r'", "select 'C:\\dir', ('C:\\' + '\n\r')"),
        ('select "raw"."t"."a" from "raw"."t"', "select [t].[a] from [raw].[t]"),
        ("begin", "begin transaction"),
        ('select 1 from "t" limit 1', "select top 1 1 from [t]"),
        ('select plan, schema, _runner_plans from "t"', "select [plan], [schema], _runner_plans from [t]"),
        ('alter table "raw"."t" add column "x" int', "alter table [raw].[t] add [x] int"),
        (
            'alter table "raw"."t" alter column "x" set data type bigint',
            "alter table [raw].[t] alter column [x] bigint null",
        ),
        (
            'create table if not exists "raw"."o\'r" (a int)',
            "if object_id('[raw].[o''r]', 'U') is null create table [raw].[o'r] (a int)",
        ),
        ('select count(*) from "t" where "x" is true', "select count_big(*) from [t] where [x] = 1"),
    ],
)
def test_statements_are_spelled(sql: str, wanted: str) -> None:
    assert spelled(sql) == wanted


def test_books_have_types_of_t_sql() -> None:
    books = "a text not null, plan text not null, b double precision, c timestamp with time zone, d bigint"
    wanted = "a varchar(8000) not null, plan varchar(max) not null, b float, c datetime2(6), d bigint"
    assert book_columns(books) == wanted


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.decimal128(38, 38), "decimal(38,38)"),
        (pa.decimal128(2, 5), "decimal(5,5)"),
        (pa.timestamp("us", "UTC"), "datetime2(6)"),
        (pa.time64("us"), "time(6)"),
    ],
)
def test_types_hold_every_value(kind: pa.DataType, wanted: str) -> None:
    assert column_type(TargetColumn("x", "x", kind, True)) == wanted


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SchemaConflict, match="40 digits"):
        column_type(TargetColumn("x", "x", pa.decimal256(40, 1), True))


@pytest.mark.parametrize("kind", ["decimal(12,2)", "time(6)", "varchar(max)", "bigint"])
def test_types_are_read_as_they_are_spelled(kind: str) -> None:
    assert stored_type(*_stored(kind)) == kind


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("int", "bigint", True),
        ("bigint", "int", False),
        ("real", "float", True),
        ("decimal(12,2)", "decimal(14,2)", True),
        ("decimal(12,2)", "decimal(13,4)", False),
        ("varchar(20)", "varchar(max)", True),
        ("varbinary(20)", "varchar(max)", False),
        ("int", "varchar(max)", False),
    ],
)
def test_a_type_widens_where_it_keeps_every_value(old: str, new: str, wanted: bool) -> None:
    assert widens(old, new) is wanted


def test_moments_are_in_utc() -> None:
    assert moment("2024-01-01 02:30:00+02") == "2024-01-01 00:30:00.000000"
    assert moment("2024-01-01 02:30:00.5") == "2024-01-01 02:30:00.500000"
    with pytest.raises(DestinationError):
        moment("infinity")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Snapshot isolation transaction aborted due to update conflict.", DestinationBusy),
        ("There is already an object named '_runner_state' in the database.", DestinationBusy),
        ("The specified ALTER TABLE statement is not supported in this edition of SQL Server.", SchemaConflict),
        ("The INSERT permission was denied on the object 'orders'.", ReadOnly),
        ("Communication link failure", DestinationDown),
        ("Incorrect syntax near 'x'.", DestinationError),
    ],
)
def test_errors_are_told_apart(words: str, kind: type[RunnerError]) -> None:
    assert type(translated(Exception(words))) is kind


@pytest.mark.parametrize(
    ("words", "contacted", "kind"),
    [
        ('Cannot open database "x" requested by the login. The login failed.', False, DatabaseMissing),
        ("Login failed for user '<token-identified principal>'.", False, CredentialsRejected),
        ("Failed to load the driver. Please read the documentation", False, UsageError),
        ("Name or service not known", False, Unreachable),
        ("Name or service not known", True, DestinationDown),
    ],
)
def test_contact_errors_are_told_apart(words: str, contacted: bool, kind: type[RunnerError]) -> None:
    assert type(contact_error(Exception(words), contacted=contacted)) is kind


def test_ways_to_log_in() -> None:
    config = FabricConfig.model_validate(_OPTIONS)
    assert login_arguments(config) == {
        "server": "x.datawarehouse.fabric.microsoft.com",
        "database": "sales",
        "authentication": "ActiveDirectoryServicePrincipal",
        "encrypt": "yes",
        "autocommit": True,
        "uid": "c",
        "pwd": "hunter2hunter2",
    }
    assert store_options(config) == {
        "account_name": "acme",
        "tenant_id": "t",
        "client_id": "c",
        "client_secret": "hunter2hunter2",
    }
    managed = config.model_copy(update={"authentication": "managed_identity", "client_secret": ""})
    assert login_arguments(managed)["authentication"] == "ActiveDirectoryMSI"
    assert "pwd" not in login_arguments(managed)
    default = config.model_copy(update={"client_secret": "", "client_id": ""})
    assert login_arguments(default)["authentication"] == "ActiveDirectoryDefault"
    assert store_options(default) == {"account_name": "acme"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"database": ""}, "lacks database"),
        ({"tenant_id": ""}, "lacks tenant_id"),
        ({"stage_location": "abfss://x"}, "https://"),
    ],
)
def test_what_lacks_is_named(service: Service, change: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Fabric(_OPTIONS | change, folder=Path(), memory=0)


def test_the_variables_of_dlt_are_understood() -> None:
    prefix = "DESTINATION__FABRIC__CREDENTIALS__"
    environ = {f"{prefix}HOST": "x", f"{prefix}DATABASE": "d", f"{prefix}AZURE_CLIENT_SECRET": "s"}
    assert Fabric.options_from_dlt(environ) == {"server": "x", "database": "d", "client_secret": "s"}
