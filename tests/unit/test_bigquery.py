"""What is said to BigQuery, without anybody who answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, NotFound, from_http_status

from runner.errors import (
    CredentialsRejected,
    DestinationBusy,
    DestinationError,
    DestinationRefused,
    LeaseLost,
    ReadOnly,
    SchemaConflict,
    UsageError,
)
from runner.load import TargetColumn
from runner.writers.bigquery import BigQuery
from runner.writers.bigqueryjobs import LEASE_LOST, DeferredCursor, Jobs, Meter
from runner.writers.bigquerysql import arrow_type, book_columns, column_type, label, landing_names, spelled, widens

_KEY = {"type": "authorized_user", "project_id": "acme", "client_id": "c", "client_secret": "s", "refresh_token": "r"}


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ('select "a" from "raw"."t"', "select `a` from `raw`.`t`"),
        ('select "a""b`c\\d"', 'select `a"b\\`c\\\\d`'),
        ("select 'it''s', ''", "select 'it\\'s', ''"),
        ("select 'C:\\dir\n\r'", "select 'C:\\\\dir\\n\\r'"),
        ("select '\"a\" hash `b`'", "select '\"a\" hash `b`'"),
        ("select hash, hashed from t", "select `hash`, hashed from t"),
        ('delete from "raw"."t"', "delete from `raw`.`t` where true"),
        ('delete from "raw"."t" where id = 1', "delete from `raw`.`t` where id = 1"),
    ],
)
def test_statements_are_spelled(sql: str, wanted: str) -> None:
    assert spelled(sql) == wanted


def test_books_have_bigquerys_types() -> None:
    wanted = "text_id string not null, seq int64, at float64 not null, inserted_at timestamp not null"
    books = (
        "text_id text not null, seq bigint, at double precision not null, inserted_at timestamp with time zone not null"
    )
    assert book_columns(books) == wanted


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.decimal128(12, 2), "NUMERIC(12,2)"),
        (pa.decimal128(38, 9), "NUMERIC(38,9)"),
        (pa.decimal128(38, 8), "BIGNUMERIC(38,8)"),
        (pa.decimal128(38, 20), "BIGNUMERIC(38,20)"),
        (pa.decimal256(76, 38), "BIGNUMERIC(76,38)"),
        (pa.decimal128(2, 5), "NUMERIC(5,5)"),
        (pa.timestamp("us"), "DATETIME"),
        (pa.timestamp("us", "UTC"), "TIMESTAMP"),
        (pa.int16(), "INT64"),
        (pa.float32(), "FLOAT64"),
        (pa.time64("us"), "TIME"),
    ],
)
def test_types_hold_every_value(kind: pa.DataType, wanted: str) -> None:
    assert arrow_type(kind, "x") == wanted
    assert column_type(TargetColumn("x", "x", kind, True)) == wanted
    assert column_type(TargetColumn("x", "x", pa.string(), True, json=True)) == "JSON"


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SchemaConflict, match="39 digits before the point"):
        arrow_type(pa.decimal256(40, 1), "x")


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("INT64", "INT64", True),
        ("INT64", "STRING", False),
        ("NUMERIC(12,2)", "NUMERIC(14,2)", True),
        ("NUMERIC(12,2)", "NUMERIC(14,5)", False),
        ("NUMERIC(12,2)", "NUMERIC", True),
        ("NUMERIC(12)", "NUMERIC(14,2)", True),
        ("NUMERIC", "BIGNUMERIC(50,10)", True),
        ("BIGNUMERIC(12,2)", "NUMERIC(14,2)", False),
    ],
)
def test_a_type_widens_where_it_keeps_every_digit(old: str, new: str, wanted: bool) -> None:
    assert widens(old, new) is wanted


def test_columns_keep_their_names_unless_one_is_none() -> None:
    assert landing_names(["id", "Name"]) == {"id": "id", "Name": "Name"}
    assert landing_names(["id", "a b"]) == {"a b": "c0", "id": "c1"}
    assert landing_names(["A", "a"]) == {"A": "c0", "a": "c1"}
    assert landing_names(["_PARTITIONTIME"]) == {"_PARTITIONTIME": "c0"}


def test_labels_have_few_signs() -> None:
    assert label("Public.Orders é") == "public_orders__"
    assert len(label("x" * 100)) == 63


@pytest.mark.parametrize("how", ["text", "base64", "file"])
def test_credentials_are_text_or_base64_or_a_file(tmp_path: Path, how: str) -> None:
    text = json.dumps(_KEY)
    (tmp_path / "key.json").write_text(text)
    options = {
        "text": {"credentials": text},
        "base64": {"credentials": base64.b64encode(text.encode()).decode()},
        "file": {"credentials_file": "key.json"},
    }[how]
    destination = BigQuery(options, folder=tmp_path, memory=0)
    assert destination.project == "acme"
    assert destination.describe() == "bigquery acme"


@pytest.mark.parametrize("given", ["secret", "{secret", '{"secret": 1}', "[1]"])
def test_credentials_that_are_none_are_not_shown(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        BigQuery({"credentials": given}, folder=Path(), memory=0)
    assert "secret" not in str(caught.value)


def test_a_key_that_is_none_is_not_shown() -> None:
    key = {
        "type": "service_account",
        "project_id": "acme",
        "private_key": "secret",
        "client_email": "a@b",
        "token_uri": "u",
    }
    with pytest.raises(CredentialsRejected) as caught:
        BigQuery({"credentials": json.dumps(key)}, folder=Path(), memory=0).client("")
    assert "secret" not in str(caught.value)


def test_dlts_variables_are_taken() -> None:
    assert BigQuery.options_from_dlt({}) == {}
    prefix = "DESTINATION__BIGQUERY"
    options = BigQuery.options_from_dlt(
        {
            f"{prefix}__LOCATION": "EU",
            f"{prefix}__CREDENTIALS__PROJECT_ID": "acme",
            f"{prefix}__CREDENTIALS__PRIVATE_KEY": "-----BEGIN\\nx",
            f"{prefix}__CREDENTIALS__CLIENT_EMAIL": "loader@acme",
        }
    )
    assert options["location"] == "EU"
    assert json.loads(options["credentials"])["private_key"] == "-----BEGIN\nx"
    assert BigQuery.options_from_dlt({f"{prefix}__CREDENTIALS": "{}"}) == {"credentials": "{}"}
    assert BigQuery.options_from_dlt({f"{prefix}__CREDENTIALS__PROJECT_ID": "acme"}) == {"project": "acme"}


class _Job:
    job_id = "x"

    def result(self, **_: Any) -> list[Any]:
        return []


class _Client:
    """A client that takes every job, or refuses all."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple[str, str | None, dict[str, Any]]] = []
        self._error = error

    def query(self, sql: str, *, job_config: Any, job_id: str | None = None, **_: Any) -> _Job:
        self.sent.append((sql, job_id, job_config.to_api_repr()))
        if self._error is not None:
            raise self._error
        return _Job()


def _jobs(error: Exception | None = None, most: int | None = None) -> tuple[Jobs, _Client]:
    client = _Client(error)
    jobs = Jobs(client, most, Meter())  # type: ignore[arg-type]
    jobs.labels = {"application": "orchestra-runner"}
    return jobs, client


def test_what_is_kept_is_sent_as_one_script() -> None:
    jobs, client = _jobs(most=10)
    cursor = DeferredCursor(jobs, lambda: "named")
    cursor.execute("begin")
    cursor.execute('insert into "t" values (?, ?)', ["it's", None])
    cursor.require("assert (true) as 'x'", first=True)
    assert client.sent == []
    cursor.execute("commit")
    cursor.execute("commit")
    ((sql, job_id, config),) = client.sent
    assert (
        sql
        == "BEGIN TRANSACTION;\nassert (true) as 'x';\ninsert into `t` values ('it\\'s', null);\nCOMMIT TRANSACTION;"
    )
    assert job_id == "named-0"
    assert config["labels"] == {"application": "orchestra-runner"}
    assert config["query"]["maximumBytesBilled"] == "10"
    assert config["query"]["useQueryCache"] is False


def test_what_is_rolled_back_is_never_sent() -> None:
    jobs, client = _jobs()
    cursor = DeferredCursor(jobs, lambda: "named")
    cursor.execute("begin")
    cursor.execute("select 1")
    cursor.execute("rollback")
    cursor.execute("select 2")
    assert [sql for sql, *_ in client.sent] == ["select 2"]


class _UnderWay:
    """A job that is under way until somebody waits for it."""

    state = "RUNNING"
    error_result: dict[str, str] | None = None

    def __init__(self, job_id: str, *, fails: bool) -> None:
        self.job_id = job_id
        self._fails = fails

    def result(self, **_: Any) -> list[Any]:
        self.state = "DONE"
        if self._fails:
            self.error_result = {"reason": "invalidQuery"}
            raise BadRequest("it failed")
        return []


def test_every_job_of_a_name_is_waited_for() -> None:
    jobs, client = _jobs()
    under_way = {"n-0": _UnderWay("n-0", fails=True), "n-1": _UnderWay("n-1", fails=False)}

    def get_job(job_id: str, **_: Any) -> _UnderWay:
        if job_id not in under_way:
            raise NotFound(job_id)
        return under_way[job_id]

    client.get_job = get_job  # type: ignore[attr-defined]
    jobs.settle("n")
    assert [job.state for job in under_way.values()] == ["DONE", "DONE"]


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (400, "invalidQuery", "Transaction is aborted due to concurrent update against table t", DestinationBusy),
        (400, "invalidQuery", "Could not serialize access to table t due to concurrent update", DestinationBusy),
        (400, "invalidQuery", f"Assertion failed: {LEASE_LOST}", LeaseLost),
        (403, "accessDenied", "User does not have bigquery.jobs.create permission", DestinationRefused),
        (403, "accessDenied", "Permission bigquery.tables.create denied on dataset", ReadOnly),
        (403, "quotaExceeded", "Quota exceeded", DestinationError),
        (401, "authError", "Invalid Credentials", CredentialsRejected),
    ],
)
def test_errors_say_what_to_do(status: int, reason: str, message: str, kind: type[Exception]) -> None:
    jobs, _ = _jobs(from_http_status(status, message, errors=[{"reason": reason, "message": message}]))
    with pytest.raises(kind) as caught:
        jobs.rows("select 1")
    assert type(caught.value) is kind
