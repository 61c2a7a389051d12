"""Metadata of a workspace: windows of time, rows of answers, the job and its credentials."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.records import to_batch
from orchestra.metadata.dltsecrets import destination_types, dlt_environment
from orchestra.metadata.job import settle_metadata
from orchestra.metadata.source import MetadataConfig, MetadataSource
from orchestra.metadata.tables import RESOURCES
from orchestra.metadata.windows import FIRST, OVERLAP, SPAN, asked, back, ceiling, floor, half, spans
from runner.commands.assembly import make_destination
from runner.errors import SecretMissing, UsageError
from runner.secrets import redact
from tests.orchestrareference import REFERENCE

_MOMENTS = st.datetimes(datetime(2020, 2, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(begin=_MOMENTS, span=st.timedeltas(timedelta(0), timedelta(days=400)))
def test_windows_cover_a_time_without_gaps(begin: datetime, span: timedelta) -> None:
    end = begin + span
    found = spans(begin, end)
    if not found:
        assert end == begin == floor(begin)
        return
    assert found[0][0] == floor(begin)
    assert found[-1][1] == end
    assert all(earlier[1] == later[0] for earlier, later in pairwise(found))
    assert all(timedelta(0) < later - earlier <= SPAN for earlier, later in found)
    # A server that keeps whole seconds, and to which neither end belongs, shows each moment all the same.
    for first, last in found:
        params = {key: datetime.fromisoformat(value) for key, value in asked(first, last).items()}
        assert params["time_to"] - params["time_from"] <= timedelta(days=7)
        assert params["time_from"] <= first - OVERLAP
        assert params["time_from"].microsecond == 0


@given(begin=_MOMENTS, more=st.timedeltas(timedelta(0), timedelta(days=100)), end=_MOMENTS)
def test_borders_are_the_same_whenever_a_plan_is_made(begin: datetime, more: timedelta, end: datetime) -> None:
    inner = {border for _, border in spans(begin, end)} - {end}
    later = {border for _, border in spans(begin + more, end)} - {end}
    assert later <= inner


@given(end=_MOMENTS)
def test_backwards_are_the_same_windows(end: datetime) -> None:
    found = list(islice(back(end), 5))
    assert found[::-1] == spans(found[-1][0], end)
    assert list(back(end))[-1][0] == FIRST


@given(begin=_MOMENTS.map(floor), span=st.timedeltas(timedelta(seconds=1), SPAN))
def test_halves_end_at_whole_seconds(begin: datetime, span: timedelta) -> None:
    middle = half(begin, begin + span)
    if middle is None:
        assert span < timedelta(seconds=2)
        return
    assert begin < middle < begin + span
    assert middle == floor(middle) == ceiling(middle)


@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_every_key_of_the_reference_has_a_column(name: str) -> None:
    kinds = {"object": "json", "list": "json"}
    # Four keys of a pipeline are texts that hold JSON.
    said = {key: kinds.get(kind[:-1], kind[:-1]) for key, kind in REFERENCE[name].items()} | (
        dict.fromkeys(("schedule", "sensors", "triggerEvents", "webhook"), "json") if name == "pipelines" else {}
    )
    resource = RESOURCES[name]
    columns = {key: column.native for key, column in resource.column_of.items()}
    assert set(columns) == set(said) - resource.left_out
    assert {key: "text" if kind == "timestamp" else kind for key, kind in columns.items()} == {
        key: said[key] for key in columns
    }
    assert {key for key in columns if key.endswith("At")} <= {
        key for key, kind in columns.items() if kind == "timestamp"
    }


def test_the_values_of_an_environment_stay_where_they_are() -> None:
    run = {"id": "1", "data": {"environment": {"PASSWORD": {"type": "string", "value": "sesame"}}}, "new": 1}
    assert RESOURCES["pipeline_runs"].row(run, RESOURCES["pipeline_runs"].column_of) == {
        "id": "1",
        "other_keys": {"new": 1},
    }


def test_what_fits_no_column_is_kept() -> None:
    resource = RESOURCES["operations"]
    item = {
        "id": "1",
        "operationName": 7,
        "operationDuration": 12,
        "rowsAffected": Decimal("12.0"),
        "insertedAt": "2026-01-02T03:04:05.123456789Z",
        "startedAt": "2026-01-02T03:04:05.120000000+00:00",
        "completedAt": "2026-01-02 03:04:05",
        "dependencies": '[{"id": 1.25}]',
        "externalDetail": {"a": None},
        "integration": None,
        "newKey": [1, {"x": "ü"}],
        "nothing": None,
    }
    row = resource.row(item, resource.column_of)
    assert row == {
        "id": "1",
        "operation_name": "7",
        "operation_duration": 12.0,
        "rows_affected": 12,
        "started_at": item["startedAt"],
        "completed_at": item["completedAt"],
        "dependencies": [{"id": 1.25}],
        "external_detail": '{"a":null}',
        "integration": None,
        "other_keys": {"insertedAt": item["insertedAt"], "newKey": [1, {"x": "ü"}], "nothing": None},
    }
    [found] = to_batch([row], resource.table("7d").columns, table="operations").to_pylist()
    assert found["started_at"] == datetime(2026, 1, 2, 3, 4, 5, 120000, tzinfo=UTC)
    assert found["completed_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert json.loads(found["other_keys"])["newKey"] == [1, {"x": "ü"}]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rowsAffected", 1.5),
        ("rowsAffected", True),
        ("rowsAffected", 2**63),
        ("operationDuration", Decimal("0.10000000000000000001")),
        ("operationDuration", "fast"),
        ("insertedAt", 1_700_000_000),
        ("insertedAt", "yesterday"),
        ("insertedAt", "2026-13-01T00:00:00Z"),
    ],
)
def test_a_value_of_another_kind_is_kept_beside(key: str, value: object) -> None:
    resource = RESOURCES["operations"]
    assert resource.row({"id": "1", key: value}, resource.column_of) == {"id": "1", "other_keys": {key: value}}


@pytest.mark.parametrize("name", ["environments", "connections"])
def test_what_may_be_secret_is_left_out(name: str) -> None:
    resource = RESOURCES[name]
    row = resource.row({resource.key: "1", "values": {"KEY": {"value": "secret"}}}, resource.column_of)
    assert list(row.values()) == ["1"]
    assert "other_keys" not in {column.name for column in resource.table("7d").columns}


@pytest.mark.parametrize(
    "wrong", [{"since": "2024-01-01", "history": "90d"}, {"empty_windows": 0}, {"history": "soon"}, {"keys": 1}]
)
def test_wrong_keys_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MetadataConfig.model_validate(wrong)


# The job.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text("")
    for name in ("DESTINATION", "DATASET", "ENVIRONMENT", "DEST_CREDS", "ORCHESTRA_API_KEY", "ORCHESTRA_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCHESTRA_API_TOKEN", "key-1234567")
    return tmp_path


def _write(folder: Path, text: str) -> None:
    (folder / ".dlt").mkdir(exist_ok=True)
    (folder / ".dlt" / "secrets.toml").write_text(text, "utf-8")


_TOML = """
orchestra_api_token = "token-of-the-file"
number = 5
[destination.snowflake.credentials]
database = "RAW"
username = "LOADER"
password = "pass-of-the-file"
host = "acme-eu"
warehouse = "WH"
"""


def test_the_built_in_job_needs_a_key_alone(folder: Path) -> None:
    settled, _ = settle_metadata(None, None, None, folder)
    assert settled.path.parent == folder
    assert settled.destination.dataset == "orchestra_metadata"
    assert settled.source.options["api_key"] == "key-1234567"
    assert make_destination(settled).describe() == f"duckdb {folder / '.runner' / 'warehouse.duckdb'}"
    MetadataSource(settled.source.options)


def test_the_file_of_dlt_is_the_variables_it_stands_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(folder, _TOML)
    monkeypatch.delenv("ORCHESTRA_API_TOKEN")
    (folder / "deeper").mkdir()
    settled, environ = settle_metadata(None, None, None, folder / "deeper")
    assert settled.source.options["api_key"] == "token-of-the-file"
    assert environ["NUMBER"] == "5"
    assert settled.destination.type == "snowflake"
    assert settled.destination.options == {
        "account": "acme-eu",
        "database": "RAW",
        "user": "LOADER",
        "password": "pass-of-the-file",
        "warehouse": "WH",
    }
    shown = redact("pass-of-the-file token-of-the-file LOADER")
    assert shown == "*** *** LOADER"
    monkeypatch.setenv("DESTINATION__SNOWFLAKE__CREDENTIALS__PASSWORD", "pass-of-a-variable")
    again, _ = settle_metadata(None, None, None, folder)
    assert again.destination.options["password"] == "pass-of-a-variable"
    assert "pass-of-a-variable" not in redact("pass-of-a-variable")


def test_dotted_tables_of_toml_are_the_same(folder: Path) -> None:
    _write(folder, 'destination.motherduck.credentials = "md:metadata?motherduck_token=abc.def"\nlist = [1, "b"]\n')
    environ = dlt_environment(folder)
    assert environ["DESTINATION__MOTHERDUCK__CREDENTIALS"] == "md:metadata?motherduck_token=abc.def"
    assert json.loads(environ["LIST"]) == [1, "b"]
    assert destination_types(environ) == ["motherduck"]


def test_a_broken_file_is_told_without_its_words(folder: Path) -> None:
    _write(folder, 'a = 1\npassword = "hunter2hunter2\n')
    with pytest.raises(UsageError, match=r"secrets.toml is no TOML \(at line 2, column \d+\)") as caught:
        dlt_environment(folder)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(folder, _TOML)

    def refuse(path: Path, *_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UsageError, match=r"secrets.toml cannot be read: Permission denied"):
        dlt_environment(folder)


def test_the_destination_is_named_where_there_are_several(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(folder, _TOML)
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "postgresql://me:sesame@host/db")
    monkeypatch.setenv("DATASET", "meta")
    with pytest.raises(UsageError, match="postgres, snowflake"):
        settle_metadata(None, None, None, folder)
    settled, _ = settle_metadata(None, "postgres", None, folder)
    assert (settled.destination.type, settled.destination.dataset) == ("postgres", "meta")
    monkeypatch.setenv("DESTINATION", "snowflake")
    assert settle_metadata(None, None, None, folder)[0].destination.type == "snowflake"
    with pytest.raises(UsageError, match="no destination of type 'mssql'"):
        settle_metadata(None, "mssql", None, folder)


def test_json_of_a_connection_is_taken_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEST_CREDS", json.dumps({"path": "other.duckdb"}))
    settled, _ = settle_metadata(None, "duckdb", None, folder)
    assert settled.destination.options == {"path": "other.duckdb"}


def test_credentials_without_a_type_are_those_of_the_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEST_CREDS", json.dumps({"path": "other.duckdb"}))
    destination = settle_metadata(None, None, None, folder)[0].destination
    assert (destination.type, destination.options) == ("duckdb", {"path": "other.duckdb"})
    monkeypatch.setenv("DEST_CREDS", json.dumps({"pth": "sesame.duckdb"}))
    with pytest.raises(UsageError, match=r"DEST_CREDS: pth: unknown key\. Did you mean 'path'\?") as caught:
        settle_metadata(None, None, None, folder)
    assert "metadata.yml" not in caught.value.message
    assert "type duckdb" in (caught.value.advice)
    assert "sesame" not in str(caught.value)


def test_a_job_file_keeps_its_destination(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "postgresql://me@host/db")
    path = folder / "job.yml"
    path.write_text("name: mine\nsource: {type: orchestra}\ndestination: {type: duckdb}\ntables: {runs: {}}\n")
    assert settle_metadata(path, None, None, folder)[0].destination.type == "duckdb"
    assert settle_metadata(path, "postgres", None, folder)[0].destination.type == "postgres"
    path.write_text("name: mine\nsource: {type: linear, api_key: x}\ndestination: {type: duckdb}\ntables: {a: {}}\n")
    with pytest.raises(UsageError, match="reads type orchestra"):
        settle_metadata(path, None, None, folder)


def test_without_a_key_nothing_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRA_API_TOKEN")
    with pytest.raises(SecretMissing) as caught:
        settle_metadata(None, None, None, folder)
    hint = redact(caught.value.advice)
    assert "***" not in hint
    assert "ORCHESTRA_API_TOKEN" in hint
    assert "orchestra_api_token into .dlt/secrets.toml" in hint
    assert "${NAME_OF_A_VARIABLE}" in hint
