"""A real process that reads SAP Gateway, killed in the middle of an object: the same command ends what was begun."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from connectors.testing.odp import EntitySet, Gateway, Property, Service
from tests.conftest import Project

_ROWS = 24_000
_START = datetime(2024, 1, 1, tzinfo=UTC)
_TYPE = (
    Property("Id", "Edm.Int32"),
    Property("Amount", "Edm.Decimal", {"Precision": "15", "Scale": "2"}),
    Property("LastChangeDateTime", "Edm.DateTimeOffset"),
)


def row(number: int, amount: str | None = None) -> dict[str, Any]:
    changed = _START + timedelta(seconds=number)
    return {"Id": number, "Amount": amount or f"{number}.25", "LastChangeDateTime": changed}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    extracted = EntitySet("EntityOfZDOC", _TYPE, ("Id",), tracked=True)
    plain = EntitySet("A_Document", _TYPE, ("Id",))
    for one in (extracted, plain):
        one.put(*(row(number) for number in range(1, _ROWS + 1)))
    with Gateway([Service("ZDATA_SRV", [extracted, plain])]) as running:
        yield running


@pytest.mark.parametrize(
    ("table", "name", "paging"),
    [
        ("A_Document", "a_document", "auto"),
        ("A_Document", "a_document", "server"),
        ("EntityOfZDOC", "entity_of_zdoc", "auto"),
    ],
)
@pytest.mark.parametrize("point", ["chunk-read:2", "chunk-recorded:2", "load-committed:2"])
def test_killed_in_mid_object(
    project: Project, gateway: Gateway, table: str, name: str, paging: str, point: str
) -> None:
    project.environ["SAP_PASSWORD"] = "secret"
    url = gateway.service_url("ZDATA_SRV")
    job = {
        "name": "sap",
        "source": {
            "type": "sap",
            "url": url,
            "user": "EXTRACT",
            "password": "${SAP_PASSWORD}",
            "page_size": 2500,
            "paging": paging,
        },
        "destination": {"type": "duckdb", "dataset": "raw", "table": "{table}"},
        "tables": {table: {}},
    }
    project.job(json.dumps(job))
    project.environ["RUNNER_CRASH_AT"] = f"{point.partition(':')[0]}@sap.{table}:2"
    process = project.start("backfill", "job.yml")
    process.communicate(timeout=90)
    assert process.returncode == -signal.SIGKILL
    first = [one.query for one in gateway.seen if one.path.endswith(table) and one.status == 200]
    gateway.seen.clear()
    # It goes on although what was read has changed since; a later run sees that.
    held = gateway.services["ZDATA_SRV"].sets[table]
    held.put(row(_ROWS + 1))
    del project.environ["RUNNER_CRASH_AT"]
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert "resumes" in err
    second = [one.query for one in gateway.seen if one.path.endswith(table)]
    asked = [query for query in second if "skiptoken" in query or "orderby=Id" in query]
    again = set(first) & set(asked)
    if point.startswith("chunk-read"):
        assert len(asked) < _ROWS // 2500 + 4, "resumed, yet nearly everything was asked for twice"
    elif point.startswith("chunk-recorded") and (paging == "server" or table == "EntityOfZDOC"):
        assert again == set(), "what was spooled was asked for again"
    else:
        # The part that was under way while another one was recorded or loaded.
        assert len(again) <= 4, "more than the parts that were under way was asked for again"
    assert sum("track" in one.headers.get("prefer", "") for one in gateway.seen) == 0
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    found = project.query(f"select id, amount, last_change_date_time from raw.{name} order by id")
    assert found == [
        (one["Id"], Decimal(one["Amount"]), one["LastChangeDateTime"]) for _, one in sorted(held.rows.items())
    ]
