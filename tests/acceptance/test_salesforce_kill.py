"""A real process that reads Salesforce, killed in the middle of an object: the same command ends what was begun."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest

from connectors.testing.salesforce import Salesforce
from tests.conftest import Project

# A chunk ends past ten thousand rows.
_ROWS = 12_200
_START = datetime(2024, 3, 1, tzinfo=UTC)
_JOB = """
name: crm
source:
  type: salesforce
  instance_url: ${SF_URL}
  client_id: 3MVG9.app
  client_secret: s3cret
  bulk: BULK
destination: {type: duckdb, dataset: raw, table: "{table}"}
limits: {connections: 2}
retry: {max_wait: 20ms}
tables:
  Shipment:
"""


@pytest.fixture(scope="module")
def filled() -> Iterator[Salesforce]:
    with Salesforce() as double:
        double.jobs.polls = 0
        for number in range(_ROWS):
            double.org.insert(
                "Shipment__c", Name=f"S{number}", Weight__c=Decimal(number) / 8, at=_START + timedelta(seconds=number)
            )
        yield double


@pytest.fixture
def org(filled: Salesforce, project: Project) -> Salesforce:
    filled.seen.clear()
    filled.jobs.all.clear()
    project.environ["SF_URL"] = filled.url
    return filled


def _kill(project: Project, point: str) -> None:
    """Run the job until it is killed at a point."""
    project.environ["RUNNER_CRASH_AT"] = point
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    del project.environ["RUNNER_CRASH_AT"]


def _end(project: Project) -> None:
    process = project.start("backfill", "job.yml")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err
    assert len(list(project.folder.glob(".runner/runs/*"))) == 1


def _rows(org: Salesforce) -> list[tuple[Any, ...]]:
    kind = org.org.objects["shipment__c"]
    return [(row["Id"], row["Name"], row["Weight__c"]) for row in org.org.rows(kind, deleted=False)]


_POINTS = ["chunk-read:2", "chunk-recorded", "load-committed", "swap"]


@pytest.mark.parametrize("bulk", ["never", "always"])
@pytest.mark.parametrize("point", _POINTS)
def test_killed_nothing_is_lost_and_nothing_is_twice(org: Salesforce, project: Project, bulk: str, point: str) -> None:
    project.job(_JOB.replace("BULK", bulk))
    _kill(project, point)
    before = len(org.seen)
    _end(project)
    assert not [one for one in org.seen[before:] if one.method == "POST" and one.path.endswith("/jobs/query")]
    assert project.query("select id, name, weight_c from raw.shipment order by id") == _rows(org)
    # Who is killed with all of a job on disk leaves it to die of age.
    assert len(org.jobs.all) <= (bulk == "always" and "load" in point)


def test_what_was_read_is_not_asked_again(org: Salesforce, project: Project) -> None:
    project.job(_JOB.replace("BULK", "never"))
    _kill(project, "chunk-recorded")
    before = len(org.seen)
    _end(project)
    asked = [parse_qs(one.query)["q"][0] for one in org.seen[before:] if "q=" in one.query]
    behind = [re.findall("Id > '(.*?)'", one) for one in asked if one.endswith("ORDER BY Id")]
    assert behind == [[_rows(org)[9_999][0]]]
    assert project.query("select id, name, weight_c from raw.shipment order by id") == _rows(org)


def test_results_of_a_job_that_were_read_are_not_asked_again(org: Salesforce, project: Project) -> None:
    project.job(_JOB.replace("BULK", "always"))
    _kill(project, "chunk-recorded")
    assert len(org.jobs.all) == 1
    sets = _sets(org, 0)
    before = len(org.seen)
    _end(project)
    assert not [one for one in org.seen[before:] if one.method == "POST" and one.path.endswith("/jobs/query")]
    again = _sets(org, before)
    assert len(again) == 1
    assert not set(again) & set(sets[:1])
    assert not org.jobs.all
    assert project.query("select id, name, weight_c from raw.shipment order by id") == _rows(org)


def _sets(org: Salesforce, start: int) -> list[str]:
    """Return which sets of results were asked for."""
    found = [one.query for one in org.seen[start:] if one.path.endswith("/results")]
    return [json.dumps(parse_qs(one).get("locator", [""])) for one in found]
