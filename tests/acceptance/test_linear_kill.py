"""A run against Linear's double is killed in the middle of an object; the same command goes on where it stopped."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.testing.linear import API_KEY, Linear
from runner.crash import VARIABLE
from tests.conftest import Project

_ROWS = 15_000


@pytest.fixture(scope="module")
def linear() -> Iterator[Linear]:
    """A workspace whose labels were imported at one instant, so that no range of times divides them."""
    with Linear() as server:
        for number in range(_ROWS):
            server.records.add("IssueLabel", name=f"label {number}", createdAt="2026-01-01T00:00:00.000Z")
        team = server.records.add("Team", key="ENG", name="Engineering")
        state = server.records.add("WorkflowState", team=team, name="Todo", type="unstarted")
        labels = [one["id"] for one in server.records.all("IssueLabel")]
        held = labels[:600]
        for number in range(26):
            server.records.add("Issue", title=f"issue {number}", team=team, state=state, labelIds=held)
        yield server


def _job(project: Project, linear: Linear, table: str) -> None:
    project.job(
        f"""
name: killed
source: {{type: linear, api_key: {API_KEY}, base_url: "{linear.url}"}}
destination: {{type: duckdb, dataset: raw}}
tables:
  linear.{table}:
"""
    )
    linear.asked.clear()


def _run(project: Project, crash: str | None = None) -> int:
    if crash is not None:
        project.environ[VARIABLE] = crash
    process = project.start("backfill", "job.yml")
    project.environ.pop(VARIABLE, None)
    out, err = process.communicate(timeout=90)
    assert process.returncode in (0, -signal.SIGKILL), out + err
    return process.returncode


def _pages(linear: Linear, part: str) -> list[tuple[Any, Any]]:
    """Return the pages that were asked for: where each begins."""
    found = [variables for query, variables, _ in linear.asked if part in query]
    return [(one.get("id"), one.get("after")) for one in found]


@pytest.mark.parametrize("point", ["chunk-recorded:1", "chunk-read:2"])
def test_what_is_spooled_is_not_asked_for_again(project: Project, linear: Linear, point: str) -> None:
    _job(project, linear, "issue_labels")
    assert _run(project, point) == -signal.SIGKILL
    before = _pages(linear, "color")
    assert 40 <= len(before) <= 60
    assert _run(project) == 0
    times = Counter(_pages(linear, "color"))
    assert len(times) == _ROWS // 250
    # A chunk that ended is on disk with the place where the next one begins: only an unfinished one is read again.
    twice = {page for page, count in times.items() if count > 1}
    assert not set(before[:40]) & twice
    assert len(twice) == (20 if point == "chunk-read:2" else 0)
    assert project.query("select count(*), count(distinct id), count(distinct name) from raw.issue_labels") == [
        (_ROWS, _ROWS, _ROWS)
    ]


def test_a_parent_whose_members_are_on_many_pages_is_gone_on_with(project: Project, linear: Linear) -> None:
    _job(project, linear, "issues_labels")
    assert _run(project, "chunk-recorded:1") == -signal.SIGKILL
    assert _run(project) == 0
    times = Counter(_pages(linear, "labels(first"))
    assert max(times.values()) <= 2
    assert sum(times.values()) - len(times) <= 1, "what was spooled was asked for again"
    held = "select count(*), count(distinct (issue_id, label_id)), count(distinct issue_id) from raw.issues_labels"
    assert project.query(held) == [(15_600, 15_600, 26)]
