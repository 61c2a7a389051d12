"""A real process, killed in the middle of a resource: what was spooled is not asked for again, and no row is lost."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.testing.rest import RestDouble
from tests.conftest import Project

_ROWS = 24_000
_SIZE = 400
_RESOURCES: dict[str, Any] = {
    "link": {"paginator": {"type": "json_link", "next_url_path": "paging.next"}},
    "cursor": {"paginator": {"type": "cursor"}},
    "page": {"paginator": {"type": "page_number", "base_page": 1, "total_path": "total_pages"}},
}


@pytest.fixture
def api(project: Project) -> Iterator[RestDouble]:
    with RestDouble(size=_SIZE) as double:
        double.tables = {"things": [{"id": i, "name": f"n{i}"} for i in range(_ROWS)]}
        double.tables["groups"] = [{"id": i} for i in range(1200)]
        double.tables["groups.parts"] = [{"id": i, "parent_id": i % 1200} for i in range(_ROWS)]
        yield double


def _job(project: Project, api: RestDouble, *resources: dict[str, Any], connections: int = 2) -> None:
    whole = {
        "name": "killed",
        "source": {"type": "rest", "client": {"base_url": api.url}, "resources": resources},
        "destination": {"type": "duckdb", "path": "warehouse.duckdb", "dataset": "raw"},
        "limits": {"connections": connections},
        "tables": {"rest.*": None},
    }
    project.job(json.dumps(whole))


def _run(project: Project, crash: str | None) -> tuple[int, str]:
    project.environ.pop("RUNNER_CRASH_AT", None)
    if crash is not None:
        project.environ["RUNNER_CRASH_AT"] = crash
    process = project.start("backfill", "job.yml")
    out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def _asked(api: RestDouble, since: int, pattern: str) -> Counter[str]:
    """Return how often each page was asked for."""
    return Counter(f"{one.path}?{one.query}" for one in api.seen[since:] if re.search(pattern, one.path))


@pytest.mark.parametrize("point", ["chunk-read", "chunk-fsynced", "chunk-recorded", "load-committed"])
@pytest.mark.parametrize("style", ["link", "cursor", "page"])
def test_killed_in_mid_resource(project: Project, api: RestDouble, style: str, point: str) -> None:
    resource = {"name": "things", "primary_key": "id", "endpoint": {"path": f"{style}/things", **_RESOURCES[style]}}
    _job(project, api, resource)
    # Ranges are read two at once: the third begins when one of them is on record.
    unrecorded = point in ("chunk-read", "chunk-fsynced")
    code, said = _run(project, f"{point}:{3 if unrecorded and style == 'page' else 2}")
    assert code == -signal.SIGKILL, said
    killed = len(api.seen)
    before = _asked(api, 0, style)
    code, said = _run(project, None)
    assert code == 0, said
    found = project.query("select count(*), count(distinct id), min(id), max(id) from raw.things")
    assert found == [(_ROWS, _ROWS, 0, _ROWS - 1)]
    again = {page for page in _asked(api, killed, style) if page in before}
    on_record = 1 if unrecorded else 2
    pages = _ROWS // _SIZE
    chunk = 25 if style != "page" else 15
    lost = len(before) - on_record * chunk
    # Every process looks at the first page for its columns; a range that ends looks whether the first page is the same.
    assert len(again) <= lost + 2
    assert len(again) < len(before)
    assert sum(_asked(api, killed, style).values()) <= pages - on_record * chunk + 8


def test_killed_among_children_their_parents_pages_are_gone_on_with(project: Project, api: RestDouble) -> None:
    api.size = 100
    group = {
        "name": "groups",
        "selected": False,
        "endpoint": {"path": "link/groups", **_RESOURCES["link"]},
    }
    part = {
        "name": "parts",
        "primary_key": "id",
        "endpoint": {"path": "link/groups/{resources.groups.id}/parts", **_RESOURCES["link"]},
    }
    _job(project, api, group, part, connections=8)
    code, said = _run(project, "chunk-recorded:1")
    assert code == -signal.SIGKILL, said
    killed = len(api.seen)
    code, said = _run(project, None)
    assert code == 0, said
    assert project.query("select count(*), count(distinct id) from raw.parts") == [(_ROWS, _ROWS)]
    # 10,000 rows are the children of 500 parents, five pages of them.
    spooled = {f"/link/groups/{number}/parts?" for number in range(500)}
    later = _asked(api, killed, "parts")
    # Every process looks at the children of the first parents for its columns.
    assert len(spooled & set(later)) <= 2
    assert later["/link/groups/500/parts?"] == later["/link/groups/1199/parts?"] == 1
