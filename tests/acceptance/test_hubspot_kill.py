"""A real process that reads HubSpot, killed in the middle of an object: the same command goes on, and asks for the rest."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from connectors.testing.hubspot import HubSpotDouble
from runner.crash import VARIABLE
from tests.conftest import Project

_COUNT = 12_000
_JOB = """
name: killed
source: {type: hubspot, access_token: "${TOKEN}", base_url: "${URL}", search_rate: 100000, window: 3000}
destination: {type: duckdb, dataset: raw}
limits: {connections: 1}
tables:
  hubspot.contacts:
"""
_PAGES = "/crm/v3/objects/contacts\\?.*archived=false"
_SEARCH = "/crm/v3/objects/contacts/search"


class Moving(HubSpotDouble):
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)
        super().__init__(now=lambda: self.moment, burst=10**6, searches=10**6)


@pytest.fixture
def hubspot(project: Project) -> Iterator[Moving]:
    with Moving() as server:
        project.environ |= {"TOKEN": server.token, "URL": server.url}
        project.job(_JOB)
        for number in range(_COUNT):
            server.store.add("contacts", {"email": f"c{number}@example.com"})
        yield server


def _killed(project: Project, point: str) -> None:
    project.environ[VARIABLE] = point
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=60)
    del project.environ[VARIABLE]
    assert process.returncode == -signal.SIGKILL, err


def _ends(project: Project) -> None:
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(list(project.folder.glob(".runner/runs/*"))) <= 2


def _compare(project: Project, hubspot: Moving) -> None:
    records = hubspot.store.kinds["contacts"].records.values()
    expected = sorted((str(one.id), one.properties["email"], one.updated, one.archived is not None) for one in records)
    assert project.query("select id, email, lastmodifieddate, archived from raw.contacts order by all") == expected


@pytest.mark.parametrize(
    ("point", "pages"),
    [
        ("chunk-read@hubspot.contacts:2", 20),
        ("chunk-recorded@hubspot.contacts", 20),
        ("load-committed@hubspot.contacts", 20),
        ("swap@hubspot.contacts", 0),
    ],
)
def test_a_full_load_goes_on_after_the_last_page_on_disk(
    project: Project, hubspot: Moving, point: str, pages: int
) -> None:
    _killed(project, point)
    asked = hubspot.count(_PAGES)
    before = {one.query for one in hubspot.seen if "archived=false" in one.query}
    hubspot.seen.clear()
    _ends(project)
    _compare(project, hubspot)
    assert hubspot.count(_PAGES) <= pages
    again = before & {one.query for one in hubspot.seen if "archived=false" in one.query}
    assert asked - len(again) >= _COUNT // 100 - pages, "what was on disk was asked for again"


def test_an_incremental_load_goes_on_with_the_windows_that_are_left(project: Project, hubspot: Moving) -> None:
    _ends(project)
    for number, one in enumerate(list(hubspot.store.kinds["contacts"].records)):
        if number % 100 == 0:
            hubspot.moment += timedelta(minutes=1)
        hubspot.store.change("contacts", one, email=f"again{number}@example.com")
    hubspot.store.archive("contacts", 777)
    hubspot.seen.clear()
    _killed(project, "chunk-recorded@hubspot.contacts:2")
    windows = _windows(hubspot)
    assert len(windows) >= 2
    hubspot.seen.clear()
    _ends(project)
    _compare(project, hubspot)
    assert not windows[0] & set().union(*_windows(hubspot)), "a window on disk was asked for again"


def _windows(hubspot: Moving) -> list[set[str]]:
    """Return the pages that were searched for, by window, in the order in which windows were begun."""
    found: dict[str, set[str]] = {}
    for one in hubspot.seen:
        body = json.loads(one.body) if one.path == _SEARCH else {}
        if body.get("limit", 1) > 1:
            filters = body["filterGroups"][0]["filters"]
            found.setdefault(json.dumps(filters[0]), set()).add(json.dumps(filters))
    return list(found.values())
